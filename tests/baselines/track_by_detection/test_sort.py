"""SORT's filter against the definition of what it computes, and on boxes that move."""

from __future__ import annotations

import numpy as np
import pytest

from harness.baselines.track_by_detection.sort import (
    MEASUREMENT_NOISE,
    MOTION_NOISE,
    OBSERVED,
    START_NOISE,
    TRANSITION,
    BoxMotion,
    box_iou,
    boxes_at,
    measurements,
)


def boxes(random: np.random.Generator, count: int) -> np.ndarray:
    corner = random.uniform(0, 50, (count, 2))
    return np.concatenate((corner, corner + random.uniform(20, 60, (count, 2))), 1)


def expected(seen: list[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
    """The state after the last frame given all measurements: weighted least squares over the states of all frames."""
    assert seen[0] is not None
    frames, rows, values = len(seen), [], []

    def add(terms: dict[int, np.ndarray], value: np.ndarray, noise: np.ndarray) -> None:
        weight = 1 / np.sqrt(np.diag(noise))  # all covariances are diagonal
        row = np.zeros((len(value), 7 * frames))
        for t, matrix in terms.items():
            row[:, 7 * t : 7 * t + 7] = weight[:, None] * matrix
        rows.append(row)
        values.append(weight * value)

    add({0: np.eye(7)}, np.concatenate((measurements(seen[0][None])[0], np.zeros(3))), START_NOISE)
    for t in range(1, frames):
        add({t: np.eye(7), t - 1: -TRANSITION}, np.zeros(7), MOTION_NOISE)
        box = seen[t]
        if box is not None:
            add({t: OBSERVED}, measurements(box[None])[0], MEASUREMENT_NOISE)
    q, r = np.linalg.qr(np.concatenate(rows))
    inverse = np.linalg.inv(r)
    return (inverse @ q.T @ np.concatenate(values))[-7:], (inverse @ inverse.T)[-7:, -7:]


@pytest.mark.parametrize("missed", [(), (2, 3), (1, 5)])
def test_it_is_the_gaussian_posterior(missed: tuple[int, ...]) -> None:
    """Two tracks at once, of which the second misses some frames."""
    random = np.random.default_rng(3)
    seen = [boxes(random, 2) for _ in range(6)]
    motion = BoxMotion()
    motion.start(seen[0])
    for t in range(1, 6):
        motion.predict()
        found = np.array([0] if t in missed else [0, 1])
        motion.correct(found, seen[t][found])
    for track, gone in ((0, ()), (1, missed)):
        mean, covariance = expected([None if t in gone else seen[t][track] for t in range(6)])
        np.testing.assert_allclose(motion.mean[track], mean, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(motion.covariance[track], covariance, rtol=1e-8, atol=1e-8)


def test_a_steady_box_is_expected_where_it_will_be() -> None:
    motion = BoxMotion()
    motion.start(np.array([[10.0, 10, 40, 30]]))
    for t in range(1, 8):
        motion.predict()
        motion.correct(np.array([0]), np.array([[10.0 + 5 * t, 10, 40 + 5 * t, 30]]))
    np.testing.assert_allclose(motion.predict(), [[50, 10, 80, 30]], atol=0.5)


def test_a_shrinking_box_never_vanishes() -> None:
    motion = BoxMotion()
    motion.start(np.array([[0.0, 0, 20, 20]]))
    for edge in (15, 10, 5, 2):
        motion.predict()
        motion.correct(np.array([0]), np.array([[0.0, 0, edge, edge]]))
    for _ in range(10):
        predicted = motion.predict()
        assert (predicted[:, 2:] > predicted[:, :2]).all()


def test_rows_that_are_forgotten() -> None:
    motion = BoxMotion()
    motion.start(boxes(np.random.default_rng(0), 3))
    before = motion.mean.copy()
    motion.keep(np.array([2, 0]))
    np.testing.assert_array_equal(motion.mean, before[[2, 0]])
    assert motion.covariance.shape == (2, 7, 7)


def test_boxes_and_states_are_one_to_one() -> None:
    given = boxes(np.random.default_rng(1), 5)
    states = np.concatenate((measurements(given), np.zeros((5, 3))), 1)
    np.testing.assert_allclose(boxes_at(states), given)


def test_overlaps_of_boxes() -> None:
    overlap = box_iou(np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10]]))
    np.testing.assert_allclose(overlap, [[50 / 150, 0, 1]])
    assert box_iou(np.zeros((0, 4)), np.zeros((2, 4))).shape == (0, 2)
