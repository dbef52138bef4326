"""Masks of a video between the network and the choice of its tracks, within a bound of memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.models.clipvis.mask_encoding import EncodedMasks, encode_masks
from harness.models.clipvis.preprocess import Geometry
from harness.types import Rle


@dataclass
class _Window:
    """Consecutive frames: mask logits as the network gave them, or, once encoded, runs of every query."""

    order: Tensor
    """``(frames, Q)``: the query of each slot."""
    logits: Tensor | None
    """``(frames, Q, h, w)`` at stride 4, on the device."""
    encoded: EncodedMasks | None = None
    """Frame-major, slot-minor."""


@dataclass
class TrackMasks:
    """The masks of chosen slots, frame by frame; n slots, F frames."""

    rles: list[list[Rle]]
    """``[slot][frame]``."""
    confidence: Tensor
    """``(n, F)``: sum of sigmoid(logit) over positive pixels of the output (zeros unless asked for)."""
    area: Tensor
    """``(n, F)``: their number."""


class KeptMasks:
    """Keeps mask logits at stride 4 until tracks are chosen, so that only theirs are encoded.

    What exceeds ``budget_bytes`` is encoded early, for every query and oldest first: a few hundred bytes per mask. The
    masks that come out are the same.
    """

    def __init__(self, sizes: Geometry, budget_bytes: int, confidence: bool = False) -> None:
        self.sizes, self.budget_bytes, self.confidence = sizes, budget_bytes, confidence
        self._windows: list[_Window] = []

    def add(self, logits: Tensor, order: Tensor) -> None:
        """Take in a window: logits ``(frames, Q, h, w)`` as the network gave them, ``order`` ``(frames, Q)``."""
        self._windows.append(_Window(order, logits))
        kept = [w for w in self._windows if w.logits is not None]
        held = sum(w.logits.nbytes for w in kept if w.logits is not None)
        for window in kept:
            if held <= self.budget_bytes:
                break
            held -= window.logits.nbytes if window.logits is not None else 0
            window.encoded = self._encode(window, torch.arange(window.order.shape[1]))
            window.logits = None

    def of(self, slots: Tensor) -> TrackMasks:
        """The masks of ``slots`` ``(n,)`` in every frame."""
        rles: list[list[Rle]] = [[] for _ in slots]
        confidence, area = [], []
        for window in self._windows:
            frames, queries = window.order.shape
            if window.encoded is None:
                encoded, pick = self._encode(window, slots), torch.arange(len(slots))
                queries = len(slots)
            else:
                encoded, pick = window.encoded, slots
            for track, slot in enumerate(pick.tolist()):
                rles[track] += encoded.rles[slot::queries]
            confidence.append(encoded.confidence.view(frames, queries)[:, pick])
            area.append(encoded.area.view(frames, queries)[:, pick])
        return TrackMasks(rles, torch.cat(confidence).T, torch.cat(area).T)

    def _encode(self, window: _Window, slots: Tensor) -> EncodedMasks:
        """Encode the masks of ``slots``, frame-major."""
        assert window.logits is not None
        chosen = window.order[:, slots].to(window.logits.device)
        frames = torch.arange(len(chosen), device=window.logits.device)[:, None]
        return encode_masks(window.logits[frames, chosen].flatten(0, 1), self.sizes, self.confidence)
