"""The contents of a data root: annotation files, recognised by content, and the folders that hold their frames.

Folder names only help to choose where the content is ambiguous.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from harness.datasets.frame_paths import components, tail
from harness.errors import UserError
from harness.formats import lenient
from harness.formats.containers import open_json, read_json
from harness.formats.youtube_vis import CategoryRecord
from harness.input_files import decode_json

SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Words in names of files and folders that mean a split."""
PART_WORDS = ("sub", "dev", "mini", "subset", "part", "image", "half")
"""Words in names of files that hold a part of a split, or another form of it."""
_DEPTH = 5
_MOST_FOLDERS = 100
"""A folder with more folders than this holds videos, which are not looked into."""
PROBED = 3
"""Videos whose first frames are looked for, to find the folder of the frames."""
_LOOKED_AT = 1 << 16
"""Number of bytes of the annotations that identify their form."""
_UNSET: Any = msgspec.UNSET


class Tree(NamedTuple):
    """JSON files and folders below a data root, sorted; the root is the first folder."""

    files: tuple[Path, ...]
    folders: tuple[Path, ...]


@dataclass(frozen=True)
class FileContent:
    """What an annotation file holds, without its masks. ``split`` is the one that the file names itself, if any.

    ``converted`` tells that it has the keys of a BURST file that was converted; ``first_frames`` are the names of the
    first frames of a few videos. ``has_phrases`` tells that it lists which phrases are asked for in which videos.
    """

    path: Path
    is_burst: bool
    converted: bool
    split: str
    categories: tuple[CategoryRecord, ...]
    videos: int
    has_truth: bool
    first_frames: tuple[str, ...]
    has_phrases: bool = False


@dataclass(frozen=True)
class Match:
    """The split of a file, and why; ``split`` is ``None`` if it is unknown."""

    dataset: str
    split: str | None
    reasons: tuple[str, ...]
    is_part: bool = False


@dataclass(frozen=True)
class FoundFile:
    """One JSON file below a data root. ``what`` says what it is if it is not an annotation file; ``matches`` are the
    splits that it may be: one, several if the user has to choose, or none."""

    path: Path
    content: FileContent | None = None
    what: str = ""
    matches: tuple[Match, ...] = ()
    frames: Path | None = None

    @property
    def recognised(self) -> Match | None:
        """The split that it is recognised as."""
        return self.matches[0] if len(self.matches) == 1 and self.matches[0].split is not None else None

    @property
    def recognised_as(self) -> str:
        """What it is, in words."""
        if self.content is None:
            return self.what
        if (match := self.recognised) is not None:
            return f"{match.dataset} {match.split}{', a part of it' if match.is_part else ''}"
        if not self.matches:
            return "annotations of no known dataset"
        return " or ".join(f"{m.dataset} {m.split or '(split unknown)'}" for m in self.matches)

    def record(self, root: Path) -> dict[str, Any]:
        """As JSON-ready data; paths are relative to the data root."""
        name = str(self.path.relative_to(root))
        recognised, content = self.recognised, self.content
        found: dict[str, Any] = {
            "file": name,
            "recognised_as": self.recognised_as,
            "dataset": recognised.dataset if recognised else None,
            "split": recognised.split if recognised else None,
            "is_part": recognised.is_part if recognised else None,
            "why": [f"{m.dataset}: {reason}" for m in self.matches for reason in m.reasons],
            "name_by_hand": self._to_do(name),
        }
        if content is not None:
            counts = {"videos": content.videos, "categories": len(content.categories), "has_truth": content.has_truth}
            found |= counts | {"frames": str(self.frames.relative_to(root)) if self.frames else None}
        return found

    def _to_do(self, name: str) -> str:
        """The command by which the user names it; empty where it is recognised."""
        if self.content is None or self.recognised is not None:
            return ""
        frames = "" if self.frames is not None else " --frames DIR"
        if not self.matches:
            return f"harness datasets add NAME --annotations {name} --frames DIR --protocol PROTOCOL"
        like, split = self.matches[0].dataset, self.matches[0].split or "SPLIT"
        like = like if len(self.matches) == 1 else "DATASET"
        return f"harness datasets add NAME --like {like} --split {split} --annotations {name}{frames}"


