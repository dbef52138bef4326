"""Overlaps of predicted and annotated tracks: exact integer intersections and unions over whole videos.

Only tracks of the same video and category are compared, and only their masks are decoded to runs. A pair whose areas
alone keep it under the lowest threshold is skipped. Predictions come in batches, so memory grows with the batch.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from harness import rle
from harness.arrays import Floats, Ints
from harness.compiled import INNER
from harness.errors import UserError
from harness.formats.youtube_vis import Annotations
from harness.rle import MaskTable


class MaskRules(NamedTuple):
    """How masks of unexpected length or size count; see `protocols.Quirks`."""

    shorter_list_wins: bool
    wrong_size_vanishes: bool


@dataclass(frozen=True)
class TrackBatch:
    """Predicted tracks in file order, each array ``(tracks,)``; ``video`` and ``category`` index the annotations.

    ``masks`` covers the tracks whose category has truth (``has_masks``), in the same order. ``area_sum`` and
    ``area_frames`` are known in advance for tracks from a store, else ``None``; ``text`` is the size of the masks' text
    in bytes for tracks from a results file, and ``at`` where it begins in the file. ``frames`` says in which frames
    they are, where that was asked for. ``mask_area`` are the areas of all masks that tracks use, where they are known.
    """

    video: Ints
    category: Ints
    score: Floats
    record: Ints
    has_masks: NDArray[np.bool_]
    masks: MaskTable
    area_sum: Ints | None = None
    area_frames: Ints | None = None
    text: Ints | None = None
    frames: FrameUse | None = None
    at: Ints | None = None
    mask_area: Ints | None = None


@dataclass(frozen=True)
class FrameUse:
    """Number of frames of its video in which each track has a mask, even an empty one: ``present (tracks,)``.

    ``aborts`` has, by video, why a tool that compares single frames aborts: a list that is too short, or a mask of
    another size than the one it is compared with.
    """

    present: Ints
    aborts: dict[int, str]


FramesOf = Callable[[MaskTable, Ints, "GroundTruthArrays", Sequence[str]], FrameUse]
"""Finds the frames in which tracks are, from their masks, their videos ``(tracks,)`` and their names."""


@dataclass(frozen=True)
class FrameOverlaps:
    """Overlaps of predicted tracks with the truth of their video and category in single frames.

    Track ``t`` is in ``present[t]`` frames of its video. If there is such truth, ``there[first[t]:first[t + 1]]`` says
    in which, and ``iou[offset[t]:offset[t + 1]]`` are the IoUs ``(frames, truths)``, the truths as in `Overlaps`;
    otherwise both are empty. ``empty`` counts the masks without a pixel, among those compared. ``aborts`` are those of
    `FrameUse`.
    """

    present: Ints
    first: Ints
    there: NDArray[np.bool_]
    offset: Ints
    iou: Floats
    empty: int
    aborts: dict[int, str]


@dataclass(frozen=True)
class Overlaps:
    """Predicted tracks with their areas, and their overlaps with the truth of their video and category.

    ``area_sum`` and ``area_frames`` are ``(rules, tracks)``. The overlaps of track ``t`` with the truths of its pair,
    in the order of `GroundTruthArrays.rows`, are at ``offset[t]:offset[t + 1]`` of ``intersection (pairs,)`` and
    ``union (rules, pairs)``, in pixels over the whole video. ``frames`` is the length of the track's list of masks (-1
    where it was not read); ``text`` is the size of its masks' text in bytes (0 where there is none), which begins
    ``at`` this place of the file. ``by_frame`` is set on request.
    """

    video: Ints
    category: Ints
    score: Floats
    record: Ints
    frames: Ints
    wrong_size: Ints
    area_sum: Ints
    area_frames: Ints
    offset: Ints
    intersection: Ints
    union: Ints
    text: Ints
    at: Ints
    by_frame: FrameOverlaps | None = None


class GroundTruthArrays:
    """The annotated tracks by (video, category): the range of each pair, and their areas."""

    def __init__(self, annotations: Annotations) -> None:
        truth = annotations.scored_truth
        if truth is None:
            raise UserError(annotations.path, "has no annotations", "score on a split whose truth is public")
        self.annotations, self.truth, self.masks = annotations, truth, truth.masks
        self.video_ids = np.array([v.id for v in annotations.videos], np.int64)
        self.category_ids = np.array([c.id for c in annotations.categories], np.int64)
        self.sizes = np.array([(v.height, v.width) for v in annotations.videos], np.int32).reshape(-1, 2)
        self.lengths = np.array([v.length for v in annotations.videos], np.int64)
        self.frames = np.array([len(v.file_names) or v.length for v in annotations.videos], np.int64)
        """Frames of each video, by its file names where it has any."""
        self.video = np.searchsorted(self.video_ids, [r.video_id for r in truth.records])
        self.odd_sizes = np.zeros(len(self.video_ids), np.bool_)
        """Which videos have an annotated mask of another size than theirs."""
        there = truth.masks.frame_mask >= 0
        owner, used = np.repeat(self.video, np.diff(truth.masks.track))[there], truth.masks.frame_mask[there]
        height, width = self.sizes[owner].T
        self.odd_sizes[owner[(truth.masks.height[used] != height) | (truth.masks.width[used] != width)]] = True
        self.category = np.searchsorted(self.category_ids, [r.category_id for r in truth.records])
        key = self.video * len(self.category_ids) + self.category
        self.rows = np.argsort(key, kind="stable")
        """Truths in order of (video, category), then of the file."""
        self.keys, first = np.unique(key[self.rows], return_index=True)
        self.first = np.append(first, len(key)).astype(np.int64)
        self.local = np.empty(len(key), np.int64)
        self.local[self.rows] = np.arange(len(key)) - np.repeat(first, np.diff(self.first))
        """Position of each truth among those of its video and category."""
        self.owned = np.bincount(self.category, minlength=len(self.category_ids)) > 0
        self.area = _all_areas(self.masks)
        refuse_faults(self.area, self.masks, [f"{annotations.path}, annotation {r.id}" for r in truth.records])

    def pair_of(self, video: Ints, category: Ints) -> Ints:
        """Index of the pair in ``keys``, or -1 where the video has no truth of the category."""
        at, known = positions(self.keys, video * len(self.category_ids) + category)
        return np.where(known, at, -1)


def positions(ids: Ints, wanted: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Positions of ``wanted (n,)`` in the ascending ``ids``, and which are found; other positions are meaningless."""
    at = np.minimum(np.searchsorted(ids, wanted), max(len(ids) - 1, 0))
    return at, (ids[at] == wanted) if len(ids) else np.zeros(len(wanted), np.bool_)


