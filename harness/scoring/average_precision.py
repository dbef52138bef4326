"""Average precision over videos: from overlaps to precision and recall arrays, under a protocol's quirks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.arrays import Flags, Floats, Ints
from harness.errors import OfficialFaultError
from harness.scoring.all_cores import on_all_cores
from harness.scoring.hota import EPSILON
from harness.scoring.match import IOU_THRESHOLDS, RECALL_POINTS, score_categories
from harness.scoring.overlap import GroundTruthArrays, Overlaps
from harness.scoring.quirks import Quirks

CAPS = (1, 10, 100)
"""Most tracks counted per video (and category, see `Quirks.cap_per_category`); the last is none with
`Protocol.tracks_per_category`, which bounds them by category instead."""
_NO_CAP = 1 << 62


@dataclass(frozen=True)
class Range:
    """A range of a track quantity, both ends inclusive: truths outside are ignored, and so are unmatched tracks
    outside if ``bounds_tracks``. A value outside ``within``, a range of another quantity, is outside this one too."""

    name: str
    quantity: str
    low: float
    high: float
    bounds_tracks: bool = True
    within: Range | None = None

    def excludes(self, value: Floats) -> NDArray[np.bool_]:
        """Which values of the quantity are outside."""
        return np.asarray((value < self.low) | (value > self.high))


@dataclass(frozen=True)
class TruthSelection:
    """The selected truths, in order: rows of the annotation file, and the quantities that matching needs.

    ``quantities`` maps ``area``, ``length`` and ``occlusion`` to values ``(entries,)``.
    """

    row: Ints
    ignored: Flags
    reusable: Flags
    unseen: Flags
    quantities: dict[str, Floats]


@dataclass(frozen=True)
class Matches:
    """How the tracks of one range matched: per category with truth its tracks by descending score.

    Tracks of category ``k`` are ``first[k]:first[k + 1]`` of ``video`` (index in the annotations), ``score``, ``hits``
    and ``misses``, whose bit ``t`` tells whether the track counts as one at the IoU threshold ``t``. Its positives are
    ``pair_positives``, one entry for each video ``pair_video`` that has any, at ``pair_first[k]:pair_first[k + 1]``.
    """

    first: Ints
    video: Ints
    score: Floats
    hits: Ints
    misses: Ints
    pair_first: Ints
    pair_video: Ints
    pair_positives: Ints


@dataclass(frozen=True)
class Curves:
    """Precision and recall of one protocol; a cell is defined where its category has positives in its range.

    ``positives (categories, ranges)``; ``precision`` and ``scores (IoU thresholds, recall points, categories, ranges,
    precision caps)`` (scores empty where not asked for); ``recall (IoU thresholds, categories, ranges, caps)``.
    Categories are those with truth, ``category`` gives their index in the annotations. ``matches`` are of the first
    range.
    """

    category: Ints
    ranges: tuple[Range, ...]
    precision_caps: tuple[int, ...]
    positives: Ints
    precision: Floats
    scores: Floats
    recall: Floats
    matches: Matches


def select_truths(truths: GroundTruthArrays, quirks: Quirks) -> Ints:
    """Rows of the truths that take part, by ascending video, then file order (protocol section 1.1)."""
    records = truths.truth.records
    order = np.argsort(truths.video, kind="stable")
    if quirks.repeated_id_replaces:
        last = {record.id: row for row, record in enumerate(records)}
        order = np.array([last[records[row].id] for row in order.tolist()], np.int64).reshape(-1)
    if not quirks.empty_truth_counts:
        has_mask = np.add.reduceat(np.append(truths.masks.frame_mask >= 0, False), truths.masks.track[:-1]) > 0
        order = order[(has_mask & (np.diff(truths.masks.track) > 0))[order]]
    return order


def lengths_of(truths: GroundTruthArrays) -> Ints:
    """Number of frames in which each annotated track has a mask that is not empty."""
    present = np.append(truths.area, 0)[truths.masks.frame_mask] > 0  # row -1, the absent mask, finds the 0 at the end
    total = np.concatenate([[0], np.cumsum(present)])
    return np.asarray(total[truths.masks.track[1:]] - total[truths.masks.track[:-1]], np.int64)


def compute_average_precision(
    truths: GroundTruthArrays,
    selection: TruthSelection,
    overlaps: Overlaps,
    rules: int,
    quirks: Quirks,
    ranges: Sequence[Range],
    precision_caps: tuple[int, ...] = (100,),
    equal_lengths: bool = False,
    with_scores: bool = False,
    of_tracks: Mapping[str, Floats] | None = None,
    tracks_per_category: int | None = None,
) -> Curves:
    """Match and accumulate every category that has truth. ``rules`` is the row of ``overlaps`` to use.

    ``tracks_per_category`` bounds a category's tracks over all videos; the last of `CAPS` is then none.

    Ranges may bound tracks by their area and length, and by further quantities ``of_tracks (tracks,)``.

    ``equal_lengths`` refuses tracks whose number of frames differs from a truth they could match, as OVIS does.
    Scores at the recall points are kept only ``with_scores``.
    """
    n_categories, n_videos = len(truths.category_ids), len(truths.video_ids)
    entry = np.lexsort((np.arange(len(selection.row)), truths.video[selection.row], truths.category[selection.row]))
    row = selection.row[entry]
    owned = np.bincount(truths.category[row], minlength=n_categories) > 0
    iou = np.zeros(len(overlaps.intersection))
    union = overlaps.union[rules]
    np.divide(overlaps.intersection, union, out=iou, where=union > 0)

    keep = np.flatnonzero(owned[overlaps.category]) if quirks.cap_per_category else np.arange(len(overlaps.score))
    if tracks_per_category is not None:
        keep = keep[best_of_category(overlaps, iou, keep, quirks, tracks_per_category)]
    limits = np.array(CAPS if tracks_per_category is None else (*CAPS[:-1], _NO_CAP))
    track, rank = rank_tracks(overlaps, iou, keep, quirks)
    inside = (rank < limits[-1]) & owned[overlaps.category[track]]
    track, rank = track[inside], rank[inside]
    track_key = overlaps.category[track] * n_videos + overlaps.video[track]
    truth_key = truths.category[row] * n_videos + truths.video[row]
    keys = np.union1d(track_key, truth_key)
    pair_first = np.searchsorted(keys, np.arange(n_categories + 1) * n_videos)
    pair_tracks = np.append(np.searchsorted(track_key, keys), len(track))
    pair_truths = np.append(np.searchsorted(truth_key, keys), len(row))
    if equal_lengths:
        _refuse_unequal_lengths(truths, overlaps, track, row, pair_tracks, pair_truths)

    ignored = np.empty((len(ranges), len(row)), np.bool_)
    outside = np.zeros((len(ranges), len(track)), np.bool_)
    quantities = _track_quantities(overlaps, rules, quirks) | dict(of_tracks or {})
    for r, bounds in enumerate(ranges):
        ignored[r] = selection.ignored[entry]
        for part in (bounds, bounds.within):
            if part is None:
                continue
            ignored[r] |= part.excludes(selection.quantities[part.quantity][entry])
            if part.bounds_tracks:
                outside[r] |= part.excludes(quantities[part.quantity][track])

    category = np.flatnonzero(owned)
    row_of = np.cumsum(owned) - 1
    first = np.append(pair_first[category], pair_first[category[-1] + 1] if len(category) else 0)
    n, T, R = len(category), len(IOU_THRESHOLDS), len(RECALL_POINTS)
    assert n == 0 or row_of[category[-1]] == n - 1
    positives = np.zeros((n, len(ranges)), np.int64)
    precision = np.zeros((T, R, n, len(ranges), len(precision_caps)))
    scores = np.zeros(precision.shape if with_scores else (0,) * 5)
    recall = np.zeros((T, n, len(ranges), len(CAPS)))
    hits, misses = np.zeros(len(track), np.int64), np.zeros(len(track), np.int64)

    # stable: tracks of equal score stay in their order
    order = np.lexsort((-overlaps.score[track], overlaps.category[track]))

    def work(part: Ints) -> None:
        score_categories(
            part, first, pair_tracks, pair_truths, overlaps.offset[track], iou, truths.local[row], ignored,
            selection.reusable[entry], selection.unseen[entry], overlaps.score[track], order, rank, outside,
            limits, limits[[CAPS.index(cap) for cap in precision_caps]], IOU_THRESHOLDS, RECALL_POINTS,
            EPSILON if quirks.epsilon_in_precision else 0.0, not quirks.ties_by_file_order,
            positives, precision, scores, recall, hits, misses,
        )  # fmt: skip

    on_all_cores(work, n)
    told = track[order]
    pairs, pair_positives = np.unique(truth_key[~ignored[0]], return_counts=True)
    matches = Matches(
        np.append(np.searchsorted(overlaps.category[told], category), len(told)),
        overlaps.video[told],
        overlaps.score[told],
        hits[order],
        misses[order],
        np.append(np.searchsorted(pairs, category * n_videos), len(pairs)),
        pairs % max(n_videos, 1),
        pair_positives,
    )
    return Curves(category, tuple(ranges), precision_caps, positives, precision, scores, recall, matches)


def rank_tracks(overlaps: Overlaps, iou: Floats, keep: Ints, quirks: Quirks) -> tuple[Ints, Ints]:
    """Tracks by (category, video, descending score), and each one's place under the cap.

    Without `Quirks.ties_by_file_order` equal scores are ordered by the tracks' content, not by their position.
    """
    score, video, category = overlaps.score[keep], overlaps.video[keep], overlaps.category[keep]
    ties = _tie_breakers(overlaps, iou, keep, quirks)
    order = np.lexsort((*ties, -score, video, category))
    if quirks.cap_per_category:
        rank = _place_in_group(category[order] * (video.max(initial=0) + 1) + video[order])
    else:
        by_video = np.lexsort((*ties[:1], category, *ties[1:], -score, video))
        place = np.empty(len(keep), np.int64)
        place[by_video] = _place_in_group(video[by_video])
        rank = place[order]
    return keep[order], rank


def best_of_category(overlaps: Overlaps, iou: Floats, keep: Ints, quirks: Quirks, most: int) -> Flags:
    """Which of the tracks ``keep`` are among the ``most`` best ones of their category, over all videos.

    Equal scores are ordered as in `rank_tracks`.
    """
    category = overlaps.category[keep]
    if np.bincount(category, minlength=1).max() <= most:
        return np.ones(len(keep), np.bool_)
    order = np.lexsort((*_tie_breakers(overlaps, iou, keep, quirks), -overlaps.score[keep], category))
    best = np.zeros(len(keep), np.bool_)
    best[order] = _place_in_group(category[order]) < most
    return best


def _tie_breakers(overlaps: Overlaps, iou: Floats, keep: Ints, quirks: Quirks) -> tuple[Floats | Ints, ...]:
    """Sort keys for tracks of equal score, the last key first."""
    record = overlaps.record[keep]
    if quirks.ties_by_file_order:
        return (record,)
    best, where = np.zeros(len(overlaps.score)), np.zeros(len(overlaps.score))
    counts = np.diff(overlaps.offset)
    owner = np.repeat(np.arange(len(counts)), counts)
    np.maximum.at(best, owner, iou)
    place = np.arange(len(iou)) - np.repeat(overlaps.offset[:-1], counts)
    np.add.at(where, owner, iou * (place + 1))
    return (record, -overlaps.area_sum[-1][keep], where[keep], -best[keep])


def _place_in_group(group: Ints) -> Ints:
    """Position of each element within its run of equal values."""
    start = np.flatnonzero(np.diff(group, prepend=group[:1] - 1))
    return np.arange(len(group)) - np.repeat(start, np.diff(np.append(start, len(group))))


def _track_quantities(overlaps: Overlaps, rules: int, quirks: Quirks) -> dict[str, Floats]:
    frames = overlaps.area_frames[rules]
    area = np.zeros(len(frames))
    if not quirks.areas_are_zero:
        np.divide(overlaps.area_sum[rules], frames, out=area, where=frames > 0)
    return {"area": area, "length": frames.astype(np.float64)}


def _refuse_unequal_lengths(
    truths: GroundTruthArrays, overlaps: Overlaps, track: Ints, row: Ints, pair_tracks: Ints, pair_truths: Ints
) -> None:
    lengths = np.diff(truths.masks.track)[row]
    for p in range(len(pair_tracks) - 1):
        mine = lengths[pair_truths[p] : pair_truths[p + 1]]
        for t in track[pair_tracks[p] : pair_tracks[p + 1]].tolist():
            if len(mine) and (mine != overlaps.frames[t]).any():
                raise OfficialFaultError(
                    f"record {overlaps.record[t]}",
                    f"has {overlaps.frames[t]} frames, its video's annotation has {mine[0]}; OVIS refuses the file",
                    "write null for frames without the object",
                )
