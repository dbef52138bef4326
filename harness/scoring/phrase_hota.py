"""HOTA of many short sequences at once: one per pair of a video and a phrase, see `harness.scoring.hota`."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from harness.arrays import Floats, Ints
from harness.scoring.all_cores import on_all_cores
from harness.scoring.assignment import assign
from harness.scoring.hota import ALPHAS, EPSILON, Hota

LIMITS = ALPHAS - EPSILON
"""The least IoU at which two objects of a frame match."""
SINGLE_LIMITS = LIMITS.astype(np.float32).astype(np.float64)
"""The same for IoUs in single precision, as numpy below 2 compares them."""


@dataclass(frozen=True)
class PresentFrames:
    """The frames in which tracks are present: track ``t`` in those that ``there[first[t]:first[t + 1]]`` lists."""

    first: Ints
    there: NDArray[np.bool_]

    def count(self, steps: Ints) -> Ints:
        """Number of its first ``steps (tracks,)`` frames in which each track is present."""
        n = len(self.first) - 1
        owner = np.repeat(np.arange(n), np.diff(self.first))
        at = np.arange(len(owner)) - self.first[owner]
        return np.bincount(owner[self.there & (at < steps[owner])], minlength=n)


@dataclass(frozen=True)
class Sequences:
    """Sequences of one class. Sequence ``s`` has ``steps[s]`` time steps, the truths
    ``truth[truth_first[s]:truth_first[s + 1]]`` and the predictions ``track[track_first[s]:track_first[s + 1]]``.

    ``identity (truths,)`` numbers the annotated objects of a sequence from 0 by ascending id, and ``place (truths,)``
    is a truth's column, of ``columns (tracks,)``, in ``similarity[offset[t]:offset[t + 1]]`` of track ``t``, which is
    ``(frames, columns)``.
    """

    steps: Ints
    truth_first: Ints
    truth: Ints
    identity: Ints
    place: Ints
    track_first: Ints
    track: Ints
    columns: Ints
    offset: Ints
    similarity: Floats | NDArray[np.float32]


def hota_of_sequences(sequences: Sequences, truths: PresentFrames, tracks: PresentFrames, limits: Floats) -> Hota:
    """HOTA of every sequence, arrays ``(sequences, 19)``, equal to TrackEval's HOTA of its time steps."""
    n = len(sequences.steps)
    out = np.zeros((n, 7, len(ALPHAS)))

    def work(part: Ints) -> None:
        s = sequences
        _hota_of(
            part, s.steps, s.truth_first, s.truth, s.identity, s.place, s.track_first, s.track, s.columns, s.offset,
            s.similarity, truths.first, truths.there, tracks.first, tracks.there, limits, out,
        )  # fmt: skip

    on_all_cores(work, n)
    return Hota(*(out[:, k] for k in range(7)))


