"""In which frames predicted tracks are, and where an official tool that compares single frames aborts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness import rle
from harness.arrays import Ints
from harness.formats.segmentations import mask_of
from harness.rle import MaskTable
from harness.scoring.overlap import FrameUse, GroundTruthArrays

TOO_SHORT = "has {} masks for the {} frames of its video"
OTHER_SIZE = "has a mask of another size than annotation {} in frame {}"
_READ = (rle.COMPRESSED, rle.ESCAPED, rle.LISTED)


def frames_of(table: MaskTable, video: Ints, truths: GroundTruthArrays, names: Sequence[str]) -> FrameUse:
    """The use of frames by tracks whose masks are ``table``; ``names[t]`` names track ``t``."""
    lengths, expected = np.diff(table.track), truths.frames[video]
    owner = np.repeat(np.arange(len(video)), lengths)
    frame = np.arange(len(owner)) - table.track[owner]
    here = (table.frame_mask >= 0) & (frame < expected[owner])
    aborts = _first_other_size(table, owner[here], frame[here], video, truths, names)
    short = np.flatnonzero(lengths < expected)
    for t in short[::-1].tolist():
        aborts[int(video[t])] = f"{names[t]}: {TOO_SHORT.format(lengths[t], expected[t])}"
    return FrameUse(np.bincount(owner[here], minlength=len(video)), aborts)


def _first_other_size(
    table: MaskTable, owner: Ints, frame: Ints, video: Ints, truths: GroundTruthArrays, names: Sequence[str]
) -> dict[int, str]:
    """By video the first mask whose size is not that of an annotated mask in its frame whose box overlaps its own.

    ``owner`` and ``frame`` are those of the present masks. The official tool compares the objects of all categories.
    """
    masks = table.frame_mask[table.track[owner] + frame]
    height, width = truths.sizes[video[owner]].T
    suspect = (table.height[masks] != height) | (table.width[masks] != width) | truths.odd_sizes[video[owner]]
    aborts: dict[int, str] = {}
    for at in np.flatnonzero(suspect).tolist():
        m, v, f = int(masks[at]), int(video[owner[at]]), int(frame[at])
        if v in aborts or table.kind[m] not in _READ:
            continue
        other = _unlike(table, m, v, f, truths)
        if other is not None:
            aborts[v] = f"{names[owner[at]]}: {OTHER_SIZE.format(other, f)}"
    return aborts


def _unlike(table: MaskTable, m: int, video: int, frame: int, truths: GroundTruthArrays) -> int | None:
    """The id of the first annotated object of another size in a frame, whose box overlaps that of the mask ``m``."""
    from pycocotools import mask as coco

    mine, size = None, (table.height[m], table.width[m])
    for row in np.flatnonzero(truths.video == video).tolist():
        at = truths.masks.track[row] + frame
        g = int(truths.masks.frame_mask[at]) if at < truths.masks.track[row + 1] else -1
        if g < 0 or (truths.masks.height[g], truths.masks.width[g]) == size:
            continue
        found = mask_of(truths.masks, g)
        mine = mine or mask_of(table, m)
        pair = [[{"size": list(one.size), "counts": one.counts}] for one in (mine, found)]
        if np.asarray(coco.iou(*pair, [0]))[0, 0] < 0:
            return truths.truth.records[row].id
    return None
