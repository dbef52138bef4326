"""Predicted masklets for phrase metrics: from a results file with boxes and areas, or from a prediction store.

The official tools read from the boxes and areas of the file in which frames an object is. A record without them,
or with ones that contradict its masks, is noted per track; its boxes are then those of its masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness import rle
from harness.arrays import Floats, Ints
from harness.errors import UserError
from harness.formats import lenient, scan
from harness.formats.foreign import refuse_foreign_record
from harness.formats.results import Block, OddRecord, ResultRecord
from harness.formats.segmentations import convert
from harness.formats.youtube_vis import decode_records, take_tracks
from harness.rle import MaskTable
from harness.scoring.from_results import finite_score, masks_of, unknown_video
from harness.scoring.overlap import GroundTruthArrays, TrackBatch, positions, refuse_faults
from harness.scoring.phrase_overlap import (
    HAS_MASK,
    Boxes,
    PhraseOverlaps,
    TrackSide,
    TruthSide,
    join_overlaps,
    overlap_phrases,
)
from harness.scoring.track_shape import boxes as boxes_of
from harness.warnings import Warnings

HARD_DECISION_SCORE = 0.5
"""Tracks of at least this score are hard decisions."""
RECORDS_SHOWN = 8
"""Bit of a frame of a hard track, besides those of `phrase_overlap`: by boxes and areas the object is there."""
NOTHING_ODD, NO_BOXES, UNEQUAL_LISTS, CONTRADICTION = 0, 1, 2, 3
"""Fault codes of the boxes and areas of a track, with their text."""
RECORD_FAULTS = {
    NO_BOXES: "has no bboxes or no areas (KeyError)",
    UNEQUAL_LISTS: "has lists of unequal length for bboxes, areas and segmentations (AssertionError)",
    CONTRADICTION: "has a box in a frame without a mask, or a mask in a frame without a box (AssertionError)",
}


class _Record(ResultRecord):
    """A track in the specified form."""

    bboxes: list[list[float] | None] | msgspec.UnsetType | None = msgspec.UNSET
    areas: list[float | None] | msgspec.UnsetType | None = msgspec.UNSET


class _OddRecord(OddRecord):
    """A track whose ids may have any form."""

    bboxes: list[list[float] | None] | msgspec.UnsetType | None = msgspec.UNSET
    areas: list[float | None] | msgspec.UnsetType | None = msgspec.UNSET


@dataclass(frozen=True)
class PhraseTracks:
    """Predicted tracks in file order, arrays ``(tracks,)``.

    ``video`` indexes the annotations, ``phrase`` is the id of the category, listed or not; ``names`` are by track those
    phrases that are text which the annotations do not list. ``boxed`` tells which tracks state boxes, ``fault`` what is
    wrong with them, ``no_null`` which ones have a mask in every frame, ``negative`` which ones have a box of negative
    area, ``box_length`` how many boxes, of ``mean_area``. ``overlaps`` are those with the truth; its frames have the
    bit `RECORDS_SHOWN` too.
    """

    video: Ints
    phrase: Ints
    score: Floats
    record: Ints
    boxed: NDArray[np.bool_]
    fault: NDArray[np.int8]
    no_null: NDArray[np.bool_]
    negative: NDArray[np.bool_]
    box_length: Ints
    mean_area: Floats
    names: dict[int, str]
    overlaps: PhraseOverlaps


@dataclass(frozen=True)
class _RecordFields:
    """The fields of records besides masks: ``boxed`` tells which have boxes, ``complete`` which have areas
    too; those of track ``t`` are ``areas[area_first[t]:area_first[t + 1]]``, nan for null."""

    video: Ints
    phrase: Ints
    score: Floats
    names: dict[int, str]
    boxed: NDArray[np.bool_]
    complete: NDArray[np.bool_]
    boxes: Boxes
    area_first: Ints
    areas: Floats


def read_file_tracks(
    block: Block, truths: GroundTruthArrays, steps: Ints, side: TruthSide, path: str, warnings: Warnings
) -> PhraseTracks:
    """The tracks of a block of a results file, overlapped with the truth. ``steps (videos,)`` are numbers of frames.

    Raises `UserError` for unknown videos, scores that are not finite, and records of another form.
    """
    try:
        stated = _strictly(block, truths, path)
    except (UserError, OverflowError):
        stated = _leniently(block, truths, path, warnings)
    number = block.first + np.arange(len(stated.score))
    if not np.isfinite(stated.score).all():
        at = int(np.argmin(np.isfinite(stated.score)))
        raise UserError(f"{path}, record {number[at]}", f"score is {stated.score[at]}", "write a finite number")
    odd = (stated.score < 0) | (stated.score > 1)
    if odd.any():
        warnings.add("score outside [0, 1]", f"{path}, record {number[np.argmax(odd)]}", int(odd.sum()))
    masks = masks_of(block.text, block.spans, stated.video, truths, path, number, warnings)
    names = [f"{path}, record {n}" for n in number.tolist()]

    def entries(track: int) -> list[Any]:
        begin, stop = block.spans[track, 2:]
        found: list[Any] = lenient.loads(block.text[begin:stop].tobytes(), names[track])
        return found

    return _overlapped(stated, masks, number, truths, steps, side, names, entries)


def read_store_tracks(
    batch: TrackBatch, truths: GroundTruthArrays, steps: Ints, side: TruthSide, folder: str
) -> PhraseTracks:
    """The tracks of some shards, read with every mask, overlapped with the truth.

    Their boxes and areas are those of the masks, as `harness export` writes them.
    """
    n = len(batch.score)
    names = [f"{folder}, record {r}" for r in batch.record.tolist()]
    phrase = truths.category_ids[batch.category]
    boxes, areas = _of_masks(batch.masks, names)
    every = np.ones(n, np.bool_)
    stated = _RecordFields(batch.video, phrase, batch.score, {}, every, every, boxes, boxes.first, areas)
    return _overlapped(stated, batch.masks, batch.record, truths, steps, side, names, lambda track: [])


def join_tracks(parts: list[PhraseTracks]) -> PhraseTracks:
    """The tracks of several batches, in order."""
    first = np.cumsum([0] + [len(part.score) for part in parts]).tolist()
    joined: dict[str, Any] = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(PhraseTracks)
        if field.name not in ("names", "overlaps")
    }
    names = {at + row: name for at, part in zip(first, parts, strict=False) for row, name in part.names.items()}
    return PhraseTracks(**joined, names=names, overlaps=join_overlaps([part.overlaps for part in parts]))


def no_tracks() -> PhraseTracks:
    """No tracks."""
    none, flags = np.zeros(0, np.int64), np.zeros(0, np.bool_)
    one = np.zeros(1, np.int64)
    overlaps = PhraseOverlaps(
        one, none, none, np.zeros(0), np.zeros(0), one, np.zeros(0), np.zeros(0, np.float32), one, np.zeros(0, np.int8)
    )
    return PhraseTracks(
        none, none, np.zeros(0), none, flags, np.zeros(0, np.int8), flags, flags, none, np.zeros(0), {}, overlaps
    )


def boxes_from(lists: list[Any], names: list[str]) -> Boxes:
    """Boxes as lists of ``[x, y, w, h]`` or null, one list per track; anything else counts as an empty list.

    Raises `UserError` for a value that is not a box.
    """
    given = [one if isinstance(one, list) else [] for one in lists]
    first = np.concatenate([[0], np.cumsum([len(one) for one in given])]).astype(np.int64)
    flat = [box for one in given for box in one]
    there = np.array([box is not None for box in flat], np.bool_)
    try:
        xywh = np.array([(0, 0, 0, 0) if box is None else box for box in flat], np.float64).reshape(-1, 4)
        fits = len(xywh) == len(flat) and bool(np.isfinite(xywh).all())
    except (ValueError, TypeError):
        fits = False
    if not fits:
        at = next(at for at, box in enumerate(flat) if box is not None and not _is_box(box))
        owner = int(np.searchsorted(first, at, side="right")) - 1
        where = f"{names[owner]}, frame {at - int(first[owner])}"
        raise UserError(where, "bboxes holds a value that is no box", "write [x, y, width, height] or null per frame")
    return Boxes(first, xywh, there)


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(x, (int, float)) and abs(x) < np.inf for x in value)
    )


def _strictly(block: Block, truths: GroundTruthArrays, path: str) -> _RecordFields:
    """The fields of records in the specified form, for annotations whose ids are too."""
    if truths.annotations.renumbered:
        raise OverflowError
    records = decode_records(block.text.data, block.spans, list[_Record], path)
    video_id = np.array([r.video_id for r in records], np.int64)
    video, known = positions(truths.video_ids, video_id)
    if not known.all():
        at = int(np.argmin(known))
        where = f"{path}, record {block.first + at}"
        raise unknown_video(int(video_id[at]), truths.annotations.ids[0], where)
    phrase = np.array([r.category_id for r in records], np.int64)
    score = np.array([r.score for r in records], np.float64)
    return _record_fields(block, video, phrase, score, {}, records, path)


def _leniently(block: Block, truths: GroundTruthArrays, path: str, warnings: Warnings) -> _RecordFields:
    """The fields of records, read leniently; such values are counted."""
    videos, categories = truths.annotations.ids
    n = len(block.spans)
    video, phrase, score = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n)
    names: dict[int, str] = {}
    records = []
    for at, (start, stop, mask_start, mask_stop) in enumerate(block.spans.tolist()):
        where = f"{path}, record {block.first + at}"
        text = block.text[start : mask_start if mask_stop else stop].tobytes()
        if mask_stop:
            text += b"0" + block.text[mask_stop:stop].tobytes()
        record = lenient.loads(text, where)
        refuse_foreign_record(record, where)
        checked = convert(record, _OddRecord, where)
        score[at] = finite_score(checked.score, where, warnings)
        found, form = videos.find(checked.video_id, where, "video_id")
        if found is None:
            raise unknown_video(checked.video_id, videos, where)
        video[at] = found
        listed, other = categories.find(checked.category_id, where, "category_id")
        if listed is None:
            listed = _unlisted(at, checked.category_id, categories.are_themselves, names)
        phrase[at] = listed
        for one in (form, other):
            if one:
                warnings.add(f"id is {one}", where)
        records.append(checked)
    return _record_fields(block, np.searchsorted(truths.video_ids, video), phrase, score, names, records, path)


def _unlisted(track: int, stated: Any, are_numbers: bool, names: dict[int, str]) -> int:
    """The number of a phrase that the annotations do not list; text is added to ``names``."""
    found = lenient.whole(stated)
    if are_numbers and found is not None and abs(found[0]) <= scan.LARGEST:
        return found[0]
    names[track] = str(stated)
    return 0


def _record_fields(
    block: Block, video: Ints, phrase: Ints, score: Floats, names: dict[int, str], records: list[Any], path: str
) -> _RecordFields:
    where = [f"{path}, record {block.first + at}" for at in range(len(records))]
    lists, areas = [r.bboxes for r in records], [r.areas if isinstance(r.areas, list) else [] for r in records]
    boxed = np.array([isinstance(one, list) for one in lists], np.bool_)
    complete = boxed & np.array([isinstance(r.areas, list) for r in records], np.bool_)
    first = np.concatenate([[0], np.cumsum([len(one) for one in areas])]).astype(np.int64)
    values = np.array([np.nan if area is None else area for one in areas for area in one], np.float64)
    return _RecordFields(video, phrase, score, names, boxed, complete, boxes_from(lists, where), first, values)


def _overlapped(
    stated: _RecordFields, masks: MaskTable, record: Ints, truths: GroundTruthArrays, steps: Ints, side: TruthSide,
    names: list[str], entries: Callable[[int], list[Any]],
) -> PhraseTracks:  # fmt: skip
    """Overlap tracks; ``entries`` gives the list of masks of one as it is written."""
    n, hard = len(stated.score), stated.score >= HARD_DECISION_SCORE
    owner = np.repeat(np.arange(n), np.diff(masks.track))
    has_mask = masks.frame_mask >= 0
    fault, shown = _shown(stated, masks, owner, has_mask, entries)
    boxes = stated.boxes if stated.boxed.all() else _with_boxes_of_masks(stated, masks, names)
    category, listed = positions(truths.category_ids, stated.phrase)
    listed[list(stated.names)] = False
    pair = np.full(n, -1, np.int64)
    pair[listed] = truths.pair_of(stated.video[listed], category[listed])
    tracks = TrackSide(pair, steps[stated.video], hard, hard & (fault != NOTHING_ODD), masks, boxes)
    overlaps = overlap_phrases(side, tracks, names)
    bits = overlaps.frames | (has_mask * np.int8(HAS_MASK)) | (shown * np.int8(RECORDS_SHOWN))
    of_box, area = np.repeat(np.arange(n), np.diff(boxes.first)), boxes.xywh[:, 2] * boxes.xywh[:, 3]
    box_length = np.diff(boxes.first)
    return PhraseTracks(
        stated.video, stated.phrase, stated.score, record, stated.boxed, fault,
        no_null=np.bincount(owner[~has_mask], minlength=n) == 0,
        negative=np.bincount(of_box[area < 0], minlength=n) > 0,
        box_length=box_length,
        mean_area=np.bincount(of_box, area, n) / np.maximum(box_length, 1),
        names=stated.names,
        overlaps=replace(overlaps, frames=bits.astype(np.int8)),
    )  # fmt: skip


def _shown(
    stated: _RecordFields,
    masks: MaskTable,
    owner: Ints,
    has_mask: NDArray[np.bool_],
    entries: Callable[[int], list[Any]],
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """What is wrong with the boxes and areas of each track, and in which frames they say that the object is there.

    An empty entry, ``[]`` or ``{}``, is not a mask, but official code accepts it.
    """
    n, length = len(stated.score), np.diff(masks.track)
    equal = (np.diff(stated.boxes.first) == length) & (np.diff(stated.area_first) == length)
    at = np.arange(len(owner)) - masks.track[owner]
    known = (stated.complete & equal)[owner]
    box, area = (stated.boxes.first[owner] + at)[known], stated.areas[(stated.area_first[owner] + at)[known]]
    shown = np.zeros(len(owner), np.bool_)
    shown[known] = stated.boxes.there[box] & (stated.boxes.xywh[box] != 0).any(1) & (area != 0)
    unstated = np.zeros(len(owner), np.bool_)
    unstated[known] = np.isnan(area)
    null = shown & ~has_mask
    for track in np.unique(owner[null]).tolist():
        frames = slice(*masks.track[track : track + 2].tolist())
        null[frames] &= np.array([entry is None for entry in entries(track)], np.bool_)
    contradicted = np.bincount(owner[null | (shown & unstated)], minlength=n) > 0
    fault = np.where(contradicted, CONTRADICTION, NOTHING_ODD)
    fault = np.where(stated.complete, np.where(equal, fault, UNEQUAL_LISTS), NO_BOXES)
    return fault.astype(np.int8), shown


def _with_boxes_of_masks(stated: _RecordFields, masks: MaskTable, names: list[str]) -> Boxes:
    """The boxes of tracks; where a track states none, those of its masks."""
    without = np.flatnonzero(~stated.boxed).tolist()
    made, _ = _of_masks(take_tracks(masks, without), [names[t] for t in without])
    length = np.diff(stated.boxes.first)
    length[without] = np.diff(made.first)
    first = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    owner = np.repeat(np.arange(len(length)), length)
    new = ~stated.boxed[owner]
    xywh, there = np.empty((len(owner), 4)), np.empty(len(owner), np.bool_)
    xywh[new], there[new] = made.xywh, made.there
    xywh[~new], there[~new] = stated.boxes.xywh, stated.boxes.there
    return Boxes(first, xywh, there)


def _of_masks(masks: MaskTable, names: list[str]) -> tuple[Boxes, Floats]:
    """Boxes of masks; and 1 for every frame with a pixel and 0 without, in place of the areas."""
    used = np.zeros(len(masks.start), np.bool_)
    used[masks.frame_mask[masks.frame_mask >= 0]] = True
    refuse_faults(rle.areas(*masks.arrays()[:6], used), masks, names)
    corners = boxes_of(masks).astype(np.float64)
    there = corners[:, 2] > corners[:, 0]
    xywh = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
    return Boxes(masks.track, xywh, there), there.astype(np.float64)
