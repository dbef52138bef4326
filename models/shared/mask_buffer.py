"""Keeps the masks of a video until its tracks are selected, with a memory limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.masks import Rle
from harness.models.shared.mask_encoding import EncodedMasks, encode_masks
from harness.models.shared.preprocess import Geometry
from harness.models.shared.spill_buffer import SpillBuffer


class _Window(NamedTuple):
    """Network outputs of consecutive frames."""

    order: Tensor
    """``(frames, Q)``: the query of each slot."""
    logits: Tensor
    """``(frames, Q, h, w)`` at stride 4, on the device."""


class TrackMasks(NamedTuple):
    """The masks of chosen slots, frame by frame; n slots, F frames."""

    rles: list[list[Rle]]
    """``[slot][frame]``."""
    confidence: Tensor
    """``(n, F)``: sum of sigmoid(logit) over positive pixels of the output (zeros unless asked for)."""
    area: Tensor
    """``(n, F)``: their number."""


class MaskBuffer:
    """Keeps mask logits at stride 4 until tracks are selected, so that only their masks are encoded.

    Beyond ``budget_bytes`` the oldest windows are encoded early, for all queries, at a few hundred bytes per mask, and
    kept in a `SpillBuffer`. The resulting masks are the same. Close it after use.
    """

    def __init__(self, sizes: Geometry, budget_bytes: int, confidence: bool = False) -> None:
        self.sizes, self.budget_bytes, self.confidence = sizes, budget_bytes, confidence
        self._encoded = SpillBuffer()  # the oldest windows, as `_arrays` gives them
        self._windows: list[_Window] = []  # those after them

    def add(self, logits: Tensor, order: Tensor) -> None:
        """Add a window: the network's logits ``(frames, Q, h, w)``, ``order`` ``(frames, Q)``."""
        self._windows.append(_Window(order, logits))
        while self._windows and sum(window.logits.nbytes for window in self._windows) > self.budget_bytes:
            oldest = self._windows.pop(0)
            every = torch.arange(oldest.order.shape[1])
            self._encoded.add(*_arrays(self._encode(oldest, every), len(oldest.order)))

    def of(self, slots: Tensor) -> TrackMasks:
        """The masks of ``slots`` ``(n,)`` in every frame."""
        parts = [_masks_in(arrays, slots, self.sizes.original) for arrays in self._encoded]
        n = len(slots)
        for window in self._windows:
            rles, *sums = self._encode(window, slots)
            confidence, area = (values.view(-1, n).T for values in sums)
            parts.append(TrackMasks([rles[track::n] for track in range(n)], confidence, area))
        return TrackMasks(
            [[rle for part in parts for rle in part.rles[track]] for track in range(n)],
            torch.cat([part.confidence for part in parts], 1),
            torch.cat([part.area for part in parts], 1),
        )

    def close(self) -> None:
        """Delete all masks, also those on disk."""
        self._encoded.close()

    def _encode(self, window: _Window, slots: Tensor) -> EncodedMasks:
        """Encode the masks of ``slots``, frame-major."""
        chosen = window.order[:, slots].to(window.logits.device)
        frames = torch.arange(len(chosen), device=window.logits.device)[:, None]
        return encode_masks(window.logits[frames, chosen].flatten(0, 1), self.sizes, self.confidence)


def _arrays(encoded: EncodedMasks, frames: int) -> tuple[NDArray[Any], ...]:
    """Masks of consecutive frames: the text of all runs, and ``(frames, Q)`` where each ends, confidence, area."""
    text = np.frombuffer(b"".join(rle.counts for rle in encoded.rles), np.uint8)
    ends = np.cumsum([len(rle.counts) for rle in encoded.rles]).reshape(frames, -1)
    return text, ends, encoded.confidence.numpy().reshape(frames, -1), encoded.area.numpy().reshape(frames, -1)


def _masks_in(arrays: Sequence[NDArray[Any]], slots: Tensor, size: tuple[int, int]) -> TrackMasks:
    """The masks of ``slots`` ``(n,)`` in what `_arrays` gave; ``size`` is theirs."""
    text, ends, confidence, area = arrays
    chosen = slots.numpy()  # numpy would take a tensor of one number as a number
    starts = np.concatenate(([0], ends.ravel()[:-1])).reshape(ends.shape)
    rles = [
        [Rle(size, text[start:end].tobytes()) for start, end in zip(starts[:, slot], ends[:, slot], strict=True)]
        for slot in chosen
    ]
    return TrackMasks(rles, torch.from_numpy(confidence[:, chosen].T), torch.from_numpy(area[:, chosen].T))
