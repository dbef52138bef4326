"""BURST's official tasks: HOTA, OWTA and track mAP, class guided, exemplar guided and open world.

The numbers are those of the benchmark's own tools (Athar et al., WACV 2023), with their quirks as flags; the corrected
numbers stand beside them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment

from harness.errors import UserError, near
from harness.formats.burst import COMMON
from harness.scoring.burst_tracks import DISTRACTORS, Item, Truth, Video, add_predictions, class_table, read_truth
from harness.scoring.hota import EPSILON, Floats, Hota, Step, combine, hota
from harness.scoring.track_map import Tracks, VideoPairs, track_map
from harness.warnings import Warnings

VERSION = "1"
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
    """The numbers of a task as fractions: official and corrected; ``classes`` has the official arrays by class.

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
    return {key: f"no annotated {key.rpartition('_')[2]} class" for key, value in values.items() if value is None}


def evaluate(task: str, annotations: Path, predictions: Path, strict: bool = False) -> BurstScore:
    """Evaluate predictions in BURST's form against the folder of ``all_classes.json`` and its two siblings.

    Raises `UserError` for an unknown task and faulty files.
    """
    if task not in TASKS:
        raise UserError(f'protocol "{task}"', "is unknown", near(task, TASKS))
    warnings = Warnings(strict)
    run = _open_world if task == "burst-open-world" else _guided
    exemplar = task == "burst-exemplar-guided"
    metrics, classes = run(annotations, predictions, OFFICIAL, exemplar, warnings)
    corrected, _ = run(annotations, predictions, CORRECTED, exemplar, Warnings())
    return BurstScore(task, metrics, corrected, classes, warnings.record())


Numbers = tuple[dict[str, float | None], dict[str, dict[str, Any]]]


def _guided(folder: Path, predictions: Path, rules: BurstRules, exemplar: bool, warnings: Warnings) -> Numbers:
    truth = read_truth(folder / "all_classes.json")
    add_predictions(truth, predictions, exemplar, rules.empty_masks_count, warnings)
    by_class = _by_class(truth)
    classes: dict[str, dict[str, Any]] = {}
    scores: list[Hota] = []
    ids: dict[str, int] = {}
    for number, name in class_table()[0].items():
        videos = by_class.get(number, [])
        if number in DISTRACTORS or not any(truths for _, truths, _ in videos):
            continue
        ids[name] = number
        score, counts = _hota(videos, number, rules, exemplar)
        scores.append(score)
        pairs = [pair for v, g, p in videos if (pair := _video_pairs(v, g, p, number)) is not None]
        classes[name] = {
            "HOTA": score.values(),
            "TrackMAP": track_map(pairs, rules.track_zero_reusable),
            "Count": counts,
        }
    groups = {
        "all": list(ids),
        "common": [n for n, i in ids.items() if i in COMMON],
        "uncommon": [n for n, i in ids.items() if i not in COMMON],
    }
    metrics: dict[str, float | None] = {}
    for group, names in groups.items():
        for key in ("HOTA", "DetA", "AssA"):
            metrics[f"{key}_{group}"] = _mean(classes[n]["HOTA"][key].mean() for n in names)
        metrics[f"AP_{group}"] = _mean(classes[n]["TrackMAP"]["AP_all"].mean() for n in names)
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


def _open_world(folder: Path, predictions: Path, rules: BurstRules, exemplar: bool, warnings: Warnings) -> Numbers:
    metrics: dict[str, float | None] = {}
    classes: dict[str, dict[str, Any]] = {}
    for group in ("all", "common", "uncommon"):
        truth = read_truth(folder / f"{group}_classes.json")
        quiet = warnings if group == "all" else Warnings()
        add_predictions(truth, predictions, exemplar, rules.empty_masks_count, quiet)
        videos = [(v, _flat(v.truths), _flat(v.predictions)) for _, v in sorted(truth.videos.items())]
        number = OBJECT if rules.open_world_is_class_one else None
        score, _ = _hota(videos, number, rules, exemplar)
        values = score.values()
        defined = any(truths for _, truths, _ in videos)
        classes[group] = {"object": {"HOTA": values, "Count": {}}}
        for key in ("OWTA", "DetRe", "AssA"):
            metrics[f"{key}_{group}"] = float(values[key].mean()) if defined else None
    return metrics, classes


def _mean(values: Iterable[Any]) -> float | None:
    listed = [float(v) for v in values]
    return math.fsum(listed) / len(listed) if listed else None


Masks = list[tuple[str, Item]]
"""Masks with their images, in the order in which they were read."""


def _flat(images: dict[str, list[Item]]) -> Masks:
    return [(image, item) for image, items in images.items() for item in items]


def _by_class(truth: Truth) -> dict[int, list[tuple[Video, Masks, Masks]]]:
    """Videos by ascending name with their masks of each class that has any there."""
    out: dict[int, list[tuple[Video, Masks, Masks]]] = defaultdict(list)
    for _, video in sorted(truth.videos.items()):
        truths, predictions = _split(video.truths), _split(video.predictions)
        for number in sorted(truths.keys() | predictions.keys()):
            out[number].append((video, truths.get(number, []), predictions.get(number, [])))
    return out


