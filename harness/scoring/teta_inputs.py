"""The input of TETA: objects per frame, from truth and predictions in YouTube-VIS form or in COCO-video form.

Files in YouTube-VIS form are converted as SA-Co/VEval's evaluator does it: predictions of at least 0.5 count, and an
object is in a frame where its box says so. Missing boxes are replaced by those of the masks, and it
is noted that the official tool aborts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from harness import rle
from harness.arrays import Flags, Floats, Ints
from harness.errors import UserError
from harness.formats import coco_video, lenient
from harness.formats.coco_video import Box, CocoVideo, Detection
from harness.formats.foreign import refuse_foreign_record
from harness.formats.results import Block, read_blocks
from harness.formats.segmentations import convert
from harness.formats.youtube_vis import Annotations, VideoRecord, decode_records, take_tracks
from harness.rle import MaskTable
from harness.scoring.frame_objects import FrameObjects, ObjectOverlaps, TruthSteps, grouped, overlap_objects, steps_of
from harness.scoring.from_results import ResultColumns, lenient_columns, masks_of, unknown_video
from harness.scoring.from_store import place_of_record, read_shards
from harness.scoring.overlap import GroundTruthArrays, positions, refuse_faults
from harness.scoring.score import in_parallel
from harness.scoring.shard_reader import ShardGroup, ShardReader
from harness.scoring.track_shape import boxes as boxes_of
from harness.warnings import Warnings

LEAST_SCORE = 0.5
"""In YouTube-VIS form predictions of this score and more count; in COCO-video form all do."""
BOXES_OF_MASKS = "track without bboxes, those of its masks taken"
BEYOND = "object after the last frame of its video, left out"
ELSEWHERE = "object whose video is not that of its image, left out"
UNLISTED_CATEGORY = "category not in the annotations: counts for localisation and association, as a wrong label"


@dataclass
class Aborts:
    """Why the official tool gives no numbers: at all, or on masks."""

    always: list[str] = field(default_factory=list)
    on_masks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TetaScene:
    """The truth: its objects by step, its classes and its videos.

    ``classes`` are the ids of the categories with truth, in the order of the file; ``categories`` all of them with
    their names. ``sequence (videos,)`` is the name by which the official tool knows a video, in the order of the file,
    and ``video_of_frame (frames,)`` the video of each frame. ``kept_from`` is the least score that counts; ``place``
    names a record of the file. ``novel`` are the ids of novel categories, ``None`` where no category says.
    """

    path: str
    categories: dict[int, str]
    classes: tuple[int, ...]
    steps: TruthSteps
    video_of_frame: Ints
    sequence: list[str]
    kept_from: float | None
    aborts: Aborts
    place: Callable[[int], str]
    novel: frozenset[int] | None = None

    def class_of(self, category: Ints) -> Ints:
        """Numbers of classes by id of their category, -1 for others."""
        ids = np.array(self.classes, np.int64)
        order = np.argsort(ids)
        at, known = positions(ids[order], category)
        return np.where(known, order[at], -1) if len(ids) else np.full(len(category), -1, np.int64)

    @cached_property
    def evaluated(self) -> Flags:
        """Which videos the official tool keeps ``(videos,)``: of those of one name, the last."""
        last = {name: at for at, name in enumerate(self.sequence)}
        return np.array([last[name] == at for at, name in enumerate(self.sequence)], np.bool_)

    @property
    def least_score(self) -> float:
        """The least score that counts."""
        return -np.inf if self.kept_from is None else self.kept_from

    @property
    def shares_names(self) -> bool:
        """Whether a category with truth has the name of another category."""
        names = Counter(self.categories.values())
        return any(names[self.categories[c]] > 1 for c in self.classes)


class TetaPredictions(NamedTuple):
    """Predicted objects overlapped with the truth; how many ``tracks`` count and how many ``objects`` they have.

    ``place`` names a record of the file. ``videos (videos,)`` are those of which there is any record, in the order of
    the truth's.
    """

    overlaps: list[ObjectOverlaps]
    tracks: int
    objects: int
    place: Callable[[int], str]
    videos: Flags


class _Batch(NamedTuple):
    overlaps: ObjectOverlaps
    tracks: int
    objects: int
    warnings: Warnings
    aborts: Aborts


class _Head(msgspec.Struct):
    video_id: int
    category_id: int
    score: float


class _Boxes(msgspec.Struct):
    """The field that says in which frames an object is."""

    bboxes: list[Box | None] | msgspec.UnsetType | None = msgspec.UNSET
    areas: list[float | None] | msgspec.UnsetType | None = msgspec.UNSET


class _Lists(NamedTuple):
    """Boxes of tracks, flat: those of track ``t`` are ``box[first[t]:first[t + 1]]``, nan for null.

    ``stated (tracks,)`` tells whether it has any list, ``areas (tracks,)`` the length of its list of areas, 0 without
    one, -1 for null.
    """

    first: Ints
    box: Floats
    stated: Flags
    areas: Ints


def youtube_vis_scene(truths: GroundTruthArrays) -> TetaScene:
    """The truth of a file in YouTube-VIS form."""
    annotations, records = truths.annotations, truths.truth.records
    path, aborts = annotations.path, Aborts()
    order = _file_order(annotations.listed_videos, truths.video_ids)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    frames = _frames(annotations)
    first = np.concatenate([[0], np.cumsum(frames[order])]).astype(np.int64)
    for video in annotations.videos:
        if not video.file_names:
            aborts.always.append(f"{path}, video {annotations.stated_video(video.id)}: has no file_names (IndexError)")
    lists = _flat([(one.bboxes, one.areas) for one in truths.truth.further(_Boxes)])
    length = np.diff(truths.masks.track)
    for r in np.flatnonzero(~lists.stated).tolist():
        aborts.always.append(f"{path}, annotation {records[r].id}: has no bboxes (KeyError)")
    count = np.where(lists.stated, np.diff(lists.first), length)
    rows = _rows(count, lists, truths.masks, truths.area)
    inside = rows.at < frames[truths.video[rows.owner]]
    for key, known in (("bboxes", count), ("segmentations", length), ("areas", lists.areas)):
        short = lists.stated & (known < frames[truths.video])
        if key != "bboxes":  # looked at in frames with a box only
            last = np.zeros(len(records), np.int64)
            np.maximum.at(last, rows.owner[rows.there & inside], rows.at[rows.there & inside] + 1)
            short = lists.stated & (known < last)
        for r in np.flatnonzero(short).tolist():
            what = f"has fewer {key} than frames (IndexError)" if known[r] > 0 else f"has no {key} (KeyError)"
            aborts.always.append(f"{path}, annotation {records[r].id}: {what}")
    for record in records:
        if record.iscrowd is msgspec.UNSET:
            aborts.always.append(f"{path}, annotation {record.id}: has no iscrowd (KeyError)")
    keep = np.flatnonzero(rows.there & inside)
    keep = keep[np.argsort(first[rank[truths.video[rows.owner[keep]]]] + rows.at[keep], kind="stable")]
    owner = rows.owner[keep]
    objects = FrameObjects(
        first[rank[truths.video[owner]]] + rows.at[keep], np.array([r.id for r in records], np.int64)[owner],
        truths.category_ids[truths.category[owner]], rows.box[keep], rows.mask[keep], owner, truths.masks, truths.area,
    )  # fmt: skip

    def place(r: int) -> str:
        return f"{path}, annotation {records[r].id}"

    names = {c.id: c.name for c in annotations.categories}
    listed = [int(truths.category_ids[c]) for c in _file_order(annotations.listed_categories, truths.category_ids)]
    sequence = [_sequence(annotations, annotations.videos[v]) for v in order.tolist()]
    video_of_frame = np.repeat(np.arange(len(order)), frames[order])
    kept_from = None if annotations.per_frame else LEAST_SCORE
    scene = _scene(path, {c: names[c] for c in listed}, objects, video_of_frame, sequence, kept_from, aborts, place)
    if any(c.partition is not None for c in annotations.categories):
        return replace(scene, novel=frozenset(c.id for c in annotations.categories if c.partition in (2, 3)))
    return replace(scene, novel=_rare({c.id: c.frequency for c in annotations.categories}))


def coco_video_scene(file: CocoVideo, federated: bool) -> TetaScene:
    """The truth of a file in COCO-video form. Categories are merged only in the ``federated`` variant."""
    aborts = Aborts()
    _note_missing_keys(file, federated, aborts)
    frames = _frame_table(file, federated)
    names = [f"{file.path}, annotations[{at}]" for at in range(len(file.annotations))]
    objects = _objects(file.annotations, frames, names)
    for at in np.flatnonzero(np.isnan(objects.box).any(1)).tolist():
        aborts.always.append(f"{names[at]}: has no bbox (KeyError)")
    objects = _with_boxes_of_masks(objects)
    sequence = [(v.name or str(v.id)).replace("/", "-") for v in file.videos]
    categories = {c.id: c.name for c in file.categories}
    scene = _scene(file.path, categories, objects, frames.video, sequence, None, aborts, lambda r: names[r])
    return replace(scene, novel=_rare({c.id: c.frequency for c in file.categories}))


def youtube_vis_predictions(
    truths: GroundTruthArrays, scene: TetaScene, path: Path, warnings: Warnings, aborts: Aborts
) -> TetaPredictions:
    """Read a results file in YouTube-VIS form; what is odd is added to ``warnings`` and ``aborts``."""
    name, predicted = str(path), np.zeros(len(truths.video_ids), np.bool_)

    def work(block: Block) -> _Batch:
        found, noted = Warnings(warnings.strict), Aborts()
        columns = _columns(block, truths, name, found)
        predicted[np.searchsorted(truths.video_ids, columns.video_id)] = True
        keep = np.flatnonzero(columns.score >= scene.least_score)
        number = block.first + keep
        spans, text = block.spans[keep], block.text
        bare = spans[:, 3] == 0
        if bare.any():  # without masks: an empty list of them
            text = np.concatenate([text, np.frombuffer(b"[]", np.uint8)])
            spans = spans.copy()
            spans[bare, 2:] = len(text) - 2, len(text)
        video = np.searchsorted(truths.video_ids, columns.video_id[keep])
        masks = masks_of(text, spans, video, truths, name, number, found)
        lists = _lists(Block(block.text, block.spans[keep], 0), number, name)
        where = [f"{name}, record {n}" for n in number.tolist()]
        for r in np.flatnonzero(~lists.stated).tolist():
            noted.always.append(f"{where[r]}: has no bboxes (KeyError)")
            found.add(BOXES_OF_MASKS, where[r])
        for r in np.flatnonzero(lists.areas < 0).tolist():
            noted.always.append(f"{where[r]}: areas is null (TypeError)")
        tracks = _Tracks(video, columns.category_id[keep], number, masks, lists)
        return _overlap_tracks(tracks, truths, scene, where, found, noted)

    batches = in_parallel(work, read_blocks(path))
    return _joined(batches, lambda r: f"{name}, record {r}", predicted, warnings, aborts)


def store_predictions(
    truths: GroundTruthArrays, scene: TetaScene, shards: ShardReader, warnings: Warnings, aborts: Aborts
) -> TetaPredictions:
    """Read a prediction store; boxes are those of the masks."""
    predicted = np.zeros(len(truths.video_ids), np.bool_)

    def work(group: ShardGroup) -> _Batch:
        found, noted = Warnings(warnings.strict), Aborts()
        batch = read_shards(group, truths, shards.folder, found, every_mask=True)
        predicted[batch.video] = True
        keep = np.flatnonzero(batch.score >= scene.least_score)
        masks = take_tracks(batch.masks, keep.tolist())
        none = np.zeros(len(keep) + 1, np.int64)
        lists = _Lists(none, np.empty((0, 4)), np.zeros(len(keep), np.bool_), none[1:])
        number = batch.record[keep]
        where = [place_of_record(shards.folder, n) for n in number.tolist()]
        tracks = _Tracks(batch.video[keep], truths.category_ids[batch.category[keep]], number, masks, lists)
        return _overlap_tracks(tracks, truths, scene, where, found, noted)

    place = partial(place_of_record, shards.folder)
    return _joined(in_parallel(work, shards), place, predicted, warnings, aborts)


def coco_video_predictions(
    file: CocoVideo, scene: TetaScene, path: Path, federated: bool, warnings: Warnings, aborts: Aborts
) -> TetaPredictions:
    """Read a results file in COCO-video form; what is odd is added to ``warnings`` and ``aborts``."""
    name, frames = str(path), _frame_table(file, federated)
    video_ids = [video.id for video in file.videos]
    known, predicted = set(video_ids), np.zeros(len(video_ids), np.bool_)
    tracks: set[tuple[int, int]] = set()

    def work(block: tuple[int, list[Detection]]) -> _Batch:
        first, records = block
        found, noted = Warnings(warnings.strict), Aborts()
        where = [f"{name}, record {first + at}" for at in range(len(records))]
        keep = []
        for at, one in enumerate(records):
            frame = frames.frame_of.get(one.image_id)
            if frame is None:
                raise UserError(where[at], f"unknown image {one.image_id}", "use the ids of the annotations")
            own = int(frames.video[frame])
            if one.video_id is not None and one.video_id not in known:
                raise UserError(where[at], f"unknown video {one.video_id}", "use the ids of the annotations")
            if one.track is None:
                raise UserError(where[at], "has no track_id", "number the tracks")
            if one.video_id not in (None, video_ids[own]):
                found.add(ELSEWHERE, where[at])
                continue
            if one.bbox is None:
                noted.always.append(f"{where[at]}: has no bbox (KeyError)")
            if one.score is None and federated:
                noted.always.append(f"{where[at]}: has no score (KeyError)")
            predicted[own] = True
            tracks.add((own, one.track))
            keep.append(at)
        objects = _objects([records[at] for at in keep], frames, [where[at] for at in keep])
        objects = replace(_with_boxes_of_masks(objects), record=first + np.array(keep, np.int64))
        return _overlap_batch(objects, 0, scene, lambda r: f"{name}, record {r}", found, noted)

    batches = in_parallel(work, coco_video.read_detections(path))
    joined = _joined(batches, lambda r: f"{name}, record {r}", predicted, warnings, aborts)
    return joined._replace(tracks=len(tracks))


class _FrameTable(NamedTuple):
    """The frames of a file in COCO-video form, numbered video by video.

    ``frame_of`` has the numbers by id of the image, ``video (frames,)`` the numbers of the videos in file order,
    ``size (frames,)`` heights and widths; ``merged`` says what categories become.
    """

    frame_of: dict[int, int]
    video: Ints
    size: list[tuple[int, int]]
    merged: dict[int, int]


def _frame_table(file: CocoVideo, federated: bool) -> _FrameTable:
    number = {video.id: at for at, video in enumerate(file.videos)}
    images = sorted(file.images, key=lambda image: (number[image.video_id], image.number(federated)))
    sizes = {video.id: (video.height or 0, video.width or 0) for video in file.videos}
    return _FrameTable(
        {image.id: at for at, image in enumerate(images)},
        np.array([number[image.video_id] for image in images], np.int64),
        [(i.height or sizes[i.video_id][0], i.width or sizes[i.video_id][1]) for i in images],
        {m.id: c.id for c in file.categories for m in c.merged} if federated else {},
    )


class _Tracks(NamedTuple):
    """Predicted tracks that count, arrays ``(tracks,)``: video by ascending id, id of the category, record."""

    video: Ints
    category: Ints
    record: Ints
    masks: MaskTable
    lists: _Lists


class _Rows(NamedTuple):
    """Frames of tracks in turn: the track, the frame in its video, the mask (-1: none), the box, and whether the object
    is there."""

    owner: Ints
    at: Ints
    mask: Ints
    box: Floats
    there: Flags


def _scene(
    path: str, categories: dict[int, str], objects: FrameObjects, video_of_frame: Ints, sequence: list[str],
    kept_from: float | None, aborts: Aborts, place: Callable[[int], str],
) -> TetaScene:  # fmt: skip
    # the official tool takes the class of a track from its first object
    order, new = grouped(video_of_frame[objects.frame], objects.track)
    owned = set(objects.category[order[new]].tolist())
    classes = tuple(c for c in categories if c in owned)
    scene = TetaScene(path, categories, classes, steps_of(objects, len(video_of_frame)), video_of_frame, sequence,
                  kept_from, aborts, place)  # fmt: skip
    evaluated = objects.take(np.flatnonzero(scene.evaluated[video_of_frame[objects.frame]]))
    _note_unreadable(evaluated, aborts, place)
    numbered = replace(scene.steps.objects, category=scene.class_of(scene.steps.objects.category))
    return replace(scene, steps=replace(scene.steps, objects=numbered))


def _rare(frequency: dict[int, str | None]) -> frozenset[int] | None:
    """Open-vocabulary trackers use LVIS's rare categories as novel (Li et al., OVTrack, CVPR 2023)."""
    return frozenset(c for c, f in frequency.items() if f == "r") if any(frequency.values()) else None


