"""Which videos show best what the summary of a report names: categories, and kinds of error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.formats.youtube_vis import AnnotationRecord
from harness.reports.summary import Mention
from harness.scoring.analysis import HIT, IGNORED, Verdicts
from harness.scoring.calibration import Bin
from harness.scoring.error_kinds import CLAIMING, MISSED


@dataclass(frozen=True)
class Examined:
    """A run and the verdicts on its tracks."""

    label: str
    verdicts: Verdicts


@dataclass(frozen=True)
class Shows:
    """A video that shows a named category or kind of error best, and why."""

    named: Mention
    video_id: int
    reason: str


def evidence(
    named: Iterable[Mention],
    truths: Sequence[AnnotationRecord],
    better: Examined,
    worse: Examined | None,
    videos: Iterable[int],
) -> list[Shows]:
    """For each named category or kind of error the one of ``videos`` that shows it best, if one does.

    Of a category, the video in which ``better`` finds most objects more than ``worse``; of a kind, the one in which
    ``worse`` has most errors more than ``better``. A single run is ``better``, and the video is the one with most of
    its objects found, or errors. Of equal ones the first is taken.
    """
    known = set(videos)
    records = [one for one in truths if one.video_id in known and not one.is_crowd]
    runs = [better] if worse is None else [better, worse]
    found = []
    for one in named:
        counts = [
            _objects(one.category, records, run.verdicts)
            if one.category is not None
            else _errors(one.kind, records, run.verdicts, known)
            for run in runs
        ]
        sign = 1 if one.category is not None or worse is None else -1
        apart = {v: sign * (counts[0][v] - (counts[1][v] if worse else 0)) for v in set().union(*counts)}
        best = min(apart, key=lambda video: (-apart[video], video), default=None)
        if best is not None and apart[best] > 0:
            found.append(Shows(one, best, _reason(one, best, counts, runs, records)))
    return found


def videos_of_kinds(
    kinds: Iterable[str], truths: Sequence[AnnotationRecord], verdicts: Sequence[Verdicts], videos: Sequence[int]
) -> dict[str, int]:
    """The one of ``videos`` with most errors of each kind, all runs together; kinds without any are left out."""
    known = set(videos)
    records = [one for one in truths if one.video_id in known and not one.is_crowd]
    found = {}
    for kind in kinds:
        counts = sum((_errors(kind, records, one, set(videos)) for one in verdicts), Counter[int]())
        if counts:
            found[kind] = min(counts, key=lambda video: (-counts[video], video))
    return found


def videos_of_members(
    members: Mapping[str, Iterable[int]], truths: Sequence[AnnotationRecord], videos: Sequence[int]
) -> dict[str, int]:
    """The one of ``videos`` with most annotations of each name in ``members``, which has their ids."""
    known = set(videos)
    video_of = {one.id: one.video_id for one in truths if one.video_id in known}
    found = {}
    for name, ids in members.items():
        counts = Counter(video_of[one] for one in ids if one in video_of)
        if counts:
            found[name] = min(counts, key=lambda video: (-counts[video], video))
    return found


class ScoredTrack(NamedTuple):
    """A track that the protocol counts."""

    video_id: int
    category_id: int
    score: float


def scored_tracks(verdicts: Verdicts, videos: Container[int]) -> list[ScoredTrack]:
    """The tracks of ``videos`` that count."""
    rows = zip(verdicts.video_id, verdicts.category_id, verdicts.score, verdicts.kind, strict=True)
    return [
        ScoredTrack(video, category, score)
        for video, category, score, kind in rows
        if video in videos and kind != IGNORED
    ]


def videos_of_bins(bins: Sequence[Bin], tracks: Iterable[ScoredTrack], categories: Container[int]) -> list[int | None]:
    """For each bin of scores the video with most of the tracks of ``categories`` in it."""
    counts = [Counter[int]() for _ in bins]
    for one in tracks:
        if one.category_id in categories:
            counts[sum(one.score >= bin.low for bin in bins[1:])][one.video_id] += 1
    return [min(one, key=lambda video: (-one[video], video)) if one else None for one in counts]


def _objects(category: int, records: Iterable[AnnotationRecord], verdicts: Verdicts) -> Counter[int]:
    """The objects of a category that are found, by video."""
    hit = {t for kind, t in zip(verdicts.kind, verdicts.truth_id, strict=True) if kind == HIT}
    return Counter(one.video_id for one in records if one.category_id == category and one.id in hit)


def _errors(kind: str, records: Iterable[AnnotationRecord], verdicts: Verdicts, videos: set[int]) -> Counter[int]:
    """The errors of a kind by video."""
    pairs = zip(verdicts.kind, verdicts.truth_id, strict=True)
    if kind == MISSED:
        claimed = {t for found, t in pairs if found in (HIT, *CLAIMING)}
        return Counter(one.video_id for one in records if one.id not in claimed)
    return Counter(
        v for v, found in zip(verdicts.video_id, verdicts.kind, strict=True) if found == kind and v in videos
    )


def _reason(
    named: Mention,
    video: int,
    counts: Sequence[Mapping[int, int]],
    runs: Sequence[Examined],
    records: Iterable[AnnotationRecord],
) -> str:
    """A sentence with the counts of the runs."""
    counts_by_run = [f"{run.label} {count[video]}" for run, count in zip(runs, counts, strict=True)]
    if named.category is None:
        return f"errors of the kind {named.text}: {', '.join(counts_by_run[::-1])}"
    total = sum(one.video_id == video and one.category_id == named.category for one in records)
    return f"objects of {named.text} found, of {total}: {', '.join(counts_by_run)}"
