"""Scoring a whole set of predictions: from a results file or a prediction store to `Score`."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.arrays import Floats, Ints
from harness.errors import OfficialAbortError, OfficialFaultError, UserError
from harness.formats.youtube_vis import AnnotationRecord, Annotations, CategoryRecord
from harness.scoring.average_precision import (
    Curves,
    TruthSelection,
    compute_average_precision,
    lengths_of,
    select_truths,
)
from harness.scoring.coverage import MaskDigests, Place, warn_of_cap, warn_of_empty_videos, warn_of_twins
from harness.scoring.frame_use import frames_of
from harness.scoring.match_table import MatchTable, match_table
from harness.scoring.metrics import GROUP_NAMES, Metrics, positions_of, summarise, without_numbers
from harness.scoring.overlap import GroundTruthArrays, MaskRules, Overlaps, concatenate, overlap
from harness.scoring.presence import presence_by_video, presence_of
from harness.scoring.protocols import (
    LENGTHS,
    AnyProtocol,
    ApProtocol,
    HotaProtocol,
    choose_protocol,
)
from harness.warnings import Warnings

if TYPE_CHECKING:
    from harness.scoring.contributions import VideoContributions
    from harness.scoring.shard_reader import ShardReader, ShardStore

OCCLUSION_VALUES = {"no_occlusion": 0.0, "slight_occlusion": 0.25, "severe_occlusion": 0.75}
LOWEST_THRESHOLD = 0.5
_EXACT = 1 << 53
"""Sums of whole numbers up to here are exact in any order."""
THREADS = 16
"""The largest number of threads that score: each holds the masks of some videos."""

TRACK_OF_UNKNOWN_VIDEO = "track of a video that the annotations do not have, left out"

T = TypeVar("T")
S = TypeVar("S")


class Batch(NamedTuple):
    """Some of the predictions: ``records`` were read, and those of categories that the annotations have are tracks."""

    overlaps: Overlaps
    warnings: Warnings
    records: int
    unknown: Sequence[UserError] = ()
    """Of records of unknown videos, which were left out."""


@dataclass(frozen=True)
class Score:
    """The numbers of one set of predictions: the official and the corrected ones, and the warnings.

    ``matches`` are those behind the official numbers of average precision, for resampling videos; mask HOTA has none.
    ``aborts`` says why the official tool gives no numbers: then all of ``metrics`` are ``None``; and there are no
    matches where it aborts because of the groups.
    """

    protocol: AnyProtocol
    metrics: Metrics
    corrected: Metrics
    warnings: list[dict[str, Any]]
    counts: dict[str, int]
    matches: MatchTable | None
    aborts: str = ""
    presence: dict[str, Any] = field(default_factory=dict)
    """The result of `presence_of`, where the data says which categories are absent from which videos."""
    find_contributions: Callable[[], VideoContributions] | None = None
    """Of mask HOTA, computes `contributions`."""

    @cached_property
    def contributions(self) -> VideoContributions | None:
        """What each video contributes to the error of the official numbers; only mask HOTA has them."""
        return None if self.find_contributions is None else self.find_contributions()

    @property
    def per_category(self) -> list[dict[str, Any]]:
        """One row per category: id, name, groups, tracks, and its numbers (``None`` without truth)."""
        return self.metrics.per_category

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON."""
        return {
            "protocol": self.protocol.record(),
            "metrics": self.metrics.values,
            "corrected": self.corrected.values,
            "undefined": {"metrics": self.metrics.undefined, "corrected": self.corrected.undefined},
            "warnings": self.warnings,
            "counts": self.counts,
            "slices": {**self.metrics.slices, **({"presence": self.presence} if self.presence else {})},
            **({"splits": self.metrics.splits} if self.metrics.splits else {}),
        }


class _Reading(NamedTuple):
    """What one pass over the predictions computes: overlaps under ``rules``, and those in single frames."""

    rules: tuple[MaskRules, ...]
    with_frames: bool


