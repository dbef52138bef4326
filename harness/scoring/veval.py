"""SA-Co/VEval: cgF1, pmF1, IL_MCC, phrase HOTA and phrase AP over pairs of a video and a phrase (Carion et al., SAM 3).

Each pair is a separate video with one class, so masklets of different phrases are never compared. The numbers are
those of the benchmark's own evaluators, which run one after the other: where one of them aborts, its numbers are
undefined for that reason and the others keep theirs. Their quirks are listed in ``docs/protocols.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.arrays import Flags, Floats, Ints, sums_by
from harness.errors import OfficialAbortError
from harness.formats.youtube_vis import Annotations
from harness.scoring import VEVAL
from harness.scoring.contributions import VideoContributions
from harness.scoring.hota import EPSILON, HotaSums, combine_rows
from harness.scoring.match import IOU_THRESHOLDS, RECALL_POINTS, score_categories
from harness.scoring.phrase_hota import LIMITS, SINGLE_LIMITS, Sequences, hota_of_sequences
from harness.scoring.phrase_overlap import HAS_OTHER_SIZE, match_units
from harness.scoring.phrase_tracks import (
    HARD_DECISION_SCORE,
    PhraseTracks,
    join_tracks,
    no_tracks,
    read_file_tracks,
    read_store_tracks,
)
from harness.scoring.phrase_units import (
    PhraseInput,
    PhraseTruth,
    by_unit,
    chosen_truths,
    read_phrase_truth,
    track_ious,
    units_of,
)
from harness.scoring.presence import Presence, rates_of
from harness.scoring.protocols import AREAS
from harness.scoring.score import in_parallel
from harness.scoring.veval_aborts import (
    NO_BOX,
    OTHER_SIZES,
    SAME_ID,
    AbortsByKind,
    aborts_of_boxes,
    aborts_of_hota,
    aborts_of_loading,
    aborts_of_missing_fields,
    frames_of_tracks,
    frames_of_truths,
    identities,
    truths_with_boxes,
)
from harness.warnings import Warnings

if TYPE_CHECKING:
    from harness.scoring.shard_reader import ShardReader

VEVAL_VERSION = "1"
HOTA_NAMES = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "OWTA")
CGF1_METRICS = ("cgF1", "cgF1_50", "cgF1_75", "pmF1", "pmF1_50", "pmF1_75", "IL_MCC")
HOTA_METRICS = tuple(f"p{name}" for name in HOTA_NAMES)
AP_METRICS = ("pAP", "pAP50", "pAP75")
VEVAL_METRICS = (*CGF1_METRICS, *HOTA_METRICS, *AP_METRICS)
TRACKS_PER_PAIR = 100
"""Phrase AP counts at most this many tracks of each pair, the best ones."""
EVERY_AREA = AREAS[0]
"""Ranges of the average area in square pixels: from ``areas`` of annotations, from the boxes of predictions."""
_AT = {"": slice(None), "_50": slice(0, 1), "_75": slice(5, 6)}
"""The thresholds of a number by the suffix of its name."""
ROOM = 1e-4
"""What the evaluator of cgF1 adds to the denominators of precision, recall and F1."""
UNASKED = "track of a phrase that is not asked for in its video: a false alarm"
UNASKED_LOW = "track below 0.5 of a phrase that is not asked for in its video: its pair counts as a true negative"


@dataclass
class VevalScore:
    """The numbers as fractions, official and corrected; ``undefined`` says by object and metric why one is ``None``.

    ``per_pair`` has a row for every pair with what was found there. ``slices`` has the counts and rates of presence,
    and pmF1 averaged over pairs. ``contributions`` are those of the videos to the error of the official numbers of cgF1
    and phrase HOTA.
    """

    metrics: dict[str, float | None]
    corrected: dict[str, float | None]
    undefined: dict[str, dict[str, str]]
    counts: dict[str, int]
    slices: dict[str, Any]
    per_pair: list[dict[str, Any]]
    warnings: list[dict[str, Any]] = field(default_factory=list)
    contributions: VideoContributions | None = None

    @property
    def per_category(self) -> list[dict[str, Any]]:
        """Rows as other protocols have them by category: here by pair."""
        return self.per_pair

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON."""
        return {
            "protocol": {"name": VEVAL, "version": VEVAL_VERSION},
            "metrics": self.metrics,
            "corrected": self.corrected,
            "undefined": self.undefined,
            "warnings": self.warnings,
            "counts": self.counts,
            "slices": self.slices,
        }


