"""Augmentation: sizes, offsets, padding and masks are those of the specification."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.training.augment import LargeScaleJitter, ShortestEdge
from harness.training.types import Instance, TrainingImage


class Drawn:
    """A generator that gives the numbers it is told to."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = list(numbers)

    def random(self) -> float:
        return self.numbers.pop(0)


def picture(height: int, width: int) -> TrainingImage:
    """A dark image with a bright rectangle, annotated as a polygon and as a mask."""
    image = np.full((height, width, 3), 20, np.uint8)
    top, bottom, left, right = height // 4, height // 2, width // 2, 3 * width // 4
    image[top:bottom, left:right] = 220
    mask = np.zeros((height, width), np.bool_)
    mask[top:bottom, left:right] = True
    polygon = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    return TrainingImage("picture", image, (Instance(3, (polygon,)), Instance(5, mask)))


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / max(1, (one | other).sum())


@given(seed=st.integers(0, 2**32), height=st.integers(40, 160), width=st.integers(40, 160))
def test_jitter_gives_squares_whose_masks_lie_on_their_objects(seed: int, height: int, width: int) -> None:
    sample = LargeScaleJitter(96, 0.5, 2.0)(picture(height, width), np.random.default_rng(seed))
    assert sample.image.shape == (96, 96, 3)
    assert sample.masks.shape[1:] == (96, 96)
    bright = (sample.image > 150).all(-1)
    for mask in sample.masks:
        if mask.sum() > 400:  # at the edges of smaller ones interpolation takes more than a quarter
            assert overlap(mask, bright) > 0.75
    assert all(mask.any() for mask in sample.masks)


def test_jitter_keeps_the_aspect_and_pads_with_grey() -> None:
    # not mirrored, scale 1.0 of the range [0.5, 1.5]: 80 x 160 fits a square of 64 as 32 x 64
    sample = LargeScaleJitter(64, 0.5, 1.5)(picture(80, 160), Drawn(0.9, 0.5, 0.7))
    assert (sample.image[32:] == 128).all()
    assert not (sample.image[:32] == 128).all(-1).any()
    assert not sample.masks[:, 32:].any()
    rows, columns = np.nonzero(sample.masks[0])
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (8, 16, 32, 48)


def test_jitter_places_the_crop_with_one_number() -> None:
    # scale 2: 80 x 160 becomes 64 x 128; 0.5 moves by 0 rows (nothing in excess) and by 32 columns
    sample = LargeScaleJitter(64, 0.5, 2.0)(picture(80, 160), Drawn(0.9, 1.0, 0.5))
    rows, columns = np.nonzero(sample.masks[1])
    assert (rows.min(), columns.min(), columns.max() + 1) == (16, 32, 64)


def test_sizes_and_offsets_are_rounded_to_the_even_neighbour() -> None:
    # scale 1: 45 x 90 fits a square of 45 as 22.5 x 45
    sample = LargeScaleJitter(45, 0.0, 1.0)(picture(45, 90), Drawn(0.9, 1.0, 0.0))
    assert (sample.image[22:] == 128).all()
    assert not (sample.image[21] == 128).any()
    # scale 3: 60 x 60 becomes 120 x 120, 80 in excess; 0.00625 and 0.01875 of them are 0.5 and 1.5
    noise = TrainingImage("noise", np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8), ())
    first, second, third = (
        LargeScaleJitter(40, 0.0, 3.0)(noise, Drawn(0.9, 1.0, place)).image for place in (0.0, 0.00625, 0.01875)
    )
    assert np.array_equal(first, second)
    assert np.array_equal(first[2:, 2:], third[:-2, :-2])


def test_mirrored_masks_take_the_same_pixels_as_mirrored_ones_of_inference() -> None:
    # halving: each pixel has two that are equally near
    checks = (np.add.outer(np.arange(80), np.arange(160)) % 3 == 0).astype(np.bool_)
    image = TrainingImage("checks", np.zeros((80, 160, 3), np.uint8), (Instance(0, checks),))
    plain, mirrored = (ShortestEdge(40, 200)(image, Drawn(drawn)).masks[0] for drawn in (0.9, 0.1))
    assert np.array_equal(mirrored, plain[:, ::-1])


def test_mirroring() -> None:
    sample = ShortestEdge(80, 200)(picture(80, 160), Drawn(0.1))
    columns = np.nonzero(sample.masks[0])[1]
    assert (columns.min(), columns.max() + 1) == (40, 80)
    assert overlap(sample.masks[0], sample.masks[1]) == 1
    assert overlap(sample.masks[0], (sample.image > 150).all(-1)) > 0.95


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 640), (240, 320)), ((640, 480), (320, 240)), ((100, 900), (44, 400))]
)
def test_shortest_edge_takes_the_sizes_of_inference(size: tuple[int, int], expected: tuple[int, int]) -> None:
    sample = ShortestEdge(240, 400)(picture(*size), np.random.default_rng(0))
    assert sample.image.shape[:2] == expected
    assert sample.masks.shape == (2, *expected)
    assert sample.categories.tolist() == [3, 5]


def test_objects_out_of_sight_are_removed() -> None:
    # the crop is at the upper left, the object at the right
    sample = LargeScaleJitter(64, 0.5, 4.0)(picture(80, 160), Drawn(0.9, 1.0, 0.0))
    assert sample.masks.shape == (0, 64, 64)
    assert sample.categories.shape == (0,)


def test_outlines_that_enclose_nothing_are_no_objects() -> None:
    image = TrainingImage(
        "dot", np.zeros((40, 40, 3), np.uint8), (Instance(0, (np.full((3, 2), 7.0),)), Instance(0, ()))
    )
    assert len(ShortestEdge(40, 40)(image, np.random.default_rng(0)).masks) == 0