class _Source(NamedTuple):
    """Where predictions come from: its name, and how its records are named, compared and read.

    ``looked_at`` are the ids of the videos that a model is known to have run on, which a results file does not state;
    ``predicted (videos,)`` says which ones it names, where not all of its records become tracks.
    """

    name: str
    place: Place
    mask_digests: MaskDigests
    batches: Callable[[_Reading], Iterator[Batch]]
    looked_at: frozenset[int] = frozenset()
    predicted: NDArray[np.bool_] | None = None


ScoreOrError = Score | UserError
"""The numbers of a protocol, or the error with which it refuses."""


def score_results(
    protocol: str | AnyProtocol,
    annotations: Annotations,
    predictions: Path,
    strict: bool = False,
    videos: Iterable[int] | None = None,
) -> Score:
    """Score a results file; see `score_store` for ``strict`` and ``videos``."""
    return _only(score_by_protocols([_chosen(protocol)], annotations, predictions, strict, videos))


def score_store(
    protocol: str | AnyProtocol,
    annotations: Annotations,
    store: ShardStore | ShardReader,
    strict: bool = False,
    videos: Iterable[int] | None = None,
) -> Score:
    """Score a prediction store (or its `ShardReader`, which is already reading).

    ``strict`` makes every warning a `UserError`; ``videos`` restricts truth and predictions to these ids. Raises
    `UserError` for faulty input. Where the official tool aborts on what is no fault, a list without predictions or a
    group without categories, its numbers are ``None`` with that reason; with ``strict`` that is a `UserError` too.
    """
    return _only(score_by_protocols([_chosen(protocol)], annotations, store, strict, videos))


def score_by_protocols(
    protocols: Sequence[AnyProtocol],
    annotations: Annotations,
    predictions: Path | ShardStore | ShardReader,
    strict: bool = False,
    videos: Iterable[int] | None = None,
) -> list[ScoreOrError]:
    """Score a results file or a prediction store by several protocols; its masks are read and decoded once for all.

    Each gives what it gives alone: its `Score`, or the `UserError` with which it refuses, which does not affect the
    others. Raises `UserError` where nothing can be read; see `score_store` for ``strict`` and ``videos``.
    """
    truths = GroundTruthArrays(annotations if videos is None else annotations.restrict(videos))
    reading = Warnings(strict)
    if isinstance(predictions, Path):
        source = _results_source(predictions, truths, strict)
    else:
        source = _store_source(predictions, truths, strict)
    refused: dict[str, UserError] = {}
    for one in protocols:
        if isinstance(one, ApProtocol):
            try:
                with suppress(OfficialFaultError):  # its numbers are undefined for that reason
                    refuse_faulty_truth(one, truths)
                _warn_of_notes(truths, one, Warnings(strict))
            except UserError as error:
                refused[one.name] = error
    if len(refused) == len(protocols):
        return [refused[one.name] for one in protocols]
    rules = tuple(dict.fromkeys(r for one in protocols if isinstance(one, ApProtocol) for r in _rules_of(one)))
    rules = rules or (MaskRules(True, True),)
    plan = _Reading(rules, any(isinstance(one, HotaProtocol) for one in protocols))
    overlaps, records, unknown = _joined(source.batches(plan), len(rules), reading)
    outcomes: list[ScoreOrError] = []
    for one in protocols:
        warnings = Warnings(strict, dict(reading.found))
        try:
            if one.name in refused:
                raise refused[one.name]
            if isinstance(one, ApProtocol):
                if unknown:
                    raise unknown[0]
                at = [rules.index(r) for r in _rules_of(one)]
                outcomes.append(_score(one, truths, overlaps, at, records, warnings, source))
            else:
                if unknown:
                    warnings.add(TRACK_OF_UNKNOWN_VIDEO, f"{unknown[0].where}: {unknown[0].what}", len(unknown))
                outcomes.append(_score_hota(one, truths, overlaps, warnings, source))
        except UserError as error:
            outcomes.append(error)
    return outcomes


