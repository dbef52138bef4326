"""Shapes: a small generated dataset of coloured shapes that cross, cover each other, leave and return.

Nothing is downloaded and nothing lies on disk: videos follow from the split's name and frames are drawn when they
are read. Categories are compositions of a colour and a shape; the novel ones never occur in the train split. Numbers
are drawn from `random.Random`, whose stream is the same in every Python, so that the digest is too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.categories import in_groups
from harness.datasets.completeness import CopyReport, Counts, SplitReport
from harness.errors import UserError, near
from harness.formats.youtube_vis import annotations_from_document
from harness.types import Dataset, Frames, Image, Video

HEIGHT, WIDTH = 96, 128
VIDEOS = 12
SEED = "shapes-1"
"""Part of every random choice: another dataset needs another seed."""
COLOURS = {
    "red": (214, 48, 49),
    "green": (46, 160, 67),
    "blue": (45, 98, 214),
    "yellow": (240, 200, 40),
    "purple": (142, 68, 173),
}
SHAPES = ("circle", "square", "triangle")
NOVEL = ("red triangle", "green circle", "blue square", "yellow triangle", "purple circle")
NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)

Pixels = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Body:
    """One object: category name, half size, place in frame 0 and velocity (x, y), in pixels (per frame)."""

    name: str
    radius: int
    start: tuple[int, int]
    velocity: tuple[int, int]

    def place(self, frame_index: int) -> tuple[int, int]:
        """Centre ``(x, y)``: it moves straight and turns back a little outside of the frame, so it may be gone."""
        margin = self.radius + 8
        return (
            _bounce(self.start[0] + frame_index * self.velocity[0], -margin, WIDTH + margin),
            _bounce(self.start[1] + frame_index * self.velocity[1], -margin, HEIGHT + margin),
        )

    def mask(self, frame_index: int) -> Pixels:
        """Its pixels ``(HEIGHT, WIDTH)`` as if nothing covered it; integer arithmetic, the same everywhere."""
        x, y = self.place(frame_index)
        rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
        right, down, r = columns - x, rows - y, self.radius
        if self.name.endswith("circle"):
            return np.asarray(right * right + down * down <= r * r)
        if self.name.endswith("square"):
            return np.asarray(np.maximum(abs(right), abs(down)) <= r - 2)
        return np.asarray((down <= r) & (2 * abs(right) <= down + r))


@dataclass(frozen=True, slots=True)
class Scene(Frames):
    """A video to be drawn: its bodies from back to front."""

    video_id: int
    length: int
    bodies: tuple[Body, ...]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, frame_index: int, /) -> Image:
        if not 0 <= frame_index < self.length:
            raise IndexError(frame_index)
        image = _background(self.video_id)
        for body in self.bodies:
            image[body.mask(frame_index)] = COLOURS[body.name.split()[0]]
        return image

    def visible(self, frame_index: int) -> list[Pixels]:
        """The pixels of each body that no later body covers."""
        covered = np.zeros((HEIGHT, WIDTH), np.bool_)
        masks = []
        for body in reversed(self.bodies):
            mask = body.mask(frame_index)
            masks.append(mask & ~covered)
            covered |= mask
        return masks[::-1]


def _bounce(position: int, low: int, high: int) -> int:
    """Reflect a position into ``[low, high]``."""
    span = high - low
    offset = (position - low) % (2 * span)
    return low + min(offset, 2 * span - offset)


def _background(video_id: int) -> Image:
    """A grey gradient with a fine pattern: no flat colour that a threshold could take away."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    grey = 90 + (rows * (video_id % 3 + 1) + columns * (video_id % 2 + 1)) // 6 + (rows * 7 + columns * 13) % 11
    return np.repeat(grey[:, :, None], 3, axis=2).astype(np.uint8)