def _all_areas(masks: MaskTable) -> Ints:
    """Areas of the masks that tracks use, on all cores."""
    used = np.zeros(len(masks.start), np.bool_)
    used[masks.frame_mask[masks.frame_mask >= 0]] = True
    data, *columns = (*masks.arrays()[:6], used)
    bounds = np.linspace(0, len(used), (os.cpu_count() or 1) + 1).astype(int)
    with ThreadPoolExecutor() as pool:
        parts = [pool.submit(rle.areas, data, *(c[a:b] for c in columns)) for a, b in itertools.pairwise(bounds)]
        return np.concatenate([part.result() for part in parts])


def refuse_faults(area: Ints, masks: MaskTable, names: Sequence[str]) -> None:
    """Raise `UserError` for the first mask, in order of tracks and frames, whose area is a fault code."""
    used = masks.frame_mask
    faulty = np.flatnonzero((used >= 0) & (area[used] < 0))
    if len(faulty):
        row = int(faulty[0])
        track = int(np.searchsorted(masks.track, row, side="right")) - 1
        fault = rle.RLE_FAULTS[int(area[used[row]])]
        where = f"{names[track]}, frame {row - int(masks.track[track])}"
        hint = "encode the mask again at its stated size"
        begin = int(masks.start[used[row]])
        if masks.data[begin : begin + 2].tobytes() in (b"b'", b'b"'):
            hint = "they are Python's text of bytes: decode() them before they are written as JSON"
        raise UserError(where, fault, hint)