def _split(images: dict[str, list[Item]]) -> dict[int, Masks]:
    out: dict[int, Masks] = defaultdict(list)
    for image, item in _flat(images):
        out[item.category].append((image, item))
    return out


def _hota(
    videos: list[tuple[Video, Masks, Masks]], number: int | None, rules: BurstRules, exemplar: bool
) -> tuple[Hota, dict[str, int]]:
    parts = []
    counts = dict.fromkeys(("Dets", "GT_Dets", "IDs", "GT_IDs"), 0)
    for video, truths, predictions in videos:
        steps = _steps(video, truths, predictions, number, rules, exemplar)
        parts.append(hota(steps))
        for key, ids in (("", [s.predictions for s in steps]), ("GT_", [s.truths for s in steps])):
            joined = np.concatenate([np.empty(0, np.int64), *ids])
            counts[f"{key}Dets"] += len(joined)
            counts[f"{key}IDs"] += len(np.unique(joined))
    return combine(parts), counts


def _steps(
    video: Video, truths: Masks, predictions: Masks, number: int | None, rules: BurstRules, exemplar: bool
) -> list[Step]:
    """The time steps of a video for one class: images with any annotated object, in order; see protocol 6.2."""
    by_image: tuple[dict[str, list[Item]], dict[str, list[Item]]] = (defaultdict(list), defaultdict(list))
    for side, masks in zip(by_image, (truths, predictions), strict=True):
        for image, item in masks:
            side[image].append(item)
    steps = []
    for image in video.frames:
        if not video.truths.get(image):
            continue
        g, p = by_image[0].get(image, []), by_image[1].get(image, [])
        similarity = _similarity(g, p, video.size, rules.boxes_for_masks)
        keep = np.ones(len(p), np.bool_)
        if exemplar:
            pass  # every prediction names its exemplar
        elif not g and number not in video.negative:
            keep[:] = False
        elif number in video.not_exhaustive:
            keep[:] = False
            if g and p:
                sure = np.where(similarity < 0.5 - EPSILON, 0.0, similarity)
                rows, columns = linear_sum_assignment(-sure)
                keep[columns[sure[rows, columns] > EPSILON]] = True
        ids = np.array([i.track for i in p], np.int64)
        steps.append(Step(np.array([i.track for i in g], np.int64), ids[keep], similarity[:, keep]))
    return steps


def _similarity(g: list[Item], p: list[Item], size: tuple[int, int], boxes: bool) -> Floats:
    """IoU of masks, or of their boxes cut to whole pixels, ``(truths, predictions)``."""
    if not g or not p:
        return np.zeros((len(g), len(p)))
    encoded = [[{"size": list(size), "counts": i.counts} for i in side] for side in (g, p)]
    if not boxes:
        return np.asarray(coco.iou(encoded[0], encoded[1], [0] * len(p)), np.float64).reshape(len(g), len(p))
    a, b = (np.trunc(np.asarray(coco.toBbox(side), np.float64)) for side in encoded)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    union = a[:, None, 2:].prod(-1) + b[None, :, 2:].prod(-1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > EPSILON))


def _video_pairs(video: Video, truths: Masks, predictions: Masks, number: int) -> VideoPairs | None:
    """Whole tracks of a class in a video; predictions only where the class is known to be present or absent."""
    positive = bool(truths)
    wanted = _tracks(truths)
    found = _predicted_tracks(video, number) if positive or number in video.negative else {}
    if not wanted and not found:
        return None
    iou = np.array([[_track_iou(p, g, video.size) for g in wanted.values()] for p in found.values()])
    scores = np.array([np.mean([i.score for i in items.values()]) for items in found.values()])
    return VideoPairs(
        _describe(wanted), _describe(found), scores, iou.reshape(len(found), len(wanted)),
        number not in video.not_exhaustive,
    )  # fmt: skip


Track = dict[str, Item]


def _tracks(masks: Masks) -> dict[int, Track]:
    out: dict[int, Track] = {}
    for image, item in masks:
        out.setdefault(item.track, {})[image] = item
    return out


def _predicted_tracks(video: Video, number: int) -> dict[int, Track]:
    """Predicted tracks whose first mask is of the class, with all their masks."""
    ordered = [(image, item) for image in video.frames for item in video.predictions.get(image, [])]
    return {t: track for t, track in _tracks(ordered).items() if next(iter(track.values())).category == number}


def _describe(tracks: dict[int, Track]) -> Tracks:
    return Tracks(
        np.array(list(tracks), np.int64),
        np.array([np.mean([i.area for i in track.values()]) for track in tracks.values()]),
        np.array([float(len(track)) for track in tracks.values()]),
    )


def _track_iou(prediction: Track, truth: Track, size: tuple[int, int]) -> float:
    intersection = union = 0
    for image in prediction.keys() | truth.keys():
        p, g = prediction.get(image), truth.get(image)
        if p is not None and g is not None:
            masks = [{"size": list(size), "counts": i.counts} for i in (p, g)]
            shared = int(coco.area(coco.merge(masks, intersect=True)))
            intersection += shared
            union += p.area + g.area - shared
        else:
            union += (p or g).area  # type: ignore[union-attr]
    return intersection / union if union else 0.0
