"""Reading the shards of a prediction store in the background, some videos at a time; texts of masks on demand.

This module imports no numba, so that reading can begin before the import of what scores.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.arrays import Floats, Ints
from harness.paths import Location, ObjectPath

_READERS = 8
"""The largest number of threads that read shards."""
GROUP_SHARDS, GROUP_BYTES = 16, 4 << 20
"""A group ends with the shard that makes it this many or this large: long videos form groups of one."""
SHARD_BYTES_AHEAD = 64 << 20
"""Shards are read ahead until those that wait to be scored take this much memory."""


class ShardStore(Protocol):
    """The source of shards: the part of `harness.run_folder.store.PredictionStore` that scoring needs."""

    folder: Location

    def done(self) -> set[int]:
        """Ids of the videos that have a shard."""
        ...

    def read_shard(self, video_id: int, whole: bool = False) -> Shard:
        """The shard of a video; what is read of it is checked, and with ``whole`` all of it."""
        ...


class ReadTexts(Protocol):
    """Reads ``blocks`` of a shard's texts, which begin at the places ``begin``, into arrays, and verifies them."""

    def __call__(self, blocks: list[int], begin: list[int], out: list[NDArray[np.uint8]]) -> None: ...


@dataclass(frozen=True)
class Shard:
    """The tracks of one video as arrays; the texts of masks are where they are stored until they are needed.

    ``size`` is height and width. Track ``t`` has the frames ``index[offsets[t]:offsets[t + 1]]``: the number of a mask,
    or -1. The text of a mask is ``start`` to ``stop`` of its source, and ``area (masks,)`` is in pixels where it is
    known. ``memory`` is in bytes. The masks that a track is the first to use are a block, which is read as a whole.
    """

    video_id: int
    size: tuple[int, int]
    category_id: Ints
    score: Floats
    area_sum: Ints
    area_frames: Ints
    offsets: Ints
    index: NDArray[np.int32]
    start: Ints
    stop: Ints
    read: ReadTexts
    memory: int
    area: Ints | None = None

    @property
    def first_of_block(self) -> Ints:
        """The first mask of every track's block ``(tracks + 1,)``."""
        return np.maximum.accumulate(np.append(np.int32(-1), self.index))[self.offsets].astype(np.int64) + 1

    def blocks_of(self, tracks: NDArray[np.bool_]) -> Blocks:
        """The blocks that hold the masks of some tracks."""
        used = self.index[np.repeat(tracks, np.diff(self.offsets))]
        has_mask = np.zeros(len(self.start) + 1, np.bool_)
        has_mask[used] = True  # -1, the absent mask, is the last
        masks = np.flatnonzero(has_mask[:-1])
        first = self.first_of_block
        owner = np.searchsorted(first, masks, side="right") - 1
        is_first = np.diff(owner, prepend=-1) > 0  # masks of a block are neighbours
        block, place = owner[is_first], np.cumsum(is_first) - 1
        begin, end = self.start[first[block]], self.stop[first[block + 1] - 1]
        at = np.append(0, np.cumsum(end - begin))
        moved = (at[:-1] - begin)[place]
        return Blocks(masks, self.start[masks] + moved, self.stop[masks] + moved, block, begin, at)


class Blocks(NamedTuple):
    """Blocks of a shard's texts, one behind the other: ``block`` from ``begin`` in the source to ``at`` in the memory.

    The ``masks`` that are asked for are then at ``start`` to ``stop``.
    """

    masks: Ints
    start: Ints
    stop: Ints
    block: Ints
    begin: Ints
    at: Ints


def _read_nothing(blocks: list[int], begin: list[int], out: list[NDArray[np.uint8]]) -> None:
    """Texts of a shard without tracks."""


_NONE = np.empty(0, np.int64)
NO_TRACKS = Shard(
    0, (0, 0), _NONE, np.empty(0), _NONE, _NONE, np.zeros(1, np.int64), np.empty(0, np.int32), _NONE, _NONE,
    _read_nothing, 0, _NONE,
)  # fmt: skip
"""A shard without tracks."""


class ShardGroup(NamedTuple):
    """Some videos' shards, by ascending video id."""

    videos: list[int]
    shards: list[Shard]


class ShardReader:
    """The shards of a store, read and verified in the background, ahead until they take `SHARD_BYTES_AHEAD`.

    With ``videos`` only theirs are read: if one is missing, reading ends with `DamagedShardError`. With ``whole`` every
    byte of a shard is verified, also of masks that are not needed.

    Reading begins at once, so that it can go on while annotations are read. Beyond those bytes memory holds only the
    shards in use: at most `_READERS` in reading and `GROUP_BYTES`, or one shard, in every group that was taken.
    """

    def __init__(self, store: ShardStore, videos: Iterable[int] | None = None, whole: bool = False) -> None:
        self.folder, self.whole = store.folder, whole
        self.store = store
        # reading from a disk is bound by the cores, from an object store by waiting
        readers = _READERS if isinstance(store.folder, ObjectPath) else min(os.cpu_count() or 1, _READERS)
        self._pool = ThreadPoolExecutor(readers)
        self.videos = sorted(store.done() if videos is None else videos)
        self._todo = iter(self.videos)
        self._ahead: deque[tuple[int, Future[Shard]]] = deque()
        self._lock = Lock()  # both readers and the iterating thread start reads
        self._most_reading, self._reading, self._waiting_bytes = readers + 1, 0, 0
        self._read_on(0, 0)

    def _read_on(self, reading: int, waiting_bytes: int) -> None:
        """Account for these, and start reading further shards while there is room.

        No thread waits for room, so shards that are never consumed block none.
        """
        with self._lock:
            self._reading += reading
            self._waiting_bytes += waiting_bytes
            while self._reading < self._most_reading and self._waiting_bytes < SHARD_BYTES_AHEAD:
                video = next(self._todo, None)
                if video is None:
                    return
                self._ahead.append((video, self._pool.submit(self._read, video)))
                self._reading += 1

    def _read(self, video: int) -> Shard:
        shard = self.store.read_shard(video, self.whole)
        self._read_on(-1, shard.memory)
        return shard

    def __iter__(self) -> Iterator[ShardGroup]:
        try:
            yield from self._groups()
        finally:
            with self._lock:
                self._todo = iter(())
            self._pool.shutdown(cancel_futures=True)

    def _groups(self) -> Iterator[ShardGroup]:
        group, group_bytes = ShardGroup([], []), 0
        while self._ahead:
            video, reading = self._ahead.popleft()
            shard = reading.result()
            self._read_on(0, -shard.memory)
            group.videos.append(video)
            group.shards.append(shard)
            group_bytes += shard.memory + (int(shard.stop[-1] - shard.start[0]) if len(shard.start) else 0)
            if len(group.videos) == GROUP_SHARDS or group_bytes >= GROUP_BYTES:
                yield group
                group, group_bytes = ShardGroup([], []), 0
        if group.videos:
            yield group
