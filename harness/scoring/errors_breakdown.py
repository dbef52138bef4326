"""The gain in AP from repairing each kind of error: TIDE (Bolya et al., ECCV 2020) for tracks.

``docs/error-analysis.md`` defines kinds, rules and repairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numba
import numpy as np

from harness.arrays import Flags, Floats, Ints
from harness.scoring.error_kinds import (
    BACKGROUND,
    BOTH,
    CLAIMING,
    CLASSIFICATION,
    CODE,
    DUPLICATE,
    IDENTITY,
    KINDS,
    LOCALISATION,
    MISSED,
    TEMPORAL,
    Evidence,
    Kinds,
    kinds_at,
)
from harness.scoring.from_store import row_of_record
from harness.scoring.hota import EPSILON
from harness.scoring.match import IOU_THRESHOLDS, RECALL_POINTS, precision_at
from harness.scoring.matched_tracks import MatchedTracks
from harness.scoring.overlap import GroundTruthArrays, Overlaps
from harness.scoring.quirks import Quirks

__all__ = [
    "BACKGROUND",
    "BOTH",
    "CLASSIFICATION",
    "DUPLICATE",
    "FALSE_NEGATIVES",
    "FALSE_POSITIVES",
    "IDENTITY",
    "KINDS",
    "LOCALISATION",
    "MISSED",
    "MOST_EXAMPLES",
    "SUMMARIES",
    "TEMPORAL",
    "Breakdown",
    "ErrorKind",
    "Example",
    "break_down",
]  # fmt: skip

FALSE_POSITIVES = "false positives"
FALSE_NEGATIVES = "false negatives"
SUMMARIES = (FALSE_POSITIVES, FALSE_NEGATIVES)
"""TIDE's two special errors: all false positives, and all false negatives."""
MOST_EXAMPLES = 20
"""Most examples of one kind."""


@dataclass(frozen=True)
class Example:
    """One error.

    ``track`` is the track's row in the shard of the video and ``score`` its score, both ``None`` for a missed truth.
    ``truth_id`` is the annotation that the error concerns, ``None`` for background.
    """

    video_id: int
    track: int | None
    truth_id: int | None
    score: float | None


@dataclass(frozen=True)
class ErrorKind:
    """One kind of error at IoU 0.5, and the gain in AP from repairing all errors of the kind.

    ``dap50`` is AP50 after the repair minus AP50 before. ``dap`` is the mean of such differences over the ten IoU
    thresholds; errors get their kinds for each threshold separately. Both are fractions, ``None`` if AP is undefined.
    ``count`` is the number of errors at IoU 0.5; ``free`` of them do not lower AP (tracks of a category without truth).
    ``truths`` counts the missed truths that the kind explains. ``examples`` are the errors with the highest scores, or
    the first missed truths in the file, which have no score.
    """

    kind: str
    dap50: float | None
    dap: float | None
    count: int
    free: int
    truths: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Breakdown:
    """The errors of one run: ``ap50`` and ``ap`` are the protocol's AP50 and AP before any repair, as fractions.

    ``kinds`` has one entry for each of `KINDS`, ``summaries`` one for each of `SUMMARIES` (without examples). At IoU
    0.5, ``found`` of the ``truths`` are found, and ``hits`` of the ``tracks`` are correct.
    """

    ap50: float | None
    ap: float | None
    truths: int
    found: int
    tracks: int
    hits: int
    kinds: dict[str, ErrorKind]
    summaries: dict[str, ErrorKind]


@dataclass(frozen=True)
class ApInput:
    """The input of AP at one threshold.

    ``category``, ``hit`` and ``miss`` are ``(tracks,)``; ``category`` is -1 for tracks that do not count. ``positives
    (categories,)`` is the number of truths of each category.
    """

    category: Ints
    hit: Flags
    miss: Flags
    positives: Ints


@dataclass(frozen=True)
class ErrorAssignment:
    """The errors at one threshold.

    ``found (truths,)``: whether a truth is found. ``claimed (truths,)``: the track whose repair would find it, -1 for
    none.
    """

    kinds: Kinds
    found: Flags
    claimed: Ints


