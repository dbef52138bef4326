"""TETA of a predictions file or store: official numbers, which depend on the order of the categories, and corrected
ones.

``teta`` takes the truth as exhaustive, ``teta-tao`` as federated (TAO); both take YouTube-VIS and COCO-video form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.arrays import Flags, Floats, Ints
from harness.errors import OfficialAbortError, UserError, near
from harness.formats.coco_video import CocoVideo, read_coco_video
from harness.formats.youtube_vis import Annotations, read_annotations
from harness.scoring import TETA_TASKS
from harness.scoring.coverage import NO_PREDICTION, warn_of_empty_videos
from harness.scoring.frame_objects import ObjectOverlaps, concatenate_objects, grouped, pairs_of
from harness.scoring.overlap import GroundTruthArrays
from harness.scoring.shard_reader import ShardReader
from harness.scoring.teta import TETA_METRICS, Steps, TetaCounts, average, class_values, count_steps
from harness.scoring.teta_inputs import (
    Aborts,
    TetaPredictions,
    TetaScene,
    coco_video_predictions,
    coco_video_scene,
    store_predictions,
    youtube_vis_predictions,
    youtube_vis_scene,
)
from harness.warnings import Warnings

TETA_VERSION = "1"
BOX = "_box"
ALL_METRICS = tuple(f"{name}{suffix}" for suffix in ("", BOX) for name in TETA_METRICS)
_SAME_FOLDER = "video whose frames are in the folder of a later video, left out"
_SAME_NAME = "category name repeated: the official tool takes them for one"
TWICE = "track with two objects in a frame, the later one left out in corrected"
_NO_OBJECT = "no annotated object"
_NO_MASKS = "there are no masks; see the numbers of boxes"


@dataclass(frozen=True)
class TetaScore:
    """The ten metrics as fractions on masks, and with the suffix ``_box`` on boxes: official and corrected.

    ``undefined`` says by object (``metrics``, ``corrected``) and metric why a number is ``None``. ``score_threshold``
    is the least score that counts, ``None`` where all do.
    """

    protocol: str
    score_threshold: float | None
    metrics: dict[str, float | None]
    corrected: dict[str, float | None]
    undefined: dict[str, dict[str, str]]
    warnings: list[dict[str, Any]]
    counts: dict[str, int]
    slices: dict[str, Any]
    per_category: list[dict[str, Any]]

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON."""
        return {
            "protocol": {"name": self.protocol, "version": TETA_VERSION, "score_threshold": self.score_threshold},
            "metrics": self.metrics,
            "corrected": self.corrected,
            "undefined": self.undefined,
            "warnings": self.warnings,
            "counts": self.counts,
            "slices": self.slices,
        }


def read_teta_truth(path: Path) -> Annotations | CocoVideo:
    """Read an annotation file in YouTube-VIS form, BURST's form or COCO-video form."""
    return read_coco_video(path) or read_annotations(path)


def check_frames_of(annotations: Annotations) -> None:
    """Raise the `UserError` that scoring any predictions would end with, where the annotations alone decide it."""
    youtube_vis_scene(GroundTruthArrays(annotations))