def _chosen(protocol: str | AnyProtocol) -> AnyProtocol:
    return choose_protocol(protocol) if isinstance(protocol, str) else protocol


def _only(outcomes: list[ScoreOrError]) -> Score:
    [outcome] = outcomes
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


def _rules_of(chosen: ApProtocol) -> tuple[MaskRules, MaskRules]:
    """How a protocol and its corrected variant count masks of unexpected length or size."""
    official, repaired = chosen.quirks, chosen.corrected().quirks
    return (
        MaskRules(official.shorter_list_wins, official.wrong_size_vanishes),
        MaskRules(repaired.shorter_list_wins, repaired.wrong_size_vanishes),
    )


def _results_source(predictions: Path, truths: GroundTruthArrays, strict: bool) -> _Source:
    from harness.formats.results import Block, read_blocks
    from harness.scoring.from_results import digests_in_results, read_batch

    predicted = np.zeros(len(truths.video_ids), np.bool_)

    def batches(plan: _Reading) -> Iterator[Batch]:
        def work(block: Block) -> Batch:
            found = Warnings(strict)
            unknown: list[UserError] = []
            left_out = unknown if plan.with_frames else None
            batch = read_batch(
                block, truths, str(predictions), found, predicted, frames_of if plan.with_frames else None, left_out
            )
            overlaps = overlap(truths, batch, plan.rules, LOWEST_THRESHOLD, str(predictions))
            return Batch(overlaps, found, len(block.spans), unknown)

        return in_parallel(work, read_blocks(predictions))

    digests = partial(digests_in_results, predictions)
    return _Source(str(predictions), lambda r: f"{predictions}, record {r}", digests, batches, predicted=predicted)


def _store_source(store: ShardStore | ShardReader, truths: GroundTruthArrays, strict: bool) -> _Source:
    from harness.scoring.from_store import digests_in_store, place_of_record, read_shards
    from harness.scoring.shard_reader import ShardGroup, ShardReader

    shards = store if isinstance(store, ShardReader) else ShardReader(store)

    def batches(plan: _Reading) -> Iterator[Batch]:
        def work(group: ShardGroup) -> Batch:
            found = Warnings(strict)
            batch = read_shards(group, truths, shards.folder, found, with_frames=plan.with_frames)
            overlaps = overlap(truths, batch, plan.rules, LOWEST_THRESHOLD, str(shards.folder))
            return Batch(overlaps, found, len(batch.record))

        return in_parallel(work, shards)

    place, digests = partial(place_of_record, shards.folder), partial(digests_in_store, shards.store)
    return _Source(str(shards.folder), place, digests, batches, frozenset(shards.videos))


def check_truth(
    protocol: str | AnyProtocol, annotations: Annotations, videos: Iterable[int] | None = None, strict: bool = False
) -> str:
    """Return why the official tool aborts on the annotations whatever is predicted; empty if it does not.

    Raises the `UserError` that scoring any predictions would end with, where the annotations alone decide it: masks
    that are not run-length encodings, fields that cannot be read, and with ``strict`` also such an abort. ``videos``
    are the ids that will be scored, all if that is ``None``. Withheld truth is accepted.
    """
    chosen = _chosen(protocol)
    restricted = annotations if videos is None else annotations.restrict(videos)
    if restricted.scored_truth is None:
        return ""
    truths = GroundTruthArrays(restricted)
    if isinstance(chosen, HotaProtocol):
        return ""
    try:
        refuse_faulty_truth(chosen, truths)
    except OfficialFaultError as error:
        if strict:
            raise
        return aborts_on(chosen, error)
    return ""


def aborts_on(chosen: ApProtocol, error: OfficialFaultError) -> str:
    """The reason why the official numbers are undefined."""
    return f"the official {chosen.tool} tool aborts: {error}"