@runtime_checkable
class Recogniser(Protocol):
    """A dataset that knows its files by their content."""

    def takes(self, content: FileContent, words: Sequence[str]) -> Match | None:
        """The split that a file is of; ``words`` are those of its name, then of its folders, nearest first."""
        ...


def tree(root: Path) -> Tree:
    """Look through the folders below ``root``; those that hold the frames of many videos are not looked into."""
    files: list[Path] = []
    folders: list[Path] = []
    seen: set[str] = set()

    def walk(folder: Path, depth: int) -> None:
        real = os.path.realpath(folder)
        if real in seen:
            return
        seen.add(real)
        folders.append(folder)
        try:
            with os.scandir(folder) as entries:
                listed = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError:
            return
        inner = [entry.name for entry in listed if entry.is_dir()]
        files.extend(folder / e.name for e in listed if e.name.endswith((".json", ".json.gz")) and e.is_file())
        if depth < _DEPTH and len(inner) <= _MOST_FOLDERS:
            for name in inner:
                walk(folder / name, depth + 1)

    walk(root, 0)
    return Tree(tuple(sorted(files)), tuple(folders))


def survey(root: Path, datasets: Iterable[Recogniser]) -> tuple[FoundFile, ...]:
    """Every JSON file below ``root``, with its split."""
    known = tuple(datasets)
    lying = tree(root)
    found = []
    for path in lying.files:
        try:
            content = content_of(path)
        except UserError as error:
            found.append(FoundFile(path, what=error.what))
            continue
        if isinstance(content, str):
            found.append(FoundFile(path, what=content))
            continue
        words = words_of(path, root)
        matches = tuple(m for m in (one.takes(content, words) for one in known) if m is not None)
        split = matches[0].split if len({m.split for m in matches}) == 1 else None
        found.append(FoundFile(path, content, "", matches, folder_of_frames(lying, path, content.first_frames, split)))
    return tuple(found)


class _Head(msgspec.Struct):
    videos: Any = _UNSET
    categories: Any = _UNSET
    sequences: Any = _UNSET
    split: Any = _UNSET
    annotations: msgspec.Raw = msgspec.Raw(b"")
    images: msgspec.Raw = msgspec.Raw(b"")
    cate_ori: msgspec.Raw = msgspec.Raw(b"")
    track_id_mapping: msgspec.Raw = msgspec.Raw(b"")
    video_np_pairs: msgspec.Raw = msgspec.Raw(b"")


class _BurstSequence(msgspec.Struct):
    dataset: str
    seq_name: str
    annotated_image_paths: list[str]