def _overlap_tracks(
    tracks: _Tracks, truths: GroundTruthArrays, scene: TetaScene, where: list[str], warnings: Warnings, aborts: Aborts
) -> _Batch:
    """Overlap tracks in YouTube-VIS form with the truth."""
    masks, lists = tracks.masks, tracks.lists
    area = _areas(masks, where)
    length, boxes = np.diff(masks.track), np.diff(lists.first)
    count = np.where(length > 0, np.minimum(boxes, length), boxes)
    count = np.where(lists.areas > 0, np.minimum(count, lists.areas), count)
    rows = _rows(np.where(lists.stated, count, length), lists, masks, area)
    there = rows.there & (np.isnan(rows.box) | (rows.box != 0)).any(1)
    frames = _frames(truths.annotations)
    order = _file_order(truths.annotations.listed_videos, truths.video_ids)
    first = np.empty(len(order), np.int64)
    first[order] = np.concatenate([[0], np.cumsum(frames[order])[:-1]]) if len(order) else 0
    video = tracks.video[rows.owner]
    beyond = np.flatnonzero(there & (rows.at >= frames[video]))
    if len(beyond):
        place = f"{where[int(rows.owner[beyond[0]])]}, frame {int(rows.at[beyond[0]])}"
        warnings.add(BEYOND, place, len(beyond))
        aborts.always.append(f"{place}: is after the last frame of the video (RuntimeError)")
    keep = np.flatnonzero(there & (rows.at < frames[video]))
    owner = rows.owner[keep]
    objects = FrameObjects(
        first[video[keep]] + rows.at[keep], tracks.record[owner], tracks.category[owner], rows.box[keep],
        rows.mask[keep], tracks.record[owner], masks, area,
    )  # fmt: skip
    place_of = dict(zip(tracks.record.tolist(), where, strict=True))
    return _overlap_batch(objects, len(tracks.record), scene, lambda r: place_of[r], warnings, aborts)


