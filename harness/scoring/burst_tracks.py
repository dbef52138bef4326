"""The data that BURST's official tasks compare: masks by image, with their tracks, and the classes that take part.

Files are read sequence by sequence; of a predicted mask only its numbers are kept, so memory follows the truth.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections import Counter, deque
from collections.abc import Container, Iterator
from collections.abc import Sequence as List
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from harness import rle
from harness.arrays import Flags, Floats, Ints, Ints32
from harness.errors import OfficialAbortError, UserError
from harness.formats.burst import Sequence, SequenceReader, frame_number
from harness.scoring.burst_masks import (
    MaskTexts,
    MeasuredMasks,
    PlacedMasks,
    SharedTruths,
    TruthMasks,
    empty_truth,
    join_masks,
    join_truths,
    measure_masks,
    no_texts,
    share_masks,
    texts_of,
)
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
EXEMPLAR_WITHOUT_MASK = "mask of an exemplar that has no annotated mask, left out in corrected and trackeval"

BEYOND_IMAGE_CAP = f"mask beyond the best {MOST_PER_IMAGE} of its image, left out"


NO_CLASS = -1
"""The class of a mask that states none."""
WAITING = 2
"""Sequences per core that wait until their masks are measured."""


class ClassNumbers:
    """Positions of class numbers, which may be any integer, in the order in which they occur."""

    def __init__(self) -> None:
        self._position: dict[int | None, int] = {None: NO_CLASS}

    def position(self, number: int | None) -> int:
        return self._position.setdefault(number, len(self._position) - 1)

    def listed(self) -> list[int]:
        """The numbers by position."""
        return [number for number in self._position if number is not None]

    def merged(self) -> Ints:
        """By position, that of the class into which each one is merged; `NO_CLASS` behind the last."""
        into = class_table()[1]
        return np.array([self.position(into.get(n, n)) for n in self.listed()] + [NO_CLASS], np.int64)


class BurstSequences(Protocol):
    """Predicted sequences, as `harness.formats.burst.SequenceReader` reads them; ``split`` is known after reading."""

    split: str
    lists_empty: bool

    @property
    def path(self) -> object:
        """What messages call the source of the sequences."""
        ...

    def __iter__(self) -> Iterator[Sequence]: ...


@dataclass(frozen=True)
class BurstVideo:
    """A sequence: size in pixels, and the class numbers that are known to be absent or not annotated everywhere."""

    name: str
    size: tuple[int, int]
    negative: frozenset[int]
    not_exhaustive: frozenset[int]


class TruthTracks(NamedTuple):
    """The objects of a task: by sequence id and local track id their id over all sequences, which counts from 1, and
    their class number; ``seen`` are the ids of those that have masks."""

    known: dict[int, dict[int, tuple[int, int]]]
    seen: frozenset[int]


@dataclass(frozen=True)
class BurstTruth:
    """The annotations of a task.

    ``videos`` are in order of their names; frames are numbered over all of them, within one in the order of the
    numbers in their names. ``frame_of`` has the frame of each image, ``video_of (frames,)`` the video. The masks, in
    the order of the file, have ``frame``, ``track`` and ``category (masks,)``, a position in ``classes``. ``listed``
    are the ids of the file's categories, in its order.
    """

    split: str
    videos: list[BurstVideo]
    images: list[str]
    frame_of: dict[str, int]
    video_of: Ints
    frame: Ints
    track: Ints
    category: Ints
    masks: TruthMasks
    tracks: TruthTracks
    classes: ClassNumbers
    listed: tuple[int, ...] = ()

    def without_texts(self) -> BurstTruth:
        """The same for the time when all overlaps are known."""
        return replace(self, masks=self.masks._replace(texts=no_texts()))


@dataclass(frozen=True)
class BurstPredictions:
    """A prediction file. Masks have ``image``, ``owner``, ``category`` and ``score (masks,)``, and their overlaps
    ``masks`` with the masks that the ``truths`` share, which here have no texts.

    ``images`` are paths, and ``frames[t] (images,)`` their frames in truth ``t``, -1 where they are not annotated.
    ``owner`` is a track of a sequence: ``sequence (owners,)`` and the local id ``track (owners,)``. ``sequences`` has
    id, name and number of masks; with ``lists_empty`` a model found nothing in those without a mask. ``twins`` name the
    tracks that repeat another one.
    """

    path: str
    split: str
    sequences: list[tuple[int, str, int]]
    images: list[str]
    frames: list[Ints]
    image: Ints32
    owner: Ints32
    category: Ints32
    score: Floats
    masks: MeasuredMasks
    sequence: Ints
    track: Ints
    truths: SharedTruths
    twins: list[str]
    lists_empty: bool = False

    def place(self, mask: int) -> str:
        """The file, the image and the track of a mask, for messages."""
        return f"{self.path}, {self.split}/{self.images[self.image[mask]]}, track {self.track[self.owner[mask]]}"

    def first_unnamed(self) -> str | None:
        """The first mask without a category among those in annotated frames; ``None`` if there is none."""
        unnamed = np.flatnonzero((self.category == NO_CLASS) & (self.frames[0][self.image] >= 0))
        return self.place(int(unnamed[0])) if len(unnamed) else None


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


class _Columns(NamedTuple):
    """The masks of a sequence in file order: their number by frame, the local ids of tracks by first use, and of each
    mask its track, its score, its class (a position, see `ClassNumbers`) and its text."""

    counts: list[int]
    tracks: list[int]
    owner: Ints32
    score: Floats
    category: Ints32
    texts: MaskTexts


def _columns(sequence: Sequence, classes: ClassNumbers) -> _Columns:
    keys = list(itertools.chain.from_iterable(sequence.segmentations))
    masks = [mask for frame in sequence.segmentations for mask in frame.values()]
    at = {key: position for position, key in enumerate(dict.fromkeys(keys))}
    owner = np.array([at[key] for key in keys], np.int32)
    of_track = [classes.position(sequence.track_category_ids.get(key)) for key in at]
    category = np.array(of_track, np.int32)[owner]
    own = [mask.category_id for mask in masks]
    if own.count(None) < len(own):
        stated = np.array([classes.position(number) for number in own], np.int32)
        category = np.where(stated == NO_CLASS, category, stated)
    score = [1.0 if mask.score is None else mask.score for mask in masks]
    counts = [len(frame) for frame in sequence.segmentations]
    texts = texts_of([mask.rle for mask in masks])
    return _Columns(counts, [int(key) for key in at], owner, np.array(score, np.float64), category, texts)


def _refuse_faults(area: Ints32, sequence: Sequence, where: str) -> None:
    faulty = np.flatnonzero(area < 0)
    if len(faulty):
        listed = [(f, track) for f, frame in enumerate(sequence.segmentations) for track in frame]
        f, track = listed[int(faulty[0])]
        path = sequence.annotated_image_paths[f]
        raise UserError(
            f"{where}, frame {path}, track {track}", rle.RLE_FAULTS[int(area[faulty[0]])], "encode it again"
        )


def offsets(counts: List[int] | Ints) -> Ints:
    """Where each of some groups begins, and the end of the last; ``counts`` are their sizes."""
    return np.append(np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64))


def _joined(parts: List[Ints]) -> Ints:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _moved(parts: list[Ints32]) -> Ints32:
    """The parts as one array; the list is emptied."""
    joined = np.concatenate([np.empty(0, np.int32), *parts])
    parts.clear()
    return joined


def _name(sequence: Sequence) -> str:
    """The name of a sequence in its split."""
    return f"{sequence.dataset}-{sequence.seq_name}"


def read_burst_truth(path: Path, classes: ClassNumbers, chosen: Container[int] | None = None) -> BurstTruth:
    """Read annotations: masks of distractors are removed, then classes are merged; track ids count from 1.

    ``chosen`` are the ids of the sequences to read; ``None``: all. Raises `UserError` for a faulty file.
    """
    reader, merged = SequenceReader(path), class_table()[1]
    videos: dict[str, BurstVideo] = {}
    images: list[list[str]] = []
    known: dict[int, dict[int, tuple[int, int]]] = {}
    frames, tracks, categories = [], [], []
    masks: list[TruthMasks] = []
    data, counter = bytearray(), 0
    for sequence in reader:
        name, where = _name(sequence), f"{path}, sequence {sequence.id}"
        if chosen is not None and sequence.id not in chosen:
            continue
        if name in videos:
            raise UserError(where, f"{name} occurs twice", "name each sequence once")
        mine = known[sequence.id] = {}
        for local, category in sequence.track_category_ids.items():
            counter += 1
            mine[int(local)] = (counter, category)
        columns, size = _columns(sequence, ClassNumbers()), (sequence.height, sequence.width)
        found = measure_masks(columns.texts, size[0] * size[1], size[0], *empty_truth(len(columns.owner)))
        _refuse_faults(found.area, sequence, f"{where} ({sequence.seq_name})")
        frame = np.repeat(np.arange(len(columns.counts)), columns.counts)
        for at, track in enumerate(columns.tracks):
            if track not in mine:
                image = sequence.frame(int(frame[np.argmax(columns.owner == at)]))
                raise UserError(f"{path}, {image}, track {track}", "has no category", "list it in track_category_ids")
        of_track = [mine[track] for track in columns.tracks]  # a mask's own category counts in predictions only
        wanted = np.array([category not in DISTRACTORS for _, category in of_track], np.bool_)
        position = np.array([classes.position(merged.get(c, c)) for _, c in of_track], np.int64)
        kept = np.flatnonzero(wanted[columns.owner])
        owner = columns.owner[kept]
        frames.append(frame[kept])
        tracks.append(np.array([track for track, _ in of_track], np.int64)[owner])
        categories.append(position[owner])
        start, stop = columns.texts.start[kept] + len(data), columns.texts.stop[kept] + len(data)
        data += columns.texts.data.tobytes()
        masks.append(TruthMasks(no_texts()._replace(start=start, stop=stop), found.area[kept], found.box[kept]))
        negative, partly = frozenset(sequence.neg_category_ids), frozenset(sequence.not_exhaustive_category_ids)
        videos[name] = BurstVideo(name, size, negative, partly)
        images.append([sequence.frame(f) for f in range(len(columns.counts))])
    ordered = sorted(videos)
    numbers, names = _numbered(dict(zip(videos, images, strict=True)), str(path))
    lengths = dict(zip(videos, map(len, images), strict=True))
    frame_of: dict[str, int] = {}
    for name, paths in zip(videos, images, strict=True):
        frame_of |= zip(paths, numbers[name].tolist(), strict=True)
    ids, joined = _joined(tracks), join_truths(masks)
    return BurstTruth(
        reader.split,
        [videos[name] for name in ordered],
        names,
        frame_of,
        np.repeat(np.arange(len(ordered)), [lengths[name] for name in ordered]),
        _joined([numbers[name][frame] for name, frame in zip(videos, frames, strict=True)]),
        ids,
        _joined(categories),
        joined._replace(texts=joined.texts._replace(data=np.frombuffer(data, np.uint8))),
        TruthTracks(known, frozenset(ids.tolist())),
        classes,
        tuple(one["id"] for one in reader.categories if type(one.get("id")) is int),
    )


def _numbered(images: dict[str, list[str]], path: str) -> tuple[dict[str, Ints], list[str]]:
    """Number the frames of all videos, ascending by name, within one by the number of the frame.

    Returns the numbers of the listed ``images`` of each video, and their paths by number.
    """
    found: dict[str, Ints] = {}
    names: list[str] = []
    for video in sorted(images):
        stated = [frame_number(image, path) for image in images[video]]
        order = sorted(range(len(stated)), key=stated.__getitem__)
        found[video] = np.empty(len(order), np.int64)
        found[video][order] = len(names) + np.arange(len(order))
        names += [images[video][f] for f in order]
    return found, names


def shared_masks(truths: List[BurstTruth]) -> SharedTruths:
    """The annotated masks of several truths, each once: BURST's other files repeat those of all classes."""
    first, *others = truths
    placed = []
    for truth in others:
        image = np.array([first.frame_of.get(name, -1) for name in truth.images], np.int64)
        placed.append(PlacedMasks(truth.masks, image[truth.frame]))
    return share_masks(PlacedMasks(first.masks, first.frame), placed, len(first.images))