def content_of(path: Path) -> FileContent | str:
    """What an annotation file holds; of another file, what it is in words. Raises `UserError` for a broken file."""
    status = path.stat()
    return _read_content(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _read_content(path: Path, changed: int, size: int) -> FileContent | str:
    """A file's content; the same file is asked for once per split."""
    with open_json(path) as file:
        start = file.read(256).lstrip()[:1]
    if start == b"[":
        return "a list (results, or a list of categories)"
    if start != b"{":
        return "not a JSON object"
    raw, _ = read_json(path)
    try:
        head = decode_json(raw, _Head)
    except msgspec.MsgspecError:
        document = lenient.loads(raw, str(path))
        if not isinstance(document, dict):
            return "not a JSON object"
        keys = ("videos", "categories", "sequences", "split")
        truth = msgspec.Raw(b"[1]" if document.get("annotations") else b"")
        head = _Head(**{key: document[key] for key in keys if key in document}, annotations=truth)
        head.images = msgspec.Raw(b"[]" if "images" in document else b"")
    return _content(path, head)


def _content(path: Path, head: _Head) -> FileContent | str:
    categories = _categories(head.categories)
    split = head.split if isinstance(head.split, str) else ""
    if isinstance(head.sequences, list):
        try:
            sequences = msgspec.convert(head.sequences, list[_BurstSequence])
        except msgspec.ValidationError:
            return "a file of sequences, but not in BURST's form"
        firsts = tuple(
            f"{s.dataset}/{s.seq_name}/{s.annotated_image_paths[0]}" for s in sequences if s.annotated_image_paths
        )
        return FileContent(path, True, False, split, categories, len(sequences), True, firsts[:PROBED])
    if not isinstance(head.videos, list):
        if bytes(head.images):
            return "a COCO file of images, without videos"
        return "not an annotation file: it has no videos"
    if not categories:
        return "not an annotation file: it has no categories"
    converted = bool(bytes(head.cate_ori) or bytes(head.track_id_mapping))
    text = memoryview(head.annotations)
    start = bytes(text[:_LOOKED_AT])
    if bytes(head.images) and not converted and start[:1] == b"[" and b'"segmentations"' not in start:
        return "in CocoVID or TAO form, with one annotation per image"
    has_truth = start[:1] == b"[" and (len(text) > _LOOKED_AT or re.fullmatch(rb"\[\s*\]", start) is None)
    firsts, phrases = _firsts(head.videos), bool(bytes(head.video_np_pairs))
    return FileContent(path, False, converted, split, categories, len(head.videos), has_truth, firsts, phrases)


def _categories(listed: Any) -> tuple[CategoryRecord, ...]:
    found = []
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            number = lenient.whole(one.get("id"))
            if number is not None:
                partition = one.get("partition")
                found.append(CategoryRecord(number[0], one["name"], partition if isinstance(partition, int) else None))
    return tuple(found)


def _firsts(videos: list[Any]) -> tuple[str, ...]:
    names = (v.get("file_names") for v in videos if isinstance(v, dict))
    return tuple(n[0] for n in names if isinstance(n, list) and n and isinstance(n[0], str))[:PROBED]


def words_of(path: Path, root: Path) -> tuple[str, ...]:
    """The words of a file's name, then of its folders below ``root``, nearest first; lower case."""
    try:
        parts = path.relative_to(root).parts
    except ValueError:
        parts = path.parts
    name = parts[-1].removesuffix(".gz").removesuffix(".json")
    return tuple(word for part in (name, *reversed(parts[:-1])) for word in words(part))


def words(text: str) -> tuple[str, ...]:
    """``validGT`` as ``valid``, ``gt``; ``ytvis_2019`` as ``ytvis``, ``2019``."""
    return tuple(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", text))


def split_named(words: Sequence[str], splits: Sequence[str]) -> tuple[str, str] | None:
    """The split that the nearest word stands for, and that word."""
    meaning = {word: split for split in splits for word in SPLIT_WORDS.get(split, (split,))}
    return next(((meaning[word], word) for word in words if word in meaning), None)


def holds(folder: Path, names: Iterable[str], depth: int | None = None) -> bool:
    """Whether one of the named frames is below a folder, by all or by the last components of its name."""
    for name in names:
        parts = components(name)
        ends = (tail(name, depth),) if depth is not None else ("/".join(parts), "/".join(parts[-2:]))
        if any(".." not in components(end) and (folder / end).is_file() for end in ends):
            return True
    return False


def folder_of_frames(
    lying: Tree, annotations: Path, names: Sequence[str], split: str | None, depth: int | None = None
) -> Path | None:
    """The folder of the named frames; of several, the one named like the split, then the nearest.

    One that is named like another split is not recognised.
    """
    if not names:
        return None
    root = lying.folders[0]

    def named(folder: Path) -> str | None:
        said = split_named(words_of(folder, root), tuple(SPLIT_WORDS)) if folder != root else None
        return said[0] if said else None

    def rank(folder: Path) -> tuple[bool, int, str]:
        return named(folder) is None, len(_steps(folder, annotations.parent)), str(folder)

    found = [one for one in lying.folders if split is None or named(one) in (None, split)]
    return min((folder for folder in found if holds(folder, names, depth)), key=rank, default=None)


def _steps(folder: Path, other: Path) -> tuple[str, ...]:
    """The folders between two folders: up from one, down to the other."""
    common = Path(os.path.commonpath((folder, other)))
    return (*folder.relative_to(common).parts, *other.relative_to(common).parts)
