"""BURST's official tasks: HOTA, OWTA and track mAP, class guided, exemplar guided and open world.

The numbers are those of the benchmark's own tools (Athar et al., WACV 2023), with their quirks as flags. Corrected
numbers come with them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.arrays import Floats, Ints
from harness.errors import OfficialAbortError, UserError, near
from harness.formats.burst import COMMON, SequenceReader
from harness.scoring import BURST_TASKS
from harness.scoring.burst_comparison import ChosenClasses, frame_units, orders_of, similarities, track_pairs
from harness.scoring.burst_tracks import (
    DISTRACTORS,
    NO_CLASS,
    BurstPredictions,
    BurstSequences,
    BurstTruth,
    BurstVideo,
    ClassNumbers,
    CountedMasks,
    Exemplars,
    assign_tracks,
    class_table,
    read_burst_predictions,
    read_burst_truth,
    shared_masks,
)
from harness.scoring.coverage import warn_of_burst_coverage
from harness.scoring.frame_hota import UnitScores, hota_of_units
from harness.scoring.hota import Hota, combine, combine_rows
from harness.scoring.track_map import track_map
from harness.warnings import Warnings

BURST_VERSION = "2"
OPEN_WORLD, EXEMPLAR_GUIDED = "burst-open-world", "burst-exemplar-guided"
BURST_GROUPS = ("all", "common", "uncommon")
GUIDED_METRICS = ("HOTA", "DetA", "AssA", "AP")
OPEN_WORLD_METRICS = ("OWTA", "DetRe", "AssA")
NO_TRUTH = {
    "all": "no class is annotated",
    "common": "no common class is annotated",
    "uncommon": "no uncommon class is annotated",
}
OPEN_WORLD_CLASS = 1
"""The number of the only class of the open world, which is also that of the class acorn."""


@dataclass(frozen=True, slots=True)
class BurstRules:
    """Quirks of the official tools; off is the corrected rule, given after the semicolon."""

    boxes_for_masks: bool = True
    """3.15 HOTA compares bounding boxes cut to whole pixels; it compares masks."""
    empty_masks_count: bool = True
    """3.16 Encoded empty masks count as predicted objects; they are left out."""
    track_zero_reusable: bool = True
    """3.17 A predicted track 0 does not block its truth in the track mAP; it does."""
    open_world_is_class_one: bool = True
    """3.18 In the open world a video's flags for class 1 apply to every object; none apply."""
    exemplar_ids_of_predictions: bool = True
    """Exemplar guided: a predicted track keeps its own id and class; it has those of its exemplar."""
    frames_in_file_order: bool = True
    """A track's class is that of the first mask in the file, and tracks rank as the file lists its frames; frames are
    taken by their number."""
    aborts: bool = True
    """A track without a class, or (exemplar guided) one that is not an exemplar, aborts the evaluation; the first is
    left out, or counted in the open world, the second keeps its own id and class."""


OFFICIAL_RULES = BurstRules()
"""The benchmark's own tool, ``burstapi/eval/run.py``."""
TRACKEVAL = BurstRules(exemplar_ids_of_predictions=False)
"""TrackEval's ``scripts/run_burst.py``: differs for exemplar-guided tracks, by up to 100 points."""
CORRECTED_RULES = BurstRules(False, False, False, False, False, False, False)


