"""Mask HOTA straight from its definition, one frame after the other, with pycocotools' overlaps; slow."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from pycocotools import mask as coco
from vis_documents import rle

from harness.scoring.hota import Hota, Step, combine, hota


def scene(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations and predictions that come and go, share masks, have none of their pixels, or no truth."""
    rng = random.Random(seed)
    categories = [{"id": i, "name": f"class {i}"} for i in rng.sample(range(40), rng.randrange(1, 5))]
    document: dict[str, Any] = {"videos": [], "categories": categories, "annotations": []}
    predictions = []
    ids = rng.sample(range(200), 40)
    for video in rng.sample(range(50), rng.randrange(1, 4)):
        frames, height, width = rng.randrange(1, 6), rng.randrange(6, 14), rng.randrange(6, 14)
        names = [f"{video}/{f}.jpg" for f in range(frames)]
        size = {"height": height, "width": width}
        document["videos"].append({"id": video, **size, "length": frames, "file_names": names})
        pool = [_box(rng, height, width) for _ in range(4)]
        for _ in range(rng.randrange(4)):
            document["annotations"].append(
                {"id": ids.pop(), "video_id": video, "category_id": rng.choice(categories)["id"], "iscrowd": 0,
                 "segmentations": _masks(rng, pool, frames), "areas": [None] * frames}
            )  # fmt: skip
        for _ in range(rng.randrange(6)):
            predictions.append(
                {"video_id": video, "category_id": rng.choice(categories)["id"], "score": round(rng.random(), 1),
                 "segmentations": _masks(rng, pool, frames)}
            )  # fmt: skip
    rng.shuffle(document["annotations"])
    rng.shuffle(predictions)
    return document, predictions


def _box(rng: random.Random, height: int, width: int) -> dict[str, Any]:
    mask = np.zeros((height, width), np.uint8)
    if rng.random() > 0.1:
        top, left = rng.randrange(height), rng.randrange(width)
        mask[top : top + rng.randrange(1, height), left : left + rng.randrange(1, width)] = 1
    return rle(mask)


def _masks(rng: random.Random, pool: list[dict[str, Any]], frames: int) -> list[Any]:
    return [None if rng.random() < 0.2 else rng.choice(pool) for _ in range(frames)]


def class_scores(document: dict[str, Any], predictions: list[dict[str, Any]]) -> dict[int, Hota]:
    """HOTA of every category over all videos."""
    out = {}
    for category in document["categories"]:
        parts = []
        for video in document["videos"]:
            key = (video["id"], category["id"])
            truths, found = (
                [track for track in tracks if (track["video_id"], track["category_id"]) == key]
                for tracks in (document["annotations"], predictions)
            )
            parts.append(hota([_step(truths, found, frame) for frame in range(video["length"])]))
        out[category["id"]] = combine(parts)
    return out


def _step(truths: list[dict[str, Any]], predictions: list[dict[str, Any]], frame: int) -> Step:
    ids, masks = [], []
    for side in (truths, predictions):
        here = [(i, t["segmentations"][frame]) for i, t in enumerate(side) if t["segmentations"][frame]]
        ids.append(np.array([i for i, _ in here], np.int64))
        masks.append([{"size": m["size"], "counts": m["counts"].encode()} for _, m in here])
    iou = coco.iou(masks[0], masks[1], [0] * len(masks[1])) if masks[0] and masks[1] else []
    return Step(ids[0], ids[1], np.asarray(iou, np.float64).reshape(len(ids[0]), len(ids[1])))