def score_veval(
    annotations: Annotations,
    predictions: Path | ShardReader,
    strict: bool = False,
    videos: Iterable[int] | None = None,
) -> VevalScore:
    """Score a results file, or the shards of a prediction store.

    ``strict`` makes every warning, and an abort of an official tool, a `UserError`; ``videos`` restricts truth and
    predictions to these ids. Raises `UserError` for faulty input.
    """
    warnings = Warnings(strict)
    truth = read_phrase_truth(annotations if videos is None else annotations.restrict(videos))
    if isinstance(predictions, Path):
        path = str(predictions)
        parts = _of_file(truth, predictions, strict)
        return score_tracks(truth, _joined(parts, warnings), lambda record: f"{path}, record {record}", path, warnings)
    from harness.scoring.from_store import place_of_record

    folder = predictions.folder
    tracks = _joined(_of_shards(truth, predictions, strict), warnings)
    return score_tracks(truth, tracks, lambda record: place_of_record(folder, record), str(folder), warnings)


def _of_file(truth: PhraseTruth, path: Path, strict: bool) -> Iterator[tuple[PhraseTracks, Warnings]]:
    from harness.formats.results import Block, read_blocks

    side = truth.side

    def work(block: Block) -> tuple[PhraseTracks, Warnings]:
        found = Warnings(strict)
        return read_file_tracks(block, truth.arrays, truth.steps, side, str(path), found), found

    return in_parallel(work, read_blocks(path))


def _of_shards(truth: PhraseTruth, shards: ShardReader, strict: bool) -> Iterator[tuple[PhraseTracks, Warnings]]:
    from harness.scoring.from_store import read_shards
    from harness.scoring.shard_reader import ShardGroup

    side = truth.side

    def work(group: ShardGroup) -> tuple[PhraseTracks, Warnings]:
        found = Warnings(strict)
        batch = read_shards(group, truth.arrays, shards.folder, found, every_mask=True)
        return read_store_tracks(batch, truth.arrays, truth.steps, side, str(shards.folder)), found

    return in_parallel(work, shards)


def _joined(parts: Iterator[tuple[PhraseTracks, Warnings]], warnings: Warnings) -> PhraseTracks:
    found = []
    for tracks, odd in parts:
        found.append(tracks)
        for kind, (count, first) in odd.found.items():
            warnings.add(kind, first, count)
    return join_tracks(found) if found else no_tracks()


@dataclass
class _Part:
    """The numbers of one evaluator: ``abort`` says why the official one gives none; ``repairs`` how
    corrected numbers avoid that. ``per_unit`` has columns for `VevalScore.per_pair`, ``falls`` are by metric."""

    values: dict[str, float | None]
    undefined: dict[str, str] = field(default_factory=dict)
    abort: str = ""
    repairs: AbortsByKind = field(default_factory=dict)
    slices: dict[str, Any] = field(default_factory=dict)
    per_unit: dict[str, list[Any]] = field(default_factory=dict)
    falls: dict[str, _Falls] = field(default_factory=dict)


class _Falls(NamedTuple):
    """How much a number falls without each video ``by_video (videos,)``, and which videos it is about ``(videos,)``."""

    by_video: Floats
    about: Flags


def _nothing(names: tuple[str, ...], reason: str, repairs: AbortsByKind | None = None) -> _Part:
    """No numbers, for one reason."""
    return _Part(dict.fromkeys(names), dict.fromkeys(names, reason), repairs=repairs or {})