def overlap(
    truths: GroundTruthArrays, batch: TrackBatch, rules: Sequence[MaskRules], floor: float, name: str
) -> Overlaps:
    """Overlap a batch of predicted tracks with the truth.

    IoUs that cannot reach ``floor`` may be given as 0. ``name`` is the file's name in errors. Where the batch says in
    which frames its tracks are, their overlaps there are given too. Raises `UserError` for masks that are no run-length
    encodings.
    """
    n, masks = len(batch.video), batch.masks
    owners = np.flatnonzero(batch.has_masks)
    pair = np.full(n, -1, np.int64)
    pair[owners] = truths.pair_of(batch.video[owners], batch.category[owners])
    row_of = np.full(n, -1, np.int64)
    row_of[owners] = np.arange(len(owners))
    wanted = np.zeros(len(masks.start), np.bool_)
    has_truth = pair[owners] >= 0
    known = batch.area_sum is not None
    used = masks.frame_mask[np.repeat(has_truth, np.diff(masks.track))] if known else masks.frame_mask
    wanted[used[used >= 0]] = True
    area = rle.areas(*masks.arrays()[:6], wanted) if batch.mask_area is None else batch.mask_area
    if (area < 0).any():
        refuse_faults(area, masks, [f"{name}, record {r}" for r in batch.record[owners]])
    variants = np.array(rules, np.bool_).reshape(-1, 2)
    area_sum, area_frames = np.zeros((len(rules), n), np.int64), np.zeros((len(rules), n), np.int64)
    wrong = np.zeros(n, np.int64)
    frames = np.full(n, -1, np.int64)
    frames[owners] = np.diff(masks.track)
    if batch.area_sum is not None and batch.area_frames is not None:
        area_sum[:], area_frames[:] = batch.area_sum, batch.area_frames
    else:
        _track_areas(owners, batch.video, truths.sizes, masks.track, masks.frame_mask, masks.height, masks.width,
                     area, variants, area_sum, area_frames, wrong)  # fmt: skip
    counts = np.append(np.diff(truths.first), 0)[pair]  # pair -1, no truth, reads the 0 at the end
    offset = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    intersection = np.zeros(offset[-1], np.int64)
    union = np.zeros((len(rules), int(offset[-1])), np.int64)
    paired = np.flatnonzero(pair >= 0)
    paired = paired[np.argsort(pair[paired], kind="stable")]
    first = np.append(np.flatnonzero(np.diff(pair[paired], prepend=-1)), len(paired)).astype(np.int64)
    by_frame = None
    if batch.frames is not None:
        by_frame = _room_for_frames(truths, batch, batch.frames, pair, row_of, counts, area)
    iou_first, iou = (np.empty(0, np.int64), np.empty(0)) if by_frame is None else (by_frame.offset, by_frame.iou)
    _overlap_pairs(masks.arrays(), area, truths.masks.arrays(), truths.area, truths.rows, truths.first, paired, first,
                   pair, row_of, batch.video, truths.sizes, variants, floor, offset, intersection, union,
                   truths.frames, iou_first, iou)  # fmt: skip
    nothing = np.zeros(n, np.int64)
    text, at = nothing if batch.text is None else batch.text, nothing if batch.at is None else batch.at
    return Overlaps(batch.video, batch.category, batch.score, batch.record, frames, wrong, area_sum, area_frames,
                    offset, intersection, union, text, at, by_frame)  # fmt: skip


def _room_for_frames(
    truths: GroundTruthArrays, batch: TrackBatch, use: FrameUse, pair: Ints, row_of: Ints, counts: Ints, area: Ints
) -> FrameOverlaps:
    """The frames of tracks, and space for their IoUs there; ``counts (tracks,)`` is each one's number of truths."""
    table, length = batch.masks, np.where(pair >= 0, truths.frames[batch.video], 0)
    first, offset = (np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64) for sizes in (length, length * counts))
    owner = np.repeat(np.arange(len(pair)), length)
    at = np.arange(len(owner)) - first[owner] + table.track[row_of[owner]]
    inside = at < table.track[row_of[owner] + 1]
    masks = np.full(len(owner), -1, np.int64)
    masks[inside] = table.frame_mask[at[inside]]
    empty = int((area[masks[masks >= 0]] == 0).sum())
    return FrameOverlaps(use.present, first, masks >= 0, offset, np.zeros(int(offset[-1])), empty, use.aborts)


