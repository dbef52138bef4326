"""HOTA of many sequences, as BURST's tasks define it: the objects of one class in the frames of one video.

The order of the objects in a frame is that of the files, and sums are added up as numpy adds them: both decide between
assignments of equal weight, and the official numbers depend on that choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from harness.arrays import Flags, Floats, Ints, Ints32
from harness.scoring.all_cores import on_all_cores
from harness.scoring.assignment import assign
from harness.scoring.hota import ALPHAS, EPSILON, Hota
from harness.scoring.pairwise import pairwise_sum
from harness.scoring.phrase_hota import write_hota


@dataclass(frozen=True)
class ObjectsByCell:
    """The objects of all cells, of the truth or of predictions: those of cell ``c`` are ``first[c]:first[c + 1]``.

    ``mask`` is the mask of an object, and ``track`` numbers the tracks of a unit from 0, of which it has
    ``tracks (units,)``.
    """

    first: Ints
    mask: Ints
    track: Ints
    tracks: Ints


@dataclass(frozen=True)
class FrameUnits:
    """Units, each of them a class in a video: unit ``u`` has the cells ``first[u]:first[u + 1]``, its frames in order.

    In a cell without annotated objects predictions count only if ``known[u]``: they are known to be wrong; in one with
    such objects, only those that match one of them count, unless ``exhaustive[u]``: all objects are annotated.
    """

    first: Ints
    known: Flags
    exhaustive: Flags
    truths: ObjectsByCell
    predictions: ObjectsByCell


@dataclass(frozen=True)
class Similarities:
    """The predicted mask ``m`` and the annotated masks ``truth[first[m]:first[m + 1]]`` have such a ``value``; all
    other pairs have 0."""

    first: Ints
    truth: Ints32
    value: Floats


@dataclass(frozen=True)
class UnitScores:
    """HOTA of every unit, arrays ``(units, 19)``, and ``counts (units, 4)``: predicted and annotated objects that
    count, and the tracks that they belong to."""

    hota: Hota
    counts: Ints


def hota_of_units(units: FrameUnits, similarities: Similarities, masks: int) -> UnitScores:
    """HOTA of every unit, on all cores; there are ``masks`` annotated masks."""
    n = len(units.known)
    out, counts = np.zeros((n, 7, len(ALPHAS))), np.zeros((n, 4), np.int64)
    g, p = units.truths, units.predictions
    place = np.full(masks, -1, np.int64)
    place[g.mask] = np.arange(len(g.mask))
    keep = np.ones(len(p.mask), np.bool_)

    def work(part: Ints) -> None:
        _hota_of(
            part, units.first, units.known, units.exhaustive, g.first, g.track, g.tracks, place, p.first, p.mask,
            p.track, p.tracks, similarities.first, similarities.truth, similarities.value, keep, ALPHAS - EPSILON, out,
            counts,
        )  # fmt: skip

    on_all_cores(work, n)
    return UnitScores(Hota(*(out[:, k] for k in range(7))), counts)


@numba.njit(cache=True, nogil=True)
def _fill(out, g, stop_g, p, stop_p, place, mask, first, truth, value):
    """Write the similarities of a cell to ``out (g, p)``."""
    out[: stop_g - g, : stop_p - p] = 0.0
    for i in range(p, stop_p):
        for at in range(first[mask[i]], first[mask[i] + 1]):
            j = place[truth[at]]
            if g <= j < stop_g:
                out[j - g, i - p] = value[at]


@numba.njit(cache=True, nogil=True)
def _keep_decided(s, keep):
    """Write to ``keep`` which predictions of a cell match an annotated object."""
    cost = np.empty(s.shape)
    for j in range(s.shape[0]):
        for i in range(s.shape[1]):
            cost[j, i] = -s[j, i] if s[j, i] >= 0.5 - EPSILON else -0.0
    keep[:] = False
    chosen = assign(cost)
    for j in range(len(chosen)):
        if chosen[j] >= 0 and -cost[j, chosen[j]] > EPSILON:
            keep[chosen[j]] = True


@numba.njit(cache=True, nogil=True)
def _kept_columns(s, keep):
    """The columns of ``s`` that are kept, as a separate array."""
    n = 0
    out = np.empty(s.shape)
    for i in range(s.shape[1]):
        if keep[i]:
            out[:, n] = s[:, i]
            n += 1
    return np.ascontiguousarray(out[:, :n])


@numba.njit(cache=True, nogil=True)
def _agree(s, g, p, agreement):
    """Add how much the similarities of a cell speak for each pair of tracks; sums are those of a transposed array."""
    n_g, n_p = s.shape
    over_g, over_p = np.empty(n_p), np.empty(n_g)
    column = np.empty(n_g)
    for i in range(n_p):
        for j in range(n_g):
            column[j] = s[j, i]
        over_g[i] = pairwise_sum(column, 0, n_g)
    for j in range(n_g):
        if n_g == 1:
            over_p[j] = pairwise_sum(s[j], 0, n_p)
        else:
            total = 0.0
            for i in range(n_p):
                total += s[j, i]
            over_p[j] = total
    for j in range(n_g):
        for i in range(n_p):
            total = over_g[i] + over_p[j] - s[j, i]
            if total > EPSILON:
                agreement[g[j], p[i]] += s[j, i] / total


@numba.njit(cache=True, nogil=True)
def _hota_of(units, unit, known, exhaustive, first_g, track_g, tracks_g, place, first_p, mask_p, track_p, tracks_p,
             first, truth, value, keep, limits, out, counts):  # fmt: skip
    n_limits = len(limits)
    tracks = np.empty(64, np.int64)
    for u in units:
        n_g, n_p = tracks_g[u], tracks_p[u]
        seen_g, seen_p = np.zeros(n_g), np.zeros(n_p)
        agreement = np.zeros((n_g, n_p))
        found_g, found_p = 0, 0
        for c in range(unit[u], unit[u + 1]):
            g, stop_g, p, stop_p = first_g[c], first_g[c + 1], first_p[c], first_p[c + 1]
            if g == stop_g:
                keep[p:stop_p] = known[u]
            elif p < stop_p:
                s = np.empty((stop_g - g, stop_p - p))
                _fill(s, g, stop_g, p, stop_p, place, mask_p, first, truth, value)
                if not exhaustive[u]:
                    _keep_decided(s, keep[p:stop_p])
                    s = _kept_columns(s, keep[p:stop_p])
                if len(tracks) < stop_p - p:
                    tracks = np.empty(2 * (stop_p - p), np.int64)
                n = 0
                for i in range(p, stop_p):
                    if keep[i]:
                        tracks[n] = track_p[i]
                        n += 1
                if n > 0:
                    _agree(s, track_g[g:stop_g], tracks[:n], agreement)
            for j in range(g, stop_g):
                seen_g[track_g[j]] += 1
            found_g += stop_g - g
            for i in range(p, stop_p):
                if keep[i]:
                    seen_p[track_p[i]] += 1
                    found_p += 1
        counts[u, 0], counts[u, 1] = found_p, found_g
        counts[u, 2], counts[u, 3] = (seen_p > 0).sum(), (seen_g > 0).sum()
        tp, loc = np.zeros(n_limits), np.zeros(n_limits)
        matches = np.zeros((n_limits, n_g, n_p))
        for c in range(unit[u], unit[u + 1]):
            g, stop_g, p, stop_p = first_g[c], first_g[c + 1], first_p[c], first_p[c + 1]
            if g == stop_g or p == stop_p:
                continue
            s = np.empty((stop_g - g, stop_p - p))
            _fill(s, g, stop_g, p, stop_p, place, mask_p, first, truth, value)
            if not exhaustive[u]:
                s = _kept_columns(s, keep[p:stop_p])
            n = 0
            for i in range(p, stop_p):
                if keep[i]:
                    tracks[n] = track_p[i]
                    n += 1
            cost = np.empty((stop_g - g, n))
            for j in range(stop_g - g):
                a = track_g[g + j]
                for i in range(n):
                    b = tracks[i]
                    cost[j, i] = -(agreement[a, b] / (seen_g[a] + seen_p[b] - agreement[a, b]) * s[j, i])
            chosen = assign(cost)
            for j in range(stop_g - g):
                if chosen[j] < 0:
                    continue
                similarity = s[j, chosen[j]]
                for a in range(n_limits):
                    if similarity >= limits[a]:
                        tp[a] += 1
                        loc[a] += similarity
                        matches[a, track_g[g + j], tracks[chosen[j]]] += 1
        write_hota(matches, tp, loc, seen_g, seen_p, found_g, found_p, out[u])
