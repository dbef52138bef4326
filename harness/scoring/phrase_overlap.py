"""Overlaps of masklets of one phrase in one video: over the whole video, and frame by frame.

Every mask is decoded once: the sums over the video, for the IoU of whole tracks, and the IoU of every frame, for HOTA,
come from one pass over the runs. The same holds for boxes, in single precision where the official tools use it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from harness import rle
from harness.arrays import Floats, Ints
from harness.rle import MaskTable
from harness.scoring.assignment import assign
from harness.scoring.overlap import refuse_faults, runs_in_frame

HAS_MASK, HAS_PIXELS, HAS_OTHER_SIZE = 1, 2, 4
"""Bits of a frame of a predicted track: it lists a mask, which has a pixel, whose size is that of no annotated mask of
the frame though there is one."""
UNEQUAL = -1.0
"""Marks two masks of unequal size whose boxes overlap, on which the official tool aborts."""


class Boxes(NamedTuple):
    """Boxes of many tracks: track ``t`` has ``first[t]:first[t + 1]`` of ``xywh (boxes, 4)``, which are 0 where a box
    is null, and of ``there (boxes,)``, which tells where it is not."""

    first: Ints
    xywh: Floats
    there: NDArray[np.bool_]


@dataclass(frozen=True)
class TruthSide:
    """The annotated tracks by pair: those of pair ``p`` are ``rows[first[p]:first[p + 1]]`` of ``masks`` and ``boxes``;
    ``area (masks,)`` in pixels."""

    rows: Ints
    first: Ints
    masks: MaskTable
    area: Ints
    boxes: Boxes


@dataclass(frozen=True)
class TrackSide:
    """Predicted tracks: ``pair (tracks,)`` is the pair with truth that each belongs to, or -1; ``steps`` the number of
    frames of its video; ``hard`` tells which ones are compared frame by frame; ``measured``, whose masks are
    measured where there is no truth to compare with."""

    pair: Ints
    steps: Ints
    hard: NDArray[np.bool_]
    measured: NDArray[np.bool_]
    masks: MaskTable
    boxes: Boxes


@dataclass(frozen=True)
class PhraseOverlaps:
    """Overlaps of predicted tracks with the truths of their pair.

    Track ``t`` has them at ``offset[t]:offset[t + 1]`` of ``intersection`` and ``union`` in pixels over the video and
    of ``box_intersection`` and ``box_union``. A hard one has, frame by frame, the IoU with each of them in
    ``similarity`` and ``box_similarity`` from ``step_offset[t]`` on, ``(frames, truths)``. ``frame_offset`` gives every
    track's frames in ``frames``, which has the bits above.
    """

    offset: Ints
    intersection: Ints
    union: Ints
    box_intersection: Floats
    box_union: Floats
    step_offset: Ints
    similarity: Floats
    box_similarity: NDArray[np.float32]
    frame_offset: Ints
    frames: NDArray[np.int8]


def overlap_phrases(truth: TruthSide, tracks: TrackSide, names: list[str]) -> PhraseOverlaps:
    """Overlap predicted tracks with the truth. ``names`` are those of the tracks, for errors.

    Raises `UserError` for masks that are not run-length encodings; masks that nothing needs are not looked at.
    """
    length = np.diff(tracks.masks.track)
    truths = np.append(np.diff(truth.first), 0)[tracks.pair]  # pair -1, no truth, reads the 0 at the end
    steps = np.where(tracks.hard, np.minimum(length, tracks.steps), 0)
    offset, frame_offset = _offsets(truths), _offsets(length)
    step_offset = _offsets(steps * truths)
    intersection, union = np.zeros(offset[-1], np.int64), np.zeros(offset[-1], np.int64)
    similarity, bits = np.zeros(step_offset[-1]), np.zeros(frame_offset[-1], np.int8)
    fault = np.zeros(len(tracks.masks.start), np.int64)
    order, first = _by_pair(tracks.pair, tracks.measured)
    _overlap_masks(tracks.masks.arrays(), truth.masks.arrays(), truth.area, truth.rows, truth.first, order, first,
                   tracks.pair, steps, offset, intersection, union, step_offset, similarity, frame_offset, bits,
                   fault)  # fmt: skip
    if fault.any():
        refuse_faults(fault, tracks.masks, names)
    sums = np.zeros((2, int(offset[-1])))
    box_similarity = np.zeros(step_offset[-1], np.float32)
    whole = _are_whole(truth.boxes.xywh) and _are_whole(tracks.boxes.xywh)
    _overlap_boxes(tracks.boxes.first, tracks.boxes.xywh, truth.boxes.first, truth.boxes.xywh, truth.rows, truth.first,
                   order, first, tracks.pair, steps, offset, sums[0], sums[1], step_offset, box_similarity,
                   whole)  # fmt: skip
    return PhraseOverlaps(offset, intersection, union, sums[0], sums[1], step_offset, similarity, box_similarity,
                          frame_offset, bits)  # fmt: skip


def join_overlaps(parts: list[PhraseOverlaps]) -> PhraseOverlaps:
    """The overlaps of several batches of tracks, in order."""
    joined: dict[str, Any] = {}
    for field in fields(PhraseOverlaps):
        values = [getattr(part, field.name) for part in parts]
        if field.name.endswith("offset"):
            joined[field.name] = _offsets(np.concatenate([np.diff(v) for v in values]))
        else:
            joined[field.name] = np.concatenate(values)
    return PhraseOverlaps(**joined)


def _offsets(counts: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _by_pair(pair: Ints, measured: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Tracks by pair, and where each pair's begin; the measured ones without a pair come first, one by one."""
    alone = np.flatnonzero((pair < 0) & measured)
    paired = np.flatnonzero(pair >= 0)
    paired = paired[np.argsort(pair[paired], kind="stable")]
    starts = len(alone) + np.flatnonzero(np.diff(pair[paired], prepend=-1))
    first = np.concatenate([np.arange(len(alone)), starts, [len(alone) + len(paired)]]).astype(np.int64)
    return np.concatenate([alone, paired]), first


