"""Videos of boxes whose errors are known, as annotations and prediction stores: for tests of the analysis of errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco

from harness.formats.youtube_vis import Annotations, annotations_from_document
from harness.masks import Rle
from harness.run_folder.store import PredictionStore
from harness.types import Track, Video

HEIGHT, WIDTH = 20, 40
CAT, DOG, YAK, NONE = 1, 2, 3, 4
"""Categories; nothing of category ``NONE`` is ever annotated."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""
Boxes = Sequence[Box | None]


class Thing(NamedTuple):
    """An annotated object, or with a score a predicted track: a box or ``None`` per frame."""

    category: int
    boxes: Boxes
    score: float = 1.0
    video: int = 1


class NoFrames:
    """Frames that only their number is asked of."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, frame_index: int, /) -> Any:
        raise NotImplementedError


def pixels(box: Box | None) -> np.ndarray:
    """The mask of a box, boolean ``(height, width)``."""
    out = np.zeros((HEIGHT, WIDTH), np.bool_)
    if box is not None:
        out[box[1] : box[3], box[0] : box[2]] = True
    return out


def encoded(mask: np.ndarray) -> Rle:
    return Rle((HEIGHT, WIDTH), coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"])


def annotated(things: Iterable[Thing], videos: int = 1, frames: int = 10, **fields: Any) -> Annotations:
    """Annotations in LV-VIS form; ids from 1 in order. ``fields`` are added to every annotation."""
    names = {CAT: ("cat", 0), DOG: ("dog", 0), YAK: ("yak", 3), NONE: ("none", 3)}
    records = []
    for number, thing in enumerate(things, 1):
        masks = [None if box is None else encoded(pixels(box)) for box in thing.boxes]
        records.append(
            {
                "id": number,
                "video_id": thing.video,
                "category_id": thing.category,
                "iscrowd": 0,
                "areas": [None if box is None else int(pixels(box).sum()) for box in thing.boxes],
                "segmentations": [m and {"size": list(m.size), "counts": m.counts.decode()} for m in masks],
                **fields,
            }
        )
    size = {"height": HEIGHT, "width": WIDTH, "length": frames}
    document = {
        "videos": [
            {"id": v, **size, "file_names": [f"{v}/{f}.jpg" for f in range(frames)]} for v in range(1, videos + 1)
        ],
        "categories": [{"id": i, "name": name, "partition": part} for i, (name, part) in names.items()],
        "annotations": records,
    }
    return annotations_from_document(document, "scene")


def stored(folder: Path, annotations: Annotations, tracks: Sequence[Thing]) -> PredictionStore:
    """A store of tracks; rows of a video's shard are in the order given."""
    store = PredictionStore(folder)
    for record in annotations.videos:
        video = Video(record.id, record.name, record.height, record.width, NoFrames(record.length))
        mine = [
            Track(t.video, t.category, t.score, tuple(None if b is None else encoded(pixels(b)) for b in t.boxes))
            for t in tracks
            if t.video == record.id
        ]
        store.write_video(video, mine)
    return store