def concatenate(parts: Sequence[Overlaps], rules: int = 1) -> Overlaps:
    """Join the overlaps of several batches, in order; without any there are no tracks, for this number of ``rules``."""
    parts = parts or [_no_overlaps(rules)]
    names = [f.name for f in fields(Overlaps) if f.name not in ("offset", "by_frame")]
    joined: dict[str, Any] = {name: np.concatenate([getattr(p, name) for p in parts], -1) for name in names}
    by_frame = [p.by_frame for p in parts if p.by_frame is not None]
    return Overlaps(
        **joined,
        offset=_joined_offsets([p.offset for p in parts]),
        by_frame=_joined_frames(by_frame) if by_frame else None,
    )


def _joined_frames(parts: Sequence[FrameOverlaps]) -> FrameOverlaps:
    aborts: dict[int, str] = {}
    for part in parts:
        aborts = part.aborts | aborts
    return FrameOverlaps(
        np.concatenate([p.present for p in parts]),
        _joined_offsets([p.first for p in parts]),
        np.concatenate([p.there for p in parts]),
        _joined_offsets([p.offset for p in parts]),
        np.concatenate([p.iou for p in parts]),
        sum(p.empty for p in parts),
        aborts,
    )


def _joined_offsets(parts: Sequence[Ints]) -> Ints:
    """Offsets into the joined arrays, from those into each."""
    starts = np.cumsum([0] + [int(p[-1]) for p in parts])
    return np.concatenate([*(p[:-1] + start for p, start in zip(parts, starts, strict=False)), starts[-1:]])


def _no_overlaps(rules: int) -> Overlaps:
    """Overlaps of no tracks."""
    none, by_rule = np.empty(0, np.int64), np.empty((rules, 0), np.int64)
    return Overlaps(
        none, none, np.empty(0), none, none, none, by_rule, by_rule, np.zeros(1, np.int64), none, by_rule, none, none
    )


@numba.njit(cache=True, nogil=True)
def _track_areas(owners, video, sizes, track, frame_mask, height, width, area, variants, total, frames, wrong):
    """Sum and number of the non-empty masks of each track; masks of a wrong size count only where they may vanish."""
    for row in range(len(owners)):
        t = owners[row]
        h, w = sizes[video[t], 0], sizes[video[t], 1]
        for f in range(track[row], track[row + 1]):
            m = frame_mask[f]
            if m < 0:
                continue
            fits = height[m] == h and width[m] == w
            wrong[t] += not fits
            if area[m] > 0:
                for v in range(len(variants)):
                    if fits or variants[v, 1]:
                        total[v, t] += area[m]
                        frames[v, t] += 1


@numba.njit(**INNER)
def sum_areas(rows_d, rows_g, h, w, height_d, width_d, area_d, height_g, width_g, area_g, variants, sums):
    """Add the areas that enter the union of two tracks to ``sums (rules,)``; return the most they can share."""
    most = np.int64(0)
    for f in range(len(rows_g)):  # frames after the annotated ones do not exist
        d = rows_d[f] if f < len(rows_d) else -1
        g = rows_g[f]
        if d >= 0 and g >= 0:
            fits = height_d[d] == height_g[g] and width_d[d] == width_g[g]
            if fits:
                most += min(area_d[d], area_g[g])
        else:
            fits = d < 0 or (height_d[d] == h and width_d[d] == w)
        for v in range(len(variants)):
            if f >= len(rows_d) and variants[v, 0]:
                continue
            if not fits and variants[v, 1] and g >= 0:
                continue
            if d >= 0 and (fits or variants[v, 1]):
                sums[v] += area_d[d]
            if g >= 0:
                sums[v] += area_g[g]
    return most


@numba.njit(**INNER)
def runs_in_frame(truths, mine, wanted, f, begin_g, end_g, run_g):
    """Write the runs of the ``wanted`` of some truths in frame ``f``; return the arrays, enlarged if necessary.

    Truth ``mine[j]`` has the runs ``run_g[j]`` to ``run_g[j + 1]``, none where it has no mask in the frame.
    """
    data_g, start_g, stop_g, kind_g, _, _, track_g, frame_g = truths
    room = np.int64(0)
    for j in range(len(mine)):
        at = track_g[mine[j]] + f
        if at < track_g[mine[j] + 1] and frame_g[at] >= 0:
            room += (stop_g[frame_g[at]] - start_g[frame_g[at]] + 1) // 2
    if room > len(begin_g):
        begin_g, end_g = np.empty(2 * room, np.int32), np.empty(2 * room, np.int32)
    for j in range(len(mine)):
        at = track_g[mine[j]] + f
        run_g[j + 1] = run_g[j]
        if wanted[j] and at < track_g[mine[j] + 1] and frame_g[at] >= 0:
            g = frame_g[at]
            run_g[j + 1] = rle.runs_of(data_g, start_g[g], stop_g[g], kind_g[g], begin_g, end_g, run_g[j])
    return begin_g, end_g


