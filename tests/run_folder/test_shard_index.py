"""The index of a shard says what its columns say; scoring reads the masks that it compares, and verifies what it reads.

Tests of `harness/run_folder/shard_index.py`.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco
from small_runs import box, make_video, truth_of

from harness import rle
from harness.errors import UserError
from harness.formats.youtube_vis import Annotations, annotations_from_document
from harness.masks import Rle
from harness.run_folder import shard_index, store
from harness.run_folder.store import DamagedShardError, PredictionStore, shard_of_table
from harness.scoring.score import score_store
from harness.scoring.shard_reader import Shard, ShardReader
from harness.types import Track, Video

from .test_store import videos

BOX, OTHER, THIRD = box(1, 2, 3, 4), box(2, 3, 5, 5), box(0, 0, 2, 2)


@pytest.fixture
def one(tmp_path: Path) -> PredictionStore:
    """A store with a video: a track of category 1, and one of category 2, which shares a mask."""
    made = PredictionStore(tmp_path / "predictions")
    made.write_video(make_video(1), [Track(1, 1, 0.5, (BOX, OTHER, None)), Track(1, 2, 0.25, (THIRD, BOX, None))])
    return made


@pytest.fixture
def older(one: PredictionStore, monkeypatch: pytest.MonkeyPatch) -> PredictionStore:
    """The same store in the format before the index."""
    tracks = one.read_video(1)
    with monkeypatch.context() as patch:
        patch.setattr(store, "SHARD_FORMAT", "harness-predictions-1")
        patch.setattr(store, "_with_index", lambda data, shard: data)
        one.write_video(make_video(1), tracks)
    return one


def in_pieces(path: Path) -> AbstractContextManager[object]:
    """Read a shard as a large one is read: the index, and texts when they are needed."""
    return patch.object(store, "TAIL_BYTES", path.stat().st_size - 1)


def texts(shard: Shard, tracks: Any) -> dict[int, bytes]:
    """The text of every mask of some tracks."""
    blocks = shard.blocks_of(np.asarray(tracks, np.bool_))
    data = np.empty(int(blocks.at[-1]), np.uint8)
    rooms = [data[a:b] for a, b in zip(blocks.at[:-1].tolist(), blocks.at[1:].tolist(), strict=True)]
    shard.read(blocks.block.tolist(), blocks.begin.tolist(), rooms)
    return {
        m: data[a:b].tobytes()
        for m, a, b in zip(blocks.masks.tolist(), blocks.start.tolist(), blocks.stop.tolist(), strict=True)
    }


@given(videos(), st.data())
def test_index_and_columns_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, drawn: Any, data: st.DataObject
) -> None:
    video_id, length, tracks = drawn
    made = PredictionStore(tmp_path_factory.mktemp("store"))
    made.write_video(make_video(video_id, length=length), tracks)
    with in_pieces(made.path(video_id)) if data.draw(st.booleans()) else nullcontext():
        found, whole = made.read_shard(video_id), shard_of_table(video_id, made.read_table(video_id))
    for name in ("category_id", "score", "area_sum", "area_frames", "offsets", "index"):
        assert getattr(found, name).tolist() == getattr(whole, name).tolist()
    assert (found.video_id, found.area is not None) == (video_id, len(tracks) > 0)
    assert found.size == whole.size
    wanted = data.draw(st.lists(st.booleans(), min_size=len(tracks), max_size=len(tracks)))
    expected = {
        int(m): mask.counts
        for t, track in enumerate(tracks)
        if wanted[t]
        for m, mask in zip(found.index[found.offsets[t] :], track.masks, strict=False)
        if mask is not None
    }
    assert texts(found, wanted) == texts(whole, wanted) == expected
    if tracks:
        size = {m: Rle(found.size, counts) for m, counts in texts(found, [True] * len(tracks)).items()}
        ends = np.cumsum([0, *(len(mask.counts) for mask in size.values())])
        sides = [np.full(len(size), side, np.int32) for side in found.size]
        area = rle.areas(
            np.frombuffer(b"".join(mask.counts for mask in size.values()), np.uint8), ends[:-1], ends[1:],
            np.zeros(len(size), np.int8), *sides, np.ones(len(size), np.bool_),
        )  # fmt: skip
        assert found.area is not None
        assert found.area.tolist() == area.tolist()


def test_only_the_texts_of_the_tracks_are_read(one: PredictionStore) -> None:
    shard = one.read_shard(1)
    assert shard.first_of_block.tolist() == [0, 2, 3]
    assert texts(shard, [True, False]) == {0: BOX.counts, 1: OTHER.counts}
    assert texts(shard, [False, True]) == {0: BOX.counts, 2: THIRD.counts}
    assert shard.blocks_of(np.array([True, False])).block.tolist() == [0]


def test_other_readers_of_parquet_skip_the_index(one: PredictionStore) -> None:
    assert b"ovvisix1" in one.path(1).read_bytes()
    read = pd.read_parquet(one.path(1))
    assert read["category_id"].tolist() == [1, 2]
    assert list(read["masks"][1]) == [THIRD.counts, BOX.counts, None]


def test_a_shard_of_the_older_format_is_read(older: PredictionStore) -> None:
    assert b"ovvisix1" not in older.path(1).read_bytes()
    shard = older.read_shard(1)
    assert shard.area is None
    assert texts(shard, [False, True]) == {0: BOX.counts, 2: THIRD.counts}


def truth(masks: tuple[Rle | None, ...]) -> Annotations:
    found = [None if m is None else {"size": list(m.size), "counts": m.counts.decode()} for m in masks]
    return annotations_from_document(
        {
            "videos": [{"id": 1, "height": 12, "width": 16, "length": 3}],
            "categories": [{"id": c, "name": str(c), "partition": c} for c in (1, 2)],
            "annotations": [{"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "areas": [12, 25, None],
                             "segmentations": found}],
        },
        "made",
    )  # fmt: skip


def test_both_formats_score_alike(older: PredictionStore, tmp_path: Path) -> None:
    fresh = PredictionStore(tmp_path / "fresh")
    fresh.write_video(make_video(1), older.read_video(1))
    for protocol in ("lvvis", "hota"):
        records = [score_store(protocol, truth((BOX, OTHER, None)), each).record() for each in (older, fresh)]
        assert all(records[0][key] == records[1][key] for key in ("metrics", "corrected", "counts", "slices"))
    assert records[0]["metrics"]["HOTA"] == 0.5  # the track of the other category is wrong


@given(data=st.data())
def test_damage_of_what_is_read_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    made = PredictionStore(tmp_path_factory.mktemp("store"))
    made.write_video(make_video(1), [Track(1, 1, 0.5, truth_of(1))])
    whole = made.path(1).read_bytes()
    end = whole.rindex(b"ovvisix1") + 8
    size = int.from_bytes(whole[end - 16 : end - 8], "little")
    begin = data.draw(st.sampled_from([end - 48 - size, whole.index(truth_of(1)[0].counts)]), label="begin")  # type: ignore[union-attr]
    at = begin + data.draw(st.integers(0, size - 1 if begin > end - 49 - size else len(truth_of(1)[0].counts) - 1))  # type: ignore[union-attr]
    made.path(1).write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    pieces = in_pieces(made.path(1)) if data.draw(st.booleans()) else nullcontext()
    wrong = r"1\.parquet.*checksum does not match.*repeat its `harness run`"
    with pieces, pytest.raises(DamagedShardError, match=wrong):
        texts(made.read_shard(1), [True])
    with pytest.raises(DamagedShardError):
        made.read_table(1)


def test_a_mask_that_is_not_compared_may_be_damaged(one: PredictionStore) -> None:
    before = score_store("lvvis", truth((BOX, OTHER, None)), one).record()
    data = one.path(1).read_bytes()
    one.path(1).write_bytes(data.replace(THIRD.counts, THIRD.counts[::-1], 1))
    assert score_store("lvvis", truth((BOX, OTHER, None)), one).record() == before
    with pytest.raises(DamagedShardError, match="checksum does not match"):
        score_store("lvvis", truth((BOX, OTHER, None)), ShardReader(one, whole=True))  # as a run does
    assert one.remove_damaged() == [1]


@pytest.mark.parametrize("form", ["one", "older"])
def test_a_shard_that_is_verified_whole_is_read_once(form: str, request: pytest.FixtureRequest) -> None:
    made: PredictionStore = request.getfixturevalue(form)
    with in_pieces(made.path(1)), patch.object(store, "read_file", wraps=store.read_file) as reads:
        shard = made.read_shard(1, whole=True)
        made.path(1).unlink()
        assert sorted(texts(shard, [True, True]).values()) == sorted(mask.counts for mask in (BOX, OTHER, THIRD))
    assert reads.call_count == 1


def test_a_shard_that_is_cut_while_it_is_scored_is_a_damaged_one(one: PredictionStore) -> None:
    with in_pieces(one.path(1)):
        shard = one.read_shard(1)
    one.path(1).write_bytes(one.path(1).read_bytes()[:40])
    with pytest.raises(DamagedShardError, match="was changed while it was scored"):
        texts(shard, [True, True])
    one.path(1).unlink()
    with pytest.raises(DamagedShardError, match="does not exist"):
        texts(shard, [True, True])


def test_a_shard_that_is_replaced_while_it_is_scored_is_not_called_damaged(one: PredictionStore) -> None:
    with in_pieces(one.path(1)):
        shard = one.read_shard(1)
    expected = texts(shard, [True, True])
    one.write_video(make_video(1), one.read_video(1))  # the same predictions: the same bytes
    assert texts(shard, [True, True]) == expected
    one.write_video(make_video(1), [Track(1, 1, 0.5, (THIRD, None, None))])
    changed = r"1\.parquet: was changed while it was scored; repeat the command when nothing writes"
    with pytest.raises(DamagedShardError, match=changed):
        texts(shard, [True, True])
    assert one.remove_damaged() == []


def mislead(path: Path, name: str, value: float | tuple[int, ...]) -> None:
    """Change the first numbers of an index's array and make its checksum right again."""
    data = path.read_bytes()
    end = data.rindex(b"ovvisix1") + 8
    begin = at = end - 48 - int.from_bytes(data[end - 16 : end - 8], "little")
    for each, kind, number in shard_index._layout(2, 3, 3):
        if each == name:
            break
        at += np.dtype(kind).itemsize * number
    new = np.array(value, kind).tobytes()
    index = data[begin:at] + new + data[at + len(new) : end - 48]
    data = data[:begin] + index + hashlib.sha256(index).digest() + data[end - 16 :]
    at = data.rindex(b"sha256=") + 7
    unsigned = data[:at] + b"0" * 64 + data[at + 64 :]
    path.write_bytes(data[:at] + hashlib.sha256(unsigned).hexdigest().encode() + data[at + 64 :])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("index", 3), ("index", -2), ("length", -1), ("length", 1 << 20), ("area", -1),
        ("head", (1, 12, 16, 2, 3, 3, -1)), ("head", (1, 12, 16, 2, 3, 3, (1 << 63) - 1)),
        ("head", (1, 1 << 31, 16, 2, 3, 3, 4)),
    ],
)  # fmt: skip
def test_places_outside_the_file_are_refused(one: PredictionStore, name: str, value: int | tuple[int, ...]) -> None:
    mislead(one.path(1), name, value)
    with pytest.raises(DamagedShardError, match="outside the file"):
        one.read_shard(1)


