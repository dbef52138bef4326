"""Draws tracks on frames: masks in stable colours, outlines, names and scores."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from harness.errors import UserError
from harness.frames import Image
from harness.types import Dataset, Track, Video

OPACITY = 0.45
GAP = 4
"""White pixels between the pictures of a sheet."""


def colour(number: int) -> tuple[int, int, int]:
    """The RGB colour of a track by its number: hues a golden ratio apart, so that neighbours differ."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.61803398875 % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def overlay(
    video: Video, tracks: Sequence[Track], names: Mapping[int, str], with_scores: bool = True
) -> Iterator[Image]:
    """Yield the frames of a video with its tracks drawn on them, later tracks below earlier ones.

    ``names`` gives the category names by id.
    """
    for index, frame in enumerate(video.read()):
        yield draw_tracks(frame, tracks, index, names, with_scores)


def draw_tracks(
    frame: Image, tracks: Sequence[Track], index: int, names: Mapping[int, str], with_scores: bool = True
) -> Image:
    """The frame of number ``index`` with tracks drawn on it; see `overlay`."""
    size = max(12, len(frame) // 40)
    font = ImageFont.load_default(size)
    picture = frame.astype(np.float32)
    labels = []
    for number in reversed(range(len(tracks))):
        rle = tracks[number].masks[index]
        mask = None if rle is None else rle.decode()
        if mask is None or not mask.any():
            continue
        tint = np.array(colour(number), np.float32)
        picture[mask] += OPACITY * (tint - picture[mask])
        picture[_outline(mask)] = tint
        top, left = int(np.argmax(mask.any(1))), int(np.argmax(mask.any(0)))
        score = f" {tracks[number].score:.2f}" if with_scores else ""
        text = names[tracks[number].category_id] + score
        labels.append((left, max(0, top - size - 4), text, colour(number)))
    drawn = Pillow.fromarray(picture.round().astype(np.uint8))
    pen = ImageDraw.Draw(drawn)
    for left, top, text, tint_of in labels:
        box = pen.textbbox((left + 2, top), text, font=font)
        pen.rectangle((box[0] - 2, box[1] - 1, box[2] + 2, box[3] + 1), fill=tint_of)
        pen.text((left + 2, top), text, fill=(0, 0, 0), font=font)
    return np.asarray(drawn)


def side_by_side(dataset: Dataset, video: Video, tracks: Sequence[Track], frame: int | None = None) -> Image:
    """One frame of a video, by default the middle one: as it is, with the truth where it is known, and with tracks.

    Raises `UserError` for a frame that the video does not have.
    """
    index = len(video.frames) // 2 if frame is None else frame
    if not 0 <= index < len(video.frames):
        raise UserError(f"frame {index}", f"is not in video {video.id}", f"name one of 0 to {len(video.frames) - 1}")
    names = {category.id: category.name for category in dataset.categories}
    pixels = video.frames[index]
    pictures = [pixels]
    if dataset.truth is not None:
        truth = [Track(video.id, t.category_id, 1.0, t.masks) for t in dataset.truth.tracks_of(video.id)]
        pictures.append(draw_tracks(pixels, truth, index, names, with_scores=False))
    pictures.append(draw_tracks(pixels, tracks, index, names))
    gap = np.full((len(pixels), GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], 1)


def contact_sheet(dataset: Dataset, videos: int, frames: int) -> Image:
    """Frames of a dataset's first videos, evenly spaced, and below each row the same with the truth drawn on it.

    Cells have the size of the largest video. Raises `UserError` for a dataset without truth.
    """
    if dataset.truth is None:
        raise UserError(f"{dataset.name}, split {dataset.split}", "its truth is withheld", "take a split that has it")
    chosen = dataset.videos[:videos]
    height, width = max(v.height for v in chosen), max(v.width for v in chosen)
    names = {category.id: category.name for category in dataset.categories}
    sheet = np.full((2 * len(chosen) * (height + GAP), frames * (width + GAP), 3), 255, np.uint8)
    for row, video in enumerate(chosen):
        tracks = [Track(video.id, t.category_id, 1.0, t.masks) for t in dataset.truth.tracks_of(video.id)]
        drawn = list(overlay(video, tracks, names, with_scores=False))
        for column, index in enumerate(np.linspace(0, len(drawn) - 1, frames).round().astype(int)):
            for line, picture in ((2 * row, video.frames[int(index)]), (2 * row + 1, drawn[index])):
                top, left = line * (height + GAP), column * (width + GAP)
                sheet[top : top + video.height, left : left + video.width] = picture
    return sheet


def _outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask that touch its outside."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return np.asarray(mask & ~inner)