def _are_whole(xywh: Floats) -> bool:
    return bool((xywh == np.trunc(xywh)).all())


@numba.njit(cache=True, nogil=True)
def _overlap_masks(masks, truths, area_g, rows, first_truth, order, first, pair, steps, offset, intersection, union,
                   step_offset, similarity, frame_offset, bits, fault):  # fmt: skip
    data_d, start_d, stop_d, kind_d, height_d, width_d, track_d, frame_d = masks
    _, _, _, _, height_g, width_g, track_g, frame_g = truths
    begin_g, end_g = np.empty(1024, np.int32), np.empty(1024, np.int32)
    begin_d, end_d = np.empty(1024, np.int32), np.empty(1024, np.int32)
    none = rows[:0]
    for p in range(len(first) - 1):
        tracks = order[first[p] : first[p + 1]]
        here = pair[tracks[0]]
        mine = rows[first_truth[here] : first_truth[here + 1]] if here >= 0 else none
        run_g = np.zeros(len(mine) + 1, np.int64)
        wanted = np.ones(len(mine), np.bool_)
        frames = 0
        for t in tracks:
            frames = max(frames, track_d[t + 1] - track_d[t])
        for f in range(frames):
            begin_g, end_g = runs_in_frame(truths, mine, wanted, f, begin_g, end_g, run_g)
            for t in tracks:
                if f >= track_d[t + 1] - track_d[t]:
                    continue
                d = frame_d[track_d[t] + f]
                area, runs = np.int64(0), np.int64(0)
                if d >= 0:
                    room = (stop_d[d] - start_d[d] + 1) // 2
                    if room > len(begin_d):
                        begin_d, end_d = np.empty(2 * room, np.int32), np.empty(2 * room, np.int32)
                    pixels = np.int64(height_d[d]) * np.int64(width_d[d])
                    area, runs = rle.decode_rles(data_d, start_d[d], stop_d[d], kind_d[d], pixels, begin_d, end_d,
                                            np.int64(0), True)  # fmt: skip
                    if area < 0:
                        fault[d] = area
                        area, runs = np.int64(0), np.int64(0)
                    bits[frame_offset[t] + f] = HAS_MASK | (HAS_PIXELS if area > 0 else 0)
                both, fits = False, False
                for j in range(len(mine)):
                    at = track_g[mine[j]] + f
                    if at >= track_g[mine[j] + 1]:
                        continue
                    g, pairing = frame_g[at], offset[t] + j
                    if d >= 0 and g >= 0:
                        both = True
                        if height_d[d] == height_g[g] and width_d[d] == width_g[g]:
                            fits = True
                            common = rle.intersection_of(begin_d, end_d, np.int64(0), runs, begin_g, end_g, run_g[j],
                                                         run_g[j + 1])  # fmt: skip
                            intersection[pairing] += common
                            union[pairing] += area + area_g[g] - common
                            if f < steps[t] and common > 0:
                                similarity[step_offset[t] + f * len(mine) + j] = common / (area + area_g[g] - common)
                        elif f < steps[t] and _boxes_overlap(begin_d, end_d, np.int64(0), runs, height_d[d], begin_g,
                                                          end_g, run_g[j], run_g[j + 1], height_g[g]):  # fmt: skip
                            similarity[step_offset[t] + f * len(mine) + j] = UNEQUAL
                    elif d >= 0:
                        union[pairing] += area
                    elif g >= 0:
                        union[pairing] += area_g[g]
                if both and not fits:
                    bits[frame_offset[t] + f] |= HAS_OTHER_SIZE


