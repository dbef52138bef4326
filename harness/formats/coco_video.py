"""COCO-video form, as TAO, BDD100K and OVT-B release their truth: one annotation per object and frame, images by video.

Predictions in this form are a list of such objects with an image id each. Boxes are ``[x, y, width, height]`` in
pixels; masks are optional.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from harness.formats import lenient
from harness.formats.containers import read_json
from harness.formats.results import Block, read_blocks
from harness.formats.segmentations import convert, decode_record, find_masks
from harness.formats.youtube_vis import decode_records, with_polygons
from harness.input_files import decode_json
from harness.rle import MaskTable

Box = tuple[float, float, float, float]


class ImageEntry(msgspec.Struct):
    """A frame of a video. TETA's two variants name its number differently."""

    id: int
    video_id: int
    frame_index: int | None = None
    frame_id: int | None = None
    file_name: str | None = None
    width: int | None = None
    height: int | None = None

    def number(self, federated: bool) -> int:
        """The number by which the official tool orders the frames of a video."""
        first, second = (self.frame_index, self.frame_id) if federated else (self.frame_id, self.frame_index)
        return first if first is not None else second if second is not None else self.id


class VideoEntry(msgspec.Struct):
    """A video; the lists say what is annotated in a federated data set."""

    id: int
    name: str | None = None
    width: int | None = None
    height: int | None = None
    neg_category_ids: list[int] | None = None
    not_exhaustive_category_ids: list[int] | None = None


class _Merged(msgspec.Struct):
    id: int


class CategoryEntry(msgspec.Struct):
    """A category; the federated variant merges those listed under ``merged`` into it."""

    id: int
    name: str
    merged: list[_Merged] = []
    frequency: str | None = None


class Detection(msgspec.Struct):
    """An object in a frame, annotated or predicted; ``segmentation`` stays text until it is scored."""

    image_id: int
    category_id: int
    track_id: int | None = None
    instance_id: int | None = None
    video_id: int | None = None
    bbox: Box | None = None
    score: float | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def track(self) -> int | None:
        """The track id, under either key."""
        return self.instance_id if self.track_id is None else self.track_id


class _Lists(msgspec.Struct):
    """The keys that identify the form."""

    images: msgspec.Raw = msgspec.Raw(b"")
    annotations: msgspec.Raw = msgspec.Raw(b"")
    categories: msgspec.Raw = msgspec.Raw(b"")
    videos: msgspec.Raw = msgspec.Raw(b"")
    tracks: msgspec.Raw = msgspec.Raw(b"")


@dataclass(frozen=True)
class CocoVideo:
    """A truth file, its lists in file order; ``has_tracks`` tells whether it lists tracks."""

    path: str
    videos: tuple[VideoEntry, ...]
    images: tuple[ImageEntry, ...]
    categories: tuple[CategoryEntry, ...]
    annotations: tuple[Detection, ...]
    has_tracks: bool


def is_coco_video(raw: bytes) -> bool:
    """Whether the text of an annotation file is in this form and not in that of YouTube-VIS."""
    try:
        lists = decode_json(raw, _Lists)
    except msgspec.MsgspecError:
        return False
    found = bytes(lists.annotations)
    return bool(bytes(lists.images)) and bool(bytes(lists.videos)) and b'"segmentations"' not in found


def read_coco_video(path: Path) -> CocoVideo | None:
    """Read a truth file; ``None`` for one in another form.

    Raises `UserError` for a file that is missing, malformed or inconsistent.
    """
    raw, _ = read_json(Path(path))
    if not is_coco_video(raw):
        return None
    name = str(path)
    lists = decode_record(raw, _Lists, name)
    empty = msgspec.Raw(b"[]")
    videos = _decode(lists.videos, VideoEntry, f"{name}, videos")
    images = _decode(lists.images, ImageEntry, f"{name}, images")
    categories = _decode(lists.categories if bytes(lists.categories) else empty, CategoryEntry, f"{name}, categories")
    annotations = _decode(lists.annotations if bytes(lists.annotations) else empty, Detection, f"{name}, annotations")
    for what, ids in (("video", [v.id for v in videos]), ("image", [i.id for i in images]),
                      ("category", [c.id for c in categories])):  # fmt: skip
        _refuse_repeated(ids, what, name)
    known_videos, video_of = {v.id for v in videos}, {i.id: i.video_id for i in images}
    for image in images:
        if image.video_id not in known_videos:
            raise UserError(f"{name}, image {image.id}", f"unknown video {image.video_id}", "add it to videos")
    for at, one in enumerate(annotations):
        where = f"{name}, annotations[{at}]"
        if one.image_id not in video_of:
            raise UserError(where, f"unknown image {one.image_id}", "add it to images or remove the annotation")
        if one.video_id is not None and one.video_id != video_of[one.image_id]:
            what = f"is of video {one.video_id}, its image {one.image_id} of video {video_of[one.image_id]}"
            raise UserError(where, what, "make them agree")
        if one.track is None:
            raise UserError(where, "has no track_id", "number the tracks")
    return CocoVideo(
        name, tuple(videos), tuple(images), tuple(categories), tuple(annotations), bool(bytes(lists.tracks))
    )


