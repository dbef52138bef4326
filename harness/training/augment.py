"""The augmentation of CLIP-VIS and OV2Seg: large-scale jitter for images, one size for videos.

See docs/clipvis.md, *Training*. Random values are taken from a numpy generator, in a fixed order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from harness.arrays import Mask
from harness.frames import Image
from harness.training.types import Instance, Polygons, TrainingImage, TrainingSample

Pixel = TypeVar("Pixel", np.uint8, np.bool_)

FLIP = 0.5
"""Probability that an image is mirrored."""
PAD_VALUE = 128
"""QUIRK: large-scale jitter pads with grey before normalisation, inference pads with zeros after it."""


@dataclass(frozen=True, slots=True)
class LargeScaleJitter:
    """Mirror, resize to fit a square of a random size, crop at a random place, pad to ``size`` (Ghiasi et al., 2021).

    The scale is uniform between ``min_scale`` and ``max_scale``, in sides of the square.
    """

    size: int = 1024
    min_scale: float = 0.1
    max_scale: float = 2.0

    def __call__(self, image: TrainingImage, random: np.random.Generator) -> TrainingSample:
        """Return a square sample; objects outside the crop are removed."""
        mirrored = random.random() < FLIP
        scale = self.min_scale + (self.max_scale - self.min_scale) * random.random()
        height, width = image.image.shape[:2]
        factor = min(self.size * scale / height, self.size * scale / width)
        resized = (max(1, round(height * factor)), max(1, round(width * factor)))
        # QUIRK: one random number places the crop in both directions
        place = random.random()
        corner = tuple(round(place * max(0, side - self.size)) for side in resized)
        view = _View(mirrored, (height, width), resized, (corner[0], corner[1]), (self.size, self.size))
        return _sample(image, view, PAD_VALUE)


@dataclass(frozen=True, slots=True)
class ShortestEdge:
    """Resize as inference does, to ``short_edge`` and at most ``long_edge``, and mirror."""

    short_edge: int = 800
    long_edge: int = 1333

    def __call__(self, image: TrainingImage, random: np.random.Generator) -> TrainingSample:
        """Return a sample of the size of the resized image; objects without a pixel left are removed."""
        height, width = image.image.shape[:2]
        resized = shortest_edge_size(height, width, self.short_edge, self.long_edge)
        mirrored = random.random() < FLIP
        return _sample(image, _View(mirrored, (height, width), resized, (0, 0), resized, mirrors_last=True), 0)


def shortest_edge_size(height: int, width: int, short_edge: int, long_edge: int) -> tuple[int, int]:
    """Height and width after resizing the shorter side to ``short_edge``, the longer to at most ``long_edge``."""
    scale = short_edge / min(height, width)
    exact = (float(short_edge), scale * width) if height < width else (scale * height, float(short_edge))
    if max(exact) > long_edge:
        shrink = long_edge / max(exact)
        exact = (exact[0] * shrink, exact[1] * shrink)
    return int(exact[0] + 0.5), int(exact[1] + 0.5)


@dataclass(frozen=True, slots=True)
class _View:
    """A geometric transform: optional mirroring, resizing, cropping from ``corner``, padding to ``size``."""

    mirrored: bool
    original: tuple[int, int]
    resized: tuple[int, int]
    corner: tuple[int, int]
    size: tuple[int, int]
    mirrors_last: bool = False
    """Mirror after resizing, which changes the nearest pixel in case of ties."""

    @property
    def box(self) -> tuple[slice, slice]:
        """The visible part of the resized image."""
        rows, columns = (slice(c, min(c + s, r)) for c, s, r in zip(self.corner, self.size, self.resized, strict=True))
        return rows, columns

    def picture(self, image: Image, padding: int) -> Image:
        """Resize bilinearly with antialiasing, crop, pad."""
        return _padded(self._resized(image, Pillow.Resampling.BILINEAR)[self.box], self.size, padding)

    def mask(self, outline: Polygons | Mask) -> Mask:
        """The transformed mask of an object: polygons are rasterised afterwards, masks take the nearest pixel."""
        if isinstance(outline, np.ndarray):
            resized = self._resized(outline.astype(np.uint8), Pillow.Resampling.NEAREST)
            return _padded(resized[self.box].astype(np.bool_), self.size, False)
        return _rasterised([self._moved(polygon) for polygon in outline], self.size)

    def _resized(self, image: NDArray[np.uint8], resampling: Pillow.Resampling) -> NDArray[np.uint8]:
        if self.mirrored and not self.mirrors_last:
            image = image[:, ::-1]
        picture = Pillow.fromarray(np.ascontiguousarray(image))
        resized = np.asarray(picture.resize((self.resized[1], self.resized[0]), resampling))
        return resized[:, ::-1] if self.mirrored and self.mirrors_last else resized

    def _moved(self, polygon: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = polygon.copy()
        if self.mirrored:
            moved[:, 0] = self.original[1] - moved[:, 0]
        moved *= (self.resized[1] / self.original[1], self.resized[0] / self.original[0])
        return moved - (self.corner[1], self.corner[0])


def _sample(image: TrainingImage, view: _View, padding: int) -> TrainingSample:
    masks = [(view.mask(instance.outline), instance) for instance in image.instances]
    seen: list[tuple[Mask, Instance]] = [(mask, instance) for mask, instance in masks if mask.any()]
    stacked = np.stack([m for m, _ in seen]) if seen else np.zeros((0, *view.size), np.bool_)
    categories = np.array([instance.category for _, instance in seen], np.int64)
    return TrainingSample(view.picture(image.image, padding), stacked, categories)


def _rasterised(polygons: list[NDArray[np.float64]], size: tuple[int, int]) -> Mask:
    from pycocotools import mask as coco

    if not polygons:
        return np.zeros(size, np.bool_)
    rles = coco.frPyObjects([polygon.reshape(-1).tolist() for polygon in polygons], *size)
    return np.asarray(coco.decode(coco.merge(rles)), dtype=np.bool_)


def _padded(seen: NDArray[Pixel], size: tuple[int, int], value: int | bool) -> NDArray[Pixel]:
    """Pad at the bottom and at the right."""
    if seen.shape[:2] == size:
        return np.ascontiguousarray(seen)
    padded = np.full((*size, *seen.shape[2:]), value, seen.dtype)
    padded[: seen.shape[0], : seen.shape[1]] = seen
    return padded
