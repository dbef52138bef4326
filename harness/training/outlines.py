"""Outlines of objects in COCO's formats: polygons, and run-length encodings as text or as a list of counts."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from harness import rle
from harness.arrays import Mask
from harness.errors import UserError
from harness.masks import Rle
from harness.training.types import Polygons

FARTHEST = 1e5
"""Largest allowed coordinate in pixels: the memory of rasterising grows with it."""
LEAST_NUMBERS = 6
"""Number of coordinates of a triangle."""


class Encoded(msgspec.Struct):
    """A run-length encoding, compressed or not; ``size`` is ``[height, width]``."""

    size: tuple[int, int]
    counts: str | list[Annotated[int, msgspec.Meta(ge=0, lt=2**31)]]


Polygon = list[Annotated[float, msgspec.Meta(ge=-FARTHEST, le=FARTHEST)]]
"""Coordinates ``x, y, x, y, ...`` in pixels."""

Written = list[Polygon] | Encoded
"""The value of ``segmentation`` in COCO's format."""


def has_area(written: Written) -> bool:
    """Whether there is an outline: a polygon of three or more points, or an encoding."""
    return isinstance(written, Encoded) or any(_is_closed(polygon) for polygon in written)


def outline_of(written: Written, size: tuple[int, int], where: str) -> Polygons | Mask:
    """Return the outline in an image of ``size`` (height, width); polygons that enclose nothing are left out.

    Raises `UserError`, which names ``where``, for an encoding that is invalid or of another size.
    """
    if not isinstance(written, Encoded):
        closed = [polygon for polygon in written if _is_closed(polygon)]
        return tuple(np.array(polygon, np.float64).reshape(-1, 2) for polygon in closed)
    return pixels_of_rle(compressed(written, size, where), where)


def compressed(written: Encoded, size: tuple[int, int], where: str) -> Rle:
    """Check an encoding and return it compressed; raises `UserError` as `outline_of` does."""
    if written.size != size:
        what = f"its mask is {written.size[0]}x{written.size[1]} (height x width), the image {size[0]}x{size[1]}"
        raise UserError(where, what, "use the images that belong to these annotations")
    if isinstance(written.counts, str):
        encoding = Rle(size, written.counts.encode("utf-8"))
        _refuse_fault(encoding.counts, rle.COMPRESSED, size, where)
        return encoding
    from pycocotools import mask as coco

    _refuse_fault(msgspec.json.encode(written.counts)[1:-1], rle.LISTED, size, where)
    return Rle(size, coco.frPyObjects({"size": list(size), "counts": written.counts}, *size)["counts"])


def pixels_of_rle(encoding: Rle, where: str) -> Mask:
    """Return the mask ``(height, width)`` of an encoding; raises `UserError` if it is malformed."""
    from pycocotools import mask as coco

    _refuse_fault(encoding.counts, rle.COMPRESSED, encoding.size, where)
    return np.asarray(coco.decode({"size": list(encoding.size), "counts": encoding.counts}), dtype=np.bool_)


def _is_closed(polygon: Polygon) -> bool:
    return len(polygon) >= LEAST_NUMBERS and len(polygon) % 2 == 0


def _refuse_fault(counts: bytes, kind: int, size: tuple[int, int], where: str) -> None:
    """Raise `UserError` for invalid counts: pycocotools reads past the end of a truncated mask."""
    text = np.frombuffer(counts, np.uint8)
    place, sizes = np.array([0, len(text)], np.int64), np.array(size, np.int32)
    kinds, wanted = np.array([kind], np.int8), np.ones(1, np.bool_)
    area = int(rle.areas(text, place[:1], place[1:], kinds, sizes[:1], sizes[1:], wanted)[0])
    if area < 0:
        raise UserError(where, rle.RLE_FAULTS[area], "encode the mask again")
