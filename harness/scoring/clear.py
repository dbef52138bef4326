"""CLEAR MOT and identity metrics (Bernardin and Stiefelhagen 2008; Ristani et al. 2016) of many short sequences."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from harness.arrays import Floats, Ints
from harness.scoring.all_cores import on_all_cores
from harness.scoring.assignment import assign
from harness.scoring.hota import EPSILON
from harness.scoring.phrase_hota import PresentFrames, Sequences, present_in_frame

CLEAR_THRESHOLD = 0.5
"""The least IoU at which two objects of a frame may match."""


class Clear(NamedTuple):
    """Counts per sequence or class, each ``(n,)``.

    ``similarity`` is the sum over hits, ``switches`` counts objects last matched by another track. ``id_*`` are
    for the one-to-one assignment of whole tracks with the most hits.
    """

    tp: Floats
    fn: Floats
    fp: Floats
    switches: Floats
    similarity: Floats
    id_tp: Floats
    id_fn: Floats
    id_fp: Floats

    def values(self) -> dict[str, Floats]:
        """The numbers, by their usual names."""
        annotated = np.maximum(1.0, self.tp + self.fn)
        return {
            "MOTA": (self.tp - self.fp - self.switches) / annotated,
            "MOTP": self.similarity / np.maximum(1.0, self.tp),
            "IDF1": self.id_tp / np.maximum(1.0, self.id_tp + 0.5 * self.id_fp + 0.5 * self.id_fn),
            "IDR": self.id_tp / np.maximum(1.0, self.id_tp + self.id_fn),
            "IDP": self.id_tp / np.maximum(1.0, self.id_tp + self.id_fp),
        }


def clear_of_sequences(sequences: Sequences, truths: PresentFrames, tracks: PresentFrames) -> Clear:
    """The counts of every sequence."""
    n = len(sequences.steps)
    out = np.zeros((n, len(Clear._fields)))

    def work(part: Ints) -> None:
        s = sequences
        _clear_of(
            part, s.steps, s.truth_first, s.truth, s.identity, s.place, s.track_first, s.track, s.columns, s.offset,
            s.similarity, truths.first, truths.there, tracks.first, tracks.there, out,
        )  # fmt: skip

    on_all_cores(work, n)
    return Clear(*out.T)


@numba.njit(cache=True, nogil=True)
def _clear_of(sequences, steps, truth_first, truth, identity, place, track_first, track, columns, offset, similarity,
              first_g, there_g, first_p, there_p, out):  # fmt: skip
    limit = CLEAR_THRESHOLD - EPSILON
    for s in sequences:
        mine, tracks = truth[truth_first[s] : truth_first[s + 1]], track[track_first[s] : track_first[s + 1]]
        n_g = np.int64(0)
        for j in range(len(mine)):
            n_g = max(n_g, identity[mine[j]] + 1)
        rows, cols = np.empty(len(mine), np.int64), np.empty(len(tracks), np.int64)
        last = np.full(n_g, -1, np.int64)
        before = np.full(n_g, -1, np.int64)
        together = np.zeros((n_g, len(tracks)))
        tp, switches, total, found_g, found_p = 0.0, 0.0, 0.0, 0.0, 0.0
        for f in range(steps[s]):
            n_rows, n_cols = present_in_frame(f, mine, tracks, first_g, there_g, first_p, there_p, rows, cols)
            found_g += n_rows
            found_p += n_cols
            if n_rows == 0 or n_cols == 0:  # earlier matches stay valid
                continue
            cost = np.zeros((n_rows, n_cols))
            for j in range(n_rows):
                g = identity[mine[rows[j]]]
                for i in range(n_cols):
                    t = tracks[cols[i]]
                    value = similarity[offset[t] + f * columns[t] + place[mine[rows[j]]]]
                    if value >= CLEAR_THRESHOLD:
                        together[g, cols[i]] += 1
                    if value >= limit:
                        cost[j, i] = -(1000.0 * (before[g] == cols[i]) + value)
            chosen = assign(cost)
            before[:] = -1
            for j in range(n_rows):
                if chosen[j] < 0 or -cost[j, chosen[j]] <= EPSILON:
                    continue
                g, i = identity[mine[rows[j]]], cols[chosen[j]]
                tp += 1
                t = tracks[i]
                total += similarity[offset[t] + f * columns[t] + place[mine[rows[j]]]]
                switches += last[g] >= 0 and last[g] != i
                last[g] = i
                before[g] = i
        id_tp = 0.0
        chosen = assign(-together)
        for g in range(n_g):
            if chosen[g] >= 0:
                id_tp += together[g, chosen[g]]
        out[s, 0], out[s, 1], out[s, 2] = tp, found_g - tp, found_p - tp
        out[s, 3], out[s, 4] = switches, total
        out[s, 5], out[s, 6], out[s, 7] = id_tp, found_g - id_tp, found_p - id_tp