@dataclass
class BurstScore:
    """The numbers of a task as fractions: official and corrected; ``classes`` has the arrays of ``metrics`` by class.

    ``trackeval`` has TrackEval's numbers, only for the exemplar-guided task: elsewhere they are the official ones.
    ``undefined`` says by object (``metrics``, ...) and metric why a number is ``None``. ``classes`` also has two
    summaries over all classes: ``class averaged`` and ``detection averaged`` (counts of all classes pooled).
    In the open world ``classes`` is by pass (all, common, uncommon).
    """

    task: str
    metrics: dict[str, float | None]
    corrected: dict[str, float | None]
    classes: dict[str, dict[str, Any]]
    undefined: dict[str, dict[str, str]]
    trackeval: dict[str, float | None] | None = None
    warnings: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """The numbers of predicted tracks, and of annotated objects and sequences, distractors left out."""

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON."""
        return {
            "protocol": {"name": self.task, "version": BURST_VERSION},
            "metrics": self.metrics,
            "corrected": self.corrected,
            **({"trackeval": self.trackeval} if self.trackeval is not None else {}),
            "undefined": self.undefined,
            "warnings": self.warnings,
            "counts": self.counts,
            "slices": {},
        }


def score_task(
    task: str, annotations: Path, predictions: Path, rules: BurstRules = OFFICIAL_RULES, strict: bool = False
) -> BurstScore:
    """Evaluate predictions in BURST's form against the folder of ``all_classes.json`` and the two files next to it.

    ``metrics`` follow ``rules``, ``corrected`` follows `CORRECTED_RULES`. Where a tool aborts on the content of the
    predictions its numbers are ``None`` with that reason. Raises `UserError` for an unknown task and faulty files, with
    ``strict`` also for what would be a warning and where the official tool aborts.
    """
    return _score(task, _read([task], annotations, predictions), rules, strict)


Opener = Callable[[BurstTruth], BurstSequences]
"""Opens predictions for a truth; more than once where they are read again."""


def score_tasks(
    tasks: Sequence[str],
    annotations: Path,
    predictions: Path | Opener,
    strict: bool = False,
    videos: Iterable[int] | None = None,
) -> dict[str, BurstScore | UserError]:
    """Evaluate several tasks, each as by itself, or the `UserError` with which it refuses; predictions are read once.

    They are a file in BURST's form, or what opens them. They are read for every task where the files that only one task
    needs cannot be used. ``videos`` are the ids of the sequences whose truth counts; ``None``: all.
    """
    data: _Data | None = None
    chosen = None if videos is None else frozenset(videos)
    try:
        data = _read(tasks, annotations, predictions, chosen) if len(tasks) > 1 else None
    except UserError:
        data = None
    outcomes: dict[str, BurstScore | UserError] = {}
    for task in tasks:
        try:
            read = data or _read([task], annotations, predictions, chosen)
            outcomes[task] = _score(task, read, OFFICIAL_RULES, strict)
        except UserError as error:
            outcomes[task] = error
    return outcomes


class _Data(NamedTuple):
    """The annotations by group, and the predictions, which are overlapped with all of them."""

    truths: dict[str, BurstTruth]
    found: BurstPredictions


def annotation_files(tasks: Iterable[str], folder: Path) -> list[Path]:
    """The files of a folder of BURST's annotations that these tasks read, the one of all classes first."""
    return [folder / f"{group}_classes.json" for group in (BURST_GROUPS if OPEN_WORLD in tasks else BURST_GROUPS[:1])]


def _read(
    tasks: Sequence[str], annotations: Path, predictions: Path | Opener, chosen: frozenset[int] | None = None
) -> _Data:
    """What the tasks compare. Raises `UserError` for an unknown task and faulty files."""
    for task in tasks:
        if task not in BURST_TASKS:
            raise UserError(f'protocol "{task}"', "is unknown", near(task, BURST_TASKS))
    classes = ClassNumbers()
    files = annotation_files(tasks, annotations)
    truths = {group: read_burst_truth(file, classes, chosen) for group, file in zip(BURST_GROUPS, files, strict=False)}
    shared = shared_masks(list(truths.values()))
    truths = {group: truth.without_texts() for group, truth in truths.items()}
    every = truths["all"]
    found = SequenceReader(predictions, every.split) if isinstance(predictions, Path) else predictions(every)
    return _Data(truths, read_burst_predictions(found, list(truths.values()), shared))


def _score(task: str, data: _Data, rules: BurstRules, strict: bool) -> BurstScore:
    """The numbers of a task; raises `UserError` as `score_task`."""
    truths, found = data
    warnings = Warnings(strict)
    warn_of_burst_coverage(truths["all"], found, task == EXEMPLAR_GUIDED, warnings)
    try:
        metrics = _numbers(task, truths, found, rules, warnings)
    except OfficialAbortError as error:
        if strict:
            raise
        metrics = _aborted(task, error)
    of_corrected = Warnings()
    corrected = _numbers(task, truths, found, CORRECTED_RULES, of_corrected)
    for kind, (count, first) in of_corrected.found.items():
        if kind not in warnings.found:
            warnings.add(kind, first, count)
    undefined = {"metrics": metrics.undefined, "corrected": corrected.undefined}
    trackeval = None
    if task == EXEMPLAR_GUIDED:
        try:
            trackeval = _numbers(task, truths, found, TRACKEVAL, Warnings())
        except OfficialAbortError as error:
            trackeval = _aborted(task, error)
        undefined["trackeval"] = trackeval.undefined
    official_values = trackeval.values if trackeval is not None else None
    truth = truths["all"]
    counts = {"tracks": len(found.track), "truths": len(truth.tracks.seen), "videos": len(truth.videos)}
    return BurstScore(
        task, metrics.values, corrected.values, metrics.classes, undefined, official_values, warnings.record(), counts
    )