def _aborted(names: tuple[str, ...], aborts: AbortsByKind) -> _Part:
    """No numbers, because the official tool aborts."""
    reason = f"the official tool aborts: {next(iter(aborts.values())).reason}"
    return replace(_nothing(names, reason), abort=reason)


def score_tracks(
    truth: PhraseTruth, tracks: PhraseTracks, place: Callable[[int], str], source: str, warnings: Warnings
) -> VevalScore:
    """Score tracks that have met the truth; ``place`` names a record of ``source``."""
    units = units_of(truth, tracks)
    of_masks = PhraseInput(truth, tracks, units, chosen_truths(truth, units), place, track_ious(tracks, False), False)
    inputs = {"": of_masks}
    if truth.boxed.any() or (not len(truth.ids) and tracks.boxed.any()):
        inputs["_box"] = replace(of_masks, iou=track_ious(tracks, True), box=True)
    _warn(of_masks, warnings)
    numbers: dict[str, dict[str, float | None]] = {"metrics": {}, "corrected": {}}
    undefined: dict[str, dict[str, str]] = {"metrics": {}, "corrected": {}}
    slices: dict[str, Any] = {}
    columns: dict[str, list[Any]] = {}
    repairs: dict[str, tuple[int, str]] = {}
    falls: dict[str, _Falls] = {}
    for suffix, given in inputs.items():
        for evaluator in (_cgf1, _phrase_hota, _phrase_ap):
            official = evaluator(given, False)
            if official.abort and warnings.strict:
                raise OfficialAbortError(source, official.abort, "correct it or turn off strict")
            repaired = evaluator(given, True)
            for kind, abort in repaired.repairs.items():
                repairs.setdefault(kind, (abort.count, abort.first or source))
            for name, part in (("metrics", official), ("corrected", repaired)):
                numbers[name] |= {key + suffix: value for key, value in part.values.items()}
                undefined[name] |= {key + suffix: reason for key, reason in part.undefined.items()}
            if not suffix:
                slices |= official.slices
            columns |= {key + suffix: value for key, value in official.per_unit.items()}
            falls |= {key + suffix: value for key, value in official.falls.items()}
    for kind, (count, first) in repairs.items():
        warnings.tell(f"corrected: {kind}", first, count)
    counts = {
        "tracks": len(tracks.score),
        "tracks_from_half": int((tracks.score >= HARD_DECISION_SCORE).sum()),
        "truths": len(truth.ids),
        "videos": len(truth.arrays.video_ids),
        "pairs": len(units),
        "pairs_asked": int(units.asked.sum()),
        "pairs_annotated": len(np.unique(units.of_truth)),
    }
    rows = _per_pair(of_masks, columns)
    return VevalScore(
        numbers["metrics"], numbers["corrected"], undefined, counts, slices, rows, warnings.record(),
        _contributions(truth, numbers["metrics"], falls) if falls else None,
    )  # fmt: skip


def _contributions(
    truth: PhraseTruth, metrics: Mapping[str, float | None], falls: Mapping[str, _Falls]
) -> VideoContributions:
    """What each video contributes to the error of the official numbers: a plain jackknife over the videos."""
    annotations, videos = truth.arrays.annotations, truth.arrays.video_ids
    about = np.array([int(one.about.sum()) for one in falls.values()])
    values = np.array([np.nan if (value := metrics[name]) is None else value for name in falls])
    added = [one.by_video * np.sqrt(max(n - 1, 0) / max(n, 1)) for one, n in zip(falls.values(), about, strict=True)]
    return VideoContributions(annotations.digest, videos, tuple(falls), values, about, np.array(added))


# cgF1