def read_detections(path: Path) -> Iterable[tuple[int, list[Detection]]]:
    """Yield the number of the first record and the records of a results file in this form, block by block.

    Raises `UserError` for a file that is not a JSON list of such records.
    """
    for block in read_blocks(Path(path)):
        yield block.first, _of_block(block, str(path))


def _of_block(block: Block, path: str) -> list[Detection]:
    try:
        found: list[Detection] = decode_records(block.text.data, block.spans, list[Detection], path)
        return found
    except UserError:
        out = []
        for at, (start, stop) in enumerate(block.spans[:, :2].tolist()):
            where = f"{path}, record {block.first + at}"
            record = lenient.loads(block.text[start:stop].tobytes(), where)
            if isinstance(record, dict) and "segmentations" in record and "image_id" not in record:
                what = "is a track in YouTube-VIS form, while the annotations are in COCO-video form"
                raise UserError(where, what, "write one record per object and frame, with image_id and bbox") from None
            out.append(convert(_coerced(record), Detection, where))
        return out


def masks_of_detections(
    detections: Sequence[Detection], names: Sequence[str], sizes: Sequence[tuple[int, int]]
) -> MaskTable:
    """The masks of objects, each as a track of one frame; polygons are drawn in frames of ``sizes``.

    Raises `UserError` for masks that cannot be read.
    """
    if not detections:
        none = np.empty(0, np.int64)
        return find_masks(np.empty(0, np.uint8), none, none, 0, []).table
    parts = [b"[" + bytes(one.segmentation).strip() + b"]" for one in detections]
    ends = np.cumsum([len(part) for part in parts])
    text: NDArray[np.uint8] = np.frombuffer(b"".join(parts), np.uint8)
    found = find_masks(
        text, np.concatenate([[0], ends[:-1]]).astype(np.int64), ends.astype(np.int64), len(parts), names
    )
    return with_polygons(found.table, found.other, sizes, names, lenient.Notes()) if len(found.other) else found.table


def _coerced(record: Any) -> Any:
    """A record with its ids as integers where possible, and its mask as text."""
    if not isinstance(record, dict):
        return record
    out = dict(record)
    for key in ("image_id", "category_id", "track_id", "instance_id", "video_id"):
        found = None if key not in out else lenient.whole(out[key])
        if found is not None:
            out[key] = found[0]
    if "segmentation" in out:
        out["segmentation"] = msgspec.Raw(msgspec.json.encode(out["segmentation"]))
    return out


def _decode(raw: msgspec.Raw, kind: Any, name: str) -> list[Any]:
    """Decode a list; values in another form are read leniently."""
    try:
        found: list[Any] = decode_record(raw, list[kind], name)
        return found
    except UserError:
        records = lenient.loads(bytes(raw), name)
        if not isinstance(records, list):
            raise
        return [convert(_with_whole_ids(_coerced(r)), kind, f"{name}[{at}]") for at, r in enumerate(records)]


def _with_whole_ids(record: Any) -> Any:
    if isinstance(record, dict):
        for key in ("id", "frame_index", "frame_id", "width", "height"):
            found = lenient.whole(record.get(key))
            if found is not None:
                record[key] = found[0]
    return record


def _refuse_repeated(ids: list[int], what: str, name: str) -> None:
    seen: set[int] = set()
    for one in ids:
        if one in seen:
            raise UserError(name, f"{what} id {one} occurs more than once", "give each its own id")
        seen.add(one)
