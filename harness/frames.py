"""The frames of a video: their interface, and reading ahead with a limit."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError

Image = NDArray[np.uint8]
"""RGB pixels, ``(height, width, 3)``."""

FEWEST_THREADS, MOST_THREADS = 4, 16
"""Threads that decode the frames of a video: half as many as there are cores, within these bounds."""


class Frames(Protocol):
    """The frames of one video in order; a frame is decoded on access and not cached."""

    def __len__(self) -> int: ...

    def __getitem__(self, frame_index: int, /) -> Image: ...


@runtime_checkable
class DigestedFrames(Frames, Protocol):
    """Frames that compute their own digests; of other classes some frames are decoded for that.

    A run stores the digests with the video's predictions. When it resumes, a video with other frames is refused.
    """

    def digests(self, whole: bool) -> Sequence[str]:
        """Return one text per frame, or a single one for all frames, that changes when the pixels do.

        It does not depend on the folder. Without ``whole`` it must take only microseconds per frame (from sizes,
        samples of the content or a generator's seed); with it, it covers all content. A frame that cannot be read gets
        a special text, not an exception, because some models read no frames.
        """
        ...


class MissingFrames:
    """The frames of a video whose pictures are not available: any access raises `UserError`."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, frame_index: int, /) -> Image:
        raise UserError(f"frame {frame_index}", "is not available", "name the folder of the frames as frames")

    def digests(self, whole: bool) -> Sequence[str]:
        """One text for all: there is nothing to tell apart."""
        return ["missing"]


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoding_threads() -> int:
    """The number of threads that decode, by the cores that this process may use."""
    return min(max(usable_cores() // 2, FEWEST_THREADS), MOST_THREADS)


class AheadReader:
    """Decodes the frames of a video on threads, before they are asked for. Close it after use.

    At most ``ahead`` frames, at least 1, are decoded and not yet delivered; none before `begin` or `read`.
    """

    def __init__(self, frames: Frames, ahead: int) -> None:
        self._frames, self._ahead = frames, ahead
        self._left = len(frames)  # frames that are not begun
        self._indices = iter(range(len(frames)))
        self._waiting: deque[Future[Image]] = deque()
        self._pool = ThreadPoolExecutor(min(ahead, decoding_threads()), thread_name_prefix="frames")

    def begin(self) -> bool:
        """Begin to decode one more frame; ``False`` where none is left, or ``ahead`` frames wait."""
        if len(self._waiting) < self._ahead:
            for frame_index in self._indices:
                self._left -= 1
                self._waiting.append(self._pool.submit(self._frames.__getitem__, frame_index))
                return True
        return False

    def fill(self, then: Callable[[], object]) -> None:
        """Begin to decode as many frames as may wait; ``then`` is called for each that is not left."""
        for _ in range(self._ahead - len(self._waiting)):
            if not self.begin():
                then()

    def has_decoded(self, count: int) -> bool:
        """Whether the next ``count`` frames, or all that are left if these are fewer, can be read without a wait.

        ``False`` where none is left.
        """
        count = min(count, len(self._waiting) + self._left)
        return 0 < count <= len(self._waiting) and all(frame.done() for frame in islice(self._waiting, count))

    def read(self, then: Callable[[], object] = lambda: None) -> Iterator[Image]:
        """Yield the frames in order. An exception of a frame is raised after the frames before it.

        ``then`` is called wherever one more frame could be begun and none is left, so that others are begun instead.
        """
        self.fill(then)
        while self._waiting:
            frame = self._waiting.popleft().result()
            if not self.begin():
                then()
            yield frame
            del frame  # only the caller keeps a delivered frame alive

    def close(self) -> None:
        """Stop the threads, after the frames that they are decoding."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def read_ahead(frames: Frames, ahead: int = 4) -> Iterator[Image]:
    """Yield the frames in order, decoding at most ``ahead`` frames in advance in the background.

    An exception of a frame is raised after the frames before it. Closing the generator stops the threads. With
    ``ahead`` 0 frames are decoded one by one, without threads.
    """
    if ahead < 0:
        raise ValueError(f"ahead is {ahead}, must not be negative")
    if ahead == 0:
        for frame_index in range(len(frames)):
            yield frames[frame_index]
        return
    with closing(AheadReader(frames, ahead)) as reader:
        yield from reader.read()
