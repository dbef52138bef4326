"""The common form of all conversions: videos with their frames' names, and one mask or none per frame."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from harness.arrays import Mask
from harness.errors import UserError
from harness.formats.youtube_vis import draw_polygons
from harness.frame_folder import frame_names
from harness.masks import Rle
from harness.warnings import Warnings

MOST_TRACK_PIXELS = 1 << 31
"""Frames have fewer pixels: COCO's run-length encoding counts them in 32 bits."""
_LARGEST = 1e6


@dataclass
class ObjectTrack:
    """One object through one video: its number in the video, its category, a mask or ``None`` per frame; predictions
    have a score."""

    id: int
    category_id: int
    masks: list[Rle | None]
    score: float | None = None
    is_crowd: bool = False


@dataclass
class ConvertedVideo:
    """A video: ``file_names`` are its frames in order; sizes in pixels."""

    id: int
    name: str
    height: int
    width: int
    file_names: tuple[str, ...]
    tracks: list[ObjectTrack] = field(default_factory=list)


@dataclass
class TrackSet:
    """Videos with their tracks, categories by id, and what reading left out or filled in."""

    videos: list[ConvertedVideo]
    categories: dict[int, str]
    warnings: Warnings = field(default_factory=Warnings)


class CategoryIds:
    """Numbers of category names, from 1 in order of first use."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._ids: dict[str, int] = {}
        for name in names:
            self.of(name)

    def of(self, name: str) -> int:
        """The number of a name."""
        return self._ids.setdefault(name, len(self._ids) + 1)

    def by_id(self) -> dict[int, str]:
        """All names by number."""
        return {number: name for name, number in self._ids.items()}


def encoded(mask: Mask) -> Rle | None:
    """A mask as a run-length encoding; ``None`` for an empty one."""
    from pycocotools import mask as coco

    if not mask.any():
        return None
    found = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return Rle((int(found["size"][0]), int(found["size"][1])), bytes(found["counts"]))


def decoded(mask: Rle) -> Mask:
    """The pixels of a mask."""
    from pycocotools import mask as coco

    return cast(Mask, coco.decode({"size": list(mask.size), "counts": mask.counts}).astype(bool))


def drawn(polygons: Sequence[Any], height: int, width: int, where: str) -> Rle | None:
    """The mask of polygons ``[x, y, x, y, ...]`` in pixels, united; ``None`` where they cover no pixel.

    Raises `UserError` that begins with ``where`` for what are no polygons; those of fewer than three points are none.
    """
    from pycocotools import mask as coco

    whole = [one for one in polygons if not isinstance(one, list) or len(one) >= 6]
    if not whole:
        return None
    mask = Rle((height, width), draw_polygons(whole, (height, width), where))
    return mask if coco.area({"size": [height, width], "counts": mask.counts}) else None


def boxed(values: Sequence[Any], height: int, width: int, where: str) -> Rle | None:
    """The mask of a box ``[x, y, width, height]`` in pixels; raises `UserError` for other values."""
    if len(values) != 4 or not all(isinstance(v, (int, float)) and abs(v) < _LARGEST for v in values):
        raise UserError(where, f"box {list(values)!r} is not four numbers", "correct it")
    x, y, w, h = (float(v) for v in values)
    return drawn([[x, y, x + w, y, x + w, y + h, x, y + h]], height, width, where)


def area(mask: Rle) -> int:
    """Pixels of a mask."""
    from pycocotools import mask as coco

    return int(coco.area({"size": list(mask.size), "counts": mask.counts}))


def box(mask: Rle) -> list[float]:
    """The box around a mask: ``[x, y, width, height]`` in pixels."""
    from pycocotools import mask as coco

    return [float(v) for v in coco.toBbox({"size": list(mask.size), "counts": mask.counts})]


def mask_record(mask: Rle) -> dict[str, Any]:
    """A mask as JSON has it."""
    return {"size": list(mask.size), "counts": mask.counts.decode("ascii")}


def youtube_vis_document(tracks: TrackSet) -> dict[str, Any]:
    """Annotations in YouTube-VIS form; tracks are numbered from 1 over all videos."""
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for video in tracks.videos:
        size = {"width": video.width, "height": video.height, "length": len(video.file_names)}
        videos.append({"id": video.id, "name": video.name, **size, "file_names": list(video.file_names)})
        for track in video.tracks:
            masks = track.masks
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": video.id,
                    "category_id": track.category_id,
                    "iscrowd": int(track.is_crowd),
                    **size,
                    "segmentations": [None if m is None else mask_record(m) for m in masks],
                    "areas": [None if m is None else area(m) for m in masks],
                    "bboxes": [None if m is None else box(m) for m in masks],
                }
            )
    categories = [{"id": number, "name": name} for number, name in sorted(tracks.categories.items())]
    return {"videos": videos, "categories": categories, "annotations": annotations}


def results_list(tracks: TrackSet) -> list[dict[str, Any]]:
    """Tracks as an official results list; those without a score have 1."""
    return [
        {
            "video_id": video.id,
            "category_id": track.category_id,
            "score": 1.0 if track.score is None else track.score,
            "segmentations": [None if m is None else mask_record(m) for m in track.masks],
        }
        for video in tracks.videos
        for track in video.tracks
    ]


def json_text(document: Any) -> bytes:
    """A document as UTF-8 JSON, one line."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def read_document(path: Path) -> Any:
    """A JSON document in any container and encoding that is read; raises `UserError`."""
    from harness.formats import lenient
    from harness.formats.containers import read_json

    return lenient.loads(read_json(path)[0], str(path))


def read_integer(value: Any, where: str, what: str) -> int:
    """A whole number of a document; raises `UserError` where it is none."""
    from harness.formats import lenient

    found = lenient.whole(value)
    if found is None:
        raise UserError(where, f"{what} is {value!r}, not a whole number", "correct it")
    return found[0]


def record_list(document: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """A list of objects of a document; raises `UserError` where it is none."""
    found = document.get(key)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UserError(where, f'has no list of objects under "{key}"', "name a file of the form given with --from")
    return found


def frame_paths(folder: Path, name: str) -> list[str]:
    """Names of a video's frames below the folder of all frames (or in it, where there is no folder of its name), in
    their order; see `harness.frame_folder.frame_names`."""
    inner = (folder / name).is_dir()
    names = frame_names(folder / name if inner else folder)
    return [f"{name}/{one}" for one in names] if inner else names


def frame_size(file: Path) -> tuple[int, int]:
    """Height and width of a frame."""
    from harness.image_files import header_size

    return header_size(file, (0, 0))


def rle_fault(counts: bytes, height: int, width: int) -> str:
    """What is wrong with a compressed run-length encoding of a frame; empty where nothing is."""
    from harness import rle

    one = np.ones(1, np.int64)
    size = (one * height).astype(np.int32), (one * width).astype(np.int32)
    kind = np.full(1, rle.COMPRESSED, np.int8)
    found = rle.areas(np.frombuffer(counts, np.uint8), 0 * one, one * len(counts), kind, *size, np.ones(1, np.bool_))
    return rle.RLE_FAULTS[int(found[0])] if found[0] < 0 else ""
