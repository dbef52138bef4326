"""BURST's own annotation form, and its conversion to YouTube-VIS form.

A file holds sequences; a sequence lists, per annotated frame, the masks present by track id. Category ids are those
of LVIS 0.5, track ids are unique within a sequence only (Athar et al., WACV 2023).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Generator, Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec
import numpy as np

from harness import rle
from harness.arrays import Ints
from harness.errors import UserError
from harness.formats import scan
from harness.formats.containers import open_json, read_json
from harness.formats.segmentations import SEGMENTATIONS, decode_record
from harness.input_files import decode_json

COMMON = frozenset(
    (4, 13, 34, 35, 36, 41, 45, 58, 60, 78, 79, 81, 91, 95, 99, 118, 126, 133, 139, 154, 174, 185, 211, 221, 229, 235,
     237, 276, 299, 347, 371, 382, 392, 428, 429, 452, 475, 480, 502, 544, 579, 621, 625, 642, 699, 714, 717, 729, 747,
     779, 805, 829, 852, 896, 926, 937, 961, 979, 980, 982, 993, 1001, 1018, 1038, 1057, 1091, 1097, 1099, 1115, 1117,
     1122, 1132, 1135, 1144, 1155, 1162, 1215, 1229)
)  # fmt: skip
"""LVIS 0.5 ids of the challenge's common classes; all others are uncommon."""

NEITHER_SPLIT = "neither"
"""The split of a category that is neither common nor uncommon."""

NUMBER = re.compile("0|[1-9][0-9]{0,17}")
BURST_BLOCK_BYTES = 4 << 20


class BurstMask(msgspec.Struct):
    """One object in one frame; the size is the sequence's. ``score`` and ``category_id`` occur in predictions only."""

    rle: str
    score: float | None = None
    category_id: int | None = None


class Sequence(msgspec.Struct):
    """A video; ``segmentations`` has a dict of track id to mask per annotated frame."""

    id: int
    dataset: str
    seq_name: str
    width: int
    height: int
    annotated_image_paths: list[str]
    segmentations: list[dict[str, BurstMask]]
    track_category_ids: dict[str, int] = {}
    neg_category_ids: list[int] = []
    not_exhaustive_category_ids: list[int] = []

    def frame(self, index: int) -> str:
        """Path of an annotated frame below the split's folder."""
        return f"{self.dataset}/{self.seq_name}/{self.annotated_image_paths[index]}"


class File(msgspec.Struct):
    """A BURST annotation or prediction file."""

    sequences: list[Sequence]
    split: str = ""
    categories: list[dict[str, Any]] = []


class _IrregularError(Exception):
    """A file that has to be read as a whole, to find out what is wrong with it or because it is written oddly."""


class SequenceReader:
    """The sequences of a file in BURST's form, one after the other: memory follows the longest, not the file.

    Iterating raises `UserError` as `read_burst` does; afterwards ``split`` and ``categories`` are the file's.
    """

    lists_empty = False
    """Whether a sequence without masks is one in which a model found nothing; a file does not say that."""

    def __init__(self, path: Path, default_split: str = "", block_bytes: int = BURST_BLOCK_BYTES) -> None:
        self.path, self.split, self._default, self._block_bytes = path, "", default_split, block_bytes
        self.categories: list[dict[str, Any]] = []

    def __iter__(self) -> Iterator[Sequence]:
        seen: set[int] = set()
        try:
            for sequence in self._in_turn():
                _check_new(sequence, seen, self.path)
                yield sequence
        except _IrregularError:
            file = read_burst(self.path, self._default)
            self.split, self.categories = file.split, file.categories
            yield from file.sequences[len(seen) :]

    def _in_turn(self) -> Iterator[Sequence]:
        """The sequences of a file that is written as most are; raises `_IrregularError` for any other."""
        with open_json(self.path) as file:
            try:
                rest = yield from self._decoded(file)
                about = decode_json(rest, File)
            except msgspec.MsgspecError as error:
                raise _IrregularError from error
        self.split, self.categories = about.split or self._default, about.categories
        if not self.split or about.sequences:
            raise _IrregularError

    def _decoded(self, file: io.BufferedReader) -> Generator[Sequence, None, bytes]:
        """Every sequence of an open file; returns the file's text without them."""
        pieces = _pieces(file, self._block_bytes)
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                return bytes(end.value)
            yield decode_json(piece, Sequence)