def _overlap_batch(
    objects: FrameObjects,
    tracks: int,
    scene: TetaScene,
    place: Callable[[int], str],
    warnings: Warnings,
    aborts: Aborts,
) -> _Batch:
    """Overlap objects with the truth; their categories become numbers of classes."""
    unlisted = np.flatnonzero(~np.isin(objects.category, list(scene.categories)))
    if len(unlisted):
        warnings.add(
            UNLISTED_CATEGORY, place(int(objects.record[unlisted[0]])), len(np.unique(objects.record[unlisted]))
        )
    overlaps = overlap_objects(scene.steps, replace(objects, category=scene.class_of(objects.category)))
    read = scene.evaluated[scene.video_of_frame[scene.steps.frame_of[overlaps.step]]]
    for row in np.flatnonzero(read & ~overlaps.has_mask)[:1].tolist():
        aborts.on_masks.append(f"{place(int(overlaps.record[row]))}: has a box and no mask (TypeError)")
    for row in np.flatnonzero(read & overlaps.unequal)[:1].tolist():
        what = "a mask differs in size from an annotated one whose box it overlaps (AssertionError)"
        aborts.on_masks.append(f"{place(int(overlaps.record[row]))}: {what}")
    for row in np.flatnonzero(read & overlaps.listed)[:1].tolist():
        aborts.on_masks.append(f"{place(int(overlaps.record[row]))}: its mask is not a compressed one (TypeError)")
    return _Batch(overlaps, tracks, len(objects.frame), warnings, aborts)