def score_teta(
    protocol: str,
    truth: Annotations | CocoVideo,
    predictions: ShardReader | Path,
    strict: bool = False,
    videos: Iterable[int] | None = None,
) -> TetaScore:
    """Score predictions in the form of the truth, or a prediction store; ``videos`` restricts both to these ids.

    Where the official tool aborts on content its numbers are ``None`` with that reason; with ``strict`` that is an
    error, and so is every warning. Raises `UserError` for an unknown protocol and faulty files.
    """
    if protocol not in TETA_TASKS:
        raise UserError(f'protocol "{protocol}"', "is unknown", near(protocol, TETA_TASKS))
    federated = protocol == "teta-tao"
    warnings, aborts = Warnings(strict), Aborts()
    if isinstance(truth, CocoVideo):
        if isinstance(predictions, ShardReader):
            hint = "score its export against the file, or run on annotations in YouTube-VIS form"
            raise UserError(truth.path, "is in COCO-video form, the predictions are a store of tracks", hint)
        if videos is not None:
            raise UserError(truth.path, "is in COCO-video form", "score all of its videos")
        scene = coco_video_scene(truth, federated)
        found = coco_video_predictions(truth, scene, predictions, federated, warnings, aborts)
        video_of = {image.id: image.video_id for image in truth.images}
        tracks = len({(video_of[one.image_id], one.track) for one in truth.annotations})
        for at in np.flatnonzero(~found.videos).tolist():
            warnings.add(NO_PREDICTION, f"{truth.path}, video {truth.videos[at].id}")
    else:
        arrays = GroundTruthArrays(truth if videos is None else truth.restrict(videos))
        scene = youtube_vis_scene(arrays)
        if isinstance(predictions, ShardReader):
            found = store_predictions(arrays, scene, predictions, warnings, aborts)
            looked_at = frozenset(predictions.videos)
        else:
            found = youtube_vis_predictions(arrays, scene, predictions, warnings, aborts)
            looked_at = frozenset()
        warn_of_empty_videos(arrays, found.videos, looked_at, warnings)
        tracks = len(arrays.truth.records)
    name = str(predictions.folder if isinstance(predictions, ShardReader) else predictions)
    return _score(protocol, scene, found, tracks, aborts, warnings, name)


class _Kind(NamedTuple):
    """One of the two comparisons: the suffix of its metrics, what overlaps, and why the official tool or any tool has
    no numbers (empty: it has)."""

    suffix: str
    overlap: Floats
    aborts: str
    nothing: str


def _score(
    protocol: str, scene: TetaScene, found: TetaPredictions, tracks: int, aborts: Aborts, warnings: Warnings, name: str
) -> TetaScore:
    exhaustive = protocol == "teta"
    overlaps, objects = concatenate_objects(found.overlaps), scene.steps.objects
    once = _warn_of_twice(scene, found, overlaps, aborts, warnings)
    _warn_of_names(scene, warnings)
    evaluated = scene.evaluated
    always = [*scene.aborts.always, *aborts.always]
    if exhaustive and not len(objects.frame):
        always.append("there is no annotated object (IndexError)")
    elif exhaustive and not found.objects:
        kept = "" if scene.kept_from is None else f" of a score of at least {scene.kept_from}"
        always.append(f"there are no predictions{kept} (IndexError)")
    on_masks = [*always, *scene.aborts.on_masks, *aborts.on_masks]
    nothing = "" if scene.classes else _NO_OBJECT
    bare = (len(objects.frame) > 0 and (objects.mask < 0).all()) or (
        len(overlaps.step) > 0 and not overlaps.has_mask.any()
    )
    kinds = (
        _Kind("", overlaps.overlap, on_masks[0] if on_masks else "", nothing or (_NO_MASKS if bare else "")),
        _Kind(BOX, overlaps.box_overlap, always[0] if always else "", nothing),
    )
    for kind in kinds:
        if warnings.strict and kind.aborts and kind.nothing != _NO_MASKS:
            raise OfficialAbortError(name, f"the official {protocol} tool aborts: {kind.aborts}")
    metrics: dict[str, float | None] = {}
    corrected: dict[str, float | None] = {}
    undefined: dict[str, dict[str, str]] = {"metrics": {}, "corrected": {}}
    slices: dict[str, Any] = {}
    rows = _rows_of(scene, overlaps)
    for kind in kinds:
        steps = _steps(scene, overlaps, kind.overlap, evaluated, once)
        counts = count_steps(steps, len(scene.classes), exhaustive)
        by_name = _counts_by_name(scene, steps, exhaustive) if scene.shares_names else counts
        official, repaired = class_values(by_name), class_values(counts, repaired=True)
        aborted = kind.nothing
        if kind.aborts and kind.nothing != _NO_MASKS:
            aborted = f"the official tool aborts: {kind.aborts}"
        for out, values, counted, why, tool in (
            (metrics, official, by_name, aborted, "metrics"), (corrected, repaired, counts, kind.nothing, "corrected")
        ):  # fmt: skip
            numbers = average(values, _with_truth(counted))
            out |= {f"{key}{kind.suffix}": None if why else number for key, number in numbers.items()}
            undefined[tool] |= {f"{key}{kind.suffix}": why for key in TETA_METRICS if why}
        _fill(rows, kind, official, repaired, aborted)
        if scene.novel is not None and not aborted:
            is_novel = np.isin(scene.classes, list(scene.novel))
            for group, members in (("base", ~is_novel), ("novel", is_novel)):
                numbers = average(official, np.intersect1d(_with_truth(by_name), np.flatnonzero(members)))
                of_group = slices.setdefault("groups", {}).setdefault(group, {})
                of_group |= {f"{key}{kind.suffix}": number for key, number in numbers.items()}
        if not evaluated.all() and not kind.nothing:
            every = _steps(scene, overlaps, kind.overlap, np.ones_like(evaluated), once)
            counts = count_steps(every, len(scene.classes), exhaustive)
            numbers = average(class_values(counts, repaired=True), _with_truth(counts))
            told_apart = slices.setdefault("videos", {}).setdefault("told apart by id", {})
            told_apart |= {f"{key}{kind.suffix}": number for key, number in numbers.items()}
    sizes = {
        "tracks": found.tracks,
        "objects": found.objects,
        "objects_in_annotated_frames": len(overlaps.step),
        "truths": tracks,
        "truth_objects": len(objects.frame),
        "videos": len(scene.sequence),
        "annotated_frames": len(scene.steps.frame_of),
        "categories": len(scene.categories),
        "categories_with_truth": len(scene.classes),
    }
    return TetaScore(protocol, scene.kept_from, metrics, corrected, undefined, warnings.record(), sizes, slices, rows)


