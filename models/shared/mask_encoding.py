"""From mask logits at stride 4 to run-length encodings at the video's size (docs/clipvis.md, *Selection and masks*).

Logits are interpolated, thresholded and split into runs on their device, a few masks at a time; only the ends of runs
are copied to the host, once per call. No mask is kept at full size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from harness.arrays import Ints
from harness.masks import Rle
from harness.models.shared.preprocess import Geometry

PIXELS_AT_ONCE = {"cpu": 1 << 23, "cuda": 1 << 28}
"""Bound of the full-size pixels that are alive at once: about what the processor's caches serve, or 1 GiB."""


class EncodedMasks(NamedTuple):
    """Encoded masks, and the sums for their mask scores; n masks."""

    rles: list[Rle]
    """One per mask, all-zero where nothing is positive (never absent)."""
    confidence: Tensor
    """``(n,)``: sum of sigmoid(logit) over the positive pixels of the output."""
    area: Tensor
    """``(n,)``: their number."""


def encode_masks(logits: Tensor, sizes: Geometry, confidence: bool = False) -> EncodedMasks:
    """Encode mask logits ``(n, h, w)`` at stride 4 of the padded image as masks of the original size.

    With ``confidence`` the sums for mask scores at the output's resolution are computed (otherwise zeros).
    """
    height, width = sizes.original
    at_once = max(1, PIXELS_AT_ONCE.get(logits.device.type, 1 << 26) // max(height * width, 1))
    ends, owners = [], []
    sums = logits.new_zeros(len(logits), dtype=torch.float32)
    # a mask without a positive logit has no positive pixel: interpolation stays within its neighbours
    filled = torch.nonzero(logits.flatten(1).amax(1) > 0)[:, 0] if len(logits) else torch.zeros(0, dtype=torch.int64)
    for part in torch.split(filled, at_once):
        full = column_major(logits[part].float(), sizes)
        positive = full > 0
        if confidence:
            sums[part] = (full.sigmoid() * positive).sum(1)
        owner, end = _changes(positive)
        owners.append(part[owner])
        ends.append(end)
    places = torch.stack((torch.cat(owners), torch.cat(ends))).cpu().numpy() if ends else np.zeros((2, 0), np.int64)
    return _to_rles(places[0], places[1], len(logits), (height, width), sums)


def column_major(logits: Tensor, sizes: Geometry) -> Tensor:
    """Interpolate ``(n, h, w)`` to the padded size, crop, interpolate to the original; ``(n, width * height)``.

    Each mask comes out column by column, the order of COCO's runs: the small map is transposed, not the large one.
    """
    maps = logits.transpose(1, 2)[:, None]
    padded = _resize(maps, sizes.padded)
    return _resize(padded[..., : sizes.resized[1], : sizes.resized[0]], sizes.original).flatten(1)


def compress(counts: Ints, starts: Ints) -> list[bytes]:
    """Write run lengths as COCO's compressed strings; mask i has ``counts[starts[i]:starts[i + 1]]``.

    From the fourth on, a count is written as its difference from the one two before; numbers are little-endian groups
    of five bits, sign-extended, a sixth bit says that more follow (pycocotools, rleToString).
    """
    index = np.arange(len(counts)) - np.repeat(starts[:-1], np.diff(starts))
    x = counts - np.where(index > 2, np.roll(counts, 2), 0)
    magnitude = np.where(x < 0, ~x, x)
    groups = 1 + sum((magnitude >= 1 << (5 * k - 1)).astype(np.int64) for k in range(1, 13))
    first = np.concatenate(([0], np.cumsum(groups)))
    within = np.arange(first[-1]) - np.repeat(first[:-1], groups)
    bits = (np.repeat(x, groups) >> (5 * within)) & 31
    more = within < np.repeat(groups, groups) - 1
    text = (bits + 32 * more + 48).astype(np.uint8).tobytes()
    bounds = first[starts].tolist()
    return [text[a:b] for a, b in pairwise(bounds)]


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of transposed maps ``(n, 1, w, h)`` to ``size`` as ``(height, width)``."""
    if maps.shape[-2:] == (size[1], size[0]):
        return maps  # interpolation would give every number back
    return functional.interpolate(maps, size=(size[1], size[0]), mode="bilinear", align_corners=False)


def _changes(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Where runs end in boolean rows ``(n, pixels)``: rows and places, in order; a set start ends a run at 0."""
    changed = masks.clone()
    changed[:, 1:] ^= masks[:, :-1]
    if masks.device.type == "cpu":  # numpy finds them six times as fast as torch
        index = torch.from_numpy(np.flatnonzero(changed.numpy()))
        return index // masks.shape[1], index % masks.shape[1]
    owner, place = torch.nonzero(changed, as_tuple=True)
    return owner, place


def _to_rles(owner: Ints, end: Ints, masks: int, size: tuple[int, int], confidence: Tensor) -> EncodedMasks:
    """Turn the ends of runs, ordered by mask, into encodings."""
    per_mask = np.bincount(owner, minlength=masks)
    starts = np.concatenate(([0], np.cumsum(per_mask + 1)))
    # each mask's ends, with 0 before and the number of pixels after them; runs are the differences
    bounds = np.full(starts[-1], size[0] * size[1], dtype=np.int64)
    bounds[np.arange(len(end)) + owner] = end
    counts = np.diff(bounds, prepend=0)
    counts[starts[:-1]] = bounds[starts[:-1]]
    index = np.arange(len(counts)) - np.repeat(starts[:-1], np.diff(starts))
    area = np.bincount(np.repeat(np.arange(masks), np.diff(starts)), weights=counts * (index % 2), minlength=masks)
    rles = [Rle(size, text) for text in compress(counts, starts)]
    return EncodedMasks(rles, confidence.cpu(), torch.from_numpy(area).float())