def _joined(
    batches: Iterable[_Batch], place: Callable[[int], str], videos: Flags, warnings: Warnings, aborts: Aborts
) -> TetaPredictions:
    overlaps, tracks, objects = [], 0, 0
    for batch in batches:
        overlaps.append(batch.overlaps)
        tracks += batch.tracks
        objects += batch.objects
        aborts.always.extend(batch.aborts.always)
        aborts.on_masks.extend(batch.aborts.on_masks)
        for kind, (count, first) in batch.warnings.found.items():
            warnings.add(kind, first, count)
    return TetaPredictions(overlaps, tracks, objects, place, videos)


def _frames(annotations: Annotations) -> Ints:
    """The number of frames of each video: that of its file names, or its length where it has none."""
    return np.array([len(v.file_names) or v.length for v in annotations.videos], np.int64)


def _file_order(listed: Sequence[int], ids: Ints) -> Ints:
    """Positions in the ascending ``ids`` in the order of the file."""
    kept = set(ids.tolist())
    order: Ints = np.searchsorted(ids, np.array([one for one in listed if one in kept] or ids, np.int64))
    return order


def _sequence(annotations: Annotations, video: VideoRecord) -> str:
    """The name by which the official tool knows a video: the folder of its first frame; in COCO-video form its own."""
    names, shown = video.file_names, str(annotations.stated_video(video.id))
    name = video.name if annotations.per_frame else names[0].rpartition("/")[0] if names else shown
    return name.replace("/", "-")