def _counts_by_name(scene: TetaScene, steps: Steps, exhaustive: bool) -> TetaCounts:
    """The counts of the official tool, for which a name means the last category with it.

    Other categories of that name are not classes; for each of them the last one is counted again.
    """
    last = {scene.categories[c]: c for c in scene.categories}
    number = {c: at for at, c in enumerate(scene.classes)}
    class_of = np.array([at if last[scene.categories[c]] == c else -1 for at, c in enumerate(scene.classes)] + [-1])
    turns = [number[last[scene.categories[c]]] for c in scene.classes if last[scene.categories[c]] in number]
    renamed = replace(steps, truth_class=class_of[steps.truth_class], found_class=class_of[steps.found_class])
    return count_steps(renamed, len(scene.classes), exhaustive, np.array(turns, np.int64))


def _with_truth(counts: TetaCounts) -> Ints:
    """The classes that have truth in the videos that were counted."""
    return np.flatnonzero((counts.loc_tp + counts.loc_fn + counts.loc_fp > 0).any(1))


def _warn_of_twice(
    scene: TetaScene, found: TetaPredictions, overlaps: ObjectOverlaps, aborts: Aborts, warnings: Warnings
) -> tuple[Flags, Flags]:
    """Which objects, annotated and predicted, are the first of their track in their frame."""
    objects = scene.steps.objects
    steps = np.repeat(np.arange(len(scene.steps.frame_of)), np.diff(scene.steps.first))
    sides = _first_of_track(steps, objects.track), _first_of_track(overlaps.step, overlaps.track)
    read = scene.evaluated[scene.video_of_frame[scene.steps.frame_of]]
    for once, step, record, place in (
        (sides[0], steps, objects.record, scene.place), (sides[1], overlaps.step, overlaps.record, found.place)
    ):  # fmt: skip
        for row in np.flatnonzero(~once).tolist():
            where = place(int(record[row]))
            warnings.add(TWICE, where)
            if read[step[row]]:
                aborts.always.append(f"{where}: its track has two objects in a frame (TrackEvalException)")
    return sides


def _first_of_track(step: Ints, track: Ints) -> Flags:
    order, new = grouped(step, track)
    once = np.zeros(len(step), np.bool_)
    once[order[new]] = True
    return once


