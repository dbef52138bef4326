"""The frames of a video: what they offer to models, and reading them ahead within a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""RGB pixels, ``(height, width, 3)``."""

DECODING_THREADS = 4


class Frames(Protocol):
    """The frames of one video in order; a frame is decoded when it is asked for and never kept."""

    def __len__(self) -> int: ...

    def __getitem__(self, frame_index: int, /) -> Image: ...


@runtime_checkable
class DigestedFrames(Frames, Protocol):
    """Frames that say by themselves what they are known by; of others, some frames are decoded for that.

    A run keeps this with the video's predictions. When it resumes, a video whose frames have become others is refused.
    """

    def digests(self, whole: bool) -> Sequence[str]:
        """Return one text per frame, or a single one for all frames, that changes when the pixels do.

        It is free of place: the same frames in another folder give the same. Without ``whole`` it takes microseconds
        per frame (sizes, samples of the content, what generates them), with it all content counts. What cannot be read
        is told by a text of its own, not by an exception: some models look at no frames.
        """
        ...


def read_ahead(frames: Frames, ahead: int = 4) -> Iterator[Image]:
    """Yield the frames in order while at most ``ahead`` undelivered ones are decoded in the background.

    An exception of a frame is raised in its turn, after the frames before it. Closing the generator stops the threads.
    With ``ahead`` 0 frames are decoded one by one, without threads.
    """
    if ahead < 0:
        raise ValueError(f"ahead is {ahead}, must not be negative")
    if ahead == 0:
        for frame_index in range(len(frames)):
            yield frames[frame_index]
        return
    waiting: deque[Future[Image]] = deque()
    indices = iter(range(len(frames)))
    pool = ThreadPoolExecutor(min(ahead, DECODING_THREADS), thread_name_prefix="frames")
    try:
        for frame_index in indices:
            waiting.append(pool.submit(frames.__getitem__, frame_index))
            if len(waiting) == ahead:
                break
        while waiting:
            frame = waiting.popleft().result()
            for frame_index in indices:
                waiting.append(pool.submit(frames.__getitem__, frame_index))
                break
            yield frame
            del frame  # the caller alone decides how long a delivered frame lives
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