def _pieces(file: io.BufferedReader, block_bytes: int) -> Generator[bytes, None, bytes]:
    """The text of every sequence of an open file; returns the text around them. Raises `_IrregularError`."""
    text = np.empty(block_bytes, np.uint8)
    stop = file.readinto(text.data)
    head = _list_head(text[:stop].tobytes())
    begin, fresh = len(head), True
    spans = np.empty((4096, 4), np.int64)
    while True:
        n, place, status = scan.scan_records(text, begin, stop, SEGMENTATIONS, fresh, spans)
        for a, b in spans[:n, :2].tolist():
            yield text[a:b].tobytes()
        begin, fresh = place, fresh and not n
        if status == scan.DONE:
            return head + b"]" + text[place:stop].tobytes() + file.read()
        if status == scan.MALFORMED:
            raise _IrregularError
        if status == scan.FULL:
            continue
        kept = text[place:stop]
        text = np.empty(max(block_bytes, 2 * len(kept)), np.uint8)
        text[: len(kept)] = kept
        added = file.readinto(text[len(kept) :].data)
        if not added:
            raise _IrregularError
        begin, stop = 0, len(kept) + added


def _list_head(text: bytes) -> bytes:
    """The beginning of a file up to the bracket that opens its list of sequences. Raises `_IrregularError`."""
    key = text.find(b'"sequences"')
    bracket = text.find(b"[", key)
    head = text[: bracket + 1]
    if key < 0 or bracket < 0:
        raise _IrregularError
    try:
        keys = list(decode_json(head + b"]}", dict[str, msgspec.Raw]))
    except msgspec.MsgspecError as error:
        raise _IrregularError from error
    if keys[-1] != "sequences":
        raise _IrregularError
    return head


class ClassSplit(msgspec.Struct):
    """``info/class_split.json``: LVIS ids of common and uncommon classes."""

    common: list[int]
    uncommon: list[int]


