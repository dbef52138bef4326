"""Shapes: a generated open-vocabulary dataset of coloured and textured forms that cross, hide, leave and return.

Nothing is downloaded and nothing is on disk: videos follow from the split's name, and frames are painted when they
are read. Categories are pairs of a look and a form; the novel ones never occur in the train split.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.datasets.categories import in_groups
from harness.datasets.completeness import CopyCounts, CopyReport, SplitReport
from harness.datasets.shapes_scenes import HEIGHT, NAMES, NOVEL, VIDEOS, WIDTH, Pixels, scenes
from harness.errors import UserError, near
from harness.formats.absence import Absence
from harness.formats.youtube_vis import annotations_from_document
from harness.types import Dataset, Video

if TYPE_CHECKING:
    from harness.training.types import TrainingSet


def document(split: str) -> dict[str, Any]:
    """The annotations of a split in LV-VIS form; an object that is never seen has none."""
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
    from harness.datasets.shapes_pictures import Pictures

    annotations = annotations_from_document(document(split), f"shapes {split}")
    annotations = replace(annotations, absence=Absence(exhaustive=True))  # every form that is drawn is annotated
    videos = tuple(Video(s.video_id, f"{s.video_id:03d}", HEIGHT, WIDTH, Pictures(s)) for s in scenes(split))
    return Dataset("shapes", split, in_groups(annotations.categories, "lvvis"), videos, "lvvis", annotations)


class Shapes:
    """The dataset plugin; it needs no data root."""

    name = "shapes"
    summary = f"Generated: {VIDEOS['val']} short videos of moving forms, {len(NAMES)} categories; no download"
    splits = tuple(VIDEOS)
    default_split = "val"

    def open(self, data_root: Path, split: str) -> Dataset:
        """Generate a split; raises `UserError` for an unknown one."""
        if split not in self.splits:
            raise UserError(f'shapes, split "{split}"', "there is no such split", near(split, self.splits))
        return _open(split)

    def training_set(self, data_root: Path, split: str) -> TrainingSet:
        """The frames of a split, to train on."""
        from harness.training.video_sets import VideoFrames

        return VideoFrames(self.open(data_root, split))

    def check(self, data_root: Path, split: str | None = None) -> CopyReport:
        """Nothing can be missing."""
        return CopyReport(
            self.name, "generated", tuple(self._count(s) for s in ([split] if split else self.splits)), ""
        )

    def _count(self, split: str) -> SplitReport:
        dataset = self.open(Path(), split)
        tracks = len(dataset.truth.records) if dataset.truth else None
        counts = CopyCounts(len(dataset.videos), sum(len(v.frames) for v in dataset.videos), tracks, len(NAMES))
        return SplitReport(split, dataset.annotations.path, "generated", "public", counts, counts)


PLUGIN = Shapes()