def refuse_faulty_truth(chosen: ApProtocol, truths: GroundTruthArrays) -> None:
    """Raise `OfficialFaultError` for faults of the truth on which the official tool aborts.

    Raises another `UserError` for those on which no tool gives numbers.
    """
    _refuse_unusable_fields(truths, chosen)
    if chosen.quirks.groups_by_position:
        _refuse_ungrouped(chosen, truths)
    groups = chosen.groups(truths.annotations.categories)
    for suffix, ids in groups.items():
        try:
            positions_of(chosen, suffix, ids, truths)
        except OfficialFaultError:
            raise
        except OfficialAbortError:  # an empty group is not a fault: the official numbers are undefined
            break
    if "occlusion" in chosen.needs:
        for record in truths.truth.records:
            _occlusion(record, truths.annotations.path)


def usable_protocol(chosen: ApProtocol, truths: GroundTruthArrays) -> ApProtocol:
    """The protocol, or its corrected one where the official tool aborts on the truth.

    Raises another `UserError` where no tool gives numbers.
    """
    try:
        refuse_faulty_truth(chosen, truths)
    except OfficialFaultError:
        chosen = chosen.corrected()
        refuse_faulty_truth(chosen, truths)
    return chosen


def in_parallel(work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Apply ``work`` to items on up to `THREADS` cores, in order, with few items in progress at a time."""
    workers = min(os.cpu_count() or 1, THREADS)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[T]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def metrics_of(chosen: AnyProtocol, truths: GroundTruthArrays, overlaps: Overlaps, rules: int, name: str) -> Metrics:
    """The official numbers of a protocol alone; ``rules`` is the row of ``overlaps`` for it, ``name`` that of the file.

    Where the official tool aborts they are ``None``, with that reason.
    """
    if isinstance(chosen, HotaProtocol):
        from harness.scoring.mask_hota import score_hota

        return score_hota(chosen, truths, overlaps, Warnings(False), name)[0]
    groups = chosen.groups(truths.annotations.categories)
    try:
        return summarise(chosen, truths, curves_of(chosen, truths, overlaps, rules), overlaps, groups)
    except OfficialAbortError as error:
        corrected = chosen.corrected()
        repaired = summarise(corrected, truths, curves_of(corrected, truths, overlaps, rules), overlaps, groups)
        return without_numbers(repaired, f"{error.what}; {error.hint}")


def mask_rules(protocols: Iterable[AnyProtocol]) -> tuple[MaskRules, ...]:
    """How the official tools of protocols count masks of odd length or size, each way once."""
    found = dict.fromkeys(_rules_of(one)[0] for one in protocols if isinstance(one, ApProtocol))
    return tuple(found) or (MaskRules(True, True),)


def rules_row(chosen: AnyProtocol, rules: tuple[MaskRules, ...]) -> int:
    """The row of `mask_rules` that a protocol takes."""
    return rules.index(_rules_of(chosen)[0]) if isinstance(chosen, ApProtocol) else 0


def _score(
    chosen: ApProtocol,
    truths: GroundTruthArrays,
    overlaps: Overlaps,
    rules: list[int],
    records: int,
    warnings: Warnings,
    source: _Source,
) -> Score:
    """The numbers of a protocol; ``rules`` are the rows of ``overlaps`` for it and for its corrected variant."""
    corrected = chosen.corrected()
    aborts, metrics, matches = "", None, None
    groups = chosen.groups(truths.annotations.categories)
    try:
        refuse_faulty_truth(chosen, truths)
    except OfficialFaultError as error:
        aborts = aborts_on(chosen, error)
    is_faulty = aborts != ""
    _warn_of_notes(truths, chosen, warnings)
    warn_of_sizes(overlaps, source.place, warnings)
    _warn_of_ids(truths, warnings)
    if not records and truths.truth.records and corrected is not chosen:  # without truth no number is defined anyway
        aborts = aborts or f"there are no predictions; the official {chosen.tool} tool aborts on an empty list"
    try:
        if not is_faulty:
            metrics, matches = _official(chosen, truths, overlaps, rules[0], groups)
    except OfficialFaultError as error:
        aborts = aborts_on(chosen, error)
    except OfficialAbortError as error:
        aborts = aborts or f"{error.what}; {error.hint}"
    if aborts and warnings.strict:
        raise OfficialAbortError(source.name, aborts)
    repaired = metrics if corrected is chosen else None
    if repaired is None:
        repaired = _repaired(corrected, truths, overlaps, rules[1], groups)
    if aborts or metrics is None:
        metrics = without_numbers(repaired, aborts)
    _warn_of_coverage(truths, overlaps, warnings, source)
    if chosen.tracks_per_category is None:
        warn_of_cap(chosen, truths, overlaps, source.place, warnings)
    absent = ~truths.owned[overlaps.category]
    counts = {
        "tracks": len(overlaps.score),
        "tracks_of_absent_categories": int(absent.sum()),
        "truths": len(truths.truth.records),
        "videos": len(truths.video_ids),
        "categories": len(truths.category_ids),
        "categories_with_truth": int(truths.owned.sum()),
    }
    if chosen.tracks_per_category is not None:
        counts |= _count_cut(chosen.tracks_per_category, overlaps, source, warnings)
    presence = _presence(truths, overlaps, groups)
    if matches is not None and (absence := truths.annotations.absence) is not None:
        counts_by_video = presence_by_video(truths, absence, overlaps.video, overlaps.category, overlaps.score)
        matches = replace(matches, presence=counts_by_video)
    return Score(chosen, metrics, repaired, warnings.record(), counts, matches, aborts, presence)


def _presence(truths: GroundTruthArrays, overlaps: Overlaps, groups: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    absence = truths.annotations.absence
    if absence is None:
        return {}
    named = {GROUP_NAMES[suffix]: np.searchsorted(truths.category_ids, ids) for suffix, ids in groups.items()}
    return presence_of(truths, absence, overlaps.video, overlaps.category, overlaps.score, named)


def _count_cut(most: int, overlaps: Overlaps, source: _Source, warnings: Warnings) -> dict[str, int]:
    """The tracks left by Fixed AP's cut to ``most`` per category; warns where there are fewer.

    With fewer tracks Fixed AP can be too low, because models cut by video first.
    """
    by_category = np.bincount(overlaps.category)
    fewer = int(((by_category > 0) & (by_category < most)).sum())
    kept = int(np.minimum(by_category, most).sum())
    if fewer:
        warnings.tell(f"category with fewer than {most} tracks, whose Fixed AP may be too low", source.name, fewer)
    return {
        "tracks_kept": kept,
        "categories_with_fewer_tracks": fewer,
        "most_tracks_per_video": int(np.bincount(overlaps.video).max(initial=0)),
    }


def _score_hota(
    chosen: HotaProtocol, truths: GroundTruthArrays, overlaps: Overlaps, warnings: Warnings, source: _Source
) -> Score:
    from harness.scoring.mask_hota import score_hota

    _warn_of_ids(truths, warnings)
    found = score_hota(chosen, truths, overlaps, warnings, source.name)
    _warn_of_coverage(truths, overlaps, warnings, source)
    scored = chosen, found.metrics, found.corrected, warnings.record(), found.counts, None, found.aborts
    return Score(*scored, find_contributions=found.contributions)


def _warn_of_coverage(truths: GroundTruthArrays, overlaps: Overlaps, warnings: Warnings, source: _Source) -> None:
    predicted = np.isin(np.arange(len(truths.video_ids)), overlaps.video)
    predicted |= False if source.predicted is None else source.predicted
    warn_of_empty_videos(truths, predicted, source.looked_at, warnings)
    warn_of_twins(overlaps, source.place, source.mask_digests, warnings)


def _joined(batches: Iterable[Batch], rules: int, warnings: Warnings) -> tuple[Overlaps, int, list[UserError]]:
    """The overlaps of all batches, their number of records, and the unknown videos among them.

    Adds to ``warnings``.
    """
    parts, records = [], 0
    unknown: list[UserError] = []
    for batch in batches:
        parts.append(batch.overlaps)
        records += batch.records
        unknown += batch.unknown
        for kind, (count, first) in batch.warnings.found.items():
            warnings.add(kind, first, count)
    return concatenate(parts, rules), records, unknown


def _official(
    chosen: ApProtocol, truths: GroundTruthArrays, overlaps: Overlaps, rules: int, groups: dict[str, tuple[int, ...]]
) -> tuple[Metrics, MatchTable]:
    """The numbers of the protocol and the matches behind them; its curves, tens of megabytes, are dropped."""
    curves = curves_of(chosen, truths, overlaps, rules)
    return summarise(chosen, truths, curves, overlaps, groups), match_table(chosen, truths, curves, groups)


def _repaired(
    corrected: ApProtocol, truths: GroundTruthArrays, overlaps: Overlaps, rules: int, groups: dict[str, tuple[int, ...]]
) -> Metrics:
    """The numbers of the corrected protocol."""
    curves = curves_of(corrected, truths, overlaps, rules, by_length=False)
    return summarise(corrected, truths, curves, overlaps, groups)


def curves_of(
    one: ApProtocol,
    truths: GroundTruthArrays,
    overlaps: Overlaps,
    rules: int,
    precision_caps: tuple[int, ...] = (100,),
    with_scores: bool = False,
    by_length: bool = True,
) -> Curves:
    """The precision and recall arrays of a protocol; ``rules`` is the row of ``overlaps`` computed for it.

    The ranges are the protocol's, and on request those of track length.
    """
    selection = select(one, truths)
    ranges = one.ranges + (LENGTHS if by_length else ())
    return compute_average_precision(
        truths, selection, overlaps, rules, one.quirks, ranges, precision_caps, one.equal_lengths, with_scores,
        tracks_per_category=one.tracks_per_category,
    )  # fmt: skip


def select(one: ApProtocol, truths: GroundTruthArrays) -> TruthSelection:
    """The truths a protocol counts, with their average areas, lengths and occlusions."""
    quirks, row = one.quirks, select_truths(truths, one.quirks)
    records = [truths.truth.records[r] for r in row.tolist()]
    crowd = np.array([one.reads_crowd and r.is_crowd for r in records], np.bool_)
    blocks_nothing = np.full(len(row), quirks.truth_reusable)
    quantities: dict[str, Floats] = {
        "area": _areas(records, row, truths, quirks.areas_are_zero, quirks.areas_cut_to_int, "areas" in one.needs),
        "length": lengths_of(truths)[row].astype(np.float64),
    }
    if any(r.quantity == "occlusion" for r in one.ranges):
        quantities["occlusion"] = np.array([_occlusion_or_none(r) for r in records])
    zero = np.array([r.id == 0 for r in records], np.bool_)
    return TruthSelection(
        row,
        ignored=crowd & (not quirks.crowd_counts),
        reusable=crowd | blocks_nothing,
        unseen=zero & quirks.id_zero_unseen,
        quantities=quantities,
    )


def _areas(
    records: list[AnnotationRecord], row: Ints, truths: GroundTruthArrays, zero: bool, cut: bool, official: bool
) -> Floats:
    """Average areas in square pixels: from the file's ``areas``, else from masks.

    Masks are also measured where ``areas`` cannot be read and the protocol is not ``official``.
    """
    out, odd = np.zeros(len(records)), truths.annotations.read_leniently
    if zero:
        return out
    stated = None if odd else _exact_means(records, cut)
    if stated is not None:
        return stated
    for i, record in enumerate(records):
        entries: Any = record.areas
        if not isinstance(entries, list) or (
            odd and not (_are_numbers(entries) and (official or _are_finite(entries)))
        ):
            track = slice(*truths.masks.track[row[i] : row[i] + 2].tolist())
            rows = truths.masks.frame_mask[track]
            entries = truths.area[rows[rows >= 0]].tolist()
        values = [int(a) if cut else a for a in entries if a is not None]
        values = [a for a in values if a]
        out[i] = np.mean(values) if values else 0.0
    return out


def _exact_means(records: list[AnnotationRecord], cut: bool) -> Floats | None:
    """Average areas of annotations that all state them, zeros left out; `None` where sums depend on their order."""
    stated = [record.areas for record in records]
    if not all(isinstance(entries, list) for entries in stated):
        return None
    lists: list[list[float | None]] = stated  # type: ignore[assignment]
    owner = np.repeat(np.arange(len(lists)), np.array([len(entries) for entries in lists], np.int64))
    values = np.array(list(itertools.chain.from_iterable(lists)), np.float64)  # None becomes NaN
    owner, values = owner[~np.isnan(values)], values[~np.isnan(values)]
    if cut and np.isfinite(values).all():
        values = np.trunc(values)
    if not (np.abs(values).sum() < _EXACT and (values == np.trunc(values)).all()):
        return None
    owner, values = owner[values != 0], values[values != 0]
    number = np.bincount(owner, minlength=len(lists))
    return np.bincount(owner, values, len(lists)) / np.maximum(number, 1)


def _occlusion_or_none(record: AnnotationRecord) -> float:
    """The same as `_occlusion`, or -1, which is in no range."""
    try:
        return _occlusion(record, "")
    except OfficialFaultError:
        return -1.0


def _occlusion(record: AnnotationRecord, path: str) -> float:
    """Mean of the more occluded half of the frames (OVIS); raises `OfficialFaultError` where that is not stated."""
    where = f"{path}, annotation {record.id}"
    levels = [v for v in record.occlusion if v is not None] if isinstance(record.occlusion, list) else []
    unknown = [v for v in levels if not isinstance(v, str) or v not in OCCLUSION_VALUES]
    if unknown:
        what = f"occlusion {json.dumps(unknown[0])[:40]} is unknown"
        raise OfficialFaultError(where, what, f"known: {', '.join(OCCLUSION_VALUES)}")
    if not levels:
        raise OfficialFaultError(
            where, "has no occlusion in any frame", "state it, or remove the track, which OVIS cannot assign to a group"
        )
    values = sorted(OCCLUSION_VALUES[v] for v in levels)
    return float(np.mean(values[len(values) // 2 :]))


def _refuse_unusable_fields(truths: GroundTruthArrays, chosen: ApProtocol) -> None:
    """Raise `UserError` for the first annotation in which a field that the protocol needs is missing or cannot be read.

    Other fields may have any form.
    """
    path, tool = truths.annotations.path, f"the official {chosen.tool} tool needs it"
    for record in truths.truth.records:
        for name in chosen.needs:
            value = getattr(record, name)
            if value is None or value is msgspec.UNSET:
                hint = f"{tool}; add it, or use protocol {chosen.name}-corrected"
                raise OfficialFaultError(f"{path}, annotation {record.id}", f'has no "{name}"', hint)
    for record in truths.truth.records if truths.annotations.read_leniently else ():
        where = f"{path}, annotation {record.id}"
        crowd: Any = record.iscrowd
        if chosen.reads_crowd and not isinstance(crowd, (int, type(None), msgspec.UnsetType)):
            raise UserError(where, f"iscrowd is {json.dumps(crowd)[:40]}", "write 0 or 1")
        if "areas" in chosen.needs:
            _refuse_unusable_areas(record, chosen, where)


def _ungrouped(chosen: ApProtocol, truths: GroundTruthArrays) -> list[CategoryRecord]:
    """The categories that do not state the fields from which the protocol makes groups: they are in no group."""
    return [
        c
        for c in truths.annotations.categories
        if (chosen.reads_partition and c.partition is None)
        or (chosen.reads_split and (c.frequency is None or c.split is None))
    ]


def _refuse_ungrouped(chosen: ApProtocol, truths: GroundTruthArrays) -> None:
    """Raise `OfficialFaultError` for the first category without those fields."""
    for category in _ungrouped(chosen, truths)[:1]:
        what = "has no partition that is an integer" if chosen.reads_partition else "has no frequency or no split"
        hint = f"add it for base and novel; protocol {chosen.name}-corrected and ytvis need none"
        raise OfficialFaultError(f"category {category.id} ({category.name})", what, hint)


def _refuse_unusable_areas(record: AnnotationRecord, chosen: ApProtocol, where: str) -> None:
    areas: Any = record.areas
    hint = f"write the area in square pixels or null per frame, or use protocol {chosen.name}-corrected"
    if not _are_numbers(areas):
        raise OfficialFaultError(where, "areas is not a list of numbers", hint)
    if chosen.quirks.areas_cut_to_int and not _are_finite(areas):
        what = f"areas hold a value that is not finite; the official {chosen.tool} tool aborts on it"
        raise OfficialFaultError(where, what, hint)


def _are_numbers(areas: Any) -> bool:
    return isinstance(areas, list) and all(a is None or isinstance(a, (int, float)) for a in areas)


def _are_finite(areas: list[Any]) -> bool:
    return all(a is None or math.isfinite(a) for a in areas)


def _warn_of_notes(truths: GroundTruthArrays, chosen: ApProtocol, warnings: Warnings) -> None:
    """Count what the annotations have in another form, where the protocol reads it."""
    unread = set()
    if not chosen.reads_crowd:
        unread.add("iscrowd")
    if chosen.quirks.areas_are_zero:
        unread.add("areas")
    if not chosen.reads_partition:
        unread.add("partition")
    if not chosen.reads_split:
        unread.add("split")
    if ungrouped := _ungrouped(chosen, truths):
        fields = "partition" if chosen.reads_partition else "frequency and split"
        where = f"{truths.annotations.path}, category {ungrouped[0].id}"
        warnings.add(f"category without {fields}, which is in no group", where, len(ungrouped))
    if any(r.quantity == "occlusion" for r in chosen.ranges):
        for record in truths.truth.records:
            if _occlusion_or_none(record) < 0:
                where = f"{truths.annotations.path}, annotation {record.id}"
                warnings.add("annotation without a known occlusion, which is in no range of occlusion", where)
    for note in truths.annotations.notes:
        if note.field not in unread:
            warnings.add(note.kind, note.first, note.count)
    for remark in truths.annotations.remarks if chosen.reads_split else ():
        warnings.tell(remark, truths.annotations.path)


def warn_of_sizes(overlaps: Overlaps, place: Place, warnings: Warnings) -> None:
    """Count the tracks with a mask of another size than the video's."""
    wrong = np.flatnonzero(overlaps.wrong_size)
    if len(wrong):
        warnings.add("mask size differs from the video's", place(int(overlaps.record[wrong[0]])), len(wrong))


def _warn_of_ids(truths: GroundTruthArrays, warnings: Warnings) -> None:
    seen: set[int] = set()
    for record in truths.truth.records:
        where = f"{truths.annotations.path}, annotation {record.id}"
        if record.id in seen:
            warnings.add("annotation id repeated", where)
        seen.add(record.id)
        if record.id == 0:
            warnings.add("annotation id is 0", where)
    lengths = np.diff(truths.masks.track)
    odd = np.flatnonzero(lengths != truths.lengths[truths.video])
    if len(odd):
        where = f"{truths.annotations.path}, annotation {truths.truth.records[odd[0]].id}"
        warnings.add("annotation's number of frames differs from the video's", where, len(odd))