def assign_errors(evidence: Evidence, matched: MatchedTracks, scores: Floats, threshold: int) -> ErrorAssignment:
    """Assign every wrong track its kind, and every missed truth the track of highest score whose repair would find it.

    ``scores (tracks,)``; ``threshold`` is the position in `IOU_THRESHOLDS`.
    """
    wrong = matched.miss[threshold] | matched.free
    kinds = kinds_at(evidence, wrong, float(IOU_THRESHOLDS[threshold]))
    found = np.zeros(len(matched.row), np.bool_)
    found[matched.taken[threshold][matched.hit[threshold]]] = True
    entry_of = np.full(len(evidence.truth_pixels), -1, np.int64)
    entry_of[matched.row[::-1]] = np.arange(len(matched.row))[::-1]
    claims = np.flatnonzero(np.isin(kinds.code, [CODE[kind] for kind in CLAIMING]))
    claims = claims[np.argsort(-scores[claims], kind="stable")]
    entry = entry_of[kinds.truth[claims]]
    open_ = matched.positive[entry] & ~found[entry]
    claimed = np.full(len(matched.row), -1, np.int64)
    claimed[entry[open_][::-1]] = claims[open_][::-1]  # in ascending order of score: the highest overwrites the others
    return ErrorAssignment(kinds, found, claimed)


def break_down(
    truths: GroundTruthArrays, matched: MatchedTracks, overlaps: Overlaps, evidence: Evidence, quirks: Quirks
) -> tuple[Breakdown, ErrorAssignment]:
    """Return the breakdown, and the errors at IoU 0.5."""
    average = _Average(truths, matched, overlaps, quirks)
    base, first = [], None
    gains: dict[str, list[float | None]] = {name: [] for name in (*KINDS, *SUMMARIES)}
    for threshold in range(len(IOU_THRESHOLDS)):
        assignment = assign_errors(evidence, matched, average.score, threshold)
        first = first or assignment
        state = average.state(threshold)
        base.append(average.precision(state))
        before = average.of(base[-1], state.positives)
        for name, gain in gains.items():
            after = average.repaired(state, assignment, name)
            value = average.of(average.precision(after), after.positives)
            gain.append(None if value is None or before is None else value - before)
    assert first is not None
    positives = average.state(0).positives
    found = _ErrorExamples(truths, matched, overlaps, first)
    means = {name: (gain[0], _mean(gain)) for name, gain in gains.items()}
    breakdown = Breakdown(
        ap50=average.of(base[0], positives),
        ap=average.of(np.concatenate(base), positives),
        truths=int(matched.positive.sum()),
        found=int((first.found & matched.positive).sum()),
        tracks=len(matched.track),
        hits=int(matched.hit[0].sum()),
        kinds={kind: _kind(kind, means[kind], found.kind(kind)) for kind in KINDS},
        summaries={name: _kind(name, means[name], found.summary(name)) for name in SUMMARIES},
    )
    return breakdown, first


def _mean(gains: Sequence[float | None]) -> float | None:
    known = [gain for gain in gains if gain is not None]
    return float(np.mean(known)) if len(known) == len(gains) else None


def _kind(
    name: str, gains: tuple[float | None, float | None], found: tuple[int, int, int, tuple[Example, ...]]
) -> ErrorKind:
    dap50, dap = gains
    count, free, truths, examples = found
    return ErrorKind(name, dap50, dap, count, free, truths, examples)


