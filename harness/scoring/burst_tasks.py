"""BURST's official tasks: HOTA, OWTA and track mAP, class guided, exemplar guided and open world.

The numbers are those of the benchmark's own tools (Athar et al., WACV 2023), with their quirks as flags; the corrected
numbers stand beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UserError, near
from harness.formats.burst import COMMON
from harness.scoring.burst_comparison import ClassVideo, by_class, steps, video_pairs
from harness.scoring.burst_tracks import (
    DISTRACTORS,
    Found,
    Images,
    Truth,
    class_table,
    place,
    read_predictions,
    read_truth,
)
from harness.scoring.hota import Floats, Hota, Step, combine, hota
from harness.scoring.track_map import track_map
from harness.warnings import Warnings

VERSION = "1"
GROUPS = ("all", "common", "uncommon")
NO_CLASS = {
    "all": "no class is annotated",
    "common": "no common class is annotated",
    "uncommon": "no uncommon class is annotated",
}
TASKS = ("burst-class-guided", "burst-exemplar-guided", "burst-open-world")
OBJECT = 1
"""The number of the only class of the open world, which is also that of the real class acorn."""


@dataclass(frozen=True, slots=True)
class BurstRules:
    """What the official tools do oddly; off is the repaired rule, given after the semicolon."""

    boxes_for_masks: bool = True
    """3.15 HOTA compares bounding boxes cut to whole pixels; it compares masks."""
    empty_masks_count: bool = True
    """3.16 Encoded empty masks count as predicted objects; they are left out."""
    track_zero_reusable: bool = True
    """3.17 A predicted track 0 does not block its truth in the track mAP; it does."""
    open_world_is_class_one: bool = True
    """3.18 In the open world everything obeys a video's flags for the real class 1; it obeys none."""


OFFICIAL = BurstRules()
CORRECTED = BurstRules(False, False, False, False)


@dataclass
class BurstScore:
    """The numbers of a task as fractions: official and corrected; ``classes`` has the arrays of ``metrics`` by class.

    With ``classes`` go two ways of taking all of them together: ``class averaged`` and ``detection averaged`` (counts
    of all classes pooled). In the open world ``classes`` is by pass (all, common, uncommon).
    """

    task: str
    metrics: dict[str, float | None]
    corrected: dict[str, float | None]
    classes: dict[str, dict[str, Any]]
    warnings: list[dict[str, Any]] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON."""
        return {
            "protocol": {"name": self.task, "version": VERSION},
            "metrics": self.metrics,
            "corrected": self.corrected,
            "undefined": {"metrics": _undefined(self.metrics), "corrected": _undefined(self.corrected)},
            "warnings": self.warnings,
        }


def _undefined(values: dict[str, float | None]) -> dict[str, str]:
    return {key: NO_CLASS[key.rpartition("_")[2]] for key, value in values.items() if value is None}


def evaluate(
    task: str, annotations: Path, predictions: Path, rules: BurstRules = OFFICIAL, strict: bool = False
) -> BurstScore:
    """Evaluate predictions in BURST's form against the folder of ``all_classes.json`` and its two siblings.

    ``metrics`` follow ``rules``, ``corrected`` follows `CORRECTED`. Raises `UserError` for an unknown task and faulty
    files, with ``strict`` also for what would be a warning.
    """
    if task not in TASKS:
        raise UserError(f'protocol "{task}"', "is unknown", near(task, TASKS))
    open_world, exemplar = task == "burst-open-world", task == "burst-exemplar-guided"
    groups = GROUPS if open_world else GROUPS[:1]
    truths = {group: read_truth(annotations / f"{group}_classes.json") for group in groups}
    found = read_predictions(predictions)
    warnings = Warnings(strict)
    if open_world:
        metrics, classes = _open_world(truths, found, rules, warnings)
        corrected, _ = _open_world(truths, found, CORRECTED, Warnings())
    else:
        metrics, classes = _guided(truths["all"], found, rules, exemplar, warnings)
        corrected, _ = _guided(truths["all"], found, CORRECTED, exemplar, Warnings())
    return BurstScore(task, metrics, corrected, classes, warnings.record())


Numbers = tuple[dict[str, float | None], dict[str, dict[str, Any]]]


def _guided(truth: Truth, found: Found, rules: BurstRules, exemplar: bool, warnings: Warnings) -> Numbers:
    parts = by_class(truth, place(truth, found, exemplar, rules.empty_masks_count, warnings))
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
        for key in ("HOTA", "DetA", "AssA"):
            metrics[f"{key}_{group}"] = _mean(classes[n]["HOTA"][key].mean() for n in members[group])
        metrics[f"AP_{group}"] = _mean(classes[n]["TrackMAP"]["AP_all"].mean() for n in members[group])
    return metrics, classes | (_together(list(classes.values()), scores) if classes else {})


def _together(classes: list[dict[str, Any]], scores: list[Hota]) -> dict[str, dict[str, Any]]:
    """All classes as one: values averaged over classes, or counts pooled; sets of tracks without truth left out."""
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


def _open_world(truths: dict[str, Truth], found: Found, rules: BurstRules, warnings: Warnings) -> Numbers:
    metrics: dict[str, float | None] = {}
    classes: dict[str, dict[str, Any]] = {}
    number = OBJECT if rules.open_world_is_class_one else None
    placed: dict[str, Images] = {}
    for group, truth in truths.items():
        # the three files list the same frames, so that predictions are usually placed once
        if group == "all" or truth.image_video != truths["all"].image_video:
            quiet = warnings if group == "all" else Warnings()
            placed = place(truth, found, False, rules.empty_masks_count, quiet)
        videos = [ClassVideo(v, v.truths, placed[name], {}) for name, v in sorted(truth.videos.items())]
        score, _ = _hota(videos, number, rules.boxes_for_masks, exemplar=False)
        values = score.values()
        classes[group] = {"object": {"HOTA": values, "Count": {}}}
        defined = any(part.truths for part in videos)
        for key in ("OWTA", "DetRe", "AssA"):
            metrics[f"{key}_{group}"] = float(values[key].mean()) if defined else None
    return metrics, classes


def _mean(values: Iterable[Any]) -> float | None:
    listed = [float(v) for v in values]
    return math.fsum(listed) / len(listed) if listed else None


def _hota(videos: list[ClassVideo], number: int | None, boxes: bool, exemplar: bool) -> tuple[Hota, dict[str, int]]:
    """HOTA over videos, and how many masks and tracks took part."""
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
