"""Reading what a command wrote, whatever it wrote: tracks, or an error that names the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import HEIGHT, LENGTH, WIDTH, make_dataset, make_video, truth_of

from harness.baselines.external.job import RESULTS_FILE, read_tracks
from harness.errors import UserError
from harness.types import Track

VIDEOS = (make_video(1), make_video(2))
WORDS = make_dataset().vocabulary


def record(video_id: int = 1, **changes: Any) -> dict[str, Any]:
    masks = [{"size": list(m.size), "counts": m.counts.decode()} for m in truth_of(video_id)]
    return {"video_id": video_id, "category_id": 2, "score": 0.5, "segmentations": masks} | changes


def read(folder: Path, text: bytes) -> dict[int, list[Track]]:
    (folder / RESULTS_FILE).write_bytes(text)
    return read_tracks(folder, VIDEOS, WORDS)


def test_tracks_keep_their_order_and_every_video_has_an_entry(tmp_path: Path) -> None:
    text = json.dumps([record(score=0.1), record(score=0.9)]).encode()
    found = read(tmp_path, text)
    assert found == {1: [Track(1, 2, 0.1, truth_of(1)), Track(1, 2, 0.9, truth_of(1))], 2: []}


def test_an_empty_list_is_nothing_found(tmp_path: Path) -> None:
    assert read(tmp_path, b" []\n") == {1: [], 2: []}


def test_absent_masks_and_uncompressed_counts(tmp_path: Path) -> None:
    full = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}
    text = json.dumps([record(segmentations=[None, full, None])]).encode()
    (track,) = read(tmp_path, text)[1]
    assert [m is None for m in track.masks] == [True, False, True]


@pytest.mark.parametrize(
    "counts", [[-1, 5], [0, 1 << 40], [0, HEIGHT * WIDTH + 1], [3], ["a"], [0.5], "", "\u00e9", [[1]], {}]
)
def test_counts_of_another_kind_are_refused(tmp_path: Path, counts: Any) -> None:
    masks = [{"size": [HEIGHT, WIDTH], "counts": counts}] * LENGTH
    with pytest.raises(UserError):
        read(tmp_path, json.dumps([record(segmentations=masks)]).encode())


GOOD = json.dumps([record(1), record(2, segmentations=[None] * LENGTH)]).encode()


@settings(max_examples=300)
@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 12),
    st.binary(max_size=8) | st.sampled_from([b"-1", b"[", b"1e9", b"null"]),
)
def test_damaged_text_gives_tracks_or_a_users_error(
    tmp_path_factory: pytest.TempPathFactory, start: int, removed: int, inserted: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        found = read(folder, GOOD[:start] + inserted + GOOD[start + removed :])
    except UserError:
        return  # anything else would end the test
    assert found.keys() == {1, 2}
