"""Tracks drawn on their frames: masks in stable colours, outlines, names and scores."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from pycocotools import mask as coco

from harness.types import Image, Track, Video

OPACITY = 0.45


def colour(number: int) -> tuple[int, int, int]:
    """The RGB colour of a track by its number: hues a golden ratio apart, so that neighbours differ."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.61803398875 % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def overlay(video: Video, tracks: Sequence[Track], names: Mapping[int, str]) -> Iterator[Image]:
    """Yield the frames of a video with its tracks drawn on them, later tracks below earlier ones.

    ``names`` gives the category names by id.
    """
    size = max(12, video.height // 40)
    font = ImageFont.load_default(size)
    for index, frame in enumerate(video.read()):
        picture = frame.astype(np.float32)
        labels = []
        for number in reversed(range(len(tracks))):
            rle = tracks[number].masks[index]
            if rle is None:
                continue
            mask = coco.decode({"size": list(rle.size), "counts": rle.counts}).astype(bool)
            if not mask.any():
                continue
            tint = np.array(colour(number), np.float32)
            picture[mask] += OPACITY * (tint - picture[mask])
            picture[_outline(mask)] = tint
            top, left = int(np.argmax(mask.any(1))), int(np.argmax(mask.any(0)))
            text = f"{names[tracks[number].category_id]} {tracks[number].score:.2f}"
            labels.append((left, max(0, top - size - 4), text, colour(number)))
        drawn = Pillow.fromarray(picture.round().astype(np.uint8))
        pen = ImageDraw.Draw(drawn)
        for left, top, text, tint_of in labels:
            box = pen.textbbox((left + 2, top), text, font=font)
            pen.rectangle((box[0] - 2, box[1] - 1, box[2] + 2, box[3] + 1), fill=tint_of)
            pen.text((left + 2, top), text, fill=(0, 0, 0), font=font)
        yield np.asarray(drawn)


def _outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that touch its outside."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return np.asarray(mask & ~inner)
