"""TETA (Li et al., ECCV 2022): LocA, AssocA and ClsA of tracks whose labels may be wrong, from similarities per frame.

A prediction belongs to a class by its position, not by its label: predictions near the truths of a class are those with
an IoU of at least one half with one of them. Labels are then compared on the matches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from harness.arrays import Floats, Ints
from harness.scoring.assignment import assign
from harness.scoring.hota import EPSILON

TETA_ALPHAS = np.arange(0, 0.99, 0.05)
"""The 20 localisation thresholds."""
FIRST_CLASS_ALPHA = 10
"""Labels are compared from this threshold, one half, on: at 10 thresholds."""
NEAR = 0.5 - EPSILON
NOBODY = -2
"""The code of a prediction without a truth; -1 is a truth of a class that is not evaluated."""
TETA_METRICS = ("TETA", "LocA", "AssocA", "ClsA", "LocRe", "LocPr", "AssocRe", "AssocPr", "ClsRe", "ClsPr")

_N = len(TETA_ALPHAS)
_M = _N - FIRST_CLASS_ALPHA


@dataclass(frozen=True)
class Steps:
    """Frames with annotated objects, video by video.

    Video ``v`` has the steps ``video[v]:video[v + 1]``, step ``s`` the truths ``truth[s]:truth[s + 1]`` and the
    predictions ``found[s]:found[s + 1]``. Tracks are numbered from 0 in each video, on either side; classes are numbers
    of the evaluated classes, -1 where a label is none of them. ``similarity`` has for each prediction in turn, from
    ``pair[p]`` on, its values in 0 to 1 with the truths of its step.
    """

    video: Ints
    truth: Ints
    truth_track: Ints
    truth_class: Ints
    found: Ints
    found_track: Ints
    found_class: Ints
    pair: Ints
    similarity: Floats


@dataclass(frozen=True)
class TetaCounts:
    """Counts over videos by class and threshold: ``(classes, 20)`` for localisation, ``(classes, 10)`` for labels.

    ``assoc (3, classes, 20)`` are AssocA, AssocRe and AssocPr, weighted by ``loc_tp``. ``cls_fp`` are the wrong labels
    as the official tool counts them, ``cls_fp_repaired`` those without the ones it loses.
    """

    loc_tp: Ints
    loc_fn: Ints
    loc_fp: Ints
    assoc: Floats
    cls_tp: Ints
    cls_fn: Ints
    cls_fp: Ints
    cls_fp_repaired: Ints


def count_steps(steps: Steps, classes: int, exhaustive: bool, turns: Ints | None = None) -> TetaCounts:
    """Count, for classes that are numbered in the order in which the official tool takes them.

    ``exhaustive``: every object of these classes is annotated, so that a prediction of a class that is near none of its
    objects is a wrong label. ``turns`` are the classes as the official tool takes them, where it takes some of them
    several times.
    """
    loc = np.zeros((3, classes, _N), np.int64)
    assoc = np.zeros((3, classes, _N))
    cls = np.zeros((4, classes, _M), np.int64)
    _count(
        steps.video, steps.truth, steps.truth_track, steps.truth_class, steps.found, steps.found_track,
        steps.found_class, steps.pair, steps.similarity, exhaustive, np.arange(classes) if turns is None else turns,
        loc, assoc, cls,
    )  # fmt: skip
    return TetaCounts(loc[0], loc[1], loc[2], assoc, cls[0], cls[1], cls[2], cls[3])


def class_values(counts: TetaCounts, repaired: bool = False) -> dict[str, Floats]:
    """The ten metrics of each class, ``(classes,)``: fractions, averaged over thresholds."""
    loc_a, loc_re, loc_pr = _ratios(counts.loc_tp, counts.loc_fn, counts.loc_fp)
    assoc_a, assoc_re, assoc_pr = counts.assoc / np.maximum(1, counts.loc_tp)
    cls_fp = counts.cls_fp_repaired if repaired else counts.cls_fp
    cls_a, cls_re, cls_pr = (r.mean(1, keepdims=True) for r in _ratios(counts.cls_tp, counts.cls_fn, cls_fp))
    by_threshold = {
        "TETA": (loc_a + assoc_a + cls_a) / 3, "LocA": loc_a, "AssocA": assoc_a, "ClsA": cls_a, "LocRe": loc_re,
        "LocPr": loc_pr, "AssocRe": assoc_re, "AssocPr": assoc_pr, "ClsRe": cls_re, "ClsPr": cls_pr,
    }  # fmt: skip
    return {name: array.mean(1) for name, array in by_threshold.items()}


def average(values: dict[str, Floats], classes: Ints) -> dict[str, float | None]:
    """The ten metrics averaged over some classes; ``None`` without any."""
    return {name: float(array[classes].mean()) if len(classes) else None for name, array in values.items()}


def _ratios(tp: Ints, fn: Ints, fp: Ints) -> tuple[Floats, Floats, Floats]:
    """Accuracy, recall and precision."""
    return tp / np.maximum(1, tp + fn + fp), tp / np.maximum(1, tp + fn), tp / np.maximum(1, tp + fp)


@numba.njit(cache=True, nogil=True)
def _sum(values):
    """The sum of up to 128 numbers as numpy adds them: from eight on in eight lanes."""
    n = len(values)
    if n < 8:
        total = 0.0
        for value in values:
            total += value
        return total
    if n > 128:
        half = n // 2
        half -= half % 8
        return _sum(values[:half]) + _sum(values[half:])
    lanes = values[:8].copy()
    i = 8
    while i + 8 <= n:
        for k in range(8):
            lanes[k] += values[i + k]
        i += 8
    total = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))
    while i < n:
        total += values[i]
        i += 1
    return total


@numba.njit(cache=True, nogil=True)
def _partners(
    first, last, truth, truth_track, found, found_track, pair, similarity, use_truth, use_found, seen_truth, seen_found,
    agreement, partner,
):  # fmt: skip
    """Assign truths to predictions in the steps ``first`` to ``last``, among those in use, as HOTA does it: the largest
    sum of similarity times agreement of the two tracks over the steps.

    ``partner (truths of the video,)`` gets numbers of predictions, -1 without one; ``seen_truth`` and ``seen_found``
    how often tracks in use are seen. ``agreement`` is work space for ``(tracks, tracks)``.
    """
    seen_truth[:] = 0
    seen_found[:] = 0
    agreement[:] = 0
    partner[:] = -1
    base_g, base_p = truth[first], found[first]
    for work in range(2):  # agreement first, then the pairs
        for s in range(first, last):
            rows = truth[s] + np.flatnonzero(use_truth[truth[s] - base_g : truth[s + 1] - base_g])
            columns = found[s] + np.flatnonzero(use_found[found[s] - base_p : found[s + 1] - base_p])
            if work == 0:
                for g in rows:
                    seen_truth[truth_track[g]] += 1
                for p in columns:
                    seen_found[found_track[p]] += 1
            if len(rows) == 0 or len(columns) == 0:
                continue
            values = np.empty((len(rows), len(columns)))
            for b in range(len(columns)):
                for a in range(len(rows)):
                    values[a, b] = similarity[pair[columns[b]] + rows[a] - truth[s]]
            if work == 0:
                by_column = values[0].copy()
                for a in range(1, len(rows)):
                    by_column += values[a]
                for a in range(len(rows)):
                    by_row = _sum(values[a])
                    for b in range(len(columns)):
                        together = by_column[b] + by_row - values[a, b]
                        if together > EPSILON:
                            agreement[truth_track[rows[a]], found_track[columns[b]]] += values[a, b] / together
            else:
                for a in range(len(rows)):
                    for b in range(len(columns)):
                        values[a, b] *= -agreement[truth_track[rows[a]], found_track[columns[b]]]
                column_of = assign(values)
                for a in range(len(rows)):
                    if column_of[a] >= 0:
                        partner[rows[a] - base_g] = columns[column_of[a]]
        if work == 0:
            for g in range(len(seen_truth)):
                for p in range(len(seen_found)):
                    if agreement[g, p] != 0:
                        agreement[g, p] /= seen_truth[g] + seen_found[p] - agreement[g, p]


@numba.njit(cache=True, nogil=True)
def _count_class(
    c, first, last, truth, truth_track, found, found_class, found_track, pair, similarity, use_truth, near, seen_truth,
    seen_found, partner, wrong, loc, assoc, cls,
):  # fmt: skip
    """Add the counts of class ``c`` in a video where a prediction is near one of its truths, and those of other labels
    on its truths to ``wrong (classes, 10)``."""
    base_g, base_p = truth[first], found[first]
    number_g, number_p = np.cumsum(seen_truth > 0) - 1, np.cumsum(seen_found > 0) - 1
    matches = np.zeros((_N, number_g[-1] + 1, number_p[-1] + 1), np.int64)
    hits = np.zeros(_N, np.int64)
    for s in range(first, last):
        for p in range(found[s], found[s + 1]):
            if near[p - base_p]:
                loc[2, c] += 1
        for g in range(truth[s], truth[s + 1]):
            if not use_truth[g - base_g]:
                continue
            loc[1, c] += 1
            p = partner[g - base_g]
            if p < 0:
                continue
            value, label = similarity[pair[p] + g - truth[s]], found_class[p]
            for k in range(_N):
                if value < TETA_ALPHAS[k] - EPSILON:
                    break
                hits[k] += 1
                loc[1, c, k] -= 1
                if near[p - base_p]:
                    loc[2, c, k] -= 1
                matches[k, number_g[truth_track[g]], number_p[found_track[p]]] += 1
                if k < FIRST_CLASS_ALPHA:
                    continue
                if label == c:
                    cls[0, c, k - FIRST_CLASS_ALPHA] += 1
                    continue
                cls[1, c, k - FIRST_CLASS_ALPHA] += 1
                if label >= 0:
                    wrong[label, k - FIRST_CLASS_ALPHA] += 1
    loc[0, c] += hits
    kept_g, kept_p = seen_truth[seen_truth > 0], seen_found[seen_found > 0]
    for k in range(_N):
        accuracy, recall, precision = 0.0, 0.0, 0.0
        for g in range(len(kept_g)):
            for p in range(len(kept_p)):
                both = matches[k, g, p]
                if both > 0:
                    accuracy += both * (both / (kept_g[g] + kept_p[p] - both))
                    recall += both * (both / kept_g[g])
                    precision += both * (both / kept_p[p])
        assoc[0, c, k] += accuracy
        assoc[1, c, k] += recall
        assoc[2, c, k] += precision


@numba.njit(cache=True, nogil=True)
def _near_rows(
    c, first, last, truth, truth_class, found, found_track, pair, similarity, owner, near, near_track
):  # fmt: skip
    """Which predictions are near a truth of class ``c``, or of any class if that is -1, and which tracks ever are.

    Those given to a truth of another class are not. Returns whether there are any.
    """
    base_p, some = found[first], False
    near[:] = False
    near_track[:] = False
    for s in range(first, last):
        for p in range(found[s], found[s + 1]):
            if c >= 0 and owner[p - base_p] != NOBODY and owner[p - base_p] != c:
                continue
            for g in range(truth[s], truth[s + 1]):
                if (c < 0 or truth_class[g] == c) and similarity[pair[p] + g - truth[s]] >= NEAR:
                    near[p - base_p] = True
                    near_track[found_track[p]] = True
                    some = True
                    break
    return some


@numba.njit(cache=True, nogil=True)
def _count(
    video, truth, truth_track, truth_class, found, found_track, found_class, pair, similarity, exhaustive, turns, loc,
    assoc, cls,
):  # fmt: skip
    classes = loc.shape[1]
    own = np.zeros(classes, np.int64)
    times = np.zeros(classes, np.int64)
    for c in turns:
        times[c] += 1
    for v in range(len(video) - 1):
        first, last = video[v], video[v + 1]
        base_g, base_p = truth[first], found[first]
        n_g, n_p = truth[last] - base_g, found[last] - base_p
        tracks_g, tracks_p = np.int64(0), np.int64(0)
        for g in range(base_g, base_g + n_g):
            tracks_g = max(tracks_g, truth_track[g] + 1)
        for p in range(base_p, base_p + n_p):
            tracks_p = max(tracks_p, found_track[p] + 1)
        seen_truth, seen_found = np.zeros(tracks_g, np.int64), np.zeros(tracks_p, np.int64)
        agreement = np.zeros((tracks_g, tracks_p))
        partner = np.full(n_g, -1, np.int64)
        near, near_track = np.zeros(n_p, np.bool_), np.zeros(tracks_p, np.bool_)
        use_truth, use_found = np.ones(n_g, np.bool_), np.zeros(n_p, np.bool_)
        # all classes together: to the class of which truth each prediction is given
        owner = np.full(n_p, NOBODY, np.int64)
        if _near_rows(-1, first, last, truth, truth_class, found, found_track, pair, similarity, owner, near,
                      near_track):  # fmt: skip
            for p in range(n_p):
                use_found[p] = near_track[found_track[base_p + p]]
            _partners(first, last, truth, truth_track, found, found_track, pair, similarity, use_truth, use_found,
                      seen_truth, seen_found, agreement, partner)  # fmt: skip
            for s in range(first, last):
                for g in range(truth[s], truth[s + 1]):
                    p = partner[g - base_g]
                    if p >= 0 and similarity[pair[p] + g - truth[s]] >= NEAR:
                        owner[p - base_p] = truth_class[g]
        own[:] = 0
        if exhaustive:
            for p in range(base_p, base_p + n_p):
                if found_class[p] >= 0:
                    own[found_class[p]] += 1
        present = np.zeros(classes, np.bool_)
        for g in range(base_g, base_g + n_g):
            if truth_class[g] >= 0:
                present[truth_class[g]] = True
        official = np.zeros((classes, _M), np.int64)
        taken = np.zeros(classes, np.bool_)
        wrong = np.zeros((classes, _M), np.int64)
        for c in turns:
            again = taken[c]
            taken[c] = True
            if not present[c] or not _near_rows(c, first, last, truth, truth_class, found, found_track, pair,
                                                similarity, owner, near, near_track):  # fmt: skip
                if exhaustive:
                    official[c] = own[c]  # the official tool loses what earlier classes added
                    if not again:
                        cls[3, c] += own[c]
                if not again:
                    for g in range(base_g, base_g + n_g):
                        if truth_class[g] == c:
                            loc[1, c] += 1
                continue
            elsewhere = own[c]
            if exhaustive:
                for p in range(n_p):
                    if near[p] and found_class[base_p + p] == c:
                        elsewhere -= 1
            official[c] += elsewhere
            for g in range(n_g):
                use_truth[g] = truth_class[base_g + g] == c
            for p in range(n_p):
                use_found[p] = near_track[found_track[base_p + p]]
            _partners(first, last, truth, truth_track, found, found_track, pair, similarity, use_truth, use_found,
                      seen_truth, seen_found, agreement, partner)  # fmt: skip
            wrong[:] = 0
            if not again:
                cls[3, c] += elsewhere
                _count_class(c, first, last, truth, truth_track, found, found_class, found_track, pair, similarity,
                             use_truth, near, seen_truth, seen_found, partner, wrong, loc, assoc, cls)  # fmt: skip
                cls[3] += wrong
            else:
                _count_class(c, first, last, truth, truth_track, found, found_class, found_track, pair, similarity,
                             use_truth, near, seen_truth, seen_found, partner, wrong, loc.copy(), assoc.copy(),
                             cls.copy())  # fmt: skip
            official += wrong
        for c in range(classes):
            cls[2, c] += official[c] * times[c]
