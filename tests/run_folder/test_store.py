"""The prediction store gives back what was put in, tells damage from data, and leaves nothing half-written."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco
from small_runs import HEIGHT, WIDTH, box, make_video, truth_of

from harness.errors import UserError
from harness.masks import Rle
from harness.run_folder.store import PredictionStore, schema
from harness.types import Track

BOX = box(1, 2, 3, 4)
EMPTY = box(0, 0, 0, 0)


@pytest.fixture
def store(tmp_path: Path) -> PredictionStore:
    return PredictionStore(tmp_path / "predictions")


@st.composite
def masks(draw: st.DrawFn) -> Rle:
    """Any mask of the small size, given by its runs, in COCO's encoding."""
    total = HEIGHT * WIDTH
    cuts = sorted(draw(st.lists(st.integers(0, total), max_size=6)))
    runs = np.diff([0, *cuts, total]).tolist()
    encoded = coco.frPyObjects({"size": [HEIGHT, WIDTH], "counts": runs}, HEIGHT, WIDTH)
    return Rle((HEIGHT, WIDTH), encoded["counts"])


@st.composite
def videos(draw: st.DrawFn) -> tuple[int, int, list[Track]]:
    """A video id, a number of frames, and tracks."""
    video_id, length = draw(st.integers(-(2**62), 2**62)), draw(st.integers(0, 4))
    entries = st.lists(st.none() | masks(), min_size=length, max_size=length)
    tracks = draw(
        st.lists(
            st.builds(
                Track,
                st.just(video_id),
                st.integers(-(2**62), 2**62),
                st.floats(allow_nan=False, allow_infinity=False),
                entries.map(tuple),
            ),
            max_size=5,
        )
    )
    return video_id, length, tracks