class Numbers(NamedTuple):
    """Metrics, arrays by class, and why a metric is ``None``."""

    values: dict[str, float | None]
    classes: dict[str, dict[str, Any]]
    undefined: dict[str, str]


def _numbers(
    task: str, truths: dict[str, BurstTruth], found: BurstPredictions, rules: BurstRules, warnings: Warnings
) -> Numbers:
    """The numbers by ``rules``; raises `OfficialAbortError` where the tool of these rules aborts."""
    by_name = task == EXEMPLAR_GUIDED and not rules.exemplar_ids_of_predictions
    unnamed = found.first_unnamed()
    if rules.aborts and unnamed is not None and not by_name:
        raise OfficialAbortError(unnamed, "has no category", "list it in track_category_ids")
    if task == OPEN_WORLD:
        values, classes = _open_world(truths, found, rules, warnings)
    else:
        values, classes = _guided(truths["all"], found, rules, task == EXEMPLAR_GUIDED, warnings)
    undefined = {key: NO_TRUTH[key.rpartition("_")[2]] for key, value in values.items() if value is None}
    return Numbers(values, classes, undefined)


def metric_names(task: str) -> list[str]:
    """The names of a task's metrics."""
    names = OPEN_WORLD_METRICS if task == OPEN_WORLD else GUIDED_METRICS
    return [f"{name}_{group}" for group in BURST_GROUPS for name in names]


def _aborted(task: str, error: OfficialAbortError) -> Numbers:
    keys = metric_names(task)
    return Numbers(dict.fromkeys(keys), {}, dict.fromkeys(keys, f"the tool aborts: {error}"))


def _guided(
    truth: BurstTruth, found: BurstPredictions, rules: BurstRules, exemplar: bool, warnings: Warnings
) -> tuple[dict[str, float | None], dict[str, dict[str, Any]]]:
    by_name = exemplar and not rules.exemplar_ids_of_predictions
    exemplars: Exemplars = "refuse unknown" if rules.aborts else "keep unknown"
    placed = assign_tracks(truth, 0, found, exemplars if by_name else None, rules.empty_masks_count, warnings)
    names, listed = class_table()[0], truth.classes.listed()
    _warn_of_classes(truth, found, placed, warnings)
    annotated = {listed[at] for at in np.unique(truth.category).tolist()}
    ids = {name: number for number, name in names.items() if number in annotated - DISTRACTORS}
    numbers = list(ids.values())
    rank = np.full(len(listed) + 1, -1, np.int64)
    rank[[truth.classes.position(number) for number in numbers]] = np.arange(len(numbers))
    chosen = ChosenClasses(rank, len(numbers))

    def negative(number: int, video: BurstVideo) -> bool:
        return numbers[number] in video.negative

    def exhaustive(number: int, video: BurstVideo) -> bool:
        return numbers[number] not in video.not_exhaustive

    def known(number: int, video: BurstVideo) -> bool:
        return exemplar or (negative(number, video) and exhaustive(number, video))

    def all_count(number: int, video: BurstVideo) -> bool:
        return exemplar or exhaustive(number, video)

    units, of_unit = frame_units(truth, found.truths.number[0], placed, chosen, known, all_count)
    scores = hota_of_units(units, similarities(found, rules.boxes_for_masks), len(found.truths.masks.area))
    orders = orders_of(truth, placed, rules.frames_in_file_order)
    pairs = track_pairs(truth, found, placed, orders, chosen, negative, exhaustive)
    of_tracks = track_map(pairs, rules.track_zero_reusable)
    first = np.searchsorted(of_unit, np.arange(len(numbers) + 1))
    by_class = [_combined(scores, np.arange(a, b)) for a, b in itertools.pairwise(first.tolist())]
    classes: dict[str, dict[str, Any]] = {
        name: {"HOTA": score.values(), "TrackMAP": of_tracks[at], "Count": counts}
        for at, (name, (score, counts)) in enumerate(zip(ids, by_class, strict=True))
    }
    members = {
        "all": list(ids),
        "common": [n for n, i in ids.items() if i in COMMON],
        "uncommon": [n for n, i in ids.items() if i not in COMMON],
    }
    metrics: dict[str, float | None] = {}
    for group in BURST_GROUPS:
        for key in GUIDED_METRICS[:3]:
            metrics[f"{key}_{group}"] = _mean(classes[n]["HOTA"][key].mean() for n in members[group])
        metrics[f"AP_{group}"] = _mean(classes[n]["TrackMAP"]["AP_all"].mean() for n in members[group])
    pooled = [score for score, _ in by_class]
    return metrics, classes | (_together(list(classes.values()), pooled) if classes else {})


