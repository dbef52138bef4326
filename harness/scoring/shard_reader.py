"""Reading the shards of a prediction store in the background, some videos at a time.

This module imports no numba, so that reading can begin before the import of what scores.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

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

    def read_table(self, video_id: int) -> Any:
        """The shard of a video, checked, as an Arrow table."""
        ...


class ShardGroup(NamedTuple):
    """Some videos' shards, by ascending video id."""

    videos: list[int]
    tables: list[Any]


class ShardReader:
    """The shards of a store, read and verified in the background, ahead until they take `SHARD_BYTES_AHEAD`.

    With ``videos`` only theirs are read: if one is missing, reading ends with `DamagedShardError`.

    Reading begins at once, so that it can go on while annotations are read. Beyond those bytes memory holds only the
    shards in use: at most `_READERS` in reading and `GROUP_BYTES`, or one shard, in every group that was taken.
    """

    def __init__(self, store: ShardStore, videos: Iterable[int] | None = None) -> None:
        self.folder = store.folder
        self.store = store
        # reading from a disk is bound by the cores, from an object store by waiting
        readers = _READERS if isinstance(store.folder, ObjectPath) else min(os.cpu_count() or 1, _READERS)
        self._pool = ThreadPoolExecutor(readers)
        self.videos = sorted(store.done() if videos is None else videos)
        self._todo = iter(self.videos)
        self._ahead: deque[tuple[int, Future[Any]]] = deque()
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

    def _read(self, video: int) -> Any:
        table = self.store.read_table(video)
        self._read_on(-1, table.get_total_buffer_size())
        return table

    def __iter__(self) -> Iterator[ShardGroup]:
        try:
            yield from self._groups()
        finally:
            with self._lock:
                self._todo = iter(())
            self._pool.shutdown(cancel_futures=True)
            pa.default_memory_pool().release_unused()  # Arrow keeps the memory of shards, needed elsewhere next

    def _groups(self) -> Iterator[ShardGroup]:
        group, group_bytes = ShardGroup([], []), 0
        while self._ahead:
            video, reading = self._ahead.popleft()
            table = reading.result()
            size = table.get_total_buffer_size()
            self._read_on(0, -size)
            group.videos.append(video)
            group.tables.append(table)
            group_bytes += size
            if len(group.videos) == GROUP_SHARDS or group_bytes >= GROUP_BYTES:
                yield group
                group, group_bytes = ShardGroup([], []), 0
        if group.videos:
            yield group