def _cgf1(given: PhraseInput, corrected: bool) -> _Part:
    """cgF1, pmF1 and IL_MCC; corrected, tracks below 0.5 are left out first, so that they add no pairs."""
    if given.truth.arrays.annotations.pairs is None:
        return _nothing(CGF1_METRICS, "the annotations list no video_np_pairs, without which no negatives are known")
    counted = given.tracks.score >= HARD_DECISION_SCORE if corrected else np.ones(len(given.tracks.score), np.bool_)
    aborts = aborts_of_loading(given)
    if given.box:
        aborts |= aborts_of_boxes(given, np.ones(len(counted), np.bool_))
    if aborts and not corrected:
        return _aborted(CGF1_METRICS, aborts)
    chosen = truths_with_boxes(given) if NO_BOX in aborts else given.chosen
    ordinary = ~given.truth.crowd[chosen.row]
    row = chosen.row[ordinary]
    first = np.concatenate([[0], np.cumsum(ordinary)])[chosen.first]
    track, track_first = by_unit(given.units, given.tracks.score >= HARD_DECISION_SCORE)
    n_g, n_d = np.diff(first), np.diff(track_first)
    tp = np.zeros((len(given.units), len(IOU_THRESHOLDS)), np.int64)
    local, offset = given.truth.arrays.local[row], given.tracks.overlaps.offset
    match_units(track, track_first, local, first, offset, given.iou, given.limits, tp)
    units = given.units
    known = units.asked | (np.bincount(units.of_truth, minlength=len(units)) > 0)
    known |= np.bincount(units.of_track[counted], minlength=len(units)) > 0
    fp, fn = n_d[:, None] - tp, n_g[:, None] - tp
    presence = Presence(
        int((known & (n_g > 0) & (n_d > 0)).sum()), int((known & (n_g == 0) & (n_d > 0)).sum()),
        int((known & (n_g == 0) & (n_d == 0)).sum()), int((known & (n_g > 0) & (n_d == 0)).sum()),
    )  # fmt: skip
    both = (n_g > 0) & (n_d > 0)
    hits, misses, found_wrongly = tp.sum(0), fn.sum(0), fp[both].sum(0)
    numbers = _f1_numbers(hits, found_wrongly, misses, np.array(presence.mcc))
    values: dict[str, float | None] = {name: float(number) for name, number in numbers.items()}
    own = _f1(tp[both] / (tp[both] + fp[both] + ROOM), tp[both] / (tp[both] + fn[both] + ROOM))
    macro = own.mean(0) if both.any() else None
    slices = {
        "presence": presence.record(),
        "pmF1_macro": {f"pmF1{s}": None if macro is None else float(macro[part].mean()) for s, part in _AT.items()},
        "per_threshold": {"TP": hits.tolist(), "FP": fp.sum(0).tolist(), "pFP": found_wrongly.tolist(),
                          "FN": misses.tolist()},
    }  # fmt: skip
    falls = {}
    if not corrected:
        falls = _falls_of_cgf1(given, tp, fp * both[:, None], fn, known, n_g > 0, n_d > 0)
    return _Part(values, repairs=aborts, slices=slices, per_unit=_hits_per_unit(tp, fp, fn, known), falls=falls)


def _falls_of_cgf1(
    given: PhraseInput, tp: Ints, fp: Ints, fn: Ints, known: Flags, annotated: Flags, found: Flags
) -> dict[str, _Falls]:
    """How much cgF1, pmF1 and IL_MCC fall without each video, from the counts of pairs ``(pairs, 10)``."""
    cells = (
        np.stack([annotated & found, ~annotated & found, ~annotated & ~found, annotated & ~found], 1) & known[:, None]
    )
    parts = [_by_video(given, np.asarray(one)) for one in (tp, fp, fn, cells)]
    whole, left = (
        _f1_numbers(hits, wrong, misses, rates_of(counts.astype(np.float64))[..., 0])
        for hits, wrong, misses, counts in ([p.sum(0) for p in parts], [p.sum(0) - p for p in parts])
    )
    about = {True: _by_video(given, annotated[:, None])[:, 0] > 0, False: _by_video(given, known[:, None])[:, 0] > 0}
    return {name: _Falls(whole[name] - left[name], about[name.startswith("pmF1")]) for name in whole}


