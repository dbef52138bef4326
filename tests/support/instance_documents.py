"""Files of annotated images in COCO's form, made for tests: a few small images, or an index as large as LVIS's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from vis_documents import rle

HEIGHT, WIDTH = 40, 60
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
TRIANGLE = [35.5, 5, 55, 5.25, 45, 25]

Write = Callable[..., Path]


def region(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """A filled box as a mask ``(HEIGHT, WIDTH)``."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def listed(mask: np.ndarray) -> dict[str, Any]:
    """A mask as a run-length encoding with a list of counts, as COCO writes crowds."""
    flat = np.concatenate([[0], mask.reshape(-1, order="F"), [2]])
    changes = np.flatnonzero(np.diff(flat))
    starts = [0, *changes.tolist()]
    counts = np.diff(starts).tolist()
    return {"size": list(mask.shape), "counts": counts}


def document(names: str = "coco_url") -> dict[str, Any]:
    """Five images: two polygons, two kinds of encodings, a crowd, an object of a rare category, no object."""
    categories = [
        {"id": 3, "name": "cup", "synonyms": ["cup", "mug"], "frequency": "f"},
        {"id": 1, "name": "awl", "synonyms": ["awl"], "frequency": "r"},
        {"id": 2, "name": "bat", "synonyms": ["bat"], "frequency": "c"},
    ]
    shapes = [
        (20, 10, 3, [SQUARE, TRIANGLE], 0),
        (21, 10, 2, [TRIANGLE, [1, 1, 2, 2]], 0),
        (22, 20, 3, rle(region(5, 5, 20, 25)), 0),
        (23, 20, 3, listed(region(0, 0, 8, 60)), 0),
        (24, 30, 2, listed(region(0, 0, 20, 20)), 1),
        (25, 40, 1, [SQUARE], 0),
    ]
    images = [{"id": i, "height": HEIGHT, "width": WIDTH} for i in (30, 10, 20, 50, 40)]
    for image in images:
        file = f"{image['id']:012d}.jpg"
        image[names] = file if names == "file_name" else f"http://images.cocodataset.org/train2017/{file}"
    annotations = [
        {
            "id": n,
            "image_id": i,
            "category_id": c,
            "segmentation": s,
            "iscrowd": crowd,
            "area": 1.0,
            "bbox": [0, 0, 1, 1],
        }
        for n, i, c, s, crowd in shapes
    ]
    return {"info": {}, "annotations": annotations, "images": images, "categories": categories}


def write_images(folder: Path) -> None:
    """The images of `document`: one grey level each, its id."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in (10, 20, 30, 40, 50):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), i, np.uint8)).save(folder / f"{i:012d}.jpg")


def write_large(path: Path, images: int, annotations: int) -> None:
    """A file as LVIS writes it, about 880 bytes an annotation; as large as the official one for its numbers."""
    random = np.random.default_rng(0)
    ids = np.sort(random.choice(6 * images, images, replace=False)) + 1
    outlines = [json.dumps([_outline(random)]) for _ in range(min(annotations, 4000))]
    categories = np.minimum(random.pareto(0.6, annotations) * 2, 1202).astype(int) + 1
    owners, shown = random.choice(ids, annotations), random.integers(0, len(outlines), annotations)
    with path.open("w") as file:
        file.write('{"info": {}, "annotations": [')
        for i in range(annotations):
            file.write(", " if i else "")
            file.write(f'{{"area": 1202.06, "id": {i + 1}, "segmentation": {outlines[shown[i]]}, ')
            file.write(f'"image_id": {owners[i]}, "bbox": [10.5, 20.25, 30.0, 40.0], "category_id": {categories[i]}}}')
        url = "http://images.cocodataset.org/train2017"
        pictures = [{"id": i, "height": 480, "width": 640, "coco_url": f"{url}/{i:012d}.jpg"} for i in ids.tolist()]
        names = [{"id": c, "name": f"thing {c}", "frequency": "fcr"[c % 3]} for c in range(1, 1204)]
        file.write(f'], "images": {json.dumps(pictures)}, "categories": {json.dumps(names)}}}')


def _outline(random: np.random.Generator) -> list[float]:
    angles = np.linspace(0, 2 * np.pi, max(3, int(random.exponential(48))), endpoint=False)
    centre, radius = random.uniform(100, 400, 2), random.uniform(3, 90)
    points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    outline: list[float] = points.round(2).reshape(-1).tolist()
    return outline