def read_burst_predictions(reader: BurstSequences, truths: List[BurstTruth], shared: SharedTruths) -> BurstPredictions:
    """Read predictions and overlap every mask with the annotated ones of its image, in all ``truths``, on all cores.

    ``shared`` are the masks of the truths, which themselves need no texts.
    Every mask is checked, nothing is left out yet. Split and categories are optional. Raises `UserError` for a faulty
    file, one of another split, and a track with two masks in one frame.
    """
    path = str(reader.path)
    found = _Reading(path, truths, shared)
    cores = os.cpu_count() or 1
    waiting: deque[tuple[Sequence, _Columns, list[str], list[Ints], Future[MeasuredMasks]]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        for sequence in reader:
            columns = _columns(sequence, truths[0].classes)
            images = [sequence.frame(f) for f in range(len(columns.counts))]
            frames = [np.array([t.frame_of.get(i, -1) for i in images], np.int64) for t in truths]
            height = _height(sequence, columns, frames, truths, path)
            rows, first = found.truth_rows(frames)
            work = (columns.texts, sequence.height * sequence.width, height, shared.masks, offsets(columns.counts))
            waiting.append((sequence, columns, images, frames, pool.submit(measure_masks, *work, first, rows)))
            if len(waiting) > WAITING * cores:
                found.add(*waiting.popleft())
        while waiting:
            found.add(*waiting.popleft())
    if reader.split != truths[0].split:
        raise UserError(path, f'is of split "{reader.split}", the truth of "{truths[0].split}"', "give the same split")
    return replace(found.predictions(reader.split), lists_empty=reader.lists_empty)


def _height(sequence: Sequence, columns: _Columns, frames: list[Ints], truths: List[BurstTruth], path: str) -> int:
    """The height of a sequence's images: the truth's, where it has any of those with masks.

    Raises `UserError` where the truth has other sizes.
    """
    own, counts = (sequence.height, sequence.width), np.array(columns.counts, np.int64)
    height = sequence.height
    for numbers, truth in zip(reversed(frames), reversed(truths), strict=True):
        there = numbers[(numbers >= 0) & (counts > 0)]
        for at in set(truth.video_of[there].tolist()):
            size = truth.videos[at].size
            if size[0] * size[1] != own[0] * own[1]:
                what = f"has frames of {own[0]}x{own[1]} pixels, the truth of {size[0]}x{size[1]}"
                where = f"{path}, sequence {sequence.id} ({sequence.seq_name})"
                raise UserError(where, what, "encode the masks at the truth's size")
            height = size[0]
    return height


class _Reading:
    """What has been read of a prediction file."""

    def __init__(self, path: str, truths: List[BurstTruth], shared: SharedTruths) -> None:
        self._path, self._shared = path, shared
        self._order = [np.argsort(truth.frame, kind="stable") for truth in truths]
        self._first = [
            np.searchsorted(truth.frame[order], np.arange(len(truth.images) + 1))
            for truth, order in zip(truths, self._order, strict=True)
        ]
        self._sequences: list[tuple[int, str, int]] = []
        self._images: dict[str, int] = {}
        self._frames: list[list[int]] = [[] for _ in truths]
        self._image: list[Ints32] = []
        self._owner: list[Ints32] = []
        self._category: list[Ints32] = []
        self._score: list[Floats] = []
        self._masks: list[MeasuredMasks] = []
        self._owners: list[tuple[int, int]] = []
        self._digests: set[tuple[str, int]] = set()
        self._twins: list[tuple[str, int]] = []

    def truth_rows(self, frames: list[Ints]) -> tuple[Ints, Ints]:
        """The annotated masks of all truths in some images, ``frames[t]`` of truth ``t``: rows, and those of image
        ``i`` are ``first[i]:first[i + 1]`` of them."""
        rows = []
        counts = np.zeros(len(frames[0]), np.int64)
        for i in range(len(frames[0])):
            mine = [
                number[order[first[numbers[i]] : first[numbers[i] + 1]]]
                for numbers, number, order, first in zip(
                    frames, self._shared.number, self._order, self._first, strict=True
                )
                if numbers[i] >= 0
            ]
            here = mine[0] if len(mine) == 1 else np.unique(_joined(mine))
            rows.append(here)
            counts[i] = len(here)
        return _joined(rows), offsets(counts)

    def add(
        self,
        sequence: Sequence,
        columns: _Columns,
        images: list[str],
        frames: list[Ints],
        future: Future[MeasuredMasks],
    ) -> None:
        """Take over the masks of a sequence, once they are measured. Raises `UserError` for faulty ones."""
        measured, name = future.result(), _name(sequence)
        _refuse_faults(measured.area, sequence, f"{self._path}, sequence {sequence.id} ({sequence.seq_name})")
        known = np.empty(len(columns.counts), np.int32)
        for f, image in enumerate(images):
            known[f] = self._images.setdefault(image, len(self._images))
            if known[f] == len(self._frames[0]):
                for numbers, listed in zip(frames, self._frames, strict=True):
                    listed.append(int(numbers[f]))
        image_of = np.repeat(known, columns.counts)
        self._note_twins(name, columns, image_of, measured)
        self._image.append(image_of)
        self._owner.append(columns.owner + np.int32(len(self._owners)))
        self._category.append(columns.category)
        self._score.append(columns.score)
        self._masks.append(measured.without_boxes())
        self._owners += [(len(self._sequences), local) for local in columns.tracks]
        self._sequences.append((sequence.id, name, len(columns.owner)))

    def _note_twins(self, name: str, columns: _Columns, image: Ints32, measured: MeasuredMasks) -> None:
        """Note tracks whose classes, scores and masks are those of another one of the same video."""
        n = len(columns.tracks)
        mixed = np.zeros(len(image), np.uint64)
        for column in (image, columns.category, (columns.score + 0.0).view(np.int64), measured.area, measured.digest):
            mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        digests, shown = np.zeros(n, np.uint64), np.zeros(n, np.bool_)
        np.add.at(digests, columns.owner, mixed)
        shown[columns.owner[measured.area > 0]] = True
        for local, digest, is_shown in zip(columns.tracks, digests.tolist(), shown.tolist(), strict=True):
            if is_shown and (name, digest) in self._digests:
                self._twins.append((name, local))
            self._digests.add((name, digest))

    def predictions(self, split: str) -> BurstPredictions:
        """All of it. Raises `UserError` for a track that two sequences of one name have in the same frame."""
        sequence, track = np.array(self._owners, np.int64).reshape(-1, 2).T
        found = BurstPredictions(
            self._path,
            split,
            self._sequences,
            list(self._images),
            [np.array(listed, np.int64) for listed in self._frames],
            _moved(self._image),
            _moved(self._owner),
            _moved(self._category),
            np.concatenate([np.empty(0), *self._score]),
            join_masks(self._masks),
            sequence,
            track,
            self._shared._replace(masks=self._shared.masks._replace(texts=no_texts())),
            [f"{self._path}, {split}-{name}, track {local}" for name, local in self._twins],
        )
        times = Counter(name for _, name, _ in self._sequences)
        again = np.array([times[name] > 1 for _, name, _ in self._sequences], np.bool_)
        if again.any():
            chosen = np.flatnonzero(again[found.sequence[found.owner]])
            key = np.stack([found.image[chosen], found.track[found.owner[chosen]]])
            order = np.lexsort(key)
            same = (np.diff(key[:, order]) == 0).all(0)
            if same.any():
                raise UserError(found.place(int(chosen[order[1:][same]].min())), "occurs twice", "give one mask")
        return found


def _video_names(truth: BurstTruth) -> set[str]:
    return {video.name for video in truth.videos}


Exemplars = Literal["refuse unknown", "keep unknown"]


@dataclass(frozen=True)
class CountedMasks:
    """The masks of predictions that count, arrays ``(masks,)``: ``row`` in the file's, ``frame`` of the truth, and a
    ``category``, which is a position as in the truth.

    ``place`` orders the masks of a frame, and ``listed`` the frames as the file does. A ``track`` is a track of one
    video; ``zero (tracks,)`` tells which one has the id 0.
    """

    row: Ints32
    frame: Ints32
    category: Ints32
    place: Ints32
    listed: Ints32
    track: Ints32
    zero: Flags


def assign_tracks(
    truth: BurstTruth,
    number: int,
    found: BurstPredictions,
    exemplars: Exemplars | None,
    empty_masks_count: bool,
    warnings: Warnings,
) -> CountedMasks:
    """The predictions for ``truth``, which is that of this ``number`` of those with which they were read: masks per
    image are capped, classes merged, and tracks told apart by video.

    With ``exemplars`` a prediction has the track and the class of the truth with its id; one without is
    refused (`OfficialAbortError`), or kept as a separate track.
    """
    frame = found.frames[number][found.image]
    kept = frame >= 0
    names = _video_names(truth)
    in_known = np.array([name in names for _, name, _ in found.sequences], np.bool_)[found.sequence][found.owner]
    events: list[tuple[Flags, str]] = [(~kept & in_known, UNKNOWN_FRAME), (~kept & ~in_known, UNKNOWN_SEQUENCE)]
    if not empty_masks_count:
        kept &= found.masks.area > 0
    ids, category, abort = found.track, found.category, None
    if exemplars is not None:
        known = [
            truth.tracks.known.get(found.sequences[at][0], {}).get(local)
            for at, local in zip(found.sequence.tolist(), found.track.tolist(), strict=True)
        ]
        count = sum(len(mine) for mine in truth.tracks.known.values())
        ids = np.array(
            [count + 1 + t if k is None else k[0] for k, t in zip(known, found.track, strict=True)], np.int64
        )
        named = np.array([k is not None for k in known], np.bool_)[found.owner]
        seen = np.array([k is None or k[0] in truth.tracks.seen for k in known], np.bool_)[found.owner]
        of_truth = np.array([NO_CLASS if k is None else truth.classes.position(k[1]) for k in known], np.int64)
        category = np.where(named, of_truth[found.owner], category)
        unknown = kept & ~named
        if exemplars == "refuse unknown" and unknown.any():
            abort = int(np.argmax(unknown))
        events += [(unknown, NO_EXEMPLAR), (kept & ~seen, EXEMPLAR_WITHOUT_MASK)]
        kept &= seen
    _warn(events, abort, found, warnings)
    row = np.flatnonzero(kept)
    frame = frame[row]
    listed = np.full(len(truth.images), len(found.image), np.int64)
    listed[frame[::-1]] = row[::-1]  # the first mask of each frame, which is written last
    row, place = _capped(row, frame, found, truth, listed, warnings)
    frame = found.frames[number][found.image[row]]
    distinct, of_id = np.unique(ids, return_inverse=True)
    key, track = np.unique(truth.video_of[frame] * max(len(distinct), 1) + of_id[found.owner[row]], return_inverse=True)
    zero = distinct[key % max(len(distinct), 1)] == 0
    if zero.sum() > 1:  # an id of several videos is given up
        zero[:] = False
    merged = truth.classes.merged()[category[row]]
    wide = (row, frame, merged, place, listed[frame], track)
    row32, frame32, category32, place32, listed32, track32 = (column.astype(np.int32) for column in wide)
    return CountedMasks(row32, frame32, category32, place32, listed32, track32, zero)


def _warn(events: list[tuple[Flags, str]], abort: int | None, found: BurstPredictions, warnings: Warnings) -> None:
    """Count what was found at masks, in their order; raise `OfficialAbortError` for the one where the tool aborts."""
    firsts = sorted((int(np.argmax(flags)), kind, int(flags.sum())) for flags, kind in events if flags.any())
    for first, kind, count in firsts:
        if first == abort:
            raise OfficialAbortError(found.place(first), "is not a track of the truth", "name an exemplar")
        if abort is None or warnings.strict:
            warnings.add(kind, found.place(first), count)


def _capped(
    row: Ints, frame: Ints, found: BurstPredictions, truth: BurstTruth, listed: Ints, warnings: Warnings
) -> tuple[Ints, Ints]:
    """The masks ``row`` without those beyond the cap of their image, and the order of those of one image."""
    counts = np.bincount(frame, minlength=len(truth.images))
    full = np.flatnonzero(counts > MOST_PER_IMAGE)
    if not len(full):
        return row, row
    place, keep = row.copy(), np.ones(len(row), np.bool_)
    for f in full[np.argsort(listed[full], kind="stable")].tolist():
        where = f"{found.path}, {found.split}/{truth.images[f]}"
        warnings.add(BEYOND_IMAGE_CAP, where, int(counts[f]) - MOST_PER_IMAGE)
        mine = np.flatnonzero(frame == f)
        order = mine[np.argsort(-found.score[row[mine]], kind="stable")]
        place[order] = np.arange(len(order))
        keep[order[MOST_PER_IMAGE:]] = False
    return row[keep], place[keep]