def _warn_of_names(scene: TetaScene, warnings: Warnings) -> None:
    """Count videos and categories that the official tool confuses with others of the same name."""
    for video in np.flatnonzero(~scene.evaluated).tolist():
        warnings.add(_SAME_FOLDER, f'{scene.path}, folder "{scene.sequence[video]}"')
    for name, times in Counter(scene.categories[c] for c in scene.classes).items():
        if times > 1:
            warnings.add(_SAME_NAME, f'{scene.path}, "{name}"', times - 1)


def _steps(
    scene: TetaScene, overlaps: ObjectOverlaps, overlap: Floats, evaluated: Flags, once: tuple[Flags, Flags]
) -> Steps:
    """The steps of the evaluated videos, for objects that are the first of their track."""
    truth, first = scene.steps.objects, scene.steps.first
    video = scene.video_of_frame[scene.steps.frame_of]
    kept_step = evaluated[video]
    number = np.cumsum(kept_step) - 1
    step_g = np.repeat(np.arange(len(video)), np.diff(first))
    keep_g = np.flatnonzero(once[0] & kept_step[step_g])
    keep_p = np.flatnonzero(once[1] & kept_step[overlaps.step])
    keep_p = keep_p[np.argsort(overlaps.step[keep_p], kind="stable")]
    pairs = np.cumsum(np.diff(first)[overlaps.step]) - np.diff(first)[overlaps.step]
    similarity, pair = overlap, pairs[keep_p]
    if not once[0].all():  # leave out the pairs of truths that are
        rows = pairs_of(first, overlaps.step)
        wanted = once[0][rows.truth]
        similarity, pair = overlap[wanted], (np.cumsum(wanted) - wanted)[pair]
    n = int(kept_step.sum())
    return Steps(
        _offsets(np.unique(video[kept_step], return_counts=True)[1]),
        _offsets(np.bincount(number[step_g[keep_g]], minlength=n)),
        _numbered(video[step_g[keep_g]], truth.track[keep_g]),
        truth.category[keep_g],
        _offsets(np.bincount(number[overlaps.step[keep_p]], minlength=n)),
        _numbered(video[overlaps.step[keep_p]], overlaps.track[keep_p]),
        overlaps.category[keep_p],
        pair,
        similarity,
    )


def _offsets(counts: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _numbered(video: Ints, track: Ints) -> Ints:
    """Tracks numbered from 0 in each video, by ascending id."""
    order, new = grouped(video, track)
    rank = np.cumsum(new) - 1
    first_of_video = np.searchsorted(video[order[new]], video[order])
    number = np.empty(len(video), np.int64)
    number[order] = rank - first_of_video
    return number


def _rows_of(scene: TetaScene, overlaps: ObjectOverlaps) -> list[dict[str, Any]]:
    """One row per category: its id and name, and how many objects are annotated and predicted in annotated frames."""
    truths = np.bincount(scene.steps.objects.category[scene.steps.objects.category >= 0], minlength=len(scene.classes))
    found = np.bincount(overlaps.category[overlaps.category >= 0], minlength=len(scene.classes))
    number = {c: at for at, c in enumerate(scene.classes)}
    return [
        {
            "id": category, "name": name,
            "truth_objects": int(truths[number[category]]) if category in number else 0,
            "objects": int(found[number[category]]) if category in number else None,
        }
        for category, name in scene.categories.items()
    ]  # fmt: skip


def _fill(
    rows: list[dict[str, Any]], kind: _Kind, official: dict[str, Floats], repaired: dict[str, Floats], why: str
) -> None:
    """Add the numbers of every category with truth: the official ones, and the two that the correction changes."""
    at = 0
    for row in rows:
        has_truth = row["truth_objects"] > 0
        for key in TETA_METRICS:
            row[f"{key}{kind.suffix}"] = float(official[key][at]) if has_truth and not why else None
        for key in ("TETA", "ClsA"):
            shown = float(repaired[key][at]) if has_truth and not kind.nothing else None
            row[f"{key}{kind.suffix}_corrected"] = shown
        at += has_truth