def _rows(count: Ints, lists: _Lists, masks: MaskTable, area: Ints) -> _Rows:
    """The first ``count (tracks,)`` frames of tracks; where a track states no boxes those of its masks."""
    owner = np.repeat(np.arange(len(count)), count)
    at = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    mask = np.full(len(owner), -1, np.int64)
    masked = np.flatnonzero(at < np.diff(masks.track)[owner])
    in_table = masks.track[owner[masked]] + at[masked]
    mask[masked] = masks.frame_mask[in_table]
    box = np.full((len(owner), 4), np.nan)
    stated = np.flatnonzero(lists.stated[owner])
    box[stated] = lists.box[lists.first[owner[stated]] + at[stated]]
    if not lists.stated.all():
        bare = np.flatnonzero(~lists.stated[owner[masked]])
        box[masked[bare]] = _boxes(masks)[in_table[bare]]
        box[masked[bare][np.append(area, 0)[mask[masked[bare]]] == 0]] = np.nan
    return _Rows(owner, at, mask, box, ~np.isnan(box[:, 0]))


def _boxes(masks: MaskTable) -> Floats:
    """Boxes ``(frames, 4)`` of masks: x, y, width, height."""
    corners = boxes_of(masks).astype(np.float64)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)


def _areas(masks: MaskTable, names: Sequence[str]) -> Ints:
    """Areas of the masks in use. Raises `UserError` for those that are not run-length encodings."""
    used = np.zeros(len(masks.start), np.bool_)
    used[masks.frame_mask[masks.frame_mask >= 0]] = True
    area = rle.areas(*masks.arrays()[:6], used)
    if (area < 0).any():
        refuse_faults(area, masks, names)
    return np.asarray(area, np.int64)


