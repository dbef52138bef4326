"""Arrays of a video that wait until its tracks are chosen, and scores that wait there or are computed once more.

What a frame says of every query and word is wanted only for the few tracks that a video is found to have, when its last
frame has been seen. Kept for all, that would be 4 bytes per frame, query and word: 40 GB for 10,000 of each of frames
and words.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = tuple[NDArray[Any], ...]
Layout = tuple[np.dtype[Any], tuple[int, ...]]

IN_MEMORY = 128 << 20
"""Bytes of a spool, and of scores in it, that stay in memory."""


class SpillBuffer:
    """Arrays in the order in which they come: the first 128 MB in memory, the others in an unnamed temporary file.

    Memory is a map of its own: many small arrays that stay, among larger ones that go, would leave the heap in pieces.
    Nothing is added once they are read. Close it after use.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        """Of all arrays, wherever they are."""
        self._memory: mmap.mmap | None = None
        self._file: IO[bytes] | None = None
        self._layouts: list[tuple[mmap.mmap | IO[bytes], list[Layout]]] = []

    def add(self, *arrays: NDArray[Any]) -> None:
        """Keep a group of arrays."""
        self.nbytes += sum(array.nbytes for array in arrays)
        place = self._place(self.nbytes <= IN_MEMORY)
        self._layouts.append((place, [(array.dtype, array.shape) for array in arrays]))
        for array in arrays:
            place.write(np.ascontiguousarray(array).data)

    def __iter__(self) -> Iterator[Arrays]:
        """Yield the groups, read anew."""
        for place in (self._memory, self._file):
            if place is not None:
                place.seek(0)
        for place, layout in self._layouts:
            yield tuple(
                np.ndarray(shape, dtype, bytearray(place.read(math.prod(shape) * dtype.itemsize)))
                for dtype, shape in layout
            )

    def close(self) -> None:
        """Forget them, on disk too."""
        for place in (self._memory, self._file):
            if place is not None:
                place.close()

    def _place(self, fits: bool) -> mmap.mmap | IO[bytes]:
        """Where the next arrays go; pages of the map are taken up as they are written."""
        if fits:
            self._memory = self._memory or mmap.mmap(-1, IN_MEMORY)
            return self._memory
        self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115
        return self._file


class DeferredScores:
    """A number per frame, slot and class until tracks are chosen, of which only theirs are needed.

    The first 128 MB are kept as they are, 4 Q C bytes per frame. Of frames beyond these, what their numbers follow from
    is kept where that takes less than half; ``again`` then computes them with the same calls on arrays of the same
    shapes, so that they have the same bits. Close it after use.
    """

    def __init__(self, again: Callable[..., Tensor] | None = None) -> None:
        self._again = again
        self._spool = SpillBuffer()
        self._is_source: list[bool] = []  # by group of the spool
        self._freed = 0  # bytes of scores that were made and let go since memory was returned

    @property
    def nbytes(self) -> int:
        """What is kept, in memory and on disk."""
        return self._spool.nbytes

    def add(self, scores: Tensor, *source: Tensor) -> None:
        """Keep frames: float32 ``(f, Q, C)`` on the CPU, which is what ``again`` gives for the tensors ``source``."""
        fits = self.nbytes + scores.nbytes <= IN_MEMORY
        is_smaller = bool(source) and 2 * sum(tensor.nbytes for tensor in source) < scores.nbytes
        self._is_source.append(self._again is not None and is_smaller and not fits)
        kept = source if self._is_source[-1] else (scores,)
        self._spool.add(*(tensor.cpu().numpy() for tensor in kept))
        self._let_go(scores.nbytes)

    def of(self, slots: Tensor, labels: Tensor) -> Tensor:
        """The numbers of tracks with these slots and labels, ``(k,)`` each, in every frame: ``(k, F)``."""
        chosen = []
        for arrays, is_source in zip(self._spool, self._is_source, strict=True):
            kept = tuple(torch.from_numpy(array) for array in arrays)
            scores = self._again(*kept) if is_source and self._again is not None else kept[0]
            chosen.append(scores[:, slots, labels])
            self._let_go(scores.nbytes)
        return torch.cat(chosen).T

    def close(self) -> None:
        """Forget them, on disk too."""
        self._spool.close()

    def _let_go(self, nbytes: int) -> None:
        """Return freed memory after every 128 MB of scores."""
        self._freed += nbytes
        if self._freed > IN_MEMORY:
            return_freed_memory()
            self._freed = 0


def return_freed_memory() -> None:
    """Give memory that was freed back to the system, where the C library is asked for that.

    With glibc 2.36 large blocks that torch frees are often not used again for others of the same size, as all of them
    are aligned. Without this the process grew by the size of a part's scores with every part.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
