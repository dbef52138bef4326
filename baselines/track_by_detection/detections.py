"""The output of a segmenter for a frame, and the selection of objects to track."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from harness.arrays import Floats, Ints
from harness.baselines.track_by_detection.config import TrackingConfig
from harness.models.shared.preprocess import Geometry
from harness.models.shared.windows import Stages
from harness.types import Video, Vocabulary

STRIDE = 4
"""Pixels of the network's input per cell of a mask."""


class SegmentedFrame(NamedTuple):
    """The candidates of one frame from a segmenter: n candidates, C categories."""

    scores: Tensor
    """``(n, C)`` in [0, 1]: score of each candidate for each category of the vocabulary."""
    mask_logits: Tensor
    """``(n, h, w)`` at stride 4 of the padded image, or of its size; positive is object."""
    embeddings: Tensor
    """``(n, dim)``: for the ``embedding`` tracker, not normalised."""


class Segmenter(Protocol):
    """An open-vocabulary segmenter of single frames."""

    stage: Stages
    """Entered around each stage of the work, for timing."""

    def geometry(self, height: int, width: int) -> Geometry:
        """Sizes of frames of ``height`` and ``width`` pixels at each step of the segmenter."""
        ...

    def frames(self, video: Video, vocabulary: Vocabulary) -> Iterator[SegmentedFrame]:
        """Segment the frames of ``video`` one by one, in order."""
        ...


class Detections(NamedTuple):
    """The objects of one frame that are tracked, best first; n objects, C categories."""

    class_scores: NDArray[np.float32]
    """``(n, C)`` in [0, 1]."""
    mask_logits: Tensor
    """``(n, h, w)``, as the segmenter gave them."""
    masks: Tensor
    """``(n, cells)`` boolean: where an object is at stride 4, its padding left out."""
    boxes: Floats
    """``(n, 4)``: left, top, right, bottom around the mask, in pixels of the video."""
    embeddings: Tensor
    """``(n, dim)``, unit rows."""

    def __len__(self) -> int:
        return len(self.class_scores)


def detections(frame: SegmentedFrame, sizes: Geometry, config: TrackingConfig) -> Detections:
    """The best candidates of a frame that have a mask and are no duplicates of better ones."""
    rows, columns = (max(1, (edge + 1) // STRIDE) for edge in sizes.resized)  # cells whose centre is not padding
    masks = frame.mask_logits > 0
    if masks.shape[1:] == sizes.padded:  # a cell belongs to an object with one of its pixels
        masks = functional.pad(masks, (0, -masks.shape[2] % STRIDE, 0, -masks.shape[1] % STRIDE))
        masks = masks.view(len(masks), masks.shape[1] // STRIDE, STRIDE, -1, STRIDE).any(4).any(2)
    masks = masks[:, :rows, :columns]
    best = frame.scores.amax(1).where(masks.flatten(1).any(1), -1.0)
    score, order = best.sort(descending=True, stable=True)
    chosen = order[(score >= config.score_threshold) & (score >= 0)]
    flat = masks[chosen].flatten(1)
    kept = without_duplicates(mask_iou(flat, flat), config.duplicate_iou)[: config.detections_per_frame]
    positions = torch.from_numpy(kept).to(chosen.device)
    chosen = chosen[positions]
    return Detections(
        frame.scores[chosen].float().cpu().numpy(),
        frame.mask_logits[chosen],
        flat[positions],
        boxes_of(masks[chosen], sizes),
        functional.normalize(frame.embeddings[chosen].float(), dim=-1),
    )


def mask_iou(one: Tensor, other: Tensor) -> Floats:
    """Overlap of boolean masks ``(n, cells)`` and ``(m, cells)``: ``(n, m)`` in [0, 1], 0 where both are empty.

    One product of matrices; areas are whole numbers below 2^24 and therefore exact in float32.
    """
    a, b = one.float(), other.to(one.device).float()
    common = (a @ b.T).double()
    union = a.sum(1).double()[:, None] + b.sum(1).double() - common
    overlap: Floats = (common / union.clamp(min=1)).cpu().numpy()
    return overlap


def without_duplicates(overlap: Floats, limit: float) -> Ints:
    """Rows to keep of objects, best first, of which none overlaps a better kept one by more than ``limit``."""
    gone = np.zeros(len(overlap), bool)
    for better in range(len(overlap)):
        if not gone[better]:
            gone[better + 1 :] |= overlap[better, better + 1 :] > limit
    return np.flatnonzero(~gone)


def boxes_of(masks: Tensor, sizes: Geometry) -> Floats:
    """Boxes ``(n, 4)`` around masks ``(n, h, w)`` that are not empty: left, top, right, bottom in pixels."""
    if not len(masks):
        return np.zeros((0, 4))
    height, width = sizes.original[0] / sizes.resized[0] * STRIDE, sizes.original[1] / sizes.resized[1] * STRIDE
    down, across = masks.any(2).byte(), masks.any(1).byte()  # argmax gives the first of equals
    top, left = down.argmax(1), across.argmax(1)
    bottom, right = down.shape[1] - down.flip(1).argmax(1), across.shape[1] - across.flip(1).argmax(1)
    corners = torch.stack((left, top, right, bottom), 1).double().cpu().numpy()
    return np.minimum(corners * (width, height, width, height), (sizes.original[1], sizes.original[0]) * 2)
