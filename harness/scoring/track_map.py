"""BURST's track mAP of one class: matching of whole tracks by mask IoU at ten thresholds, in seven sets of tracks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EPSILON = float(np.finfo("float").eps)
THRESHOLDS = np.arange(0.5, 0.96, 0.05)
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
    """Tracks of one class in one video: ids, mean areas in square pixels, numbers of masks, each ``(n,)``."""

    ids: Ints
    area: Floats
    length: Floats


@dataclass(frozen=True)
class VideoPairs:
    """One video: its truths, its predictions with scores ``(p,)``, their IoUs ``(p, g)``.

    ``exhaustive``: all objects of the class are annotated; if not, an unmatched prediction costs nothing.
    """

    truths: Tracks
    predictions: Tracks
    scores: Floats
    iou: Floats
    exhaustive: bool


def track_map(videos: Sequence[VideoPairs], id_zero_free: bool) -> dict[str, Floats | None]:
    """``AP_<set>`` and ``AR_<set>`` per threshold ``(10,)``, ``None`` for sets without truth.

    With ``id_zero_free`` a truth taken by the predicted track 0 can be taken again, as officially.
    """
    out: dict[str, Floats | None] = {}
    for bounds in SETS:
        positives = 0
        parts = []
        for video in videos:
            ignored = _outside(video.truths, bounds)
            positives += int((~ignored).sum())
            parts.append(_match(video, ignored, bounds, id_zero_free))
        if not positives:
            out[f"AP_{bounds.name}"] = out[f"AR_{bounds.name}"] = None
            continue
        scores = np.concatenate([p[0] for p in parts])
        order = np.argsort(-scores, kind="mergesort")
        hit = np.concatenate([p[1] for p in parts], 1)[:, order]
        dropped = np.concatenate([p[2] for p in parts], 1)[:, order]
        curves = [_precision(hit[t] & ~dropped[t], ~hit[t] & ~dropped[t], positives) for t in range(len(THRESHOLDS))]
        out[f"AP_{bounds.name}"] = np.array([c[0] for c in curves])
        out[f"AR_{bounds.name}"] = np.array([c[1] for c in curves])
    return out


def _outside(tracks: Tracks, bounds: Bounds) -> NDArray[np.bool_]:
    value = getattr(tracks, bounds.quantity)
    return np.asarray((value < bounds.low - EPSILON) | (value > bounds.high + EPSILON))


def _match(
    video: VideoPairs, ignored: NDArray[np.bool_], bounds: Bounds, id_zero_free: bool
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Scores in descending order, and per threshold which predictions hit and which are ignored."""
    order = np.argsort(-video.scores, kind="mergesort")
    truth_order = np.argsort(ignored, kind="mergesort")
    iou, ignored = video.iou[order][:, truth_order], ignored[truth_order]
    ids, n = video.predictions.ids[order], len(order)
    hit, dropped = np.zeros((len(THRESHOLDS), n), np.bool_), np.zeros((len(THRESHOLDS), n), np.bool_)
    _match_tracks(np.ascontiguousarray(iou, np.float64), ignored, ids, THRESHOLDS, id_zero_free, hit, dropped)
    free = _outside(video.predictions, bounds)[order] | (not video.exhaustive)
    return video.scores[order], hit, dropped | (~hit & free)


@numba.njit(cache=True, nogil=True)
def _match_tracks(iou, ignored, ids, thresholds, id_zero_free, hit, dropped):
    """Fill ``hit`` and ``dropped (thresholds, predictions)``; ``iou (predictions, truths)`` has those ignored last."""
    for t in range(len(thresholds)):
        taken = np.full(len(ignored), -1, np.int64)
        for p in range(len(ids)):
            best = min(thresholds[t], 1 - 1e-10)
            found = -1
            for g in range(len(ignored)):
                if taken[g] > 0 or (taken[g] == 0 and not id_zero_free):
                    continue
                if found >= 0 and not ignored[found] and ignored[g]:
                    break
                if iou[p, g] < best - EPSILON:
                    continue
                best = iou[p, g]
                found = g
            if found >= 0:
                hit[t, p] = True
                dropped[t, p] = ignored[found]
                taken[found] = ids[p]


def _precision(tp: NDArray[np.bool_], fp: NDArray[np.bool_], positives: int) -> tuple[float, float]:
    """Mean precision over the recall points, and the last recall."""
    if not len(tp):
        return 0.0, 0.0
    hits, misses = np.cumsum(tp, dtype=np.float64), np.cumsum(fp, dtype=np.float64)
    recall = hits / positives
    precision = hits / (misses + hits + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, side="left")
    inside = at < len(precision)
    points = np.zeros(len(RECALLS))
    points[inside] = precision[at[inside]]
    return float(points.mean()), float(recall[-1])
