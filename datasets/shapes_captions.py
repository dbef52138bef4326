"""Image-caption pairs in the style of `shapes`, for the contrastive training of a miniature CLIP.

One or two objects stand somewhere on a background; the caption names them. Unlike the videos of the train split,
these show all categories: CLIP training includes words and looks that segmentation training never shows.
"""

from __future__ import annotations

import numpy as np

from harness.datasets.shapes_pictures import background, developed, draw_conditions, paint
from harness.datasets.shapes_scenes import NAMES, Pose, filled
from harness.frames import Image

SIDE = 96
"""Height and width of an image in pixels, unless another is asked for."""
SMALL, LARGE = 19.0, 28.0
"""Radii in pixels where objects begin to be called medium and large."""

CAPTION_TEMPLATES = (
    "a {}",
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
)
SIZED = (
    "a {size} {}",
    "a photo of a {size} {}.",
    "This is a photo of a {size} {}.",
    "There is a {size} {} in the scene.",
)
PAIRED = ("a {} and a {}", "a photo of a {} and a {}.", "There is a {} and a {} in the scene")


def pair(seed: int, index: int, side: int = SIDE) -> tuple[Image, str]:
    """Image ``(side, side, 3)`` and caption number ``index`` of the stream that ``seed`` names; ``side`` in pixels."""
    random = np.random.default_rng((seed, index))
    canvas = background(random, side, side)
    shown: list[tuple[str, Pose]] = []
    for _ in range(2 if random.random() < 0.3 else 1):
        name = NAMES[int(random.integers(len(NAMES)))]
        look, form = name.split()
        pose = _pose(random, side)
        paint(canvas, filled(form, pose, side, side), look, pose, int(random.integers(2**32)))
        shown.append((name, pose))
    image = developed(canvas, draw_conditions(random, side, side), int(random.integers(16)))
    return image, _caption(random, shown)


def _pose(random: np.random.Generator, side: int) -> Pose:
    x, y, size, angle = random.random(4)
    margin = side / 6
    radius = 12 + (2 + side / 4) * size
    return Pose(margin + (side - 2 * margin) * x, margin + (side - 2 * margin) * y, radius, 2 * np.pi * angle)


def _caption(random: np.random.Generator, shown: list[tuple[str, Pose]]) -> str:
    if len(shown) == 2:
        (first, _), (second, _) = shown
        return PAIRED[int(random.integers(len(PAIRED)))].format(first, second)
    [(name, pose)] = shown
    if random.random() < 0.5:
        return CAPTION_TEMPLATES[int(random.integers(len(CAPTION_TEMPLATES)))].format(name)
    size = "small" if pose.radius < SMALL else "medium" if pose.radius < LARGE else "large"
    return SIZED[int(random.integers(len(SIZED)))].format(name, size=size)
