"""Overlaps of predicted tracks with all truths of their video, of any category, over the video and frame by frame.

Exact pixel counts over whole videos, computed from run lengths; identical masks of one frame are processed once. Memory
grows with the batch: a few numbers for each track and truth of the same video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numba
import numpy as np

from harness import rle
from harness.arrays import Flags, Ints
from harness.scoring.overlap import GroundTruthArrays, MaskRules, TrackBatch, refuse_faults, sum_areas


@dataclass(frozen=True)
class TrackTruthOverlaps:
    """Predicted tracks against the truths of their video, in square pixels over all frames.

    Track ``t`` is compared with the truths ``truth`` (rows of the annotations) at ``offset[t]:offset[t + 1]`` of the
    arrays ``(pairs,)``: ``intersection``; ``union``, by the protocol's rule; ``shared``, the union over only those
    frames in which both are seen; ``frames`` in which it follows the truth, and ``best_match_union``, see below.

    In every frame a track *follows* the truth whose mask there has the largest IoU with its own, if any overlaps.
    ``best_match (tracks,)`` adds up its intersections with the truths it follows, ``best_match_union`` the unions with
    them; a frame in which it follows none counts as in ``union``. Their ratio is the IoU of the track if identity
    switches did not count.

    Track ``t`` is seen in the frames where ``seen[frame[t]:frame[t + 1]]``.
    """

    offset: Ints
    truth: Ints
    intersection: Ints
    union: Ints
    shared: Ints
    frames: Ints
    best_match_union: Ints
    best_match: Ints
    frame: Ints
    seen: Flags


def compute_overlaps(
    truths: GroundTruthArrays, chosen: Ints, batch: TrackBatch, rules: MaskRules, name: str
) -> TrackTruthOverlaps:
    """Overlap a batch, which has the masks of all its tracks, with the ``chosen`` truths (rows of the annotations).

    ``name`` is the file's name in errors. Raises `UserError` for masks that are not run-length encodings.
    """
    masks, n = batch.masks, len(batch.video)
    rows = chosen[np.argsort(truths.video[chosen], kind="stable")]
    first = np.searchsorted(truths.video[rows], np.arange(len(truths.video_ids) + 1))
    wanted = np.zeros(len(masks.start), np.bool_)
    wanted[masks.frame_mask[masks.frame_mask >= 0]] = True
    area = rle.areas(*masks.arrays()[:6], wanted)
    if (area < 0).any():
        refuse_faults(area, masks, [f"{name}, record {r}" for r in batch.record])
    counts = np.diff(first)[batch.video]
    offset = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    starts = np.repeat(first[batch.video] - offset[:-1], counts)
    truth = rows[starts + np.arange(offset[-1])]
    pairs = [np.zeros(offset[-1], np.int64) for _ in range(5)]
    best_match = np.zeros(n, np.int64)
    by_video = np.argsort(batch.video, kind="stable")
    group = np.append(np.flatnonzero(np.diff(batch.video[by_video], prepend=-1)), n).astype(np.int64)
    variants = np.array([rules], np.bool_)
    _meet(masks.arrays(), area, truths.masks.arrays(), truths.area, rows, first, by_video, group, batch.video,
          truths.sizes, variants, offset, *pairs, best_match)  # fmt: skip
    seen = np.append(area, 0)[masks.frame_mask] > 0  # row -1, the absent mask, reads the 0 at the end
    intersection, union, shared, frames, best_match_union = pairs
    return TrackTruthOverlaps(
        offset, truth, intersection, union, shared, frames, best_match_union, best_match, masks.track, seen
    )


def concatenate_track_overlaps(parts: Sequence[TrackTruthOverlaps]) -> TrackTruthOverlaps:
    """Join the overlaps of several batches, in order."""
    joined: dict[str, Any] = {
        f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(TrackTruthOverlaps)
    }
    for name in ("offset", "frame"):
        starts = np.cumsum([0] + [int(getattr(p, name)[-1]) for p in parts])
        shifted = [getattr(p, name)[:-1] + start for p, start in zip(parts, starts, strict=False)]
        joined[name] = np.concatenate([*shifted, starts[-1:]])
    return TrackTruthOverlaps(**joined)


@numba.njit(cache=True, nogil=True)
def intersect(begin_a, end_a, a, stop_a, begin_b, end_b, b, stop_b):
    """`rle.intersection_of`, with a fast 0 for masks whose runs do not overlap."""
    if a == stop_a or b == stop_b or end_a[stop_a - 1] <= begin_b[b] or end_b[stop_b - 1] <= begin_a[a]:
        return np.int64(0)
    return rle.intersection_of(begin_a, end_a, a, stop_a, begin_b, end_b, b, stop_b)


@numba.njit(cache=True, nogil=True)
def _meet(masks, area_d, truths, area_g, rows, first, by_video, group, video, sizes, variants, offset, intersection,
          union, shared, best_match_frames, best_match_union, best_match):  # fmt: skip
    data_d, start_d, stop_d, kind_d, height_d, width_d, track_d, frame_d = masks
    data_g, start_g, stop_g, kind_g, height_g, width_g, track_g, frame_g = truths
    begin_g, end_g = np.empty(1024, np.int32), np.empty(1024, np.int32)
    begin_d, end_d = np.empty(1024, np.int32), np.empty(1024, np.int32)
    sums = np.zeros(1, np.int64)
    slot = np.empty(len(start_d), np.int64)
    stamp = np.full(len(start_d), -1, np.int64)  # the frame and video for which a mask's slot was filled
    now = np.int64(-1)
    for p in range(len(group) - 1):
        tracks = by_video[group[p] : group[p + 1]]
        v = video[tracks[0]]
        mine = rows[first[v] : first[v + 1]]
        m = len(mine)
        if m == 0:
            continue
        frames = np.int64(0)
        for j in range(m):
            frames = max(frames, track_g[mine[j] + 1] - track_g[mine[j]])
        overlap = np.zeros((len(tracks), m), np.int64)
        run_g = np.zeros(m + 1, np.int64)
        here = np.empty(m, np.int64)
        for f in range(frames):
            now += 1
            slots = 0
            for j in range(m):
                at = track_g[mine[j]] + f
                here[j] = frame_g[at] if at < track_g[mine[j] + 1] else -1
                run_g[j + 1] = run_g[j]
                if here[j] < 0:
                    continue
                g = here[j]
                room = run_g[j] + (stop_g[g] - start_g[g] + 1) // 2
                if room > len(begin_g):
                    begin, end = np.empty(2 * room, np.int32), np.empty(2 * room, np.int32)
                    begin[: run_g[j]], end[: run_g[j]] = begin_g[: run_g[j]], end_g[: run_g[j]]
                    begin_g, end_g = begin, end
                run_g[j + 1] = rle.runs_of(data_g, start_g[g], stop_g[g], kind_g[g], begin_g, end_g, run_g[j])
            for t in tracks:
                at = track_d[t] + f
                d = frame_d[at] if at < track_d[t + 1] else -1
                if d < 0 or area_d[d] == 0:
                    for j in range(m):
                        if here[j] >= 0:
                            best_match_union[offset[t] + j] += area_g[here[j]]
                    continue
                if stamp[d] != now:
                    stamp[d], slot[d] = now, slots
                    room = (stop_d[d] - start_d[d] + 1) // 2
                    if room > len(begin_d):
                        begin_d, end_d = np.empty(2 * room, np.int32), np.empty(2 * room, np.int32)
                    runs = rle.runs_of(data_d, start_d[d], stop_d[d], kind_d[d], begin_d, end_d, np.int64(0))
                    for j in range(m):
                        g = here[j]
                        overlap[slots, j] = 0
                        if g >= 0 and height_d[d] == height_g[g] and width_d[d] == width_g[g]:
                            overlap[slots, j] = intersect(begin_d, end_d, np.int64(0), runs,
                                                           begin_g, end_g, run_g[j], run_g[j + 1])  # fmt: skip
                    slots += 1
                best, target = 0.0, -1
                for j in range(m):
                    common = overlap[slot[d], j]
                    if here[j] < 0 or area_g[here[j]] == 0:
                        continue
                    joint = area_d[d] + area_g[here[j]] - common
                    intersection[offset[t] + j] += common
                    shared[offset[t] + j] += joint
                    if common / joint > best:
                        best, target = common / joint, j
                if target >= 0:
                    common = overlap[slot[d], target]
                    best_match[t] += common
                    best_match_frames[offset[t] + target] += 1
                    joint = area_d[d] + area_g[here[target]] - common
                    for j in range(m):
                        best_match_union[offset[t] + j] += joint
                else:
                    for j in range(m):
                        best_match_union[offset[t] + j] += area_d[d] + (area_g[here[j]] if here[j] >= 0 else 0)
        for t in tracks:
            rows_d = frame_d[track_d[t] : track_d[t + 1]]
            for j in range(m):
                sums[:] = 0
                sum_areas(rows_d, frame_g[track_g[mine[j]] : track_g[mine[j] + 1]], sizes[v, 0], sizes[v, 1],
                          height_d, width_d, area_d, height_g, width_g, area_g, variants, sums)  # fmt: skip
                union[offset[t] + j] = sums[0] - intersection[offset[t] + j]
