"""Outlines of masks: the path encloses the mask's pixels, to within its tolerance."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from scipy import ndimage

from harness.masks import Rle
from harness.reports.outlines import OUTLINE_TOLERANCE, OUTLINE_UNIT, outline


def encoded(pixels: np.ndarray) -> Rle:
    counts = coco.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"]
    return Rle((pixels.shape[0], pixels.shape[1]), counts)


def lines_of(path: str) -> list[np.ndarray]:
    """The closed lines of a path as points ``(n, 2)`` in pixels."""
    lines = []
    for start, moves in re.findall(r"M(-?\d+ -?\d+)l([-\d ]+)z", path):
        steps = np.array([start.split(), *np.array(moves.split()).reshape(-1, 2)], int)
        lines.append(steps.cumsum(0) / OUTLINE_UNIT)
    return lines


def enclosed(path: str) -> float:
    """Area in square pixels that the path encloses; lines around holes run the other way."""
    total = 0.0
    for line in lines_of(path):
        x, y = line.T
        total += float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    return abs(total)


def test_a_rectangle_is_itself_to_within_half_a_pixel() -> None:
    pixels = np.zeros((8, 12), bool)
    pixels[2:6, 3:9] = True
    (line,) = lines_of(outline(encoded(pixels), 12, 8))
    assert len(line) <= 8
    assert line.min(0) == pytest.approx([3, 2], abs=0.5)
    assert line.max(0) == pytest.approx([9, 6], abs=0.5)


def test_a_hole_is_a_line_of_its_own() -> None:
    pixels = np.zeros((20, 20), bool)
    pixels[3:17, 3:17] = True
    pixels[7:13, 7:13] = False
    outer, inner = sorted(lines_of(outline(encoded(pixels), 20, 20)), key=np.ptp, reverse=True)
    assert outer.min(0) == pytest.approx([3, 3], abs=0.5)
    assert inner.min(0) == pytest.approx([7, 7], abs=0.5)
    assert inner.max(0) == pytest.approx([13, 13], abs=0.5)


def test_an_empty_mask_has_no_outline() -> None:
    assert outline(encoded(np.zeros((8, 12), bool)), 12, 8) == ""


def test_a_mask_is_shrunk_to_the_picture() -> None:
    pixels = np.zeros((80, 120), bool)
    pixels[20:60, 30:90] = True
    assert enclosed(outline(encoded(pixels), 30, 20)) == pytest.approx(10 * 15, rel=0.1)


@given(seed=st.integers(0, 2**32 - 1), roughness=st.sampled_from([1.0, 2.0, 4.0]))
@settings(max_examples=30)
def test_the_area_is_kept_to_within_the_tolerance_times_the_border(seed: int, roughness: float) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((40, 60)), roughness)
    pixels = noise > noise.std()
    border = (np.diff(np.pad(pixels, 1).astype(int), axis=0) != 0).sum()
    border += (np.diff(np.pad(pixels, 1).astype(int), axis=1) != 0).sum()
    path = outline(encoded(pixels), 60, 40)
    assert abs(enclosed(path) - pixels.sum()) <= (OUTLINE_TOLERANCE + 1 / OUTLINE_UNIT) * border
    assert len(path) < 12 * border + 20