def _f1_numbers(hits: Ints, wrong: Ints, misses: Ints, mcc: Floats) -> dict[str, Floats]:
    """`CGF1_METRICS` ``(...,)`` of counts ``(..., 10)`` over all pairs and of IL_MCC ``(...,)``.

    ``wrong`` are the false positives of pairs that have both truth and tracks.
    """
    f1 = _f1(hits / (hits + wrong + ROOM), hits / (hits + misses + ROOM))
    averaged = {f"{name}{suffix}": of[..., part].mean(-1) for name, of in (("cgF1", f1 * mcc[..., None]), ("pmF1", f1))
                for suffix, part in _AT.items()}  # fmt: skip
    return averaged | {"IL_MCC": mcc}


def _by_video(given: PhraseInput, values: Any) -> Any:
    """Sums of rows of pairs ``(pairs, n)`` by their video ``(videos, n)``."""
    return sums_by(given.units.video, values, len(given.truth.arrays.video_ids))


def _f1(precision: Floats, recall: Floats) -> Floats:
    return np.asarray(2 * precision * recall / (precision + recall + ROOM))


def _hits_per_unit(tp: Ints, fp: Ints, fn: Ints, known: Flags) -> dict[str, list[Any]]:
    """The official counts of every pair; F1 is 1 where there is no truth and no track."""
    total = 2 * tp + fp + fn
    f1 = np.where(total > 0, 2 * tp / np.maximum(total, 1), 1.0)
    out: dict[str, list[Any]] = {}
    for name, of in (("TP", tp), ("FP", fp), ("FN", fn), ("F1", f1)):
        for suffix, column in (("", of.mean(1)), ("_50", of[:, 0]), ("_75", of[:, 5])):
            out[f"{name}{suffix}"] = [v if k else None for v, k in zip(column.tolist(), known.tolist(), strict=True)]
    return out


# phrase AP


def _phrase_ap(given: PhraseInput, corrected: bool) -> _Part:
    """COCO's average precision over tracks, with every pair a separate video and one class for all."""
    truth, tracks, units = given.truth, given.tracks, given.units
    order = np.lexsort((np.arange(len(tracks.score)), -tracks.score, units.of_track))
    starts = np.searchsorted(units.of_track[order], np.arange(len(units) + 1))
    rank = np.arange(len(order)) - starts[units.of_track[order]]
    order, rank = order[rank < TRACKS_PER_PAIR], rank[rank < TRACKS_PER_PAIR]
    aborts = aborts_of_loading(given)
    if given.box:
        best = np.zeros(len(tracks.score), np.bool_)
        best[order] = True
        aborts |= aborts_of_boxes(given, best)
    aborts |= aborts_of_missing_fields(truth, ("iscrowd", "areas"))
    if aborts and not corrected:
        return _aborted(AP_METRICS, aborts)
    chosen = truths_with_boxes(given) if NO_BOX in aborts else given.chosen
    row = chosen.row
    crowd = truth.crowd[row]
    ignored = (crowd | EVERY_AREA.excludes(truth.mean_area[row]))[None, :]
    outside = EVERY_AREA.excludes(tracks.mean_area[order])[None, :]
    n_t, n_r = len(IOU_THRESHOLDS), len(RECALL_POINTS)
    positives, precision = np.zeros((1, 1), np.int64), np.zeros((n_t, n_r, 1, 1, 1))
    hits, misses = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64)
    score_categories(
        np.zeros(1, np.int64), np.array([0, len(units)]),
        np.searchsorted(units.of_track[order], np.arange(len(units) + 1)), chosen.first,
        tracks.overlaps.offset[order], given.iou, truth.arrays.local[row], ignored, crowd, truth.ids[row] == 0,
        tracks.score[order], np.argsort(-tracks.score[order], kind="stable"), rank, outside,
        np.array([TRACKS_PER_PAIR]), np.array([TRACKS_PER_PAIR]), IOU_THRESHOLDS, RECALL_POINTS, EPSILON, False,
        positives, precision, np.zeros((0,) * 5), np.zeros((n_t, 1, 1, 1)), hits, misses,
    )  # fmt: skip
    if not positives[0, 0]:
        return _nothing(AP_METRICS, "nothing is annotated that counts", aborts)
    at = {"pAP": slice(None), "pAP50": slice(0, 1), "pAP75": slice(5, 6)}
    return _Part({key: float(precision[one].mean()) for key, one in at.items()}, repairs=aborts)