@given(videos())
def test_reading_gives_what_was_written(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> None:
    video_id, length, tracks = drawn
    store = PredictionStore(tmp_path_factory.mktemp("store"))
    store.write_video(make_video(video_id, length=length), tracks)
    assert store.read_video(video_id) == tracks
    assert store.done() == {video_id}


@given(videos())
def test_areas_are_those_of_the_masks(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> None:
    video_id, length, tracks = drawn
    store = PredictionStore(tmp_path_factory.mktemp("store"))
    store.write_video(make_video(video_id, length=length), tracks)
    table = store.read_table(video_id)
    for number, track in enumerate(tracks):
        areas = [int(coco.area({"size": list(m.size), "counts": m.counts})) for m in track.masks if m is not None]
        assert table["area_sum"][number].as_py() == sum(areas)
        assert table["area_frames"][number].as_py() == sum(area > 0 for area in areas)


def test_a_shard_has_the_promised_columns(store: PredictionStore) -> None:
    store.write_video(make_video(3), [Track(3, 7, 0.25, (BOX, None, EMPTY))])
    table = store.read_table(3)
    assert table.schema.names == schema().names
    assert pa.types.is_dictionary(table.schema.field("masks").type.value_type)
    (row,) = table.to_pylist()
    assert row == {
        "video_id": 3,
        "category_id": 7,
        "score": 0.25,
        "height": HEIGHT,
        "width": WIDTH,
        "area_sum": 12,
        "area_frames": 1,
        "masks": [BOX.counts, None, EMPTY.counts],
    }


def test_identical_masks_are_stored_once(store: PredictionStore) -> None:
    # A mask with many runs, so that its bytes outweigh everything else in the file.
    rng = np.random.default_rng(0)
    counts = coco.encode(np.asfortranarray(rng.integers(0, 2, (400, 400), np.uint8)))["counts"]
    mask = Rle((400, 400), counts)
    video = make_video(1, 400, 400)
    store.write_video(video, [Track(1, 1, 0.5, (mask,) * 3)] * 40)
    assert store.path(1).stat().st_size < 2 * len(counts)


def test_a_video_without_tracks_is_done(store: PredictionStore) -> None:
    store.write_video(make_video(5), [])
    assert store.done() == {5}
    assert store.read_video(5) == []
    assert store.read_table(5).schema.names == schema().names


def test_an_absent_folder_has_nothing_done(store: PredictionStore) -> None:
    assert store.done() == set()


def test_only_shards_count_as_done(store: PredictionStore) -> None:
    store.write_video(make_video(5), [])
    for name in (".6.parquet.99.tmp", "7.parquet.tmp", "x.parquet", "08.parquet", "notes.txt"):
        (store.folder / name).write_bytes(b"")
    assert store.done() == {5}


def test_writing_again_replaces(store: PredictionStore) -> None:
    video = make_video(1)
    store.write_video(video, [Track(1, 1, 0.5, truth_of(1))])
    store.write_video(video, [])
    assert store.read_video(1) == []


def test_the_same_tracks_give_the_same_bytes(tmp_path: Path) -> None:
    shards = []
    for name in ("a", "b"):
        store = PredictionStore(tmp_path / name)
        store.write_video(make_video(1), [Track(1, 1, 0.5, truth_of(1))])
        shards.append(store.path(1).read_bytes())
    assert shards[0] == shards[1]


@pytest.mark.parametrize(
    ("track", "message"),
    [
        (Track(2, 1, 0.5, (BOX,) * 3), "track 1: is of video 2"),
        (Track(1, 1, math.nan, (BOX,) * 3), "score is nan"),
        (Track(1, 1, -math.inf, (BOX,) * 3), "score is -inf"),
        (Track(1, 1, 0.5, (BOX,) * 2), "2 masks for 3 frames"),
        (Track(1, 1, 0.5, (BOX, None, Rle((16, 12), BOX.counts))), "frame 2: mask is 16x12, the video 12x16"),
        (Track(1, 1, 0.5, (BOX, Rle(BOX.size, BOX.counts + b"5"), None)), "frame 1: counts run past the end"),
        (Track(1, 1, 0.5, (BOX, Rle(BOX.size, b"5"), None)), "frame 1: counts end before the mask does"),
        (Track(1, 1, 0.5, (BOX, Rle(BOX.size, b"\x01"), None)), "frame 1: counts are not a COCO run-length"),
    ],
)
def test_faulty_tracks_are_refused(store: PredictionStore, track: Track, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        store.write_video(make_video(1), [Track(1, 1, 0.5, (BOX,) * 3), track])
    assert "video 1, track 1" in str(caught.value)
    assert store.done() == set()


@given(data=st.data())
def test_any_damage_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    store = PredictionStore(tmp_path_factory.mktemp("store"))
    store.write_video(make_video(1), [Track(1, 1, 0.5, truth_of(1))])
    whole = store.path(1).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1), label="place")
    if data.draw(st.booleans(), label="truncate"):
        damaged = whole[:at]
    else:
        flip = data.draw(st.integers(1, 255), label="bits")
        damaged = whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
    store.path(1).write_bytes(damaged)
    with pytest.raises(UserError, match=r"1\.parquet.*repeat its `harness run`"):
        store.read_table(1)


def test_a_shard_of_another_video_is_refused(store: PredictionStore) -> None:
    store.write_video(make_video(1), [])
    store.path(1).rename(store.path(2))
    with pytest.raises(UserError, match=r"2\.parquet: holds video 1"):
        store.read_table(2)


def test_damaged_shards_are_told_in_one_line_and_removed(
    store: PredictionStore, caplog: pytest.LogCaptureFixture
) -> None:
    for video in (1, 2, 3, 4):
        store.write_video(make_video(video), [])
    for video in (2, 4):
        store.path(video).write_bytes(store.path(video).read_bytes()[:-1])
    assert store.remove_damaged() == [2, 4]
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line == f"2 shards removed, first: {store.path(2)} is damaged: its checksum does not match"
    assert store.done() == {1, 3}
    assert store.remove_damaged() == []


def test_a_foreign_parquet_file_is_refused(store: PredictionStore) -> None:
    store.folder.mkdir()
    pq.write_table(pa.table({"a": [1, 2]}), store.path(1))
    with pytest.raises(UserError, match="not a shard of predictions"):
        store.read_table(1)


def test_a_missing_shard_says_what_to_do(store: PredictionStore) -> None:
    with pytest.raises(UserError, match=r"9\.parquet: does not exist"):
        store.read_video(9)


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_full_disk_leaves_nothing(store: PredictionStore, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    store.write_video(make_video(1), [])

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class FullFile:
        """A file on a full disk."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> FullFile:
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        write = full

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        opened = Path.open
        monkeypatch.setattr(Path, "open", lambda path, *mode: FullFile(opened(path, *mode)))
    with pytest.raises(UserError, match="No space left on device; free disk space"):
        store.write_video(make_video(2), [])
    monkeypatch.undo()
    assert sorted(p.name for p in store.folder.iterdir()) == ["1.parquet"]


def test_a_folder_that_cannot_be_made_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be created"):
        PredictionStore(tmp_path / "file" / "predictions").write_video(make_video(1), [])
