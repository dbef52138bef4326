"""Shortcuts of scoring give the same bits as the plain way: averages of stated areas, precision at recall points."""

from __future__ import annotations

import numpy as np
import pytest

from harness.formats.youtube_vis import AnnotationRecord
from harness.scoring.hota import EPSILON
from harness.scoring.match import RECALL_POINTS, precision_at
from harness.scoring.score import _exact_means


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_average_areas(seed: int, cut: bool) -> None:
    rng = np.random.default_rng(seed)
    records = []
    for _ in range(int(rng.integers(0, 40))):
        numbers = rng.integers(0, 1 << 30, rng.integers(0, 40)) * rng.integers(0, 2) + (0.5 if cut else 0.0)
        areas = [None if rng.random() < 0.2 else float(number) for number in numbers.tolist()]
        records.append(AnnotationRecord(1, 1, 1, 0, areas))
    found = _exact_means(records, cut)
    assert found is not None
    for record, mean in zip(records, found.tolist(), strict=True):
        assert isinstance(record.areas, list)
        values = [int(a) if cut else a for a in record.areas if a is not None]
        values = [a for a in values if a]
        assert mean == (np.mean(values) if values else 0.0)


@pytest.mark.parametrize("areas", [None, [0.5], [float("inf")], [2.0**53, 2.0**53]])
def test_average_areas_that_need_the_plain_way(areas: list[float | None] | None) -> None:
    assert _exact_means([AnnotationRecord(1, 1, 1, 0, areas)], cut=False) is None


@pytest.mark.parametrize("join_ties", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_precision_at_recall_points(seed: int, join_ties: bool) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(20):
        n, positives = int(rng.integers(0, 30)), int(rng.integers(1, 12))
        score = -np.sort(-rng.integers(0, 9, n) / 8)
        hit = rng.random(n) < rng.random()
        hit[np.flatnonzero(hit)[positives:]] = False
        miss = ~hit & (rng.random(n) < 0.8)
        precision, scores = np.zeros(101), np.zeros(101)
        reached = precision_at(hit, miss, score, positives, RECALL_POINTS, EPSILON, join_ties, precision, scores)
        tp, fp = np.cumsum(hit, dtype=float), np.cumsum(miss, dtype=float)
        recall, exact = tp / positives, tp / (tp + fp + EPSILON)
        if join_ties:
            last = np.searchsorted(-score, -score, side="right") - 1
            recall, exact = recall[last], exact[last]
        envelope = np.maximum.accumulate(exact[::-1])[::-1]
        at = np.searchsorted(recall, RECALL_POINTS, side="left")
        wanted = np.append(envelope, 0.0)[at]
        assert reached == (recall[-1] if n else 0.0)
        np.testing.assert_array_equal(precision, wanted)
        np.testing.assert_array_equal(scores, np.append(score, 0.0)[at])
        again, nothing = np.zeros(101), np.empty(0)
        assert precision_at(hit, miss, score, positives, RECALL_POINTS, EPSILON, join_ties, again, nothing) == reached
        np.testing.assert_array_equal(again, precision)
        assert precision_at(hit, miss, score, positives, RECALL_POINTS, EPSILON, join_ties, nothing, nothing) == reached
