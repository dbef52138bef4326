"""The data that BURST's official tasks compare: masks by image, with global track ids and the classes that take
part."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

from harness.errors import OfficialAbortError, UserError
from harness.formats.burst import Sequence, areas_of, frame_number, read
from harness.warnings import Warnings

DISTRACTORS = frozenset(
    (20, 63, 108, 180, 188, 204, 212, 247, 303, 403, 407, 415, 490, 504, 507, 513, 529, 567, 569, 588, 672, 691, 702,
     708, 711, 720, 736, 737, 798, 813, 815, 827, 831, 851, 877, 883, 912, 971, 976, 1130, 1133, 1134, 1169, 1184, 1220)
)  # fmt: skip
"""LVIS 0.5 ids whose annotations are not evaluated."""
MOST_PER_IMAGE = 300
UNKNOWN_FRAME = "mask in a frame that is not annotated, left out"
UNKNOWN_SEQUENCE = "mask in a sequence that the truth does not have, left out"
NO_EXEMPLAR = "mask of a track that the truth does not have, kept with its own id and class in corrected"
NO_MASKS = "mask of an exemplar that has no annotated mask, left out in corrected and trackeval"

BEYOND_CAP = f"mask beyond the best {MOST_PER_IMAGE} of its image, left out"


class Item(NamedTuple):
    """One mask in one image; ``counts`` is its compressed RLE, ``area`` in pixels. An unstated category is ``None``."""

    track: int
    category: int | None
    score: float
    counts: bytes
    area: int


Images = dict[str, list[Item]]
"""Masks by image, in the order in which they were read."""


@dataclass
class BurstVideo:
    """A sequence: size in pixels, its annotated frames by frame number, and the truths in them."""

    name: str
    size: tuple[int, int]
    negative: frozenset[int]
    not_exhaustive: frozenset[int]
    frames: list[str]
    truths: Images = field(default_factory=lambda: defaultdict(list))


class Truth(NamedTuple):
    """The annotations of a task: videos by name, the video of every image, and global track ids by sequence.

    ``tracks`` has the global id and the class of each local track id; ``seen`` the global ids that have masks.
    """

    split: str
    videos: dict[str, BurstVideo]
    image_video: dict[str, str]
    tracks: dict[int, dict[int, tuple[int, int]]]
    seen: frozenset[int]


class BurstPredictions(NamedTuple):
    """A prediction file: per sequence its id, its name, and its masks with their images and local track ids.

    ``unnamed`` are the image and the track of every mask whose category is not stated.
    """

    path: str
    split: str
    sequences: list[tuple[int, str, list[tuple[str, Item]]]]
    unnamed: list[tuple[str, int]]

    def first_unnamed(self, truth: Truth) -> str | None:
        """Where the first mask without a category is among those in annotated frames; ``None`` if there is none."""
        return next((f"{self.path}, {i}, track {t}" for i, t in self.unnamed if i in truth.image_video), None)


@cache
def class_table() -> tuple[dict[int, str], dict[int, int]]:
    """LVIS 0.5: names by id, in table order, and the target of each merged id."""
    names: dict[int, str] = {}
    merged: dict[int, int] = {}
    with files("harness.scoring").joinpath("lvis05.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            names[int(row["id"])] = row["name"]
            merged |= {int(i): int(row["id"]) for i in row["merged"].split("|") if i}
    return names, merged


def read_truth(path: Path) -> Truth:
    """Read annotations: masks of distractors are removed, then classes are merged; track ids count from 1."""
    file, merged = read(path), class_table()[1]
    videos: dict[str, BurstVideo] = {}
    image_video: dict[str, str] = {}
    tracks: dict[int, dict[int, tuple[int, int]]] = {}
    counter = 0
    for sequence in file.sequences:
        name = _name(file.split, sequence)
        if name in videos:
            raise UserError(f"{path}, sequence {sequence.id}", f"{name} occurs twice", "name each sequence once")
        images = [f"{file.split}/{sequence.frame(f)}" for f in range(len(sequence.segmentations))]
        known: dict[int, tuple[int, int]] = {}
        for local, category in sequence.track_category_ids.items():
            counter += 1
            known[int(local)] = (counter, category)
        video = BurstVideo(
            name, (sequence.height, sequence.width), frozenset(sequence.neg_category_ids),
            frozenset(sequence.not_exhaustive_category_ids), sorted(images, key=lambda i: frame_number(i, str(path))),
        )  # fmt: skip
        for image, item in _items(sequence, file.split, str(path)):
            if item.track not in known:
                hint = "list it in track_category_ids"
                raise UserError(f"{path}, {image}, track {item.track}", "has no category", hint)
            track, category = known[item.track]  # a mask's own category counts in predictions only
            if category not in DISTRACTORS:
                video.truths[image].append(item._replace(track=track, category=merged.get(category, category)))
        videos[name], tracks[sequence.id] = video, known
        image_video |= dict.fromkeys(images, name)
    seen = frozenset(i.track for v in videos.values() for items in v.truths.values() for i in items)
    return Truth(file.split, videos, image_video, tracks, seen)


def read_predictions(path: Path, default_split: str) -> BurstPredictions:
    """Read predictions; every mask is checked, nothing is left out yet. Split and categories are optional.

    Raises `UserError` for a faulty file and for a track with two masks in one frame.
    """
    file = read(path, default_split)
    sequences = []
    file.sequences.reverse()
    while file.sequences:  # each is released once read: these files are large
        sequence = file.sequences.pop()
        masks = list(_items(sequence, file.split, str(path)))
        sequences.append((sequence.id, _name(file.split, sequence), masks))
    unnamed = [(image, i.track) for _, _, masks in sequences for image, i in masks if i.category is None]
    found = BurstPredictions(str(path), file.split, sequences, unnamed)
    _refuse_repeated(found)
    return found


def _refuse_repeated(found: BurstPredictions) -> None:
    """Refuse a track that two sequences of one name have in the same frame."""
    times = Counter(name for _, name, _ in found.sequences)
    seen: set[tuple[str, int]] = set()
    for _, name, masks in found.sequences:
        for image, item in masks if times[name] > 1 else ():
            if (image, item.track) in seen:
                raise UserError(f"{found.path}, {image}, track {item.track}", "occurs twice", "give one mask")
            seen.add((image, item.track))


Exemplars = Literal["refuse unknown", "keep unknown"]


def assign_tracks(
    truth: Truth, found: BurstPredictions, exemplars: Exemplars | None, empty_masks_count: bool, warnings: Warnings
) -> dict[str, Images]:
    """Predictions by video of ``truth``: masks per image are capped, shared track ids renamed, classes merged.

    With ``exemplars`` a prediction has the track and the class of the truth with its id; one without is
    refused (`OfficialAbortError`), or kept as a track of its own. Raises `UserError` for another split.
    """
    if found.split != truth.split:
        hint = "give the same split"
        raise UserError(found.path, f'is of split "{found.split}", the truth of "{truth.split}"', hint)
    images: Images = {}
    exemplar_count = sum(len(known) for known in truth.tracks.values())
    for number, name, masks in found.sequences:
        odd = UNKNOWN_FRAME if name in truth.videos else UNKNOWN_SEQUENCE
        for image, item in masks:
            if image not in truth.image_video:
                warnings.add(odd, f"{found.path}, {image}, track {item.track}")
                continue
            if item.area == 0 and not empty_masks_count:
                continue
            if exemplars is not None:
                known = truth.tracks.get(number, {}).get(item.track)
                where = f"{found.path}, {image}, track {item.track}"
                if known is None and exemplars == "refuse unknown":
                    raise OfficialAbortError(where, "is not a track of the truth", "name an exemplar")
                if known is None:
                    warnings.add(NO_EXEMPLAR, where)
                    item = item._replace(track=exemplar_count + 1 + item.track)
                elif known[0] not in truth.seen:
                    warnings.add(NO_MASKS, where)
                    continue
                else:
                    item = item._replace(track=known[0], category=known[1])
            images.setdefault(image, []).append(item)
    for image, items in images.items():
        if len(items) > MOST_PER_IMAGE:
            warnings.add(BEYOND_CAP, f"{found.path}, {image}", len(items) - MOST_PER_IMAGE)
            images[image] = sorted(items, key=lambda i: -i.score)[:MOST_PER_IMAGE]
    return _final(truth, images)


def _final(truth: Truth, images: Images) -> dict[str, Images]:
    """Images by video, with track ids that are unique over videos, and merged classes."""
    merged, names = class_table()[1], _renamed(truth, images)
    placed: dict[str, Images] = {name: {} for name in truth.videos}
    for image, items in images.items():
        video = truth.image_video[image]
        placed[video][image] = [
            item._replace(
                track=names.get((item.track, video), item.track),
                category=None if item.category is None else merged.get(item.category, item.category),
            )
            for item in items
        ]
    return placed


def _renamed(truth: Truth, images: Images) -> dict[tuple[int, str], int]:
    """New ids for track ids that occur in several videos, above all others, in order of first use."""
    owners: dict[int, set[str]] = defaultdict(set)
    used: dict[tuple[int, str], None] = {}
    for image, items in images.items():
        video = truth.image_video[image]
        for item in items:
            owners[item.track].add(video)
            used[item.track, video] = None
    following = max(owners, default=0) + 1
    shared = [key for key in used if len(owners[key[0]]) > 1]
    return {key: following + i for i, key in enumerate(shared)}


def _name(split: str, sequence: Sequence) -> str:
    return f"{split}-{sequence.dataset}-{sequence.seq_name}"


def _items(sequence: Sequence, split: str, name: str) -> Iterator[tuple[str, Item]]:
    """Every mask of a sequence: its image, and the mask with the local id as its track."""
    where = f"{name}, sequence {sequence.id} ({sequence.seq_name})"
    areas = areas_of(sequence, where)
    for f, frame in enumerate(sequence.segmentations):
        image = f"{split}/{sequence.frame(f)}"
        for (local, mask), area in zip(frame.items(), areas[f].tolist(), strict=True):
            category = mask.category_id if mask.category_id is not None else sequence.track_category_ids.get(local)
            score = 1.0 if mask.score is None else mask.score
            yield image, Item(int(local), category, score, mask.rle.encode(), area)
