"""The input of phrase metrics: annotated masklets, and the pairs of a video and a phrase that any file names.

Each pair is a unit: a separate video with one class. Official evaluators find annotations through their ids, boxes
are in single precision, and two tracks without a pixel overlap perfectly; see ``docs/protocols.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np

from harness.arrays import Flags, Floats, Ints
from harness.errors import UserError
from harness.formats.youtube_vis import Annotations
from harness.scoring.match import IOU_THRESHOLDS
from harness.scoring.overlap import GroundTruthArrays
from harness.scoring.phrase_overlap import Boxes, TruthSide
from harness.scoring.phrase_tracks import PhraseTracks, boxes_from

CHALLENGING = "tracking_challenging_pair"


class _PhraseFields(msgspec.Struct):
    """Fields of an annotation that only these evaluators read."""

    bboxes: Any = msgspec.UNSET
    tags: Any = msgspec.UNSET


@dataclass(frozen=True)
class PhraseTruth:
    """The annotated masklets, arrays ``(truths,)`` in file order.

    ``steps (videos,)`` is the number of frames; ``no_files`` says which videos list none. ``boxed`` tells which truths
    have boxes, ``crowd`` which are to be ignored, ``mean_area`` is over all frames. ``missing`` are the first
    annotation without each field that is missing somewhere.
    """

    arrays: GroundTruthArrays
    steps: Ints
    no_files: Flags
    boxes: Boxes
    boxed: Flags
    ids: Ints
    crowd: Flags
    mean_area: Floats
    missing: dict[str, str]
    challenging: str
    """Why the evaluator of phrase HOTA aborts on the tags of the annotations, if it does."""

    @property
    def side(self) -> TruthSide:
        return TruthSide(self.arrays.rows, self.arrays.first, self.arrays.masks, self.arrays.area, self.boxes)

    @property
    def path(self) -> str:
        return self.arrays.annotations.path


def read_phrase_truth(annotations: Annotations) -> PhraseTruth:
    """The truth of an annotation file. Raises `UserError` where it is withheld, and for fields of another form."""
    arrays = GroundTruthArrays(annotations)
    records, path = arrays.truth.records, annotations.path
    names = [f"{path}, annotation {record.id}" for record in records]
    further = arrays.truth.further(_PhraseFields)
    lists = [one.bboxes for one in further]
    boxed = np.array([isinstance(one, list) for one in lists], np.bool_)
    missing: dict[str, str] = {}
    areas, crowd = np.zeros(len(records)), np.zeros(len(records), np.bool_)
    for at, record in enumerate(records):
        flag: Any = record.iscrowd
        if flag is msgspec.UNSET:
            missing.setdefault("iscrowd", names[at])
        elif flag is not None and not isinstance(flag, (int, float)):
            raise UserError(names[at], f"iscrowd is {str(flag)[:40]}", "write 0 or 1")
        else:
            crowd[at] = bool(flag)
        given: Any = record.areas
        if not isinstance(given, list):
            missing.setdefault("areas", names[at])
        elif not all(a is None or isinstance(a, (int, float)) for a in given):
            raise UserError(names[at], "areas is not a list of numbers", "write the area or null per frame")
        elif given:
            areas[at] = np.mean([a or 0 for a in given])
        if not boxed[at]:
            missing.setdefault("bboxes", names[at])
    files = np.array([len(video.file_names) for video in annotations.videos], np.int64)
    steps = np.where(files > 0, files, arrays.lengths)
    tags = [one.tags for one in further]
    return PhraseTruth(
        arrays, steps, (files == 0) & (arrays.lengths > 0), boxes_from(lists, names), boxed,
        np.array([record.id for record in records], np.int64), crowd, areas, missing,
        _challenging(tags, arrays.video, arrays.category),
    )  # fmt: skip


def _challenging(tags: list[Any], video: Ints, category: Ints) -> str:
    """Why the evaluator of phrase HOTA aborts on the tags of annotations, if it does: where all have tags it looks for
    those that are challenging."""
    if any(one is msgspec.UNSET for one in tags):
        return ""
    tagged = np.array([isinstance(one, (list, str, dict)) and CHALLENGING in one for one in tags], np.bool_)
    if not tagged.any():  # also where nothing is annotated
        kind = "has the tag" if len(tags) else "is there to have the tag"
        return f"no annotation {kind} {CHALLENGING} (TrackEvalException)"
    key = list(zip(video.tolist(), category.tolist(), strict=True))
    mixed = {k for k, one in zip(key, tagged.tolist(), strict=True) if one}
    if any(k in mixed and not one for k, one in zip(key, tagged.tolist(), strict=True)):
        return f"some annotations of a pair have the tag {CHALLENGING} and some have not (AssertionError)"
    return ""


@dataclass(frozen=True)
class Units:
    """All pairs of a video and a phrase that any file names, by ascending ids: ``video (units,)`` and ``phrase``.

    ``of_track``, ``of_truth`` and ``of_pair`` say which unit each belongs to, ``asked (units,)`` which are listed.
    """

    video: Ints
    phrase: Ints
    of_track: Ints
    of_truth: Ints
    of_pair: Ints
    asked: Flags
    names: dict[int, str]

    def __len__(self) -> int:
        return len(self.video)


def units_of(truth: PhraseTruth, tracks: PhraseTracks) -> Units:
    """The pairs of annotations, of tracks and of ``video_np_pairs``."""
    arrays, annotations = truth.arrays, truth.arrays.annotations
    pairs = np.array(annotations.pairs or (), np.int64).reshape(-1, 2)
    phrase = tracks.phrase.copy()
    names: dict[int, str] = {}
    if tracks.names:  # phrases that the annotations do not list are numbered after all others
        above = max([0, *arrays.category_ids.tolist(), *phrase.tolist(), *pairs[:, 1].tolist()]) + 1
        names = {above + at: text for at, text in enumerate(sorted(set(tracks.names.values())))}
        number = {text: at for at, text in names.items()}
        for row, text in tracks.names.items():
            phrase[row] = number[text]
    video = np.concatenate([tracks.video, arrays.video, np.searchsorted(arrays.video_ids, pairs[:, 0])])
    phrases = np.concatenate([phrase, arrays.category_ids[arrays.category], pairs[:, 1]])
    known, rank = np.unique(phrases, return_inverse=True)
    if annotations.renumbered == "categories" or names:  # as text, in the order of its characters
        stated = [names.get(p) or annotations.stated_category(p) for p in known.tolist()]
        if all(isinstance(text, str) for text in stated):
            order = np.argsort(np.array(stated, object), kind="stable")
            place = np.empty(len(known), np.int64)
            place[order] = np.arange(len(known))
            rank, known = place[rank], known[order]
    key, of = np.unique(video * max(len(known), 1) + rank.reshape(-1), return_inverse=True)
    of = of.reshape(-1)
    first, second = len(tracks.video), len(tracks.video) + len(arrays.video)
    asked = np.bincount(of[second:], minlength=len(key)) > 0
    return Units(
        key // max(len(known), 1), known[key % max(len(known), 1)] if len(known) else key, of[:first],
        of[first:second], of[second:], asked, names,
    )  # fmt: skip


class ChosenTruths(NamedTuple):
    """Truths as the official code finds them through their ids: those of unit ``u`` are
    ``row[first[u]:first[u + 1]]``, rows of the annotations, which may repeat."""

    row: Ints
    first: Ints


def chosen_truths(truth: PhraseTruth, units: Units) -> ChosenTruths:
    """By unit, then in file order; of truths with one id the last replaces all."""
    last = {number: row for row, number in enumerate(truth.ids.tolist())}
    order = np.argsort(units.of_truth, kind="stable")
    row = np.array([last[number] for number in truth.ids[order].tolist()], np.int64).reshape(-1)
    row = row[np.argsort(units.of_truth[row], kind="stable")]
    return ChosenTruths(row, np.searchsorted(units.of_truth[row], np.arange(len(units) + 1)))


def by_unit(units: Units, kept: Flags) -> tuple[Ints, Ints]:
    """Kept tracks by unit, in file order, and where those of each unit begin."""
    track = np.flatnonzero(kept)
    track = track[np.argsort(units.of_track[track], kind="stable")]
    return track, np.searchsorted(units.of_track[track], np.arange(len(units) + 1))


@dataclass(frozen=True)
class PhraseInput:
    """The input of the evaluators. ``box`` tells whether they compare boxes instead of masks."""

    truth: PhraseTruth
    tracks: PhraseTracks
    units: Units
    chosen: ChosenTruths
    place: Callable[[int], str]
    iou: Floats
    """By track and truth of its pair, in the order of `PhraseOverlaps.offset`."""
    box: bool

    def where(self, tracks: Flags) -> str:
        """Names the first of the flagged tracks."""
        return self.place(int(self.tracks.record[np.argmax(tracks)]))

    def where_truth(self, truths: Flags) -> str:
        """Names the first of the flagged annotations."""
        return f"{self.truth.path}, annotation {self.truth.ids[np.argmax(truths)]}"

    @property
    def pair_of_track(self) -> Ints:
        """By track its pair in `GroundTruthArrays`, or -1."""
        arrays = self.truth.arrays
        pair = np.full(len(self.units), -1, np.int64)
        pair[self.units.of_truth[arrays.rows]] = np.repeat(np.arange(len(arrays.keys)), np.diff(arrays.first))
        return pair[self.units.of_track]

    @property
    def limits(self) -> Floats:
        """The IoU thresholds as cgF1 compares them: numpy below 2 compares in single precision if the IoUs have it."""
        single = self.box and self.tracks.boxed.any()
        return IOU_THRESHOLDS.astype(np.float32).astype(np.float64) if single else IOU_THRESHOLDS


def track_ious(tracks: PhraseTracks, box: bool) -> Floats:
    """IoU of whole tracks; two without any pixel have 1, two without any box 0."""
    o = tracks.overlaps
    if not box:
        return np.divide(o.intersection, o.union, out=np.ones(len(o.union)), where=o.union > 0)
    kind = np.float32 if tracks.boxed.any() else np.float64
    common, either = o.box_intersection.astype(kind), o.box_union.astype(kind)
    has_box = o.box_union > 0
    ious = np.zeros(len(either), kind)
    np.divide(common, either, out=ious, where=has_box)
    return ious.astype(np.float64)