@numba.njit(cache=True, nogil=True)
def _box_of(begin, end, first, stop, height):
    """Left, top, right, bottom of runs, the latter two exclusive."""
    top, bottom = np.int64(height), np.int64(0)
    for k in range(first, stop):
        if begin[k] // height == (end[k] - 1) // height:
            top, bottom = min(top, np.int64(begin[k] % height)), max(bottom, np.int64((end[k] - 1) % height + 1))
        else:
            top, bottom = np.int64(0), np.int64(height)
    return np.int64(begin[first] // height), top, np.int64((end[stop - 1] - 1) // height + 1), bottom


@numba.njit(cache=True, nogil=True)
def _boxes_overlap(begin_a, end_a, a, stop_a, height_a, begin_b, end_b, b, stop_b, height_b):
    """Whether the boxes of two masks share a pixel."""
    if a == stop_a or b == stop_b:
        return False
    left_a, top_a, right_a, bottom_a = _box_of(begin_a, end_a, a, stop_a, height_a)
    left_b, top_b, right_b, bottom_b = _box_of(begin_b, end_b, b, stop_b, height_b)
    return min(right_a, right_b) > max(left_a, left_b) and min(bottom_a, bottom_b) > max(top_a, top_b)


@numba.njit(cache=True, nogil=True)
def _overlap_boxes(first_d, xywh_d, first_g, xywh_g, rows, first_truth, order, first, pair, steps, offset, intersection,
                   union, step_offset, similarity, whole):  # fmt: skip
    zero, least = np.float32(0), 2.220446049250313e-16
    for p in range(len(first) - 1):
        here = pair[order[first[p]]]
        if here < 0:
            continue
        mine = rows[first_truth[here] : first_truth[here + 1]]
        for t in order[first[p] : first[p + 1]]:
            for j in range(len(mine)):
                n_d, n_g = first_d[t + 1] - first_d[t], first_g[mine[j] + 1] - first_g[mine[j]]
                for f in range(max(n_d, n_g)):
                    # a list that ends early has no box there; one of a single box stands for every frame
                    xd = yd = wd = hd = xg = yg = wg = hg = 0.0
                    if f < n_d or n_d == 1:
                        xd, yd, wd, hd = xywh_d[first_d[t] + min(f, n_d - 1)]
                    if f < n_g or n_g == 1:
                        xg, yg, wg, hg = xywh_g[first_g[mine[j]] + min(f, n_g - 1)]
                    if whole:  # integers are added exactly
                        common = max(min(xd + wd, xg + wg) - max(xd, xg), 0.0) * max(
                            min(yd + hd, yg + hg) - max(yd, yg), 0.0
                        )
                        intersection[offset[t] + j] += common
                        union[offset[t] + j] += wd * hd + wg * hg - common
                    left_d, top_d, left_g, top_g = np.float32(xd), np.float32(yd), np.float32(xg), np.float32(yg)
                    right_d, bottom_d = left_d + np.float32(wd), top_d + np.float32(hd)
                    right_g, bottom_g = left_g + np.float32(wg), top_g + np.float32(hg)
                    area_d = (right_d - left_d) * (bottom_d - top_d)
                    area_g = (right_g - left_g) * (bottom_g - top_g)
                    shared = max(min(right_d, right_g) - max(left_d, left_g), zero) * max(
                        min(bottom_d, bottom_g) - max(top_d, top_g), zero
                    )
                    either = area_d + area_g - shared
                    if not whole:
                        intersection[offset[t] + j] += shared
                        union[offset[t] + j] += either
                    if f < steps[t] and area_d > least and area_g > least and either > least:
                        similarity[step_offset[t] + f * len(mine) + j] = shared / either


@numba.njit(cache=True, nogil=True)
def match_units(track, track_first, local, first, offset, iou, limits, tp):
    """Add to ``tp (units, limits)`` how many tracks and truths of each unit the assignment of largest summed IoU joins
    with an IoU of at least each limit."""
    for u in range(len(first) - 1):
        n_d, n_g = track_first[u + 1] - track_first[u], first[u + 1] - first[u]
        if n_d == 0 or n_g == 0:
            continue
        cost = np.empty((n_d, n_g))
        for i in range(n_d):
            for j in range(n_g):
                cost[i, j] = -iou[offset[track[track_first[u] + i]] + local[first[u] + j]]
        chosen = assign(cost)
        for i in range(n_d):
            if chosen[i] >= 0:
                for t in range(len(limits)):
                    tp[u, t] += -cost[i, chosen[i]] >= limits[t]
