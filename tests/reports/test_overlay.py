"""Overlays: masks in stable colours where the tracks are, and nothing elsewhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small_runs import HEIGHT, WIDTH, box, make_video

from harness.reports.overlay import PixelBox, colour, draw_tracks, free_place
from harness.types import Track


def test_masks_are_tinted_and_the_rest_is_left_alone() -> None:
    video = make_video(length=2)
    tracks = [Track(1, 3, 0.9, (box(6, 8, 4, 6), None))]
    first, second = (draw_tracks(frame, tracks, number) for number, frame in enumerate(video.read()))
    assert first.shape == (HEIGHT, WIDTH, 3)
    assert not second.any()
    inside = first[8, 11]
    assert inside.any()
    assert np.array_equal(first[9, 13], colour(0))  # the outline has the full colour


def test_colours_are_stable_and_differ() -> None:
    assert len({colour(n) for n in range(50)}) == 50
    assert colour(3) == colour(3)


@given(
    st.lists(
        st.tuples(st.integers(-20, 220), st.integers(-20, 120), st.integers(1, 90), st.integers(1, 20)), max_size=30
    )
)
def test_no_label_covers_another(wanted: list[tuple[int, int, int, int]]) -> None:
    taken: list[PixelBox] = []
    for left, top, width, height in wanted:
        box = free_place((left, top), (width, height), (200, 100), taken)
        if box is None:
            continue
        assert (box[2] - box[0], box[3] - box[1]) == (width, height)
        assert box[0] >= 0
        assert box[2] <= 200
        assert box[1] >= 0
        assert box[3] <= 100
        assert not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken)
        taken.append(box)


def test_a_label_stays_where_it_is_wanted_if_nothing_is_there() -> None:
    assert free_place((10, 20), (30, 10), (200, 100), []) == (10, 20, 40, 30)
    assert free_place((10, 20), (30, 10), (200, 100), [(10, 20, 40, 30)]) == (10, 10, 40, 20)
    assert free_place((190, 95), (30, 10), (200, 100), []) == (170, 90, 200, 100)