@numba.njit(cache=True, nogil=True)
def _overlap_pairs(masks, area_d, truths, area_g, rows, first_truth, paired, first, pair, row_of, video, sizes,
                   variants, floor, offset, intersection, union, length, iou_first, iou):  # fmt: skip
    by_frame = len(iou_first) > 0
    data_d, start_d, stop_d, kind_d, height_d, width_d, track_d, frame_d = masks
    _, _, _, _, height_g, width_g, track_g, frame_g = truths
    sums = np.zeros(len(variants), np.int64)
    begin_g, end_g = np.empty(1024, np.int32), np.empty(1024, np.int32)
    begin_d, end_d = np.empty(1024, np.int32), np.empty(1024, np.int32)
    for p in range(len(first) - 1):
        tracks = paired[first[p] : first[p + 1]]
        here = pair[tracks[0]]
        mine = rows[first_truth[here] : first_truth[here + 1]]
        h, w = sizes[video[tracks[0]], 0], sizes[video[tracks[0]], 1]
        walk = np.zeros((len(tracks), len(mine)), np.bool_)
        overlapping = np.zeros((len(tracks), len(mine)), np.bool_)
        wanted = np.zeros(len(mine), np.bool_)
        frames = 0
        for i in range(len(tracks)):
            r = row_of[tracks[i]]
            rows_d = frame_d[track_d[r] : track_d[r + 1]]
            for j in range(len(mine)):
                rows_g = frame_g[track_g[mine[j]] : track_g[mine[j] + 1]]
                sums[:] = 0
                most = sum_areas(rows_d, rows_g, h, w, height_d, width_d, area_d, height_g, width_g, area_g,
                                  variants, sums)  # fmt: skip
                at = offset[tracks[i]] + j
                least = sums[0]
                for v in range(len(variants)):
                    union[v, at] = sums[v]
                    least = min(least, sums[v])
                walk[i, j] = most > 0 and most >= floor * (least - most)
                overlapping[i, j] = walk[i, j] or (by_frame and most > 0)
                if overlapping[i, j]:
                    wanted[j] = True
                    frames = max(frames, min(len(rows_d), len(rows_g)))
        run_g = np.zeros(len(mine) + 1, np.int64)
        for f in range(frames):
            begin_g, end_g = runs_in_frame(truths, mine, wanted, f, begin_g, end_g, run_g)
            for i in range(len(tracks)):
                r = row_of[tracks[i]]
                at = track_d[r] + f
                if at >= track_d[r + 1] or frame_d[at] < 0 or area_d[frame_d[at]] == 0 or not overlapping[i].any():
                    continue
                d = frame_d[at]
                room = (stop_d[d] - start_d[d] + 1) // 2
                if room > len(begin_d):
                    begin_d, end_d = np.empty(2 * room, np.int32), np.empty(2 * room, np.int32)
                runs = np.int64(-1)
                for j in range(len(mine)):
                    if not overlapping[i, j] or run_g[j + 1] == run_g[j]:
                        continue
                    g = frame_g[track_g[mine[j]] + f]
                    if height_d[d] != height_g[g] or width_d[d] != width_g[g]:
                        continue
                    if runs < 0:
                        runs = rle.runs_of(data_d, start_d[d], stop_d[d], kind_d[d], begin_d, end_d, np.int64(0))
                    common = rle.intersection_of(
                        begin_d, end_d, np.int64(0), runs, begin_g, end_g, run_g[j], run_g[j + 1]
                    )
                    if walk[i, j]:
                        intersection[offset[tracks[i]] + j] += common
                    if by_frame and common > 0 and f < length[video[tracks[i]]]:
                        iou[iou_first[tracks[i]] + f * len(mine) + j] = common / (area_d[d] + area_g[g] - common)
        for i in range(len(tracks)):
            for at in range(offset[tracks[i]], offset[tracks[i]] + len(mine)):
                for v in range(len(variants)):
                    union[v, at] -= intersection[at]