@pytest.mark.parametrize(("name", "value"), [("score", 0.75), ("category_id", 2), ("index", 2), ("area", 11)])
def test_an_index_that_differs_from_the_columns_is_refused(one: PredictionStore, name: str, value: float) -> None:
    mislead(one.path(1), name, value)
    with pytest.raises(DamagedShardError, match="has an index that differs from its columns"):
        one.read_table(1)


def test_an_index_larger_than_the_tail_is_read(one: PredictionStore) -> None:
    tracks = [Track(2, c, 0.5, (BOX, OTHER, None)) for c in range(4000)]
    one.write_video(make_video(2), tracks)
    assert one.path(2).stat().st_size > shard_index.TAIL_BYTES
    assert len(one.read_shard(2).score) == 4000
    assert texts(one.read_shard(2), [False] * 3999 + [True]) == {0: BOX.counts, 1: OTHER.counts}


def test_a_video_without_tracks_and_a_renamed_shard(one: PredictionStore) -> None:
    one.write_video(make_video(2), [])
    assert len(one.read_shard(2).score) == 0
    one.path(1).rename(one.path(3))
    with pytest.raises(UserError, match="holds video 1"):
        one.read_shard(3)


def test_a_video_without_frames_has_tracks(one: PredictionStore) -> None:
    one.write_video(Video(4, "4", 12, 16, range(0)), [Track(4, 1, 0.5, ())])  # type: ignore[arg-type]
    assert one.read_shard(4).score.tolist() == [0.5]
    assert texts(one.read_shard(4), [True]) == {}


def test_an_area_beyond_32_bits_is_read_with_the_columns(one: PredictionStore) -> None:
    size = 46341, 46341  # the smallest square frame with so many pixels
    whole = Rle(size, coco.frPyObjects({"size": size, "counts": [0, size[0] * size[1]]}, *size)["counts"])
    one.write_video(make_video(2, *size, length=1), [Track(2, 1, 0.5, (whole,))])
    assert one.read_shard(2).area is None
    assert one.read_shard(2).area_sum.tolist() == [size[0] * size[1]]
    assert one.remove_damaged() == []
