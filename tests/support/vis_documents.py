"""Small annotation and results documents in LV-VIS form, made for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco


def rle(mask: np.ndarray) -> dict[str, Any]:
    """A mask ``(height, width)`` as JSON-ready compressed RLE, by pycocotools."""
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(n) for n in encoded["size"]], "counts": encoded["counts"].decode()}


def box(height: int, width: int, top: int, left: int, bottom: int, right: int) -> dict[str, Any]:
    """RLE of a filled box."""
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 1
    return rle(mask)


def document(frames: int = 2, size: tuple[int, int] = (20, 30)) -> dict[str, Any]:
    """Two videos, two categories (base, novel), one object each."""
    h, w = size
    masks = [box(h, w, 2, 2, 12, 12 + f) for f in range(frames)]
    areas = [10.0 * (10 + f) for f in range(frames)]
    return {
        "videos": [
            {"id": v, "width": w, "height": h, "length": frames, "file_names": [f"v{v}/{f}.jpg" for f in range(frames)]}
            for v in (1, 2)
        ],
        "categories": [{"id": 1, "name": "cat", "partition": 0}, {"id": 2, "name": "yak", "partition": 3}],
        "annotations": [
            {"id": i, "video_id": i, "category_id": i, "iscrowd": 0, "segmentations": list(masks), "areas": areas}
            for i in (1, 2)
        ],
    }


def perfect(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """Results that equal the truth of `document`."""
    return [
        {k: a[k] for k in ("video_id", "category_id", "segmentations")} | {"score": 0.9} for a in truth["annotations"]
    ]