class _Average:
    """AP of tracks after repairs, computed as the protocol does."""

    def __init__(self, truths: GroundTruthArrays, matched: MatchedTracks, overlaps: Overlaps, quirks: Quirks) -> None:
        self._matched, self._quirks = matched, quirks
        self._owned = np.unique(truths.category[matched.row])
        self._of_truth = np.searchsorted(self._owned, truths.category[matched.row])
        category = np.searchsorted(self._owned, overlaps.category[matched.track])
        self._of_track = np.where(matched.free, -1, category)
        self._video = overlaps.video[matched.track]
        self.score = overlaps.score[matched.track]

    def state(self, threshold: int) -> ApInput:
        """Return the tracks without any repair."""
        positives = self._count(self._matched.positive)
        return ApInput(self._of_track, self._matched.hit[threshold], self._matched.miss[threshold], positives)

    def repaired(self, state: ApInput, assignment: ErrorAssignment, name: str) -> ApInput:
        """Return the tracks with all errors of a kind, or of a summary, repaired."""
        if name == FALSE_POSITIVES:
            return replace(state, miss=np.zeros_like(state.miss))
        if name == FALSE_NEGATIVES:
            return replace(state, positives=self._count(self._matched.positive & assignment.found))
        if name == MISSED:
            missed = self._matched.positive & ~assignment.found & (assignment.claimed < 0)
            return replace(state, positives=state.positives - self._count(missed))
        repaired = assignment.kinds.code == CODE[name]
        hit, category = state.hit.copy(), state.category.copy()
        entry = np.flatnonzero(assignment.claimed >= 0)
        entry = entry[repaired[assignment.claimed[entry]]]
        hit[assignment.claimed[entry]] = True
        category[assignment.claimed[entry]] = self._of_truth[entry]
        return ApInput(category, hit, state.miss & ~repaired, state.positives)

    def precision(self, state: ApInput) -> Floats:
        """Return precision ``(recall points, categories)``."""
        track = np.flatnonzero(state.category >= 0)
        order = track[np.lexsort((track, self._video[track], -self.score[track], state.category[track]))]
        first = np.searchsorted(state.category[order], np.arange(len(self._owned) + 1))
        out = np.zeros((len(RECALL_POINTS), len(self._owned)))
        epsilon = EPSILON if self._quirks.epsilon_in_precision else 0.0
        _curves(first, state.hit[order], state.miss[order], self.score[order], state.positives, RECALL_POINTS, epsilon,
                not self._quirks.ties_by_file_order, out)  # fmt: skip
        return out

    def of(self, precision: Floats, positives: Ints) -> float | None:
        """Return AP: the mean over categories with positives of precision at one or several thresholds."""
        rows = np.flatnonzero(positives > 0)
        return float(precision.mean(0)[rows].mean()) if len(rows) else None

    def _count(self, truths: Flags) -> Ints:
        return np.bincount(self._of_truth[truths], minlength=len(self._owned))


@numba.njit(cache=True, nogil=True)
def _curves(first, hit, miss, score, positives, recall_points, epsilon, join_ties, out):
    for k in range(len(first) - 1):
        if positives[k] > 0:
            mine = slice(first[k], first[k + 1])
            precision_at(hit[mine], miss[mine], score[mine], positives[k], recall_points, epsilon, join_ties,
                         out[:, k], score[:0])  # fmt: skip


class _ErrorExamples:
    """Makes ``count``, ``free``, ``truths`` and ``examples`` of an `ErrorKind`, at IoU 0.5."""

    def __init__(
        self, truths: GroundTruthArrays, matched: MatchedTracks, overlaps: Overlaps, assignment: ErrorAssignment
    ) -> None:
        self._truths, self._matched, self._assignment = truths, matched, assignment
        self._overlaps = overlaps
        self._not_found = matched.positive & ~assignment.found

    def kind(self, kind: str) -> tuple[int, int, int, tuple[Example, ...]]:
        matched, code = self._matched, self._assignment.kinds.code
        claimed = self._assignment.claimed[self._not_found]
        if kind == MISSED:
            missed = np.flatnonzero(self._not_found & (self._assignment.claimed < 0))
            rows = sorted(matched.row[missed].tolist())
            return len(rows), 0, len(rows), tuple(self._missed(row) for row in rows[:MOST_EXAMPLES])
        mine = np.flatnonzero(code == CODE[kind])
        answered = int((code[claimed[claimed >= 0]] == CODE[kind]).sum())
        score = self._overlaps.score[matched.track[mine]]
        record = self._overlaps.record[matched.track[mine]]
        best = mine[np.lexsort((record, -score))][:MOST_EXAMPLES].tolist()
        return len(mine), int(matched.free[mine].sum()), answered, tuple(self._example(i) for i in best)

    def summary(self, name: str) -> tuple[int, int, int, tuple[Example, ...]]:
        missing = int(self._not_found.sum())
        if name == FALSE_NEGATIVES:
            return missing, 0, missing, ()
        return int((self._assignment.kinds.code >= 0).sum()), int(self._matched.free.sum()), 0, ()

    def _missed(self, row: int) -> Example:
        record = self._truths.truth.records[row]
        return Example(record.video_id, None, record.id, None)

    def _example(self, i: int) -> Example:
        track, truth = int(self._matched.track[i]), int(self._assignment.kinds.truth[i])
        return Example(
            int(self._truths.video_ids[self._overlaps.video[track]]),
            int(row_of_record(self._overlaps.record[track : track + 1])[0]),
            self._truths.truth.records[truth].id if truth >= 0 else None,
            float(self._overlaps.score[track]),
        )
