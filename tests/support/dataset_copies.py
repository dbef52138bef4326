"""Small copies of datasets on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from vis_documents import box

from harness.datasets.categories import packaged

HEIGHT, WIDTH, FRAMES = 20, 30, 2
Write = Callable[..., dict[str, Any]]


def annotation_document(
    category_list: str, file_name: str = "{video}/{frame}.jpg", truth: bool = True
) -> dict[str, Any]:
    """Two videos of two frames with one object each, and the whole category list of a dataset."""
    listed = [{k: v for k, v in asdict(c).items() if v} for c in packaged(category_list)]
    if category_list == "lvvis":
        listed = [{"id": c.id, "name": c.name, "partition": c.partition} for c in packaged("lvvis")]
    size = {"height": HEIGHT, "width": WIDTH, "length": FRAMES}
    masks = [box(HEIGHT, WIDTH, 2, 2, 12, 12 + f) for f in range(FRAMES)]
    areas = [10 * (10 + f) for f in range(FRAMES)]
    track = {"iscrowd": 0, "segmentations": masks, "areas": areas, **size}
    return {
        "videos": [
            {"id": v, **size, "file_names": [file_name.format(video=f"v{v}", frame=f) for f in range(FRAMES)]}
            for v in (1, 2)
        ],
        "categories": listed,
        "annotations": [{"id": v, "video_id": v, "category_id": v, **track} for v in (1, 2)] if truth else None,
    }


def write_frames(folder: Path) -> None:
    """Frames ``v1/0.jpg`` to ``v2/1.jpg``, each of one grey level of its own."""
    for video in (1, 2):
        (folder / f"v{video}").mkdir(parents=True)
        for frame in range(FRAMES):
            grey = np.full((HEIGHT, WIDTH, 3), 40 * video + frame, np.uint8)
            Image.fromarray(grey).save(folder / f"v{video}/{frame}.jpg")


BURST_CATEGORIES = [
    {"id": 4, "name": "airplane", "frequency": "f"},  # 4 is on the challenge's common list, the others are not
    {"id": 16, "name": "apricot", "frequency": "r"},
    {"id": 17, "name": "apron", "frequency": "c"},
]


def burst_sequence(number: int, category_id: int) -> dict[str, Any]:
    paths = [f"frame{30 * f:04d}.jpg" for f in (1, 2)]
    seen = {"rle": box(HEIGHT, WIDTH, 1, 1, 9, 9)["counts"], "is_gt": True}
    return {
        "id": number, "dataset": "AVA", "seq_name": f"seq_{number}", "width": WIDTH, "height": HEIGHT, "fps": 30,
        "all_image_paths": [*paths, "frame0090.jpg"], "annotated_image_paths": paths,
        "neg_category_ids": [], "not_exhaustive_category_ids": [],
        "track_category_ids": {"1": category_id}, "segmentations": [{"1": seen}, {}],
    }  # fmt: skip


def write_burst(data_root: Path) -> None:
    """The val split of BURST with two sequences."""
    document = {
        "split": "val",
        "categories": BURST_CATEGORIES,
        "sequences": [burst_sequence(10, 4), burst_sequence(11, 16)],
    }
    path = data_root / "burst/annotations/val/all_classes.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document))
    for number in (10, 11):
        folder = data_root / f"burst/frames/val/AVA/seq_{number}"
        folder.mkdir(parents=True)
        for f in (1, 2):
            Image.fromarray(np.full((HEIGHT, WIDTH, 3), number + f, np.uint8)).save(folder / f"frame{30 * f:04d}.jpg")


def write_copy(folder: Path, annotations: str, frames: str, category_list: str, **options: Any) -> dict[str, Any]:
    """Write ``annotation_document(category_list, **options)`` and its frames below ``folder``; the document."""
    document = annotation_document(category_list, **options)
    path = folder / annotations
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    if not (folder / frames).exists():
        write_frames(folder / frames)
    return document
