"""BURST's official tasks: HOTA, OWTA and track mAP, class guided, exemplar guided and open world.

The numbers are those of the benchmark's own tools (Athar et al., WACV 2023), with their quirks as flags. Corrected
numbers come with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.errors import OfficialAbortError, UserError, near
from harness.formats.burst import COMMON
from harness.scoring import BURST_TASKS
from harness.scoring.burst_comparison import ClassVideo, by_class, steps, video_pairs
from harness.scoring.burst_tracks import (
    DISTRACTORS,
    BurstPredictions,
    Exemplars,
    Images,
    Truth,
    assign_tracks,
    class_table,
    read_predictions,
    read_truth,
)
from harness.scoring.coverage import warn_of_burst_coverage
from harness.scoring.hota import Floats, Hota, Step, combine, hota
from harness.scoring.track_map import track_map
from harness.warnings import Warnings

VERSION = "2"
GROUPS = ("all", "common", "uncommon")
GUIDED_METRICS = ("HOTA", "DetA", "AssA", "AP")
OPEN_WORLD_METRICS = ("OWTA", "DetRe", "AssA")
NO_CLASS = {
    "all": "no class is annotated",
    "common": "no common class is annotated",
    "uncommon": "no uncommon class is annotated",
}
OBJECT = 1
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


OFFICIAL = BurstRules()
"""The benchmark's own tool, ``burstapi/eval/run.py``."""
TRACKEVAL = BurstRules(exemplar_ids_of_predictions=False)
"""TrackEval's ``scripts/run_burst.py``: differs for exemplar-guided tracks, by up to 100 points."""
CORRECTED = BurstRules(False, False, False, False, False, False, False)


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

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON."""
        return {
            "protocol": {"name": self.task, "version": VERSION},
            "metrics": self.metrics,
            "corrected": self.corrected,
            **({"trackeval": self.trackeval} if self.trackeval is not None else {}),
            "undefined": self.undefined,
            "warnings": self.warnings,
        }


def score_task(
    task: str, annotations: Path, predictions: Path, rules: BurstRules = OFFICIAL, strict: bool = False
) -> BurstScore:
    """Evaluate predictions in BURST's form against the folder of ``all_classes.json`` and the two files beside it.

    ``metrics`` follow ``rules``, ``corrected`` follows `CORRECTED`. Where a tool aborts on the content of the
    predictions its numbers are ``None`` with that reason. Raises `UserError` for an unknown task and faulty files, with
    ``strict`` also for what would be a warning and where the official tool aborts.
    """
    if task not in BURST_TASKS:
        raise UserError(f'protocol "{task}"', "is unknown", near(task, BURST_TASKS))
    groups = GROUPS if task == "burst-open-world" else GROUPS[:1]
    truths = {group: read_truth(annotations / f"{group}_classes.json") for group in groups}
    found = read_predictions(predictions, truths["all"].split)
    warnings = Warnings(strict)
    warn_of_burst_coverage(truths["all"], found, task == "burst-exemplar-guided", warnings)
    try:
        metrics = _numbers(task, truths, found, rules, warnings)
    except OfficialAbortError as error:
        if strict:
            raise
        metrics = _aborted(task, error)
    of_corrected = Warnings()
    corrected = _numbers(task, truths, found, CORRECTED, of_corrected)
    for kind, (count, first) in of_corrected.found.items():
        if kind not in warnings.found:
            warnings.add(kind, first, count)
    undefined = {"metrics": metrics.undefined, "corrected": corrected.undefined}
    trackeval = None
    if task == "burst-exemplar-guided":
        try:
            trackeval = _numbers(task, truths, found, TRACKEVAL, Warnings())
        except OfficialAbortError as error:
            trackeval = _aborted(task, error)
        undefined["trackeval"] = trackeval.undefined
    told = trackeval.values if trackeval is not None else None
    return BurstScore(task, metrics.values, corrected.values, metrics.classes, undefined, told, warnings.record())


class Numbers(NamedTuple):
    """Metrics, arrays by class, and why a metric is ``None``."""

    values: dict[str, float | None]
    classes: dict[str, dict[str, Any]]
    undefined: dict[str, str]


def _numbers(
    task: str, truths: dict[str, Truth], found: BurstPredictions, rules: BurstRules, warnings: Warnings
) -> Numbers:
    """The numbers by ``rules``; raises `OfficialAbortError` where the tool of these rules aborts."""
    by_name = task == "burst-exemplar-guided" and not rules.exemplar_ids_of_predictions
    unnamed = found.first_unnamed(truths["all"])
    if rules.aborts and unnamed is not None and not by_name:
        raise OfficialAbortError(unnamed, "has no category", "list it in track_category_ids")
    if task == "burst-open-world":
        values, classes = _open_world(truths, found, rules, warnings)
    else:
        values, classes = _guided(truths["all"], found, rules, task == "burst-exemplar-guided", warnings)
    undefined = {key: NO_CLASS[key.rpartition("_")[2]] for key, value in values.items() if value is None}
    return Numbers(values, classes, undefined)


def _aborted(task: str, error: OfficialAbortError) -> Numbers:
    names = OPEN_WORLD_METRICS if task == "burst-open-world" else GUIDED_METRICS
    keys = [f"{name}_{group}" for group in GROUPS for name in names]
    return Numbers(dict.fromkeys(keys), {}, dict.fromkeys(keys, f"the tool aborts: {error}"))


def _guided(
    truth: Truth, found: BurstPredictions, rules: BurstRules, exemplar: bool, warnings: Warnings
) -> tuple[dict[str, float | None], dict[str, dict[str, Any]]]:
    by_name = exemplar and not rules.exemplar_ids_of_predictions
    exemplars: Exemplars = "refuse unknown" if rules.aborts else "keep unknown"
    placed = assign_tracks(truth, found, exemplars if by_name else None, rules.empty_masks_count, warnings)
    classless = sum(i.category is None for images in placed.values() for items in images.values() for i in items)
    warnings.add("mask without a category, left out", found.first_unnamed(truth) or found.path, classless)
    parts = by_class(truth, placed, rules.frames_in_file_order)
    names = class_table()[0]
    for number in sorted(parts.keys() - names.keys()):
        masks = sum(len(items) for p in parts[number] for side in (p.truths, p.predictions) for items in side.values())
        warnings.add("mask of a class that LVIS 0.5 does not have, left out", f"{found.path}, class {number}", masks)
    classes: dict[str, dict[str, Any]] = {}
    scores: list[Hota] = []
    ids: dict[str, int] = {}
    for number, name in names.items():
        videos = parts.get(number, [])
        if number in DISTRACTORS or not any(part.truths for part in videos):
            continue
        ids[name] = number
        score, counts = _hota(videos, number, rules.boxes_for_masks, exemplar)
        scores.append(score)
        pairs = [pair for part in videos if (pair := video_pairs(part, number)) is not None]
        classes[name] = {
            "HOTA": score.values(),
            "TrackMAP": track_map(pairs, rules.track_zero_reusable),
            "Count": counts,
        }
    members = {
        "all": list(ids),
        "common": [n for n, i in ids.items() if i in COMMON],
        "uncommon": [n for n, i in ids.items() if i not in COMMON],
    }
    metrics: dict[str, float | None] = {}
    for group in GROUPS:
        for key in GUIDED_METRICS[:3]:
            metrics[f"{key}_{group}"] = _mean(classes[n]["HOTA"][key].mean() for n in members[group])
        metrics[f"AP_{group}"] = _mean(classes[n]["TrackMAP"]["AP_all"].mean() for n in members[group])
    return metrics, classes | (_together(list(classes.values()), scores) if classes else {})


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
    truths: dict[str, Truth], found: BurstPredictions, rules: BurstRules, warnings: Warnings
) -> tuple[dict[str, float | None], dict[str, dict[str, Any]]]:
    metrics: dict[str, float | None] = {}
    classes: dict[str, dict[str, Any]] = {}
    number = OBJECT if rules.open_world_is_class_one else None
    placed: dict[str, Images] = {}
    for group, truth in truths.items():
        # the three files list the same frames, so predictions are usually assigned once
        if group == "all" or truth.image_video != truths["all"].image_video:
            quiet = warnings if group == "all" else Warnings()
            placed = assign_tracks(truth, found, None, rules.empty_masks_count, quiet)
        videos = [ClassVideo(v, v.truths, placed[name], {}) for name, v in sorted(truth.videos.items())]
        score, _ = _hota(videos, number, rules.boxes_for_masks, exemplar=False)
        values = score.values()
        classes[group] = {"object": {"HOTA": values, "Count": {}}}
        defined = any(part.truths for part in videos)
        for key in OPEN_WORLD_METRICS:
            metrics[f"{key}_{group}"] = float(values[key].mean()) if defined else None
    return metrics, classes


def _mean(values: Iterable[Any]) -> float | None:
    listed = [float(v) for v in values]
    return math.fsum(listed) / len(listed) if listed else None


def _hota(videos: list[ClassVideo], number: int | None, boxes: bool, exemplar: bool) -> tuple[Hota, dict[str, int]]:
    """HOTA over videos, and how many masks and tracks counted."""
    parts = []
    counts = dict.fromkeys(("Dets", "GT_Dets", "IDs", "GT_IDs"), 0)
    for video, truths, predictions, _ in videos:
        listed = steps(video, truths, predictions, number, boxes, exemplar)
        parts.append(hota(listed))
        for key, ids in (("", _ids(listed, "predictions")), ("GT_", _ids(listed, "truths"))):
            counts[f"{key}Dets"] += len(ids)
            counts[f"{key}IDs"] += len(set(ids))
    return combine(parts), counts


def _ids(listed: list[Step], side: str) -> list[int]:
    return [number for step in listed for number in getattr(step, side).tolist()]
