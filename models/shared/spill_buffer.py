"""Keeps arrays of a video, partly on disk, until its tracks are selected; scores may be recomputed instead.

The scores of every frame, query and word are needed only for the few selected tracks, after the last frame. Keeping all
takes 4 bytes per frame, query and word: 40 GB for 10,000 frames and 10,000 words.
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
ArrayLayout = tuple[np.dtype[Any], tuple[int, ...]]

IN_MEMORY = 128 << 20
"""Bytes of a buffer, and of scores in it, that stay in memory."""


class SpillBuffer:
    """A sequence of arrays: the first 128 MB in memory, the others in an unnamed temporary file.

    Memory is a separate mapping, because many small long-lived arrays among larger ones would fragment the heap. Arrays
    cannot be added after reading. Close it after use.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        """Of all arrays, wherever they are."""
        self._memory: mmap.mmap | None = None
        self._file: IO[bytes] | None = None
        self._layouts: list[tuple[mmap.mmap | IO[bytes], list[ArrayLayout]]] = []

    def add(self, *arrays: NDArray[Any]) -> None:
        """Add a group of arrays."""
        self.nbytes += sum(array.nbytes for array in arrays)
        place = self._place(self.nbytes <= IN_MEMORY)
        self._layouts.append((place, [(array.dtype, array.shape) for array in arrays]))
        for array in arrays:
            place.write(np.ascontiguousarray(array).data)

    def __iter__(self) -> Iterator[Arrays]:
        """Yield the groups, reading them from the start."""
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
        """The memory for the next arrays; pages of the mapping are allocated when written."""
        if fits:
            self._memory = self._memory or mmap.mmap(-1, IN_MEMORY)
            return self._memory
        self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115
        return self._file


class DeferredScores:
    """Scores per frame, slot and class, kept until tracks are selected.

    The first 128 MB are kept unchanged, 4 Q C bytes per frame. For later frames the inputs of the scores are kept
    instead if that takes less than half the memory; ``again`` then recomputes them with the same calls on arrays of the
    same shapes, so that they are bit-identical. Close it after use.
    """

    def __init__(self, again: Callable[..., Tensor] | None = None) -> None:
        self._again = again
        self._spool = SpillBuffer()
        self._is_source: list[bool] = []  # by group of the buffer
        self._freed = 0  # bytes of scores computed and freed since memory was returned

    @property
    def nbytes(self) -> int:
        """Bytes that are kept, in memory and on disk."""
        return self._spool.nbytes

    def add(self, scores: Tensor, *source: Tensor) -> None:
        """Add frames: float32 ``(f, Q, C)`` on the CPU, equal to the result of ``again`` for the tensors ``source``."""
        fits = self.nbytes + scores.nbytes <= IN_MEMORY
        is_smaller = bool(source) and 2 * sum(tensor.nbytes for tensor in source) < scores.nbytes
        self._is_source.append(self._again is not None and is_smaller and not fits)
        kept = source if self._is_source[-1] else (scores,)
        self._spool.add(*(tensor.cpu().numpy() for tensor in kept))
        self._let_go(scores.nbytes)

    def of(self, slots: Tensor, labels: Tensor) -> Tensor:
        """Return the scores of tracks with these slots and labels, ``(k,)`` each, in every frame: ``(k, F)``."""
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
    """Return freed memory to the system, if the C library has a function for it.

    With glibc 2.36 large aligned blocks that torch frees are often not reused for blocks of the same size. Without this
    call the process grew by the size of a part's scores with every part.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
