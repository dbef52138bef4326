"""Outlines of masks as SVG paths of a few hundred bytes."""

from __future__ import annotations

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image as Pillow
from pycocotools import mask as coco

from harness.masks import Rle

OUTLINE_UNIT = 2
"""Path units per picture pixel: outlines run between pixels, at half-pixel positions."""
OUTLINE_TOLERANCE = 0.75
"""Largest distance of an outline from the mask's border, in picture pixels."""

Points = NDArray[np.float64]


def outline(rle: Rle, width: int, height: int) -> str:
    """The outline of a mask on a picture ``width`` x ``height`` pixels large; empty for an empty mask.

    The path is to be filled by the even-odd rule, so that holes stay open. Its numbers are integers,
    `OUTLINE_UNIT` per pixel.
    """
    pixels = coco.decode({"size": list(rle.size), "counts": rle.counts})
    if pixels.shape != (height, width):
        pixels = np.asarray(Pillow.fromarray(pixels * 255).resize((width, height), Pillow.Resampling.BOX)) > 127
    return _traced(pixels)


def rough_outline(rle: Rle, width: int, height: int) -> str:
    """As `outline`, of every n-th pixel: many times faster where the mask is larger than the picture.

    Parts that are thinner than a pixel of the picture may be lost.
    """
    pixels = coco.decode({"size": list(rle.size), "counts": rle.counts})
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * of / n).astype(np.int64), of - 1)
        for n, of in ((height, pixels.shape[0]), (width, pixels.shape[1]))
    )
    return _traced(pixels.T[columns][:, rows].T)  # decoded masks are stored column by column


def _traced(pixels: NDArray[np.uint8]) -> str:
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not len(rows):
        return ""
    top, left = int(rows[0]), int(columns[0])
    framed = np.pad(pixels[top : rows[-1] + 1, left : columns[-1] + 1].astype(np.float64), 1)
    lines = contour_generator(z=framed).lines(0.5)
    shift = np.array([left - 0.5, top - 0.5])
    return "".join(_path(line + shift) for line in lines if isinstance(line, np.ndarray) and len(line) > 3)


def _path(line: Points) -> str:
    """One closed line as a path of relative moves; corners and pixel borders are at integers of path units."""
    places = np.rint(_simplified(line, OUTLINE_TOLERANCE) * OUTLINE_UNIT).astype(int)[:-1]
    places = places[np.append(True, (np.diff(places, axis=0) != 0).any(1))]
    if len(places) < 3:
        return ""
    moves = " ".join(f"{x} {y}" for x, y in np.diff(places, axis=0).tolist())
    return f"M{places[0][0]} {places[0][1]}l{moves}z"


def _simplified(line: Points, tolerance: float) -> Points:
    """Douglas and Peucker's choice of points of a closed line ``(n, 2)``: none left out is farther away than that."""
    keep = np.zeros(len(line), np.bool_)
    opposite = int(np.argmax(((line - line[0]) ** 2).sum(1)))
    keep[[0, opposite, -1]] = True
    todo = [(0, opposite), (opposite, len(line) - 1)]
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        chord, between = line[last] - line[first], line[first + 1 : last] - line[first]
        length = float(np.hypot(*chord))
        if length:
            away = np.abs(between[:, 0] * chord[1] - between[:, 1] * chord[0]) / length
        else:
            away = np.hypot(between[:, 0], between[:, 1])
        farthest = int(np.argmax(away))
        if away[farthest] > tolerance:
            middle = first + 1 + farthest
            keep[middle] = True
            todo += [(first, middle), (middle, last)]
    return line[keep]