def _columns(block: Block, truths: GroundTruthArrays, path: str, warnings: Warnings) -> ResultColumns:
    """Ids and scores of all records of a block; a record may be without masks if it has boxes."""
    for at in np.flatnonzero(block.spans[:, 3] == 0)[:1].tolist():
        where = f"{path}, record {block.first + at}"
        start, stop = block.spans[at, :2].tolist()
        refuse_foreign_record(lenient.loads(block.text[start:stop].tobytes(), where), where)
    try:
        if truths.annotations.renumbered:
            raise OverflowError
        records = decode_records(block.text.data, block.spans, list[_Head], path)
        columns = ResultColumns(
            np.array([r.video_id for r in records], np.int64), np.array([r.category_id for r in records], np.int64),
            np.array([r.score for r in records], np.float64),
        )  # fmt: skip
    except (UserError, OverflowError):
        columns = lenient_columns(block, truths, path, warnings)
    _, known = positions(truths.video_ids, columns.video_id)
    if not known.all():
        at = int(np.argmin(known))
        raise unknown_video(int(columns.video_id[at]), truths.annotations.ids[0], f"{path}, record {block.first + at}")
    if not np.isfinite(columns.score).all():
        at = int(np.argmin(np.isfinite(columns.score)))
        raise UserError(f"{path}, record {block.first + at}", f"score is {columns.score[at]}", "write a finite number")
    odd = (columns.score < 0) | (columns.score > 1)
    if odd.any():
        warnings.add("score outside [0, 1]", f"{path}, record {block.first + int(np.argmax(odd))}", int(odd.sum()))
    return columns