# phrase HOTA


def _phrase_hota(given: PhraseInput, corrected: bool) -> _Part:
    """HOTA with every pair a sequence; tracks above 0.5 count, corrected those from 0.5 on."""
    truth, tracks, units = given.truth, given.tracks, given.units
    kept = tracks.score >= HARD_DECISION_SCORE if corrected else tracks.score > HARD_DECISION_SCORE
    aborts = aborts_of_hota(given, kept)
    if aborts and not corrected:
        return _aborted(HOTA_METRICS, aborts)
    if not kept.any() and not len(truth.ids):
        return _nothing(HOTA_METRICS, "nothing is annotated and nothing is kept", aborts)
    shown, there = frames_of_tracks(tracks, given.box, aborts), frames_of_truths(truth, given.box)
    track, track_first = by_unit(units, kept)
    row = np.argsort(units.of_truth, kind="stable")
    row_first = np.searchsorted(units.of_truth[row], np.arange(len(units) + 1))
    steps = truth.steps[units.video]
    n_g, n_d = np.diff(row_first), np.diff(track_first)
    columns = np.diff(tracks.overlaps.offset)
    similarity = tracks.overlaps.box_similarity if given.box else tracks.overlaps.similarity
    if OTHER_SIZES in aborts:
        similarity = np.maximum(similarity, 0)
    sequences = Sequences(
        np.where((n_g > 0) & (n_d > 0), steps, 0), row_first, row, identities(truth, units.of_truth, SAME_ID in aborts),
        truth.arrays.local, track_first, track, columns, tracks.overlaps.step_offset, similarity,
    )  # fmt: skip
    scores = hota_of_sequences(sequences, there, shown, SINGLE_LIMITS if given.box else LIMITS)
    seen_g = np.bincount(units.of_truth, there.count(truth.steps[truth.arrays.video]), len(units))
    counts = shown.count(truth.steps[tracks.video])
    seen_d = np.bincount(units.of_track[kept], counts[kept], len(units))
    alone = np.flatnonzero((n_g > 0) ^ (n_d > 0))  # the others are counted below
    scores.fn[alone] += seen_g[alone, None]
    scores.fp[alone] += seen_d[alone, None]
    used = (n_g > 0) | (n_d > 0)
    together = combine_rows(scores, np.flatnonzero(used)).values()
    values: dict[str, float | None] = {f"p{name}": float(together[name].mean()) for name in HOTA_NAMES}
    own, is_used = scores.values(), used.tolist()
    rows = {
        name: [v if k else None for v, k in zip(own[name].mean(1).tolist(), is_used, strict=True)]
        for name in HOTA_NAMES
    }
    falls = {}
    if not corrected:
        parts = HotaSums(*(_by_video(given, part * used[:, None]) for part in HotaSums.of(scores)))
        total = parts.over(slice(None))
        left = HotaSums(*(part[None] for part in total)).minus(parts).scores().values()
        about = _by_video(given, (n_g > 0)[:, None])[:, 0] > 0
        whole = total.scores().values()
        falls = {f"p{name}": _Falls(whole[name].mean() - left[name].mean(1), about) for name in HOTA_NAMES}
    return _Part(values, repairs=aborts, per_unit=rows, falls=falls)


# rows per pair and warnings


