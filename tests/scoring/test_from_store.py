"""Scoring reads a store as a stream: in order, a bounded number of bytes ahead, and ends with the first fault.

Tests of `harness/scoring/shard_reader.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from harness.errors import UserError
from harness.formats.youtube_vis import Annotations, annotations_from_document
from harness.masks import Rle
from harness.run_folder.store import PredictionStore
from harness.scoring import shard_reader
from harness.scoring.score import score_store
from harness.scoring.shard_reader import Shard, ShardReader
from harness.types import Track, Video

HEIGHT = WIDTH = 200
VIDEOS, FRAMES, TRACKS = 72, 4, 2


class Watched(PredictionStore):
    """A store that notes the most bytes that its shards took together."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.held, self.most = 0, 0
        self.lock = threading.RLock()

    def read_shard(self, video_id: int, whole: bool = False) -> Shard:
        shard = super().read_shard(video_id, whole)
        self._add(shard.memory)
        weakref.finalize(shard, self._add, -shard.memory)
        return shard

    def _add(self, size: int) -> None:
        with self.lock:
            self.held += size
            self.most = max(self.most, self.held)


def noise(rng: np.random.Generator, runs: int) -> Rle:
    """A mask of about so many runs of random lengths, which takes about as many bytes."""
    places = np.unique(rng.integers(1, HEIGHT * WIDTH, runs))
    counts = np.diff(places, prepend=0, append=HEIGHT * WIDTH).tolist()
    encoded = coco.frPyObjects({"size": [HEIGHT, WIDTH], "counts": counts}, HEIGHT, WIDTH)
    return Rle((HEIGHT, WIDTH), encoded["counts"])


def fill(folder: Path, videos: int, runs: int) -> tuple[PredictionStore, Annotations]:
    """A store of noise, and annotations in which the first track of each video is an object."""
    rng = np.random.default_rng(0)
    store, annotations = PredictionStore(folder), []
    for v in range(1, videos + 1):
        tracks = [Track(v, 1, float(rng.random()), tuple(noise(rng, runs) for _ in range(FRAMES)))
                  for _ in range(TRACKS)]  # fmt: skip
        store.write_video(Video(v, str(v), HEIGHT, WIDTH, range(FRAMES)), tracks)  # type: ignore[arg-type]
        masks = [{"size": list(mask.size), "counts": mask.counts.decode()} for mask in tracks[0].masks if mask]
        annotations.append({"id": v, "video_id": v, "category_id": 1, "iscrowd": 0, "segmentations": masks,
                            "areas": [int(coco.area(mask)) for mask in masks]})  # fmt: skip
    document: dict[str, Any] = {
        "videos": [{"id": v, "height": HEIGHT, "width": WIDTH, "length": FRAMES} for v in range(1, videos + 1)],
        "categories": [{"id": 1, "name": "noise", "partition": 1}, {"id": 2, "name": "silence", "partition": 2}],
        "annotations": annotations,
    }
    return store, annotations_from_document(document, "made")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[PredictionStore, Annotations]:
    return fill(tmp_path_factory.mktemp("large"), videos=VIDEOS, runs=2000)


def test_memory_follows_what_is_read_ahead_not_the_store(
    large: tuple[PredictionStore, Annotations], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, annotations = large
    sizes = [store.read_shard(video).memory for video in store.done()]
    shard = max(sizes)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(shard_reader, "GROUP_SHARDS", 1)
    monkeypatch.setattr(shard_reader, "SHARD_BYTES_AHEAD", 4 * shard)
    watched = Watched(store.folder)
    score = score_store("lvvis", annotations, watched)
    ahead, scored, in_reading = 4, 4, 3  # two workers have two more groups at hand, two readers one more shard
    assert watched.most <= (ahead + scored + in_reading) * shard < sum(sizes) / 4
    assert score.metrics.values["AP"] == score_store("lvvis", annotations, store).metrics.values["AP"]


@pytest.mark.parametrize("group_bytes", [1, 1 << 30])
def test_shards_come_in_order_in_groups_of_limited_size(
    large: tuple[PredictionStore, Annotations], monkeypatch: pytest.MonkeyPatch, group_bytes: int
) -> None:
    store, _ = large
    monkeypatch.setattr(shard_reader, "GROUP_BYTES", group_bytes)
    monkeypatch.setattr(shard_reader, "GROUP_SHARDS", 7)
    monkeypatch.setattr(shard_reader, "SHARD_BYTES_AHEAD", 1)
    groups = list(ShardReader(store))
    assert [len(group.videos) for group in groups] == ([1] * VIDEOS if group_bytes == 1 else [7] * 10 + [2])
    assert [video for group in groups for video in group.videos] == sorted(store.done())
    assert all(
        shard.video_id == video and len(shard.score) == TRACKS
        for group in groups
        for video, shard in zip(group.videos, group.shards, strict=True)
    )


def test_the_first_damaged_shard_ends_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_reader, "GROUP_SHARDS", 1)
    store, _ = fill(tmp_path, videos=6, runs=5)
    for video in (3, 5):
        store.path(video).write_bytes(b"nothing")
    groups = iter(ShardReader(store))
    assert [next(groups).videos for _ in range(2)] == [[1], [2]]
    with pytest.raises(UserError, match="truncated") as refused:
        next(groups)
    assert refused.value.where == str(store.path(3))
    assert not list(groups)


def test_reading_can_begin_before_numba_and_pyarrow_are_imported() -> None:
    code = (
        "import sys, harness.run_folder.store, harness.scoring.shard_reader; "
        "print(bool({'numba', 'pyarrow'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
