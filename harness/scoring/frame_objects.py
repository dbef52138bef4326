"""Objects in single frames, and the overlaps of predicted ones with the annotated ones of the same frame.

A frame counts only if it has an annotated object: it is then a *step*. Masks are compared by their run lengths, shared
masks once; boxes are compared in double precision, as TrackEval does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numba
import numpy as np
from pycocotools import mask as coco

from harness import rle
from harness.arrays import Flags, Floats, Ints
from harness.formats.segmentations import mask_of
from harness.rle import MaskTable
from harness.scoring.class_agnostic_overlap import intersect
from harness.scoring.hota import EPSILON


@dataclass(frozen=True)
class FrameObjects:
    """Objects in single frames, in file order, arrays ``(objects,)``.

    ``frame`` numbers the frames of all videos, those of one video in a row; ``track`` identifies the objects of one
    video; ``category`` numbers the classes, -1 for one that is not listed. ``box (objects, 4)`` is x, y, width and
    height; ``mask`` an index into ``masks``, -1 without one; ``area (masks,)`` in pixels. ``record`` is the record in
    the file.
    """

    frame: Ints
    track: Ints
    category: Ints
    box: Floats
    mask: Ints
    record: Ints
    masks: MaskTable
    area: Ints

    def take(self, rows: Ints) -> FrameObjects:
        """Some of the objects, with all masks."""
        columns = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in ("masks", "area")}
        return replace(self, **columns)


@dataclass(frozen=True)
class TruthSteps:
    """The annotated objects by step: those of step ``s`` are ``first[s]:first[s + 1]`` of ``objects``.

    ``step_of (frames,)`` is the step of a frame, -1 for one without annotated objects; ``frame_of (steps,)`` the frame
    of a step.
    """

    objects: FrameObjects
    first: Ints
    step_of: Ints
    frame_of: Ints


@dataclass(frozen=True)
class ObjectOverlaps:
    """Predicted objects in steps, arrays ``(objects,)``, as `FrameObjects` has them, with their ``step``.

    ``overlap (pairs,)`` and ``box_overlap (pairs,)`` are the IoUs of each one in turn with the truths of its step.
    ``has_mask`` tells which ones have a mask, ``listed`` whose mask is not compressed, and ``unequal`` whose mask has
    another size than a truth's whose box overlaps theirs: such masks have IoU 0 here, while pycocotools gives -1.
    """

    step: Ints
    track: Ints
    category: Ints
    record: Ints
    has_mask: Flags
    listed: Flags
    unequal: Flags
    overlap: Floats
    box_overlap: Floats


class StepPairs(NamedTuple):
    """For each predicted object in turn the truths of its step: ``row`` of the one and ``truth`` of the other."""

    row: Ints
    truth: Ints


def steps_of(objects: FrameObjects, frames: int) -> TruthSteps:
    """The steps of annotated objects, by ascending number of the frame; ``frames`` is the number of all frames."""
    order = np.argsort(objects.frame, kind="stable")
    frame_of, first = np.unique(objects.frame[order], return_index=True)
    step_of = np.full(frames, -1, np.int64)
    step_of[frame_of] = np.arange(len(frame_of))
    return TruthSteps(objects.take(order), np.append(first, len(order)).astype(np.int64), step_of, frame_of)


def grouped(first: Ints, second: Ints) -> tuple[Ints, Flags]:
    """A stable order by two keys, and which elements in it are the first with their pair of keys."""
    order = np.lexsort((second, first))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0)
    return order, new


def pairs_of(first: Ints, step: Ints) -> StepPairs:
    """All pairs of predicted objects of some steps with the truths there."""
    counts = np.diff(first)[step]
    row = np.repeat(np.arange(len(step)), counts)
    start = np.cumsum(counts) - counts
    return StepPairs(row, first[step][row] + np.arange(len(row)) - start[row])


def overlap_objects(truth: TruthSteps, found: FrameObjects) -> ObjectOverlaps:
    """Overlap predicted objects with the annotated ones of their frame; those in no step are left out."""
    found = found.take(np.flatnonzero(truth.step_of[found.frame] >= 0))
    step = truth.step_of[found.frame]
    pairs = pairs_of(truth.first, step)
    overlap, other_size = np.zeros(len(pairs.row)), np.zeros(len(pairs.row), np.bool_)
    pair = np.searchsorted(pairs.row, np.arange(len(step)))
    _overlap_masks(
        found.masks.arrays()[:6], found.area, found.mask, step, np.argsort(step, kind="stable"), pair,
        truth.objects.masks.arrays()[:6], truth.objects.area, truth.objects.mask, truth.first, overlap, other_size,
    )  # fmt: skip
    unequal = np.zeros(len(step), np.bool_)
    for at in np.flatnonzero(other_size).tolist():
        row, other = int(pairs.row[at]), int(pairs.truth[at])
        if not unequal[row]:
            unequal[row] = _boxes_overlap(found, row, truth.objects, other)
    boxes = _box_overlap(truth.objects.box[pairs.truth], found.box[pairs.row])
    listed = np.append(found.masks.kind, rle.ESCAPED)[found.mask] == rle.LISTED
    return ObjectOverlaps(
        step, found.track, found.category, found.record, found.mask >= 0, listed, unequal, overlap, boxes
    )


def concatenate_objects(parts: Sequence[ObjectOverlaps]) -> ObjectOverlaps:
    """The overlaps of several batches, in order."""
    if not parts:
        none, flags = np.empty(0, np.int64), np.empty(0, np.bool_)
        return ObjectOverlaps(none, none, none, none, flags, flags, flags, np.empty(0), np.empty(0))
    joined: dict[str, Any] = {
        f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(ObjectOverlaps)
    }
    return ObjectOverlaps(**joined)


def _boxes_overlap(found: FrameObjects, row: int, truths: FrameObjects, other: int) -> bool:
    """Whether the boxes of two masks of unequal size overlap."""
    p, g = (mask_of(o.masks, int(o.mask[at])) for o, at in ((found, row), (truths, other)))
    entries = [[{"size": list(mask.size), "counts": mask.counts}] for mask in (p, g)]
    return bool(np.asarray(coco.iou(*entries, [0]))[0, 0] < 0)


def _box_overlap(truth: Floats, found: Floats) -> Floats:
    """IoU of boxes ``(pairs, 4)``, 0 where one has no area."""
    low_g, low_p = truth[:, :2], found[:, :2]
    high_g, high_p = low_g + truth[:, 2:], low_p + found[:, 2:]
    common = np.maximum(np.minimum(high_g, high_p) - np.maximum(low_g, low_p), 0).prod(1)
    area_g, area_p = (high_g - low_g).prod(1), (high_p - low_p).prod(1)
    union = area_g + area_p - common
    sound = (area_g > EPSILON) & (area_p > EPSILON) & (union > EPSILON)
    return np.asarray(np.divide(common, union, out=np.zeros(len(truth)), where=sound))


@numba.njit(cache=True, nogil=True)
def _overlap_masks(found, area_d, mask_d, step, order, pair, truths, area_g, mask_g, first, overlap, other_size):
    data_d, start_d, stop_d, kind_d, height_d, width_d = found
    data_g, start_g, stop_g, kind_g, height_g, width_g = truths
    begin_g, end_g = np.empty(1024, np.int32), np.empty(1024, np.int32)
    begin_d, end_d = np.empty(1024, np.int32), np.empty(1024, np.int32)
    same = np.full(len(start_d), -1, np.int64)
    """The last object that had this mask."""
    now = np.int64(-1)
    run_g = np.zeros(1, np.int64)
    for at in order:
        s = step[at]
        n = first[s + 1] - first[s]
        if s != now:
            now = s
            run_g = np.zeros(n + 1, np.int64)
            room = np.int64(0)
            for j in range(n):
                g = mask_g[first[s] + j]
                if g >= 0:
                    room += (stop_g[g] - start_g[g] + 1) // 2
            if room > len(begin_g):
                begin_g, end_g = np.empty(2 * room, np.int32), np.empty(2 * room, np.int32)
            for j in range(n):
                g = mask_g[first[s] + j]
                run_g[j + 1] = run_g[j]
                if g >= 0 and area_g[g] > 0:
                    run_g[j + 1] = rle.runs_of(data_g, start_g[g], stop_g[g], kind_g[g], begin_g, end_g, run_g[j])
        d = mask_d[at]
        if d < 0 or area_d[d] == 0:
            continue
        before = same[d]
        same[d] = at
        if before >= 0 and step[before] == s:
            for j in range(n):
                overlap[pair[at] + j] = overlap[pair[before] + j]
                other_size[pair[at] + j] = other_size[pair[before] + j]
            continue
        room = (stop_d[d] - start_d[d] + 1) // 2
        if room > len(begin_d):
            begin_d, end_d = np.empty(2 * room, np.int32), np.empty(2 * room, np.int32)
        runs = rle.runs_of(data_d, start_d[d], stop_d[d], kind_d[d], begin_d, end_d, np.int64(0))
        for j in range(n):
            g = mask_g[first[s] + j]
            if run_g[j + 1] == run_g[j]:
                continue
            if height_d[d] != height_g[g] or width_d[d] != width_g[g]:
                other_size[pair[at] + j] = True
                continue
            common = intersect(begin_d, end_d, np.int64(0), runs, begin_g, end_g, run_g[j], run_g[j + 1])
            if common > 0:
                overlap[pair[at] + j] = common / (area_d[d] + area_g[g] - common)