class Converted(NamedTuple):
    """A file in YouTube-VIS form. ``class_list`` says in words which list of common classes splits it, and how
    that list differs from the official script's; ``unlisted`` names categories in neither list, ``unknown`` those
    without an LVIS frequency: they are neither base nor novel."""

    document: dict[str, Any]
    class_list: str
    unlisted: tuple[str, ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        return tuple(str(c.get("name")) for c in self.document["categories"] if not c.get("frequency"))


def read_burst(path: Path, default_split: str = "") -> File:
    """Read a file in BURST's form. Raises `UserError` for a file that is missing, malformed or inconsistent.

    Predictions need not state their split: they have the ``default_split``. The masks are still text; `areas_of`
    checks those of a sequence.
    """
    raw, _ = read_json(path)
    if raw.lstrip()[:1] == b"[":
        hint = "results in YouTube-VIS form are scored by protocol burst"
        raise UserError(str(path), "is a list, not a file in BURST's own form", hint)
    file = decode_record(raw, File, str(path))
    file.split = file.split or default_split
    if not file.split:
        raise UserError(str(path), "names no split", 'state it: "split": "val"')
    seen: set[int] = set()
    for sequence in file.sequences:
        _check_new(sequence, seen, path)
    return file


def _check_new(sequence: Sequence, seen: set[int], path: Path) -> None:
    """Refuse an invalid sequence, and one whose id is among those ``seen``, to which it is added."""
    where = f"{path}, sequence {sequence.id} ({sequence.seq_name})"
    if sequence.id in seen:
        raise UserError(where, "occurs twice", "give each sequence its own id")
    seen.add(sequence.id)
    _check(sequence, where)


def _check(sequence: Sequence, where: str) -> None:
    """Refuse a sequence whose size, frames or track ids are invalid."""
    if sequence.height <= 0 or sequence.width <= 0 or sequence.height * sequence.width >= 1 << 31:
        raise UserError(where, f"size {sequence.height}x{sequence.width} is not a frame's", "correct it")
    paths, frames = sequence.annotated_image_paths, sequence.segmentations
    if len(frames) != len(paths):
        raise UserError(where, f"{len(frames)} segmentations for {len(paths)} annotated frames", "make them agree")
    if len(set(paths)) != len(paths):
        twice = next(p for p in paths if paths.count(p) > 1)
        raise UserError(f"{where}, frame {twice}", "occurs twice", "list each frame once")
    for track in sequence.track_category_ids.keys() | {track for frame in frames for track in frame}:
        # longer numbers do not fit the arrays; another spelling of the number would give a second track the same id
        if not NUMBER.fullmatch(track):
            hint = "number the tracks, without leading zeros"
            raise UserError(f'{where}, track "{track}"', "is not numbered", hint)


def place_of_frames(names: Iterable[str], where: str) -> tuple[str, str, list[str]]:
    """Dataset, sequence and frames of file names ``DATASET/SEQUENCE/FRAME``.

    Raises `UserError` that begins with ``where`` for other names.
    """
    parts = [name.rsplit("/", 1) for name in names]
    folders = {folder for folder, *_ in parts}
    dataset, slash, sequence = min(folders, default="").partition("/")
    if len(folders) != 1 or not slash or any(len(one) != 2 for one in parts):
        hint = "name BURST's own annotation file"
        raise UserError(where, "has frames that are not DATASET/SEQUENCE/FRAME", hint)
    return dataset, sequence, [name for _, name in parts]


def areas_of(sequence: Sequence, where: str) -> list[Ints]:
    """Areas in pixels of a sequence's masks, per frame in the order of its dict.

    Raises `UserError` for masks that are not run-length encodings of the sequence's size.
    """
    texts = [mask.rle.encode() for frame in sequence.segmentations for mask in frame.values()]
    stop = np.cumsum([len(t) for t in texts], dtype=np.int64)
    start = np.concatenate([[0], stop[:-1]]).astype(np.int64) if texts else stop
    n = len(texts)
    size = np.full(n, sequence.height, np.int32), np.full(n, sequence.width, np.int32)
    data = np.frombuffer(b"".join(texts), np.uint8)
    areas = rle.areas(data, start, stop, np.full(n, rle.COMPRESSED, np.int8), *size, np.ones(n, np.bool_))
    if (areas < 0).any():
        listed = [(f, track) for f, frame in enumerate(sequence.segmentations) for track in frame]
        f, track = listed[int(np.argmax(areas < 0))]
        fault = rle.RLE_FAULTS[int(areas[areas < 0][0])]
        raise UserError(f"{where}, frame {sequence.annotated_image_paths[f]}, track {track}", fault, "encode it again")
    ends = np.cumsum([len(frame) for frame in sequence.segmentations], dtype=np.int64)
    return np.split(areas, ends[:-1])


def convert_file(path: Path) -> Converted:
    """Convert a BURST file to YouTube-VIS form.

    The class split is that of ``info/class_split.json`` next to the file or next to its folder, if one exists.
    """
    file = read_burst(path)
    official = f"the official script lists {len(COMMON)}"
    for folder in (path.parent, path.parent.parent):
        listed = folder / "info" / "class_split.json"
        if listed.is_file():
            split = decode_record(read_json(listed)[0], ClassSplit, str(listed))
            document = as_youtube_vis(file, split, str(path))
            unlisted = tuple(str(c.get("name")) for c in document["categories"] if c["split"] == NEITHER_SPLIT)
            same = set(split.common) == COMMON
            words = f"common classes are the {len(set(split.common))} of {listed}"
            return Converted(document, words if same else f"{words}; {official}", unlisted)
    words = f"common classes are the {len(COMMON)} of the official script, as there is no info/class_split.json"
    return Converted(as_youtube_vis(file, None, str(path)), words, ())


def as_youtube_vis(file: File, split: ClassSplit | None, name: str) -> dict[str, Any]:
    """Convert to YouTube-VIS form like the converter of CLIP-VIS and OVFormer.

    Categories are renumbered by position, annotations are numbered from 0 over the whole file, and have neither areas
    nor a crowd flag. ``split`` names common and uncommon classes by LVIS id (default: the challenge's); a category in
    neither list is in neither group.
    """
    position = {_number(c, f"{name}, categories[{i}]"): i + 1 for i, c in enumerate(file.categories)}
    if len(position) != len(file.categories):
        raise UserError(f"{name}, categories", "an id occurs twice", "give each category its own id")
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    numbers: dict[str, dict[str, int]] = {}
    counter = 0
    for sequence in file.sequences:
        areas_of(sequence, f"{name}, sequence {sequence.id} ({sequence.seq_name})")
        size = {"width": sequence.width, "height": sequence.height}
        frames = range(len(sequence.annotated_image_paths))
        videos.append(
            {
                "id": sequence.id, **size, "length": len(frames),
                "neg_category_ids": sequence.neg_category_ids,
                "not_exhaustive_category_ids": sequence.not_exhaustive_category_ids,
                "file_names": [sequence.frame(f) for f in frames],
                "metadata": {"dataset": sequence.dataset},
            }
        )  # fmt: skip
        video = f"{file.split}/{sequence.dataset}/{sequence.seq_name}"
        for f in frames:
            path = f"{file.split}/{sequence.frame(f)}"
            images.append({"id": len(images), "video": video, **size, "file_name": path,
                           "frame_index": frame_number(path, name), "video_id": sequence.id})  # fmt: skip
        numbers[str(sequence.id)] = {}
        for track, category in sequence.track_category_ids.items():
            where = f"{name}, sequence {sequence.id}, track {track}"
            if category not in position:
                raise UserError(where, f"category {category} is not listed", "add it to categories")
            masks = [frame.get(track) for frame in sequence.segmentations]
            size_rle = [sequence.height, sequence.width]
            encoded = [None if m is None else {"counts": m.rle, "size": size_rle} for m in masks]
            annotations.append({"segmentations": encoded, "id": counter, "category_id": position[category], **size,
                                "video_id": sequence.id, "bboxes": [_box(e) for e in encoded]})  # fmt: skip
            counter += 1
            numbers[str(sequence.id)][track] = counter
    return {
        "videos": videos,
        "annotations": annotations,
        "images": images,
        "categories": [_category(c, position, split) for c in file.categories],
        "cate_ori": file.categories,
        "track_id_mapping": numbers,
        "split": file.split,
    }


def frame_number(path: str, name: str) -> int:
    """Number of a frame: the integer after the last underscore of its name, without extension and ``frame``.

    ``name`` is that of the file that lists it, for the `UserError` where there is no number.
    """
    text = _stem(path).replace("frame", "").rpartition("_")[2]
    if not NUMBER.fullmatch(text.lstrip("0") or text[:1]):
        raise UserError(f"{name}, {path}", "has no frame number", "end the name in a number, like frame0030.jpg")
    return int(text)


def _stem(path: str) -> str:
    """`PurePosixPath.stem`, faster for usual paths."""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else PurePosixPath(path).stem


def _number(category: dict[str, Any], where: str) -> int:
    number = category.get("id")
    if type(number) is not int:
        raise UserError(where, "has no id", "give every category an LVIS number")
    return number


def _category(source: dict[str, Any], position: dict[int, int], split: ClassSplit | None) -> dict[str, Any]:
    number: int = source["id"]
    out = {**source, "id": position[number]}
    if "frequency" not in out:
        out["frequency"] = category_frequencies().get(str(source.get("name")), "")
    if split is None:
        out["split"] = "common" if number in COMMON else "uncommon"
    elif number in split.uncommon:
        out["split"] = "uncommon"
    elif number in split.common:
        out["split"] = "common"
    else:
        out["split"] = NEITHER_SPLIT
    return out


@cache
def category_frequencies() -> dict[str, str]:
    """LVIS frequency (f, c or r) of BURST's classes by name."""
    with files("harness.datasets.data").joinpath("burst.csv").open(encoding="utf-8") as file:
        return {row["name"]: row["frequency"] for row in csv.DictReader(file)}


def _box(mask: dict[str, Any] | None) -> list[int] | None:
    """Tight box ``[x, y, width, height]`` in whole pixels."""
    if mask is None:
        return None
    from pycocotools import mask as coco

    return [int(x) for x in coco.toBbox({**mask, "counts": mask["counts"].encode()})]
