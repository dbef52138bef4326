"""Overlays: masks in stable colours where the tracks are, and nothing elsewhere."""

from __future__ import annotations

import numpy as np
from small_runs import HEIGHT, WIDTH, box, make_video

from harness.reports.overlay import colour, overlay
from harness.types import Track


def test_masks_are_tinted_and_the_rest_is_left_alone() -> None:
    video = make_video(length=2)
    tracks = [Track(1, 3, 0.9, (box(6, 8, 4, 6), None))]
    first, second = overlay(video, tracks, {3: "thing"})
    assert first.shape == (HEIGHT, WIDTH, 3)
    assert not second.any()
    inside = first[8, 11]
    assert inside.any()
    assert np.array_equal(first[9, 13], colour(0))  # the outline has the full colour


def test_colours_are_stable_and_differ() -> None:
    assert len({colour(n) for n in range(50)}) == 50
    assert colour(3) == colour(3)
