"""What BURST's metrics compare: the objects of one class in single frames, and whole tracks of a class in a video."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.arrays import Flags, Floats, Ints
from harness.scoring.burst_tracks import BurstPredictions, BurstTruth, BurstVideo, CountedMasks, offsets
from harness.scoring.frame_hota import FrameUnits, ObjectsByCell, Similarities
from harness.scoring.pairwise import means
from harness.scoring.track_map import TrackPairs, Tracks

OfVideo = Callable[[int, BurstVideo], bool]
"""Whether something holds for a class, by its number among those chosen, in a video."""


class ChosenClasses(NamedTuple):
    """The classes to compare: ``rank`` has the number among them of each class by its position in the truth's list,
    -1 for the others, and behind the last that of masks without a class. There are ``classes``."""

    rank: Ints
    classes: int

    def of(self, category: NDArray[Any]) -> Ints:
        return np.asarray(self.rank[category])


class Orders(NamedTuple):
    """Masks of both sides in the order in which tracks are numbered: by video, then as the rules list frames."""

    truths: Ints
    predictions: Ints


def similarities(found: BurstPredictions, boxes: bool) -> Similarities:
    """IoUs of the boxes of predicted and annotated masks, cut to whole pixels, or of the masks."""
    masks = found.masks
    if boxes:
        return Similarities(masks.first, masks.truth, masks.box_iou)
    union = np.repeat(masks.area, np.diff(masks.first)) + found.truths.masks.area[masks.truth] - masks.shared
    iou = np.divide(masks.shared, union, out=np.zeros(len(union)), where=union > 0)
    return Similarities(masks.first, masks.truth, np.asarray(iou, np.float64))


def frame_units(
    truth: BurstTruth, number: Ints, placed: CountedMasks, chosen: ChosenClasses, known: OfVideo, exhaustive: OfVideo
) -> tuple[FrameUnits, Ints]:
    """The chosen classes in the frames that have an annotated object, by class and video, and the class of each unit.

    ``number (masks,)`` are the numbers of the truth's masks in the overlaps.
    """
    n_frames, n_videos = max(len(truth.images), 1), max(len(truth.videos), 1)
    annotated = np.zeros(n_frames, np.bool_)
    annotated[truth.frame] = True
    rows, keys = [], []
    numbers = np.arange(len(truth.frame), dtype=np.int32)
    for frame, category, place in (
        (truth.frame, truth.category, numbers),
        (placed.frame, placed.category, placed.place),
    ):
        rank = chosen.of(category)
        row = np.flatnonzero((rank >= 0) & annotated[frame])
        key = rank[row] * n_frames + frame[row]
        order = np.lexsort((place[row], key))
        rows.append(row[order])
        keys.append(key[order])
    cells = _distinct(np.sort(np.concatenate(keys), kind="stable"))  # of two ascending parts
    unit_of, first = np.unique(cells // n_frames * n_videos + truth.video_of[cells % n_frames], return_index=True)
    rank, video = unit_of // n_videos, unit_of % n_videos
    tracks: tuple[NDArray[Any], NDArray[Any]] = truth.track[rows[0]], placed.track[rows[1]]
    masks: tuple[NDArray[Any], NDArray[Any]] = number[rows[0]], placed.row[rows[1]]
    sides = []
    for key, track, mask in zip(keys, tracks, masks, strict=True):
        unit = np.searchsorted(unit_of, key // n_frames * n_videos + truth.video_of[key % n_frames])
        sides.append(ObjectsByCell(_bounds(key, cells), mask.astype(np.int64), *_numbered(unit, track, len(unit_of))))
    return FrameUnits(
        np.append(first, len(cells)),
        _flags(known, rank, truth.videos, video),
        _flags(exhaustive, rank, truth.videos, video),
        *sides,
    ), rank


def _bounds(values: Ints, keys: Ints) -> Ints:
    """Where the values of each key begin among ascending ``values``, and the end of the last."""
    return np.append(np.searchsorted(values, keys), len(values))


def _distinct(values: Ints) -> Ints:
    """Ascending values, each once."""
    kept: Ints = values[np.diff(values, prepend=values[:1] - 1) != 0]
    return kept


def _numbered(unit: Ints, track: NDArray[Any], units: int) -> tuple[Ints, Ints]:
    """Number the tracks of every unit from 0; returns the numbers, and how many tracks each unit has."""
    most = int(track.max(initial=0)) + 1
    known, position = np.unique(unit * most + track, return_inverse=True)
    count = np.bincount(known // most, minlength=units)
    return np.asarray(position - (np.cumsum(count) - count)[unit]), count


def _flags(holds: OfVideo, rank: Ints, videos: list[BurstVideo], video: Ints) -> Flags:
    return np.array([holds(r, videos[v]) for r, v in zip(rank.tolist(), video.tolist(), strict=True)], np.bool_)


def orders_of(truth: BurstTruth, placed: CountedMasks, file_order: bool) -> Orders:
    """Frames, and with them tracks and their first masks, go by number, or with ``file_order`` as each file lists
    its frames."""
    if file_order:
        return Orders(
            np.argsort(truth.video_of[truth.frame], kind="stable"),
            np.lexsort((placed.place, placed.listed, truth.video_of[placed.frame])),
        )
    return Orders(np.argsort(truth.frame, kind="stable"), np.lexsort((placed.place, placed.frame)))


def track_pairs(
    truth: BurstTruth,
    found: BurstPredictions,
    placed: CountedMasks,
    orders: Orders,
    chosen: ChosenClasses,
    negative: OfVideo,
    exhaustive: OfVideo,
) -> TrackPairs:
    """Whole tracks of the chosen classes; predictions only where the class is known to be present or absent.

    ``truth`` is the first of those with which the predictions were read.
    A predicted track has the class of its first mask, with all its masks.
    """
    n_videos = max(len(truth.videos), 1)
    g = _whole_tracks(truth.track, orders.truths, chosen.of(truth.category), truth.video_of[truth.frame])
    p = _whole_tracks(placed.track, orders.predictions, chosen.of(placed.category), truth.video_of[placed.frame])
    keys = [side.rank * n_videos + side.video for side in (g, p)]
    units = np.unique(keys[0][g.rank >= 0])
    alone = np.setdiff1d(keys[1][p.rank >= 0], units)
    allowed = alone[_flags(negative, alone // n_videos, truth.videos, alone % n_videos)]
    units = np.union1d(units, allowed)
    rows = [np.flatnonzero(np.isin(key, units) & (side.rank >= 0)) for key, side in zip(keys, (g, p), strict=True)]
    rows = [row[np.lexsort((side.first[row], key[row]))] for row, side, key in zip(rows, (g, p), keys, strict=True)]
    firsts = [_bounds(key[row], units) for key, row in zip(keys, rows, strict=True)]
    by_frame = np.lexsort((placed.frame, placed.track))
    in_order = placed.row[by_frame]
    begin = offsets(np.bincount(placed.track, minlength=len(p.rank)))
    score = means(found.score[in_order], begin)
    areas = [
        np.bincount(track, weights=area, minlength=len(side.rank))
        for track, area, side in ((truth.track, truth.masks.area, g), (placed.track, found.masks.area[placed.row], p))
    ]
    counts = [np.bincount(track, minlength=len(side.rank)) for track, side in ((truth.track, g), (placed.track, p))]
    of_truth, of_predictions = (
        Tracks(first, total[row] / count[row], count[row].astype(np.float64))
        for first, total, count, row in zip(firsts, areas, counts, rows, strict=True)
    )
    offset = offsets(np.diff(firsts[0]) * np.diff(firsts[1]))
    shared = _shared(truth, found, placed, rows, firsts, offset)
    unit = np.repeat(np.arange(len(units)), np.diff(offset))
    at, columns = np.arange(len(unit)) - offset[unit], np.diff(firsts[0])[unit]
    total = areas[0][rows[0]][firsts[0][unit] + at % columns] + areas[1][rows[1]][firsts[1][unit] + at // columns]
    union = total - shared
    return TrackPairs(
        _bounds(units // n_videos, np.arange(chosen.classes)),
        of_truth,
        of_predictions,
        score[rows[1]],
        placed.zero[rows[1]],
        offset,
        np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0),
        _flags(exhaustive, units // n_videos, truth.videos, units % n_videos),
    )


class _Whole(NamedTuple):
    """Tracks by number: the class and the video of each one, and the place of its first mask."""

    rank: Ints
    video: Ints
    first: Ints


def _whole_tracks(track: NDArray[Any], order: Ints, rank: Ints, video: Ints) -> _Whole:
    n = int(track.max(initial=-1)) + 1
    first = np.full(n, len(track), np.int64)
    first[track[order][::-1]] = np.arange(len(order))[::-1]  # the first mask, which is written last
    there = first < len(track)
    out = _Whole(np.full(n, -1, np.int64), np.zeros(n, np.int64), first)
    out.rank[there], out.video[there] = rank[order[first[there]]], video[order[first[there]]]
    return out


def _shared(
    truth: BurstTruth, found: BurstPredictions, placed: CountedMasks, rows: list[Ints], firsts: list[Ints], offset: Ints
) -> Floats:
    """Pixels that the tracks of each unit share in all frames, as whole numbers, at the places of the IoUs."""
    at_g = np.full(int(truth.track.max(initial=0)) + 1, -1, np.int64)
    at_g[rows[0]] = np.arange(len(rows[0]))
    at_p = np.full(len(placed.zero), -1, np.int64)
    at_p[rows[1]] = np.arange(len(rows[1]))
    of_mask = np.full(len(found.image), -1, np.int64)
    of_mask[placed.row] = at_p[placed.track]
    of_truth = np.full(len(found.truths.masks.area), -1, np.int64)
    of_truth[found.truths.number[0]] = at_g[truth.track]
    p, g = np.repeat(of_mask, np.diff(found.masks.first)), of_truth[found.masks.truth]
    units = [np.repeat(np.arange(len(first) - 1), np.diff(first)) for first in firsts]
    both = np.flatnonzero((p >= 0) & (g >= 0))
    both = both[units[1][p[both]] == units[0][g[both]]]
    p, g = p[both], g[both]
    unit = units[1][p]
    place = offset[unit] + (p - firsts[1][unit]) * np.diff(firsts[0])[unit] + g - firsts[0][unit]
    shared = found.masks.shared[both].astype(np.float64)
    return np.asarray(np.bincount(place, weights=shared, minlength=int(offset[-1])), np.float64)