def _warn_of_classes(truth: BurstTruth, found: BurstPredictions, placed: CountedMasks, warnings: Warnings) -> None:
    """Count the masks that have no class, and those of classes that no table knows."""
    classless = int((placed.category == NO_CLASS).sum())
    warnings.add("mask without a category, left out", found.first_unnamed() or found.path, classless)
    names, listed = class_table()[0], truth.classes.listed()
    present = np.concatenate([truth.category, placed.category[placed.category != NO_CLASS]])
    counts = np.bincount(present, minlength=len(listed)).tolist()
    for number, count in sorted(zip(listed, counts, strict=True)):
        if count and number not in names:
            where = f"{found.path}, class {number}"
            warnings.add("mask of a class that LVIS 0.5 does not have, left out", where, count)


def _together(classes: list[dict[str, Any]], scores: list[Hota]) -> dict[str, dict[str, Any]]:
    """All classes together: values averaged over classes, or counts pooled; sets of tracks without truth left out."""
    pooled = combine(scores).values()
    averaged = {key: np.mean([c["HOTA"][key] for c in classes], axis=0) for key in pooled}
    averaged |= {key: pooled[key] for key in ("HOTA_TP", "HOTA_FN", "HOTA_FP")}
    tracks: dict[str, Floats | None] = {}
    for key in classes[0]["TrackMAP"]:
        defined = [c["TrackMAP"][key] for c in classes if c["TrackMAP"][key] is not None]
        tracks[key] = np.mean(defined, axis=0) if defined else None
    counts = {key: sum(c["Count"][key] for c in classes) for key in classes[0]["Count"]}
    return {
        "class averaged": {"HOTA": averaged, "TrackMAP": tracks, "Count": counts},
        "detection averaged": {"HOTA": pooled, "TrackMAP": tracks, "Count": counts},
    }


def _open_world(
    truths: dict[str, BurstTruth], found: BurstPredictions, rules: BurstRules, warnings: Warnings
) -> tuple[dict[str, float | None], dict[str, dict[str, Any]]]:
    metrics: dict[str, float | None] = {}
    classes: dict[str, dict[str, Any]] = {}
    number = OPEN_WORLD_CLASS if rules.open_world_is_class_one else None
    similar = similarities(found, rules.boxes_for_masks)
    placed: CountedMasks | None = None

    def exhaustive(_: int, video: BurstVideo) -> bool:
        return number not in video.not_exhaustive

    for at, (group, truth) in enumerate(truths.items()):
        # the three files list the same frames, so predictions are usually assigned once
        if placed is None or truth.frame_of != truths["all"].frame_of:
            quiet = warnings if group == "all" else Warnings()
            placed = assign_tracks(truth, at, found, None, rules.empty_masks_count, quiet)
        every = ChosenClasses(np.zeros(len(truth.classes.listed()) + 1, np.int64), 1)
        # every frame that takes part has an annotated object
        units, _ = frame_units(truth, found.truths.number[at], placed, every, exhaustive, exhaustive)
        scores = hota_of_units(units, similar, len(found.truths.masks.area))
        values = _combined(scores, np.arange(len(scores.counts)))[0].values()
        classes[group] = {"object": {"HOTA": values, "Count": {}}}
        for key in OPEN_WORLD_METRICS:
            metrics[f"{key}_{group}"] = float(values[key].mean()) if len(truth.frame) else None
    return metrics, classes


def _mean(values: Iterable[Any]) -> float | None:
    listed = [float(v) for v in values]
    return math.fsum(listed) / len(listed) if listed else None


def _combined(scores: UnitScores, units: Ints) -> tuple[Hota, dict[str, int]]:
    """HOTA over some units, and how many masks and tracks counted."""
    counts = scores.counts[units].sum(0).tolist()
    return combine_rows(scores.hota, units), dict(zip(("Dets", "GT_Dets", "IDs", "GT_IDs"), counts, strict=True))