@numba.njit(cache=True, nogil=True)
def _hota_of(sequences, steps, truth_first, truth, identity, place, track_first, track, columns, offset, similarity,
             first_g, there_g, first_p, there_p, limits, out):  # fmt: skip
    n_limits = len(limits)
    for s in sequences:
        mine, tracks = truth[truth_first[s] : truth_first[s + 1]], track[track_first[s] : track_first[s + 1]]
        n_g, n_p = np.int64(0), len(tracks)
        for j in range(len(mine)):
            n_g = max(n_g, identity[mine[j]] + 1)
        seen_g, seen_p = np.zeros(n_g), np.zeros(n_p)
        agreement = np.zeros((n_g, n_p))
        rows, cols = np.empty(len(mine), np.int64), np.empty(n_p, np.int64)
        found_g, found_p = 0.0, 0.0
        both = False
        for f in range(steps[s]):
            n_rows, n_cols = present_in_frame(f, mine, tracks, first_g, there_g, first_p, there_p, rows, cols)
            for j in range(n_rows):
                seen_g[identity[mine[rows[j]]]] += 1
            for i in range(n_cols):
                seen_p[cols[i]] += 1
            found_g += n_rows
            found_p += n_cols
            if n_rows == 0 or n_cols == 0:
                continue
            both = True
            # in the precision of the similarity, like the official tools: it can decide between equal assignments
            over_g, over_p = np.zeros(n_cols, similarity.dtype), np.zeros(n_rows, similarity.dtype)
            for j in range(n_rows):
                for i in range(n_cols):
                    t = tracks[cols[i]]
                    value = similarity[offset[t] + f * columns[t] + place[mine[rows[j]]]]
                    over_g[i] += value
                    over_p[j] += value
            for j in range(n_rows):
                for i in range(n_cols):
                    t = tracks[cols[i]]
                    value = similarity[offset[t] + f * columns[t] + place[mine[rows[j]]]]
                    total = over_g[i] + over_p[j] - value
                    if total > 2.220446049250313e-16:
                        agreement[identity[mine[rows[j]]], cols[i]] += value / total
        tp, loc = np.zeros(n_limits), np.zeros(n_limits)
        matches = np.zeros((n_limits, n_g, n_p))
        for f in range(steps[s] if both else 0):
            n_rows, n_cols = present_in_frame(f, mine, tracks, first_g, there_g, first_p, there_p, rows, cols)
            if n_rows == 0 or n_cols == 0:
                continue
            cost = np.empty((n_rows, n_cols))
            for j in range(n_rows):
                g = identity[mine[rows[j]]]
                for i in range(n_cols):
                    t = tracks[cols[i]]
                    value = np.float64(similarity[offset[t] + f * columns[t] + place[mine[rows[j]]]])
                    together = seen_g[g] + seen_p[cols[i]] - agreement[g, cols[i]]
                    cost[j, i] = -(agreement[g, cols[i]] / together * value)
            chosen = assign(cost)
            for j in range(n_rows):
                if chosen[j] < 0:
                    continue
                i = cols[chosen[j]]
                t = tracks[i]
                value = np.float64(similarity[offset[t] + f * columns[t] + place[mine[rows[j]]]])
                for a in range(n_limits):
                    if value >= limits[a]:
                        tp[a] += 1
                        loc[a] += value
                        matches[a, identity[mine[rows[j]]], i] += 1
        write_hota(matches, tp, loc, seen_g, seen_p, found_g, found_p, out[s])


@numba.njit(cache=True, nogil=True)
def write_hota(matches, tp, loc, seen_g, seen_p, found_g, found_p, out):
    """Write the fields of `Hota`, in their order, into ``out (7, limits)``.

    By limit: ``matches (limits, truths, tracks)`` counts frames in which the two are matched, ``tp`` all of them, and
    ``loc`` sums their similarities. ``seen_g`` and ``seen_p`` count the frames of each truth and track, ``found_g`` and
    ``found_p`` those of all.
    """
    for a in range(len(tp)):
        ass_a, ass_re, ass_pr = 0.0, 0.0, 0.0
        for g in range(len(seen_g)):
            for p in range(len(seen_p)):
                m = matches[a, g, p]
                if m > 0:
                    ass_a += m * (m / max(1.0, seen_g[g] + seen_p[p] - m))
                    ass_re += m * (m / max(1.0, seen_g[g]))
                    ass_pr += m * (m / max(1.0, seen_p[p]))
        hits = max(1.0, tp[a])
        out[0, a], out[1, a], out[2, a] = tp[a], found_g - tp[a], found_p - tp[a]
        out[3, a], out[4, a], out[5, a] = ass_a / hits, ass_re / hits, ass_pr / hits
        out[6, a] = max(1e-10, loc[a]) / max(1e-10, tp[a])


@numba.njit(cache=True, nogil=True)
def present_in_frame(f, mine, tracks, first_g, there_g, first_p, there_p, rows, cols):
    """Write the positions of the truths and tracks present in a frame; return their number."""
    n_rows, n_cols = 0, 0
    for j in range(len(mine)):
        at = first_g[mine[j]] + f
        if at < first_g[mine[j] + 1] and there_g[at]:
            rows[n_rows] = j
            n_rows += 1
    for i in range(len(tracks)):
        at = first_p[tracks[i]] + f
        if at < first_p[tracks[i] + 1] and there_p[at]:
            cols[n_cols] = i
            n_cols += 1
    return n_rows, n_cols
