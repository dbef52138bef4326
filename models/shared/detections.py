"""The results of a video or an image: the selected queries with classes, scores and encoded masks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from harness.masks import Rle
from harness.models.shared.mask_buffer import MaskBuffer, TrackMasks
from harness.models.shared.mask_encoding import encode_masks
from harness.models.shared.preprocess import Geometry
from harness.models.shared.track_selection import TrackSelection, best, mask_score
from harness.types import Category, Track


class ImageDetection(NamedTuple):
    """One object of a still image."""

    label: int
    """Position of its class in the vocabulary."""
    score: float
    mask: Rle


class ChosenMasks(NamedTuple):
    """The masks of selected tracks; a slot that several tracks share is encoded once."""

    masks: TrackMasks
    position: Tensor
    """``(k,)``: index in ``masks`` of each track's mask."""
    nothing: Rle
    """The mask of a frame where a track was suppressed."""


def choose_masks(selection: TrackSelection, kept: MaskBuffer) -> ChosenMasks:
    """Encode the masks of the selected tracks."""
    slots, position = torch.unique(selection.slots, return_inverse=True)
    nothing = encode_masks(torch.zeros(1, 1, 1), kept.sizes).rles[0]
    return ChosenMasks(kept.of(slots), position, nothing)


def tracks_of_detections(
    video_id: int, categories: tuple[Category, ...], selection: TrackSelection, chosen: ChosenMasks, scores: Tensor
) -> list[Track]:
    """The selected tracks with their final ``scores`` ``(k,)``, best first; all-zero masks where suppressed."""
    tracks = []
    for i in torch.argsort(scores, descending=True, stable=True).tolist():
        rles = chosen.masks.rles[int(chosen.position[i])]
        suppressed = selection.suppressed[i].tolist()
        runs = tuple(chosen.nothing if gone else rle for rle, gone in zip(rles, suppressed, strict=True))
        tracks.append(Track(video_id, categories[int(selection.labels[i])].id, float(scores[i]), runs))
    return tracks


def image_detections(scores: Tensor, mask_logits: Tensor, sizes: Geometry, detections: int) -> list[ImageDetection]:
    """The best of ``scores`` ``(Q, C)`` of one image, each times its mask's score at the size of the image.

    ``mask_logits`` ``(Q, h, w)`` are at stride 4 of the padded image.
    """
    top, queries, labels = best(scores, detections)
    unique, position = torch.unique(queries, return_inverse=True)
    encoded = encode_masks(mask_logits[unique], sizes, confidence=True)
    final = top.cpu() * mask_score(encoded.confidence, encoded.area)[position.cpu()]
    order = torch.argsort(final, descending=True, stable=True).tolist()
    return [ImageDetection(int(labels[i]), float(final[i]), encoded.rles[int(position[i])]) for i in order]
