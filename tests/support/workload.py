"""Made evaluation workloads of any size in LV-VIS form: drifting ellipses, and predictions that err in every way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco


@dataclass(frozen=True)
class Workload:
    """How large a workload is: numbers of videos, frames and categories, tracks per video, frame size."""

    videos: int = 20
    frames: int = 12
    categories: int = 40
    truths: int = 4
    tracks: int = 20
    height: int = 180
    width: int = 320


SMALL = Workload()
MEDIUM = Workload(videos=100, frames=20, categories=300, truths=4, tracks=40, height=360, width=640)


def _ellipses(rng: np.random.Generator, w: Workload) -> np.ndarray:
    """Centre and radii per frame ``(frames, 4)`` of one object."""
    start = rng.uniform(0.1, 0.9, 2) * (w.height, w.width)
    radii = np.exp(rng.uniform(np.log(0.03), np.log(0.3), 2)) * (w.height, w.width)
    drift = rng.normal(0, 0.01, 2) * (w.height, w.width)
    steps = np.arange(w.frames)[:, None]
    return np.concatenate([start + drift * steps, np.repeat(radii[None], w.frames, 0)], 1)


def _render(path: np.ndarray, hidden: np.ndarray, w: Workload) -> list[dict[str, Any] | None]:
    rows, columns = np.ogrid[: w.height, : w.width]
    out: list[dict[str, Any] | None] = []
    for (y, x, a, b), absent in zip(path, hidden, strict=True):
        mask = ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 <= 1
        encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        out.append(None if absent else {"size": [w.height, w.width], "counts": encoded["counts"].decode()})
    return out


def make(folder: Path, w: Workload = SMALL, seed: int = 0) -> tuple[Path, Path]:
    """Write ``gt.json`` and ``results.json`` into a folder; return their paths."""
    rng = np.random.default_rng(seed)
    videos, annotations, results = [], [], []
    for v in range(1, w.videos + 1):
        names = [f"{v:05d}/{f:05d}.jpg" for f in range(w.frames)]
        videos.append({"id": v, "height": w.height, "width": w.width, "length": w.frames, "file_names": names})
        objects = []
        for _ in range(w.truths):
            path, category = _ellipses(rng, w), int(rng.integers(1, w.categories + 1))
            masks = _render(path, rng.random(w.frames) < 0.1, w)
            areas = [None if m is None else int(coco.area({**m, "counts": m["counts"].encode()})) for m in masks]
            objects.append((path, category))
            annotations.append({"id": len(annotations) + 1, "video_id": v, "category_id": category, "iscrowd": 0,
                                "segmentations": masks, "areas": areas})  # fmt: skip
        made: list[Any] = []
        for _ in range(w.tracks):
            if made and rng.random() < 0.25:
                masks = made[rng.integers(len(made))]
                category = int(rng.integers(1, w.categories + 1))
            else:
                path, category = objects[rng.integers(len(objects))]
                path = path + rng.normal(0, 0.04, 4) * (w.height, w.width, w.height, w.width)
                masks = _render(np.abs(path) + 1, rng.random(w.frames) < 0.1, w)
                made.append(masks)
                if rng.random() < 0.4:
                    category = int(rng.integers(1, w.categories + 1))
            score = round(float(rng.random()), 2)
            results.append({"video_id": v, "category_id": category, "score": score, "segmentations": masks})
    categories = [{"id": c, "name": f"c{c}", "partition": c % 4} for c in range(1, w.categories + 1)]
    gt, out = folder / "gt.json", folder / "results.json"
    gt.write_text(json.dumps({"videos": videos, "categories": categories, "annotations": annotations}))
    out.write_text(json.dumps(results))
    return gt, out
