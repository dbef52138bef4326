"""Annotations in YouTube-VIS form, as LV-VIS, YouTube-VIS and OVIS release them and BURST is converted to.

Masks may be compressed or uncompressed run-length encodings or polygons; they stay text until they are scored.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness import rle
from harness.arrays import Ints
from harness.errors import UserError
from harness.formats import lenient, scan
from harness.formats.absence import Absence, absence_of, source_numbers
from harness.formats.containers import read_json
from harness.formats.foreign import refuse_foreign_annotations
from harness.formats.lenient import Ids, Note, Notes, StatedId
from harness.formats.segmentations import (
    SEGMENTATIONS,
    NewMask,
    convert,
    decode_record,
    find_masks,
    mask_of,
    with_masks,
)
from harness.input_files import decode_json
from harness.masks import Rle
from harness.paths import in_unicode
from harness.rle import MaskTable

_MOST_PIXELS = 1 << 31
"""Frames have fewer pixels: COCO's run-length encoding counts them in 32 bits."""
_ANNOTATIONS = np.frombuffer(b'annotations"', np.uint8)
_NO_SPANS = np.empty(0, np.int64)
ANNOTATION_OF_UNKNOWN_VIDEO = "annotation of a video that the file does not list, left out"
ANNOTATION_OF_UNKNOWN_CATEGORY = "annotation of a category that the file does not list, left out"
"""The notes on annotations that the official tools do not see."""
UNLISTED = "category is in neither list of class_split.json, and in neither group"
"""The note on BURST's categories that are neither common nor uncommon."""
NO_FREQUENCY = "category has no LVIS frequency, and is neither base nor novel"
"""The note on BURST's categories that are not in its list."""
_LONGEST_OUTLINE = 1 << 21
"""Pixels along the polygons of a mask. COCO's rule stores five places per pixel, so that a few numbers could fill the
memory."""
_ALL_OUTLINES, _OUTLINE_PER_BYTE = 1 << 28, 256
"""Pixels along all polygons of a file, and further ones for each byte of their text: a rectangle of half a 4K frame has
some 150 per byte. Drawn, they take about as many bytes."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """A video as the annotations state it; sizes in pixels, ``length`` in frames.

    ``file_names`` are as the file has them, and may be fewer than ``length``; only a run needs them.
    """

    id: int
    name: str
    height: int
    width: int
    length: int
    file_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CategoryRecord:
    """A category as the annotations state it; ``partition``, ``frequency`` and ``split`` define its groups."""

    id: int
    name: str
    partition: int | None = None
    frequency: str | None = None
    split: str | None = None
    synonyms: tuple[str, ...] = ()


class TruthTrack(NamedTuple):
    """One annotated object through one video; a mask or ``None`` per frame."""

    id: int
    video_id: int
    category_id: int
    is_crowd: bool
    masks: tuple[Rle | None, ...]


class _Video(msgspec.Struct):
    id: int
    width: int
    height: int
    length: int | None = None
    file_names: list[str] | None = None
    name: str | None = None
    video_name: str | None = None
    neg_category_ids: Any = None
    not_exhaustive_category_ids: Any = None


class _Category(msgspec.Struct):
    id: int
    name: str
    partition: int | None = None
    frequency: str | None = None
    split: str | None = None
    synonyms: list[str] | None = None


class _Pair(msgspec.Struct):
    video_id: int
    category_id: int


class _File(msgspec.Struct):
    videos: list[_Video]
    categories: list[_Category]
    annotations: msgspec.Raw = msgspec.Raw(b"")
    video_np_pairs: list[_Pair] | None = None
    exhaustive: Any = None
    cate_ori: Any = None


class _Form(msgspec.Struct):
    sequences: msgspec.Raw = msgspec.Raw(b"")


class _OddIdsError(Exception):
    """Ids that strict reading takes and arrays do not hold."""


class AnnotationRecord(msgspec.Struct):
    """An annotation without its masks; a field that the file lacks is ``UNSET`` (some protocols need it)."""

    id: int
    video_id: int
    category_id: int
    iscrowd: int | msgspec.UnsetType | None = msgspec.UNSET
    areas: list[float | None] | msgspec.UnsetType | None = msgspec.UNSET
    occlusion: list[str | None] | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def is_crowd(self) -> bool:
        """Whether it is a crowd: in the official tools, any number but 0."""
        return isinstance(self.iscrowd, int) and self.iscrowd != 0


class _OddRecord(msgspec.Struct):
    """An annotation whose fields that only some protocols read may have any form."""

    id: int
    video_id: int
    category_id: int
    iscrowd: Any = msgspec.UNSET
    areas: Any = msgspec.UNSET
    occlusion: Any = msgspec.UNSET


@dataclass(frozen=True)
class GroundTruth:
    """The annotated tracks, in file order; ``masks`` has them in the same order."""

    path: str
    records: tuple[AnnotationRecord, ...]
    masks: MaskTable
    spans: Ints
    """Where each record is in ``masks.data``, see `harness.formats.scan.scan_records`."""

    def further(self, kind: type[T]) -> list[T]:
        """Further fields of every record, as ``kind`` names them; numbers that are not finite are read as such."""
        data: Any = self.masks.data.data
        try:
            found: list[T] = decode_records(data, self.spans, list[kind], self.path)  # type: ignore[valid-type]
        except UserError:
            parts = _without_masks(data, self.spans)
            found = [
                convert(lenient.loads(part, self.path), kind, f"{self.path}, annotation {record.id}")
                for part, record in zip(parts, self.records, strict=True)
            ]
        return found

    def __repr__(self) -> str:
        return f"GroundTruth({self.path}, {len(self.records)} tracks)"

    def tracks_of(self, video_id: int) -> list[TruthTrack]:
        """The tracks of one video, in file order, with their masks. Raises `UserError` for faulty masks."""
        return [self._track(t) for t in self._by_video.get(video_id, ())]

    @cached_property
    def _by_video(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for t, record in enumerate(self.records):
            found.setdefault(record.video_id, []).append(t)
        return found

    def _track(self, t: int) -> TruthTrack:
        record, table = self.records[t], self.masks
        rows = table.frame_mask[table.track[t] : table.track[t + 1]]
        _refuse_faults(table, rows, f"{self.path}, annotation {record.id}")
        masks = tuple(None if m < 0 else mask_of(table, int(m)) for m in rows)
        return TruthTrack(record.id, record.video_id, record.category_id, record.is_crowd, masks)


@dataclass(frozen=True)
class Annotations:
    """A parsed annotation file: videos and categories by ascending id; ``truth`` is ``None`` where it is withheld.

    ``lists_truth`` tells whether the file has the key ``annotations``, even if it is null. Official tools read a file
    without it as one without objects, so `scored_truth` is then an empty truth. ``pairs`` are the ids of video and
    category of every phrase asked for in a video (SA-Co's ``video_np_pairs``), ``None`` where the file lists none:
    then every category is asked for in every video. ``absence`` says where a category without annotation is known to be
    absent, ``None`` where nothing is known. ``notes`` say which values were read leniently,
    see `harness.formats.lenient`; ``video_ids`` and ``category_ids`` are set only then.
    ``remarks`` are sentences on choices made when the file was read.
    ``listed_videos`` and ``listed_categories`` are the ids in the order of the file. ``per_frame`` tells whether it is
    in COCO-video form, with one annotation per object and frame, and ``in_burst_form`` whether it is in BURST's own.
    """

    path: str
    videos: tuple[VideoRecord, ...]
    categories: tuple[CategoryRecord, ...]
    truth: GroundTruth | None
    digest: str
    lists_truth: bool = True
    pairs: tuple[tuple[int, int], ...] | None = None
    absence: Absence | None = None
    notes: tuple[Note, ...] = ()
    video_ids: Ids | None = None
    category_ids: Ids | None = None
    remarks: tuple[str, ...] = ()
    listed_videos: tuple[int, ...] = ()
    listed_categories: tuple[int, ...] = ()
    per_frame: bool = False
    in_burst_form: bool = False

    def __repr__(self) -> str:
        size = f"{len(self.videos)} videos, {len(self.categories)} categories"
        return f"Annotations({self.path}: {size}, {'no truth' if self.truth is None else self.truth})"

    @property
    def read_leniently(self) -> bool:
        """Whether strict reading failed: fields that only some protocols read may then have any form."""
        return self.video_ids is not None

    @cached_property
    def renumbered(self) -> str:
        """What is renumbered here because its ids are not 64-bit integers: nothing, videos or categories."""
        for what, ids in (("videos", self.video_ids), ("categories", self.category_ids)):
            if ids is not None and not ids.are_themselves:
                return what
        return ""

    def stated_video(self, video_id: int) -> StatedId:
        """The id of a video as the file states it."""
        return video_id if self.video_ids is None else self.video_ids.by_id[video_id]

    def stated_category(self, category_id: int) -> StatedId:
        """The id of a category as the file states it."""
        return category_id if self.category_ids is None else self.category_ids.by_id[category_id]

    @cached_property
    def ids(self) -> tuple[Ids, Ids]:
        """The ids of videos and of categories, as the file states them."""
        videos = self.video_ids or number_ids_of(self.videos, self.path, "videos")
        return videos, self.category_ids or number_ids_of(self.categories, self.path, "categories")

    @property
    def scored_truth(self) -> GroundTruth | None:
        """The truth to score by, ``None`` where it is withheld."""
        if self.truth is None and not self.lists_truth:
            table = find_masks(np.empty(0, np.uint8), _NO_SPANS, _NO_SPANS, 0, []).table
            return GroundTruth(self.path, (), table, np.empty((0, 4), np.int64))
        return self.truth

    def restrict(self, videos: Iterable[int]) -> Annotations:
        """The same annotations with these videos only."""
        keep = set(videos)
        truth = self.truth
        if truth is not None:
            chosen = [t for t, record in enumerate(truth.records) if record.video_id in keep]
            records = tuple(truth.records[t] for t in chosen)
            truth = GroundTruth(truth.path, records, take_tracks(truth.masks, chosen), truth.spans[chosen])
        pairs = None if self.pairs is None else tuple(pair for pair in self.pairs if pair[0] in keep)
        return replace(self, videos=tuple(v for v in self.videos if v.id in keep), truth=truth, pairs=pairs)


def take_tracks(table: MaskTable, tracks: list[int]) -> MaskTable:
    """The table with these tracks only; masks are not moved."""
    rows = [table.frame_mask[table.track[t] : table.track[t + 1]] for t in tracks]
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    return replace(table, track=offsets, frame_mask=np.concatenate([np.empty(0, np.int32), *rows]))


def read_annotations(path: Path) -> Annotations:
    """Read an annotation file in YouTube-VIS form, or one in BURST's form, which is converted in memory.

    It may be packed or in any of Unicode's encodings, see `harness.formats.containers`. Raises `UserError` for a file
    that is missing, malformed, inconsistent or of another form.
    """
    raw, file = read_json(Path(path))
    with ThreadPoolExecutor(1) as pool:  # hashing and parsing take about the same time
        digest = pool.submit(lambda: hashlib.sha256(file).hexdigest())
        annotations = _read(raw, Path(path))
    return replace(annotations, digest=digest.result())


def _read(raw: bytes, path: Path) -> Annotations:
    """Read the text of an annotation file in either form, without its digest."""
    name = in_unicode(path)
    try:
        return _parse_strictly(raw, name, "")
    except (UserError, _OddIdsError):
        if not _is_burst(raw):
            return _parse_leniently(raw, name, "")
    from harness.formats import burst

    converted = burst.convert_file(path)
    annotations = _parse(msgspec.json.encode(converted.document), name, "")
    notes = Notes({note.kind: note for note in annotations.notes})
    for unlisted in converted.unlisted:
        notes.add(UNLISTED, f"{name}, category {unlisted}", field="split")
    for unknown in converted.unknown:
        notes.add(NO_FREQUENCY, f"{name}, category {unknown}", field="split")
    return replace(annotations, notes=notes.record(), remarks=(converted.class_list,), in_burst_form=True)


def _is_burst(raw: bytes) -> bool:
    try:
        return bool(bytes(decode_json(raw, _Form).sequences))
    except msgspec.MsgspecError:
        return False


def annotations_from_document(document: dict[str, Any], name: str) -> Annotations:
    """Annotations from a document in memory, checked as a file's would be; ``name`` stands in for the path."""
    raw = msgspec.json.encode(document, order="deterministic")
    return _parse(raw, name, hashlib.sha256(raw).hexdigest())


def _parse(raw: bytes, name: str, digest: str) -> Annotations:
    try:
        return _parse_strictly(raw, name, digest)
    except (UserError, _OddIdsError):
        return _parse_leniently(raw, name, digest)


def _parse_strictly(raw: bytes, name: str, digest: str) -> Annotations:
    """Annotations whose every field is as specified."""
    file = decode_record(raw, _File, name)
    videos, categories = _videos(file.videos, name), _categories(file.categories, name)
    for listed in (videos, categories):
        if listed and not -scan.LARGEST <= listed[0].id <= listed[-1].id <= scan.LARGEST:
            raise _OddIdsError
    truth, notes = None, Notes()
    text = np.frombuffer(memoryview(file.annotations), np.uint8)  # no copy: these files are large
    if _is_given(text):
        spans = record_spans(text, name)
        records = decode_records(text.data, spans, list[AnnotationRecord], name)
        truth = _ground_truth(text, spans, records, name, videos, categories, notes, file.video_np_pairs is not None)
    pairs = None if file.video_np_pairs is None else [(p.video_id, p.category_id) for p in file.video_np_pairs]
    asked = _pairs(pairs, videos, name)
    sources, known = source_numbers(file.cate_ori), {category.id for category in categories}

    def number(one: Any) -> int | None:
        found = one if sources is None else sources.get(one)
        return found if found in known else None

    absence = _absence(file, asked, number)
    return Annotations(
        name, videos, categories, truth, digest, len(text) > 0, asked, absence, notes.record(),
        listed_videos=tuple(v.id for v in file.videos), listed_categories=tuple(c.id for c in file.categories),
    )  # fmt: skip


def _absence(
    file: _File, pairs: tuple[tuple[int, int], ...] | None, number: Callable[[Any], int | None]
) -> Absence | None:
    videos = ((v.id, v.neg_category_ids, v.not_exhaustive_category_ids) for v in file.videos)
    return absence_of(file.exhaustive, videos, pairs, number)


def _parse_leniently(raw: bytes, name: str, digest: str) -> Annotations:
    """Annotations read leniently; the masks still stay text."""
    text, rest = _without_annotations(raw, name)
    document = lenient.loads(rest, name)
    refuse_foreign_annotations(document, text.tobytes()[:65536], name)
    lists = convert(document, _Lists, name)
    file: dict[str, list[dict[str, Any]]] = lists.by_name()
    notes, ids = Notes(), {}
    for what, records in file.items():
        keys = []
        for at, record in enumerate(records):
            where = f"{name}, {what}[{at}]"
            key, form = lenient.key_of(record.get("id"), where, "id")
            keys.append(key)
            if form:
                notes.add(f"id is {form}", where)
        _refuse_repeated(keys, f"{'video' if what == 'videos' else 'category'} id", name)
        ids[what] = lenient.number_ids(keys, name, what)
        coerce = lenient.coerce_video if what == "videos" else lenient.coerce_category
        file[what] = [
            coerce(record, f"{name}, {what}[{at}]", notes) | {"id": ids[what].by_key[key]}
            for at, (record, key) in enumerate(zip(records, keys, strict=True))
        ]
    checked = convert(file, _File, name)
    videos, categories = _videos(checked.videos, name, ids["videos"].by_id), _categories(checked.categories, name)
    truth = None
    if _is_given(text):
        spans = record_spans(text, name)
        records = lenient.loads(b"[" + b",".join(_without_masks(text.data, spans)) + b"]", name)
        found = []
        for at, record in enumerate(records):
            where = f"{name}, annotations[{at}]"
            odd = convert(
                lenient.coerce_annotation(record, ids["videos"], ids["categories"], where, notes), _OddRecord, where
            )
            found.append(AnnotationRecord(odd.id, odd.video_id, odd.category_id, odd.iscrowd, odd.areas, odd.occlusion))
        asks_pairs = lists.video_np_pairs is not None
        truth = _ground_truth(text, spans, found, name, videos, categories, notes, asks_pairs)
        videos = _measured(videos, truth)
    stated = None if lists.video_np_pairs is None else _stated_pairs(lists.video_np_pairs, ids, name, notes)
    asked = _pairs(stated, videos, name)
    checked.exhaustive = document.get("exhaustive")
    sources = source_numbers(document.get("cate_ori"))

    def number(one: Any) -> int | None:
        return ids["categories"].find(one, name, "category")[0] if sources is None else sources.get(one)

    absence = _absence(checked, asked, number)
    return Annotations(
        name, videos, categories, truth, digest, len(text) > 0, asked, absence, notes.record(), ids["videos"],
        ids["categories"], listed_videos=tuple(v.id for v in checked.videos),
        listed_categories=tuple(c.id for c in checked.categories),
    )  # fmt: skip


class _Lists(msgspec.Struct):
    videos: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    video_np_pairs: list[dict[str, Any]] | None = None

    def by_name(self) -> dict[str, list[dict[str, Any]]]:
        return {"videos": self.videos, "categories": self.categories}


def _stated_pairs(
    pairs: list[dict[str, Any]], ids: Mapping[str, Ids], name: str, notes: Notes
) -> list[tuple[int, int]]:
    """The integer ids of pairs of a video and a phrase. Raises `UserError` for unknown ones."""
    found = []
    for at, pair in enumerate(pairs):
        where, numbers = f"{name}, video_np_pairs[{at}]", []
        for key, what in (("video_id", "videos"), ("category_id", "categories")):
            number, form = ids[what].find(pair.get(key), where, key)
            if number is None and what == "categories" and ids[what].are_themselves and type(pair[key]) is int:
                number = pair[key]  # a phrase is identified by its id alone
            if number is None:
                named = key.removesuffix("_id")
                raise UserError(where, f"unknown {named} {pair.get(key)}", f"add the {named} or remove the pair")
            if form:
                notes.add(f"id is {form}", where)
            numbers.append(number)
        found.append((numbers[0], numbers[1]))
    return found


def _pairs(
    pairs: list[tuple[int, int]] | None, videos: tuple[VideoRecord, ...], name: str
) -> tuple[tuple[int, int], ...] | None:
    """Pairs of a video and a phrase. Raises `UserError` for one of an unknown video."""
    known = {video.id for video in videos}
    for at, (video, _) in enumerate(pairs or ()):
        if video not in known:
            hint = "add the video or remove the pair"
            raise UserError(f"{name}, video_np_pairs[{at}]", f"unknown video {video}", hint)
    return None if pairs is None else tuple(pairs)


def _without_annotations(raw: bytes, name: str) -> tuple[NDArray[np.uint8], bytes]:
    """The text of the value of ``annotations``, empty without it, and the file with ``null`` in its place."""
    text = np.frombuffer(raw, np.uint8)
    if raw.lstrip()[:1] != b"{":
        return text[:0], raw
    spans = np.zeros((1, 4), np.int64)
    scan.scan_records(text, 0, len(text), _ANNOTATIONS, True, spans)
    start, stop = spans[0, 2:].tolist()
    return text[start:stop], (raw[:start] + b"null" + raw[stop:] if stop else raw)


def _is_given(annotations: NDArray[np.uint8]) -> bool:
    return len(annotations) > 0 and annotations[:4].tobytes() != b"null"


def _videos(videos: list[_Video], name: str, stated: Mapping[int, StatedId] | None = None) -> tuple[VideoRecord, ...]:
    """The videos by ascending id; ``stated`` has their ids as the file states them, if those are others."""
    _refuse_repeated((v.id for v in videos), "video id", name)
    return tuple(
        _video(v, name, v.id if stated is None else stated[v.id], stated is not None)
        for v in sorted(videos, key=lambda v: v.id)
    )


def _categories(categories: list[_Category], name: str) -> tuple[CategoryRecord, ...]:
    _refuse_repeated((c.id for c in categories), "category id", name)
    return tuple(
        CategoryRecord(c.id, c.name, c.partition, c.frequency, c.split, tuple(c.synonyms or ()))
        for c in sorted(categories, key=lambda c: c.id)
    )


def number_ids_of(records: Iterable[VideoRecord | CategoryRecord], name: str, what: str) -> Ids:
    """The ids of records that strict reading accepted, unchanged."""
    return lenient.number_ids((record.id for record in records), name, what)


def _video(video: _Video, name: str, shown: StatedId, read_leniently: bool) -> VideoRecord:
    """A video as a record; only one that was read leniently may have no height or width."""
    files = tuple(video.file_names or ())
    length = video.length if video.length is not None else len(files)
    where = f"{name}, video {shown}"
    if not 0 <= length < lenient.VIDEO_SIZE_LIMIT:
        raise UserError(where, f"length is {length}", "write the number of frames")
    least = 0 if read_leniently else 1
    if min(video.height, video.width) < least or video.height * video.width >= _MOST_PIXELS:
        raise UserError(where, f"size {video.height}x{video.width} is not a frame's", "correct height and width")
    title = (
        video.name
        or video.video_name
        or (files[0].replace("\\", "/").rpartition("/")[0].rpartition("/")[2] if files else "")
    )
    return VideoRecord(video.id, title or str(shown), video.height, video.width, length, files)


def _refuse_repeated(ids: Iterable[int | str], what: str, name: str) -> None:
    for value, count in Counter(ids).items():
        if count > 1:
            raise UserError(name, f"{what} {value} occurs {count} times", "give each its own id")


def _ground_truth(
    text: NDArray[np.uint8],
    spans: Ints,
    records: list[AnnotationRecord],
    name: str,
    videos: tuple[VideoRecord, ...],
    categories: tuple[CategoryRecord, ...],
    notes: Notes,
    asks_pairs: bool,
) -> GroundTruth:
    """The truth of a file's records. Those of videos or categories that the file does not list are left out and
    counted; they are refused with ``asks_pairs``, where a phrase counts by its id alone."""
    known_videos, known_categories = {v.id: v for v in videos}, {c.id for c in categories}
    listed = np.array([r.video_id in known_videos and r.category_id in known_categories for r in records], np.bool_)
    for at in np.flatnonzero(~listed).tolist():
        of_category = records[at].video_id in known_videos
        where = f"{name}, annotation {records[at].id}"
        if asks_pairs:
            what = f"unknown {'category' if of_category else 'video'}"
            raise UserError(where, what, "add it to categories" if of_category else "add the video")
        notes.add(ANNOTATION_OF_UNKNOWN_CATEGORY if of_category else ANNOTATION_OF_UNKNOWN_VIDEO, where)
    records, spans = [records[at] for at in np.flatnonzero(listed).tolist()], spans[listed]
    names = [f"{name}, annotation {r.id}" for r in records]
    for where, span in zip(names, spans, strict=True):
        if not span[3]:
            raise UserError(where, "has no segmentations", "write one mask or null per frame")
    frames = sum(known_videos[r.video_id].length for r in records)
    found = find_masks(text, spans[:, 2].copy(), spans[:, 3].copy(), frames, names)
    table = found.table
    if len(found.other):
        sizes = [(known_videos[r.video_id].height, known_videos[r.video_id].width) for r in records]
        table = with_polygons(table, found.other, sizes, names, notes)
    return GroundTruth(name, tuple(records), table, spans)


def _measured(videos: tuple[VideoRecord, ...], truth: GroundTruth) -> tuple[VideoRecord, ...]:
    """The videos; those without height or width get the size of the first of their masks, if there is one."""
    if all(video.height and video.width for video in videos):
        return videos
    sizes: dict[int, tuple[int, int]] = {}
    table = truth.masks
    for t, record in enumerate(truth.records):
        used = [m for m in table.frame_mask[table.track[t] : table.track[t + 1]].tolist() if m >= 0]
        if used:
            sizes.setdefault(record.video_id, (int(table.height[used[0]]), int(table.width[used[0]])))
    measured = []
    for video in videos:
        height, width = (video.height, video.width) if video.height and video.width else sizes.get(video.id, (0, 0))
        measured.append(replace(video, height=height, width=width))
    return tuple(measured)


def record_spans(text: Any, name: str, key: Any = SEGMENTATIONS) -> Ints:
    """Spans ``(n, 4)`` of the objects in a JSON array of records and of ``key``'s value; see `scan.scan_records`."""
    if text[:1].tobytes() != b"[":
        raise UserError(name, "annotations is not a list", "write a list of annotations")
    spans = np.zeros((4096, 4), np.int64)
    while True:
        n, place, status = scan.scan_records(text, 1, len(text), key, True, spans)
        if status == scan.FULL:
            spans = np.zeros((len(spans) * 4, 4), np.int64)
            continue
        if status != scan.DONE:
            raise UserError(f"{name}, record {n}", f"is not an object (byte {place})", "write the file again")
        return spans[:n]


def decode_records(raw: bytes | memoryview, spans: Ints, kind: Any, name: str) -> Any:
    """Decode the records of an array without their masks, through msgspec: typed and checked."""
    text = np.frombuffer(raw, np.uint8)
    room = int(spans[:, 1].sum() - spans[:, 0].sum() - spans[:, 3].sum() + spans[:, 2].sum()) + 2 * len(spans) + 2
    found = np.empty(room, np.uint8)
    return decode_record(found[: scan.without_masks(text, spans, found)].tobytes(), kind, name)


def _without_masks(raw: bytes | memoryview, spans: Ints) -> list[bytes]:
    """The texts of records, with 0 in the place of their masks."""
    parts = []
    for start, stop, mask_start, mask_stop in spans.tolist():
        if mask_stop:
            parts.append(bytes(raw[start:mask_start]) + b"0" + bytes(raw[mask_stop:stop]))
        else:
            parts.append(bytes(raw[start:stop]))
    return parts


def _refuse_faults(table: MaskTable, rows: NDArray[np.int32], where: str) -> None:
    """Refuse masks that are not run-length encodings before a library decodes them."""
    used = rows[rows >= 0]
    columns = [column[used] for column in table.arrays()[1:6]]
    sizes = columns[3].astype(np.int64) * columns[4]
    area = np.where(sizes < _MOST_PIXELS, rle.areas(table.data, *columns, np.ones(len(used), np.bool_)), rle.OVERRUN)
    if (area < 0).any():
        first = int(np.argmax(area < 0))
        place = f"{where}, frame {int(np.flatnonzero(rows >= 0)[first])}"
        raise UserError(place, rle.RLE_FAULTS[int(area[first])], "encode the mask again at its stated size")


def with_polygons(
    table: MaskTable, other: Ints, sizes: Sequence[tuple[int, int]], names: Sequence[str], notes: Notes
) -> MaskTable:
    """Turn polygon entries into compressed encodings (COCO's rule; the parts are united) appended to the data.

    So are encodings whose size is written in another way, which is noted.
    """
    new = []
    room: float = _ALL_OUTLINES + _OUTLINE_PER_BYTE * int((table.stop[other] - table.start[other]).sum())
    owners = np.searchsorted(table.track, other, side="right") - 1
    for row, owner in zip(other.tolist(), owners.tolist(), strict=True):
        where = f"{names[owner]}, frame {row - int(table.track[owner])}"
        value: Any = lenient.loads(table.data[table.start[row] : table.stop[row]].tobytes(), where)
        mask = lenient.mask_entry(value)
        if mask is None:
            height, width = sizes[owner]
            if not height or not width:
                what = "is a polygon, and the height or width of its video cannot be read"
                raise UserError(where, what, "write both with the video")
            drawn = draw_polygons(value, (height, width), where)
            room -= sum(map(_outline, value))
            if room < 0:
                what = "the outlines of the polygons so far are too long to be drawn together"
                raise UserError(where, what, "draw them inside the frames, or write run-length encodings")
            new.append(NewMask(row, height, width, rle.COMPRESSED, drawn))
        else:
            new.append(NewMask(row, mask.height, mask.width, mask.kind, mask.counts))
            notes.add(f"size of a mask is {mask.form}", where)
    return with_masks(table, new)


def draw_polygons(polygons: Any, size: tuple[int, int], where: str) -> bytes:
    """The compressed encoding of polygons ``[[x, y, x, y, ...], ...]`` in pixels, united.

    Raises `UserError` for others.
    """
    from pycocotools import mask as coco

    if not _are_polygons(polygons):
        raise UserError(where, "mask is neither RLE nor polygons nor null", "write {size, counts} or polygons")
    if sum(map(_outline, polygons)) > _LONGEST_OUTLINE:
        what = f"the outline of its polygons is longer than {_LONGEST_OUTLINE} pixels"
        raise UserError(where, what, "draw it inside the frame")
    counts: bytes = coco.merge(coco.frPyObjects(polygons, *size))["counts"]
    return counts


def _are_polygons(value: Any) -> bool:
    """Whether pycocotools draws a value as polygons: the first part decides, a last number without its pair is cut."""
    if not isinstance(value, list) or not all(isinstance(part, list) for part in value) or len(value[0]) < 5:
        return False
    return all(isinstance(x, (int, float)) and abs(x) < 1e6 for part in value for x in part)


def _outline(polygon: list[float]) -> float:
    """Length of a polygon ``[x, y, x, y, ...]`` in steps of one pixel, as it is drawn."""
    corners = np.array(polygon[: len(polygon) // 2 * 2], np.float64).reshape(-1, 2)
    return float(np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1, initial=0).sum())
