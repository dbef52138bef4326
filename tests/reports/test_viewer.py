"""Which videos the viewer shows, and how many of their frames fit.

Tests of `reports/prediction_files.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small_runs import make_dataset

from harness.frames import Image
from harness.reports.viewer import VIEWED_FRAMES, Choice, chosen, viewer_data
from harness.types import Video

LABELS = ["one", "two"]


class NoisyFrames:
    """Frames that no format makes small."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, frame_index: int, /) -> Image:
        return np.random.default_rng(frame_index).integers(0, 255, (40, 640, 3)).astype(np.uint8)


def test_the_most_different_come_first_then_the_worst_and_the_best() -> None:
    quality = [{v: v / 10 for v in range(1, 10)}] * 2
    made = chosen(LABELS, quality, {5: 0.02, 6: -0.03, 7: 0.0}, range(1, 10), 6)
    assert [(one.video_id, one.group) for one in made] == [
        (6, "Most different"), (5, "Most different"), (1, "Worst"), (2, "Worst"), (9, "Best"), (8, "Best"),
    ]  # fmt: skip
    assert "favours one by 3.0 points" in made[0].reason
    assert "favours two by 2.0 points" in made[1].reason


def test_without_numbers_the_first_are_taken() -> None:
    assert [one.video_id for one in chosen(LABELS, [], {}, [3, 1, 2], 2)] == [1, 2]


@given(
    st.dictionaries(st.integers(1, 20), st.floats(0, 1)),
    st.dictionaries(st.integers(1, 20), st.floats(-1, 1)),
    st.integers(1, 12),
)
def test_no_video_is_shown_twice_and_as_many_as_there_are(
    quality: dict[int, float], influence: dict[int, float], count: int
) -> None:
    videos = sorted(quality) or [1, 2, 3]
    made = [one.video_id for one in chosen(LABELS, [quality], influence, videos, count)]
    assert len(set(made)) == len(made)
    assert set(made) <= set(videos)
    assert len(made) == min(count, len(videos))


def test_frames_get_smaller_and_then_fewer_until_they_fit() -> None:
    dataset = replace(
        make_dataset(1, with_truth=False), videos=(Video(1, "long", 40, 640, NoisyFrames(2 * VIEWED_FRAMES)),)
    )

    def shown(max_mb: float) -> Any:
        return viewer_data(dataset, [], [Choice(1, "First", "", "")], max_mb)["videos"][0]

    wide = shown(100)
    megabytes = sum(len(uri) for uri in wide["frames"]) / 1e6
    narrow, few = shown(0.4 * megabytes), shown(0.1 * megabytes)
    assert (wide["width"], narrow["width"], few["width"]) == (480, 240, 240)
    assert len(wide["frames"]) == len(narrow["frames"]) == VIEWED_FRAMES
    assert 1 < len(few["frames"]) < VIEWED_FRAMES
    assert few["total"] == 2 * VIEWED_FRAMES
    assert few["indices"][0] == 0