def _per_pair(given: PhraseInput, columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """One row for every pair that has a number, with what the official tools found there."""
    units, annotations = given.units, given.truth.arrays.annotations
    names = {category.id: category.name for category in annotations.categories} | units.names
    n_g = np.bincount(units.of_truth, minlength=len(units)).tolist()
    n_d = np.bincount(units.of_track[given.tracks.score >= HARD_DECISION_SCORE], minlength=len(units)).tolist()
    rows = []
    for u, (video, phrase) in enumerate(zip(units.video.tolist(), units.phrase.tolist(), strict=True)):
        listed = phrase in names and phrase not in units.names
        rows.append({
            "video_id": annotations.stated_video(int(given.truth.arrays.video_ids[video])),
            "category_id": annotations.stated_category(phrase) if listed else units.names.get(phrase, phrase),
            "phrase": names.get(phrase, ""),
            "asked": bool(units.asked[u]),
            "truths": n_g[u],
            "tracks_from_half": n_d[u],
            **{name: values[u] for name, values in columns.items()},
        })  # fmt: skip
    return rows


def _warn(given: PhraseInput, warnings: Warnings) -> None:
    """Count the quirks of truth and predictions."""
    truth, tracks, units = given.truth, given.tracks, given.units
    annotations = truth.arrays.annotations
    for note in annotations.notes:
        if note.field != "partition":
            warnings.add(note.kind, note.first, note.count)

    def count_tracks(kind: str, flags: Flags) -> None:
        if flags.any():
            warnings.add(kind, given.where(flags), int(flags.sum()))

    def count_truths(kind: str, flags: Flags) -> None:
        if flags.any():
            warnings.add(kind, given.where_truth(flags), int(flags.sum()))

    repeated = np.ones(len(truth.ids), np.bool_)
    repeated[np.unique(truth.ids, return_index=True)[1]] = False
    count_truths("annotation id repeated", repeated)
    count_truths("annotation id is 0", truth.ids == 0)
    length = np.diff(truth.arrays.masks.track)
    count_truths("annotation's number of frames differs from the video's", length != truth.steps[truth.arrays.video])
    owner = np.repeat(np.arange(len(truth.ids)), length)
    pixels = np.append(truth.arrays.area, 0)[truth.arrays.masks.frame_mask]
    count_truths("annotated track without any pixel", np.bincount(owner, pixels, len(truth.ids)) == 0)
    if truth.crowd.any():
        kind = "crowd annotation: ignored by cgF1 and AP, an object for phrase HOTA"
        warnings.tell(kind, given.where_truth(truth.crowd), int(truth.crowd.sum()))
    frames = np.diff(tracks.overlaps.frame_offset)
    count_tracks("number of frames differs from the video's", frames != truth.steps[tracks.video])
    owner = np.repeat(np.arange(len(frames)), frames)
    other = np.bincount(owner[tracks.overlaps.frames & HAS_OTHER_SIZE > 0], minlength=len(frames)) > 0
    count_tracks("mask size differs from the annotated masks'", other)
    half = tracks.score == HARD_DECISION_SCORE
    if half.any():
        kind = "score of exactly 0.5: kept by cgF1, left out by phrase HOTA"
        warnings.tell(kind, given.where(half), int(half.sum()))
    if annotations.pairs is None:
        return
    known = units.asked | (np.bincount(units.of_truth, minlength=len(units)) > 0)
    hard = tracks.score >= HARD_DECISION_SCORE
    with_hard = np.bincount(units.of_track[hard], minlength=len(units)) > 0
    count_tracks(UNASKED, hard & ~known[units.of_track])
    count_tracks(UNASKED_LOW, ~hard & ~(known | with_hard)[units.of_track])
    if len(units.of_pair) != int(units.asked.sum()):
        first = np.ones(len(units.of_pair), np.bool_)
        first[np.unique(units.of_pair, return_index=True)[1]] = False
        place = f"{truth.path}, video_np_pairs[{np.argmax(first)}]"
        warnings.add("pair repeated, counted once", place, int(first.sum()))