def _lists(block: Block, number: Ints, path: str) -> _Lists:
    """The boxes of the records of a block, which are numbered by ``number``."""
    try:
        records = decode_records(block.text.data, block.spans, list[_Boxes], path)
    except UserError:
        records = []
        for n, (start, stop, mask_start, mask_stop) in zip(number.tolist(), block.spans.tolist(), strict=True):
            where = f"{path}, record {n}"
            head = block.text[start : mask_start if mask_stop else stop].tobytes()
            text = head + b"0" + block.text[mask_stop:stop].tobytes() if mask_stop else head
            record = lenient.loads(text, where)
            if not mask_stop:
                refuse_foreign_record(record, where)
            records.append(convert(record, _Boxes, where))
    return _flat([(one.bboxes, one.areas) for one in records])


def _flat(records: Sequence[tuple[object, object]]) -> _Lists:
    """Boxes and lengths of areas of records, flat."""
    given = [boxes if isinstance(boxes, list) else [] for boxes, _ in records]
    first = np.concatenate([[0], np.cumsum([len(one) for one in given])]).astype(np.int64)
    nothing = (np.nan,) * 4
    flat = [nothing if box is None else box for one in given for box in one]
    stated = np.array([isinstance(boxes, list) for boxes, _ in records], np.bool_)
    areas = [len(areas) if isinstance(areas, list) else -1 if areas is None else 0 for _, areas in records]
    return _Lists(first, np.array(flat, np.float64).reshape(-1, 4), stated, np.array(areas, np.int64))


def _objects(detections: Sequence[Detection], frames: _FrameTable, names: Sequence[str]) -> FrameObjects:
    """Objects of a file in COCO-video form; boxes that are missing are nan."""
    frame = np.array([frames.frame_of[one.image_id] for one in detections], np.int64)
    masks = coco_video.masks_of_detections(detections, names, [frames.size[f] for f in frame.tolist()])
    category = np.array([frames.merged.get(one.category_id, one.category_id) for one in detections], np.int64)
    box = np.array([(np.nan,) * 4 if one.bbox is None else one.bbox for one in detections], np.float64).reshape(-1, 4)
    return FrameObjects(
        frame, np.array([one.track for one in detections], np.int64), category, box, masks.frame_mask.astype(np.int64),
        np.arange(len(detections)), masks, _areas(masks, names),
    )  # fmt: skip


def _with_boxes_of_masks(objects: FrameObjects) -> FrameObjects:
    """The objects with the boxes of their masks where none is stated."""
    bare = np.flatnonzero(np.isnan(objects.box).any(1) & (objects.mask >= 0))
    if not len(bare):
        return objects
    box = objects.box.copy()
    box[bare] = _boxes(objects.masks)[bare]
    return replace(objects, box=box)


def _note_unreadable(objects: FrameObjects, aborts: Aborts, place: Callable[[int], str]) -> None:
    """Note annotated objects whose masks the official tool cannot read."""
    kind = np.append(objects.masks.kind, rle.ESCAPED)[objects.mask]
    for row in np.flatnonzero(objects.mask < 0)[:1].tolist():
        aborts.on_masks.append(f"{place(int(objects.record[row]))}: has a box and no mask (TypeError)")
    for row in np.flatnonzero(kind != rle.ESCAPED)[:1].tolist():
        aborts.on_masks.append(f"{place(int(objects.record[row]))}: its mask is not a compressed one (TypeError)")


def _note_missing_keys(file: CocoVideo, federated: bool, aborts: Aborts) -> None:
    """Note keys without which the official tool aborts."""
    key = "frame_index" if federated else "frame_id"
    missing = [f"image {i.id}: has no {key}" for i in file.images if getattr(i, key) is None]
    missing += [f"video {v.id}: has no name" for v in file.videos if v.name is None]
    if federated:
        for name in ("neg_category_ids", "not_exhaustive_category_ids"):
            missing += [f"video {v.id}: has no {name}" for v in file.videos if getattr(v, name) is None]
        bare = (at for at, one in enumerate(file.annotations) if one.video_id is None)
        missing += [f"annotations[{at}]: has no video_id" for at in bare]
        if not file.has_tracks:
            missing.append("has no tracks")
    aborts.always.extend(f"{file.path}, {what} (KeyError)" for what in missing)