def scenes(split: str) -> Iterator[Scene]:
    """The videos of a split; ids from 1. Only ``val`` has novel categories."""
    names = NAMES if split == "val" else tuple(n for n in NAMES if n not in NOVEL)
    for video_id in range(1, VIDEOS + 1):
        chance = random.Random(f"{SEED}/{split}/{video_id}")
        length = 8 + int(5 * chance.random())
        # Two bodies of each video go round the categories, so that every category occurs.
        turn = [names[(2 * video_id + n) % len(names)] for n in (0, 1)]
        others = [_pick(chance, names) for _ in range(int(4 * chance.random()))]
        yield Scene(video_id, length, tuple(_body(chance, name) for name in (*turn, *others)))


def _pick(chance: random.Random, names: tuple[str, ...]) -> str:
    return names[int(len(names) * chance.random())]


def _body(chance: random.Random, name: str) -> Body:
    radius = 10 + int(13 * chance.random())
    start = int(WIDTH * chance.random()), int(HEIGHT * chance.random())
    speed = [3 + int(10 * chance.random()), 2 + int(7 * chance.random())]
    x, y = (s if chance.random() < 0.5 else -s for s in speed)
    return Body(name, radius, start, (x, y))


def document(split: str) -> dict[str, Any]:
    """The annotations of a split in LV-VIS form; a body that is never seen has none."""
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for scene in scenes(split):
        files = [f"{scene.video_id:03d}/{frame_index:02d}.png" for frame_index in range(scene.length)]
        size = {"height": HEIGHT, "width": WIDTH, "length": scene.length}
        videos.append({"id": scene.video_id, **size, "file_names": files})
        by_body = zip(*(scene.visible(f) for f in range(scene.length)), strict=True)
        for body, masks in zip(scene.bodies, by_body, strict=True):
            if any(mask.any() for mask in masks):
                owner = {"id": len(annotations) + 1, "video_id": scene.video_id, "iscrowd": 0}
                category = {"category_id": NAMES.index(body.name) + 1}
                annotations.append({**owner, **category, **size, **_truth(masks)})
    categories = [{"id": i, "name": n, "partition": 3 if n in NOVEL else 0} for i, n in enumerate(NAMES, 1)]
    return {"videos": videos, "annotations": annotations, "categories": categories}


def _truth(masks: tuple[Pixels, ...]) -> dict[str, Any]:
    from pycocotools import mask as coco

    segmentations: list[dict[str, Any] | None] = []
    for mask in masks:
        counts = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode("ascii")
        segmentations.append({"size": [HEIGHT, WIDTH], "counts": counts} if mask.any() else None)
    return {"segmentations": segmentations, "areas": [int(mask.sum()) or None for mask in masks]}


@cache
def _open(split: str) -> Dataset:
    annotations = annotations_from_document(document(split), f"shapes {split}")
    videos = tuple(Video(s.video_id, f"{s.video_id:03d}", HEIGHT, WIDTH, s) for s in scenes(split))
    return Dataset("shapes", split, in_groups(annotations.categories, "lvvis"), videos, "lvvis", annotations)


class Shapes:
    """The dataset plugin; it needs no data root."""

    name = "shapes"
    summary = f"Generated: {VIDEOS} short videos of coloured shapes, {len(NAMES)} categories; no download"
    splits = ("train", "val")
    default_split = "val"

    def open(self, data_root: Path, split: str) -> Dataset:
        """Generate a split; raises `UserError` for an unknown one."""
        if split not in self.splits:
            raise UserError(f'shapes, split "{split}"', "there is no such split", near(split, self.splits))
        return _open(split)

    def check(self, data_root: Path, split: str | None = None) -> CopyReport:
        """Nothing can be missing."""
        return CopyReport(
            self.name, "generated", tuple(self._count(s) for s in ([split] if split else self.splits)), ""
        )

    def _count(self, split: str) -> SplitReport:
        dataset = self.open(Path(), split)
        tracks = len(dataset.truth.records) if dataset.truth else None
        counts = Counts(len(dataset.videos), sum(len(v.frames) for v in dataset.videos), tracks, len(NAMES))
        return SplitReport(split, dataset.annotations.path, "generated", "public", counts, counts)


PLUGIN = Shapes()
