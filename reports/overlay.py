"""Draws tracks on frames: masks in stable colours, outlines, names and scores."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from harness.arrays import Mask
from harness.errors import UserError
from harness.frames import Image
from harness.types import Dataset, Track, Video

OPACITY = 0.45
PixelBox = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, the latter two outside."""
_GAP = 4
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
    frame: Image,
    tracks: Sequence[Track],
    index: int,
    names: Mapping[int, str] | None = None,
    with_scores: bool = True,
    tints: Sequence[int] | None = None,
) -> Image:
    """The frame of number ``index`` with tracks drawn on it; see `overlay`. Without ``names`` there are no labels.

    ``tints`` are numbers of the tracks' colours, by default their places; with them no two colours mix: where tracks
    overlap the first one is seen.
    """
    size = max(12, len(frame) // 40)
    font = ImageFont.load_default(size)
    picture = frame.astype(np.float32)
    masks = [None if (rle := track.masks[index]) is None else rle.decode() for track in tracks]
    if tints is not None:
        masks = _apart(masks)
    labels: list[tuple[tuple[int, int], str, tuple[int, int, int]]] = []
    for number in reversed(range(len(tracks))):
        mask = masks[number]
        if mask is None or not mask.any():
            continue
        own = colour(number if tints is None else tints[number])
        tint = np.array(own, np.float32)
        picture[mask] += OPACITY * (tint - picture[mask])
        picture[_outline(mask)] = tint
        if names is not None:
            top, left = int(np.argmax(mask.any(1))), int(np.argmax(mask.any(0)))
            score = f" {tracks[number].score:.2f}" if with_scores else ""
            labels.append(((left, max(0, top - size - 4)), names[tracks[number].category_id] + score, own))
    drawn = Pillow.fromarray(picture.round().astype(np.uint8))
    pen = ImageDraw.Draw(drawn)
    taken: list[PixelBox] = []
    for (left, top), text, own in reversed(labels):  # the first tracks, which have the highest scores, first
        ink = pen.textbbox((0, 0), text, font=font)
        box = free_place((left, top), (int(ink[2]) + 4, size + 4), drawn.size, taken)
        if box is None:
            continue
        taken.append(box)
        pen.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=own)
        pen.text((box[0] + 2, box[1]), text, fill=(0, 0, 0), font=font)
    return np.asarray(drawn)


def _apart(masks: Sequence[Mask | None]) -> list[Mask | None]:
    """The masks without the pixels of earlier ones."""
    made: list[Mask | None] = []
    covered: Mask | None = None
    for mask in masks:
        made.append(mask if mask is None or covered is None else mask & ~covered)
        if mask is not None:
            covered = mask if covered is None else covered | mask
    return made


def free_place(
    wanted: tuple[int, int], size: tuple[int, int], inside: tuple[int, int], taken: Sequence[PixelBox]
) -> PixelBox | None:
    """The place nearest to ``wanted`` (left, top) where a label of a size (width, height) covers no other one.

    It stays ``inside`` the picture (width, height) where it fits into it. ``None`` where no place is free.
    """
    width, height = size
    right, bottom = max(0, inside[0] - width), max(0, inside[1] - height)
    first_left, first_top = min(max(0, wanted[0]), right), min(max(0, wanted[1]), bottom)
    lefts = {first_left, *(min(right, box[2]) for box in taken), *(max(0, box[0] - width) for box in taken)}
    tops = {first_top, *(min(bottom, box[3]) for box in taken), *(max(0, box[1] - height) for box in taken)}
    places = sorted(
        ((left, top) for left in lefts for top in tops),
        key=lambda place: (abs(place[0] - wanted[0]) + 2 * abs(place[1] - wanted[1]), place),
    )
    for left, top in places:
        box = (left, top, left + width, top + height)
        if not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
            return box
    return None


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
    gap = np.full((len(pixels), _GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], 1)


def contact_sheet(dataset: Dataset, videos: int, frames: int) -> Image:
    """Frames of a dataset's first videos, evenly spaced, and below each row the same with the truth drawn on it.

    Cells have the size of the largest video. Raises `UserError` for a dataset without truth.
    """
    if dataset.truth is None:
        raise UserError(
            f"{dataset.name}, split {dataset.split}", "its truth is withheld", "choose a split whose truth is public"
        )
    chosen = dataset.videos[:videos]
    height, width = max(v.height for v in chosen), max(v.width for v in chosen)
    names = {category.id: category.name for category in dataset.categories}
    sheet = np.full((2 * len(chosen) * (height + _GAP), frames * (width + _GAP), 3), 255, np.uint8)
    for row, video in enumerate(chosen):
        tracks = [Track(video.id, t.category_id, 1.0, t.masks) for t in dataset.truth.tracks_of(video.id)]
        drawn = list(overlay(video, tracks, names, with_scores=False))
        for column, index in enumerate(np.linspace(0, len(drawn) - 1, frames).round().astype(int)):
            for line, picture in ((2 * row, video.frames[int(index)]), (2 * row + 1, drawn[index])):
                top, left = line * (height + _GAP), column * (width + _GAP)
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
