"""BURST's track mAP of each class: matching of whole tracks by mask IoU at ten thresholds, in seven sets of tracks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from harness.arrays import Flags, Floats, Ints
from harness.scoring.all_cores import on_all_cores
from harness.scoring.hota import EPSILON
from harness.scoring.pairwise import pairwise_sum

TRACK_MAP_THRESHOLDS = np.arange(0.5, 0.96, 0.05)
"""0.5 to 0.95 as a running sum gives them: the third is 0.6000000000000001."""
RECALLS = np.linspace(0.0, 1.0, 101)


class Bounds(NamedTuple):
    """A set of tracks by mean mask area (square pixels) or number of masks, both ends inclusive."""

    name: str
    quantity: str
    low: float
    high: float


SETS = (
    Bounds("all", "area", 0, float("inf")),
    Bounds("area_s", "area", 0, 32**2),
    Bounds("area_m", "area", 32**2, 96**2),
    Bounds("area_l", "area", 96**2, 1e5**2),
    Bounds("time_s", "length", 0, 3),
    Bounds("time_m", "length", 3, 10),
    Bounds("time_l", "length", 10, 1e5),
)


@dataclass(frozen=True)
class Tracks:
    """Tracks of units: those of unit ``u`` are ``first[u]:first[u + 1]`` of ``area``, the mean of a track's masks in
    square pixels, and of ``length``, their number."""

    first: Ints
    area: Floats
    length: Floats


@dataclass(frozen=True)
class TrackPairs:
    """Units, each of them a class in a video, those of class ``c`` in ``classes[c]:classes[c + 1]``.

    Predictions have a ``score``; ``zero`` marks the track with the id 0. The IoUs of those of unit ``u`` with its
    truths are ``iou[offset[u]:offset[u + 1]]``, ``(predictions, truths)``. ``exhaustive[u]``: all objects of the class
    are annotated; if not, an unmatched prediction costs nothing.
    """

    classes: Ints
    truths: Tracks
    predictions: Tracks
    score: Floats
    zero: Flags
    offset: Ints
    iou: Floats
    exhaustive: Flags


def track_map(pairs: TrackPairs, id_zero_free: bool) -> list[dict[str, Floats | None]]:
    """By class ``AP_<set>`` and ``AR_<set>`` per threshold ``(10,)``, ``None`` for sets without truth.

    With ``id_zero_free`` a truth taken by the predicted track 0 can be taken again, as officially.
    """
    n, p = len(pairs.classes) - 1, pairs.predictions
    unit = np.repeat(np.arange(len(p.first) - 1), np.diff(p.first))
    order = np.lexsort((-pairs.score, unit))
    category = np.searchsorted(pairs.classes, unit, side="right") - 1
    ranked = np.empty(len(order), np.int64)
    ranked[order[np.lexsort((-pairs.score[order], category[order]))]] = np.arange(len(order))
    ignored, outside = _outside(pairs.truths), _outside(p)
    precision, recall = (
        np.zeros((n, len(SETS), len(TRACK_MAP_THRESHOLDS))),
        np.zeros((n, len(SETS), len(TRACK_MAP_THRESHOLDS))),
    )
    positives = np.zeros((n, len(SETS)), np.int64)

    def work(part: Ints) -> None:
        _average(
            part, pairs.classes, pairs.truths.first, ignored, p.first, outside, order, ranked, pairs.zero, pairs.offset,
            pairs.iou, pairs.exhaustive, id_zero_free, TRACK_MAP_THRESHOLDS, RECALLS, precision, recall, positives,
        )  # fmt: skip

    on_all_cores(work, n)
    out: list[dict[str, Floats | None]] = []
    for c in range(n):
        out.append({})
        for b, bounds in enumerate(SETS):
            has_truth = positives[c, b] > 0
            out[c][f"AP_{bounds.name}"] = precision[c, b] if has_truth else None
            out[c][f"AR_{bounds.name}"] = recall[c, b] if has_truth else None
    return out


def _outside(tracks: Tracks) -> Flags:
    """Which tracks are outside each set, ``(sets, tracks)``."""
    rows = []
    for bounds in SETS:
        value = tracks.area if bounds.quantity == "area" else tracks.length
        rows.append((value < bounds.low - EPSILON) | (value > bounds.high + EPSILON))
    return np.array(rows, np.bool_)


@numba.njit(cache=True, nogil=True)
def _match(iou, truths, ignored, order, zero, threshold, id_zero_free, taken, found):
    """Write to ``found`` the truth that each prediction takes, or -1; ``iou (predictions, truths)`` is that of a unit.

    ``order`` has the predictions by descending score, and ``truths`` the truths, those ``ignored`` last.
    """
    taken[:] = False
    for p in order:
        best = min(threshold, 1 - 1e-10)
        at = np.int64(-1)
        for g in truths:
            if taken[g]:
                continue
            if at >= 0 and not ignored[at] and ignored[g]:
                break
            if iou[p, g] < best - EPSILON:
                continue
            best = iou[p, g]
            at = g
        found[p] = at
        if at >= 0:
            taken[at] = not (id_zero_free and zero[p])


@numba.njit(cache=True, nogil=True)
def _average(classes, unit, first_g, ignored, first_p, outside, order, ranked, zero, offset, iou, exhaustive,
             id_zero_free, thresholds, recalls, precision, recall, positives):  # fmt: skip
    n_sets, n_thresholds = len(ignored), len(thresholds)
    for c in classes:
        base = first_p[unit[c]]
        n = first_p[unit[c + 1]] - base
        hit, dropped = np.zeros((n_thresholds, n), np.bool_), np.zeros((n_thresholds, n), np.bool_)
        for b in range(n_sets):
            for u in range(unit[c], unit[c + 1]):
                n_g, n_p = first_g[u + 1] - first_g[u], first_p[u + 1] - first_p[u]
                mine = ignored[b, first_g[u] : first_g[u + 1]]
                truths = np.empty(n_g, np.int64)
                at = 0
                for last in (False, True):
                    for g in range(n_g):
                        if mine[g] == last:
                            truths[at] = g
                            at += 1
                    if not last:
                        positives[c, b] += at
                block = iou[offset[u] : offset[u + 1]].reshape((n_p, n_g))
                rows = order[first_p[u] : first_p[u + 1]] - first_p[u]
                taken, found = np.empty(n_g, np.bool_), np.empty(n_p, np.int64)
                for t in range(n_thresholds):
                    _match(block, truths, mine, rows, zero[first_p[u] : first_p[u + 1]], thresholds[t], id_zero_free,
                           taken, found)  # fmt: skip
                    for p in range(n_p):
                        row = first_p[u] + p
                        hit[t, ranked[row] - base] = found[p] >= 0
                        dropped[t, ranked[row] - base] = (
                            mine[found[p]] if found[p] >= 0 else outside[b, row] or not exhaustive[u]
                        )
            if positives[c, b] > 0 and n > 0:
                for t in range(n_thresholds):
                    average = _precision(hit[t], dropped[t], positives[c, b], recalls)
                    precision[c, b, t], recall[c, b, t] = average


@numba.njit(cache=True, nogil=True)
def _precision(hit, dropped, positives, recalls):
    """Mean precision over the recall points, and the last recall."""
    n = len(hit)
    precision, recall = np.empty(n), np.empty(n)
    hits, misses = 0.0, 0.0
    for i in range(n):
        if not dropped[i]:
            hits += hit[i]
            misses += not hit[i]
        recall[i] = hits / positives
        precision[i] = hits / (misses + hits + 2.220446049250313e-16)
    for i in range(n - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    points = np.zeros(len(recalls))
    at = 0
    for k in range(len(recalls)):
        while at < n and recall[at] < recalls[k]:
            at += 1
        if at == n:
            break
        points[k] = precision[at]
    return pairwise_sum(points, 0, len(points)) / len(points), recall[n - 1]
