"""What BURST's official tasks compare: masks by image, with global track ids and the classes that take part."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError
from harness.formats.burst import Sequence, areas_of, frame_number, read
from harness.warnings import Warnings

DISTRACTORS = frozenset(
    (20, 63, 108, 180, 188, 204, 212, 247, 303, 403, 407, 415, 490, 504, 507, 513, 529, 567, 569, 588, 672, 691, 702,
     708, 711, 720, 736, 737, 798, 813, 815, 827, 831, 851, 877, 883, 912, 971, 976, 1130, 1133, 1134, 1169, 1184, 1220)
)  # fmt: skip
"""LVIS 0.5 ids whose annotations take no part."""
MOST_PER_IMAGE = 300


class Item(NamedTuple):
    """One mask in one image; ``counts`` is its compressed RLE, ``area`` in pixels."""

    track: int
    category: int
    score: float
    counts: bytes
    area: int


@dataclass
class Video:
    """A sequence: size in pixels, and truths and predictions per annotated frame, by frame number."""

    name: str
    size: tuple[int, int]
    negative: frozenset[int]
    not_exhaustive: frozenset[int]
    frames: list[str]
    truths: dict[str, list[Item]] = field(default_factory=lambda: defaultdict(list))
    predictions: dict[str, list[Item]] = field(default_factory=lambda: defaultdict(list))


class Truth(NamedTuple):
    """The annotations of a task: videos by name, the video of every image, and global track ids by sequence."""

    split: str
    videos: dict[str, Video]
    image_video: dict[str, str]
    tracks: dict[int, dict[str, tuple[int, int]]]
    seen: frozenset[int]


@cache
def class_table() -> tuple[dict[int, str], dict[int, int]]:
    """LVIS 0.5: names by id, in table order, and what each merged id is merged into."""
    names: dict[int, str] = {}
    merged: dict[int, int] = {}
    with files("harness.scoring").joinpath("lvis05.csv").open() as file:
        for row in csv.DictReader(file):
            names[int(row["id"])] = row["name"]
            merged |= {int(i): int(row["id"]) for i in row["merged"].split("|") if i}
    return names, merged


def read_truth(path: Path) -> Truth:
    """Read annotations: masks of distractors are removed, then classes are merged; track ids count from 1."""
    file, merged = read(path), class_table()[1]
    videos: dict[str, Video] = {}
    image_video: dict[str, str] = {}
    tracks: dict[int, dict[str, tuple[int, int]]] = {}
    counter = 0
    for sequence in file.sequences:
        name = f"{file.split}-{sequence.dataset}-{sequence.seq_name}"
        if name in videos:
            raise UserError(f"{path}, sequence {sequence.id}", f"{name} stands twice", "name each sequence once")
        images = [f"{file.split}/{sequence.frame(f)}" for f in range(len(sequence.segmentations))]
        tracks[sequence.id] = {}
        for local, category in sequence.track_category_ids.items():
            counter += 1
            tracks[sequence.id][local] = (counter, category)
        video = Video(
            name, (sequence.height, sequence.width), frozenset(sequence.neg_category_ids),
            frozenset(sequence.not_exhaustive_category_ids), sorted(images, key=frame_number),
        )  # fmt: skip
        videos[name] = video
        for image, local, item in _items(sequence, file.split, str(path)):
            image_video[image] = name
            if item.category not in DISTRACTORS:
                known = tracks[sequence.id].get(local)
                if known is None:
                    raise UserError(f"{path}, {image}, track {local}", "has no category", "list it")
                category = merged.get(item.category, item.category)
                video.truths[image].append(item._replace(track=known[0], category=category))
        image_video |= dict.fromkeys(images, name)
    seen = frozenset(i.track for v in videos.values() for items in v.truths.values() for i in items)
    return Truth(file.split, videos, image_video, tracks, seen)


def add_predictions(truth: Truth, path: Path, exemplar: bool, empty_masks_count: bool, warnings: Warnings) -> None:
    """Read predictions into the videos of ``truth``: cap per image, rename shared track ids, merge classes.

    With ``exemplar`` a prediction has the track and the class of the truth that it names. Raises `UserError` for
    another split and, with ``exemplar``, for tracks that the truth does not have.
    """
    file = read(path)
    if file.split != truth.split:
        raise UserError(str(path), f'is of split "{file.split}", the truth of "{truth.split}"', "give the same split")
    images: dict[str, list[Item]] = {}
    for sequence in file.sequences:
        for image, local, item in _items(sequence, file.split, str(path)):
            if image not in truth.image_video:
                warnings.add("mask in a frame that is not annotated, left out", f"{path}, {image}")
                continue
            if item.area == 0 and not empty_masks_count:
                continue
            if exemplar:
                known = truth.tracks.get(sequence.id, {}).get(local)
                if known is None:
                    raise UserError(f"{path}, {image}, track {local}", "is no track of the truth", "name an exemplar")
                if known[0] not in truth.seen:
                    continue
                item = item._replace(track=known[0], category=known[1])
            images.setdefault(image, []).append(item)
    for image, items in images.items():
        if len(items) > MOST_PER_IMAGE:
            images[image] = sorted(items, key=lambda i: -i.score)[:MOST_PER_IMAGE]
    merged = class_table()[1]
    names = _renamed(truth, images)
    for image, items in images.items():
        video = truth.image_video[image]
        for item in items:
            category = merged.get(item.category, item.category)
            track = names.get((item.track, video), item.track)
            truth.videos[video].predictions[image].append(item._replace(track=track, category=category))


def _renamed(truth: Truth, images: dict[str, list[Item]]) -> dict[tuple[int, str], int]:
    """New ids for track ids that occur in several videos, above all others, in order of first use."""
    owners: dict[int, set[str]] = defaultdict(set)
    for image, items in images.items():
        for item in items:
            owners[item.track].add(truth.image_video[image])
    following = max(owners, default=0) + 1
    names: dict[tuple[int, str], int] = {}
    for image, items in images.items():
        for item in items:
            key = (item.track, truth.image_video[image])
            if len(owners[item.track]) > 1 and key not in names:
                names[key] = following
                following += 1
    return names


def _items(sequence: Sequence, split: str, name: str) -> Iterator[tuple[str, str, Item]]:
    """Every mask of a sequence: image, local track id, and the mask with the local id as its track."""
    where = f"{name}, sequence {sequence.id} ({sequence.seq_name})"
    areas = areas_of(sequence, where)
    for f, frame in enumerate(sequence.segmentations):
        image = f"{split}/{sequence.frame(f)}"
        for (local, mask), area in zip(frame.items(), areas[f].tolist(), strict=True):
            category = mask.category_id if mask.category_id is not None else sequence.track_category_ids.get(local)
            if category is None:
                raise UserError(f"{where}, frame {f}, track {local}", "has no category", "list it")
            score = 1.0 if mask.score is None else mask.score
            yield image, local, Item(int(local), category, score, mask.rle.encode(), area)
