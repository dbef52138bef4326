"""Whether a copy of a dataset is complete: the counts found and expected, and which frames are missing or truncated."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from harness.errors import UserError, near
from harness.image_files import header_size, inside, other_format
from harness.input_files import UNBOUNDED, open_file

_EXAMPLES = 5
"""How many missing or truncated files a report names."""
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"
WEBP_START = b"RIFF"
_HEAD_BYTES = 16
_ABOUT = 0.95
"""Papers and releases differ by a few videos; a copy with less than this fraction is incomplete."""
_TAIL_BYTES = 64
"""Some writers leave a few bytes after the end marker."""


class CountSource(NamedTuple):
    """A source for a statement on a dataset, and the date of the statement or of reading it (year, month, day).

    ``of_release`` tells that it is of the released files: a copy that holds less lacks something. What a paper states
    may differ from what was released.
    """

    text: str
    date: str
    of_release: bool = False

    def __str__(self) -> str:
        return f"{self.text}, {self.date}"


@dataclass(frozen=True, slots=True)
class CopyCounts:
    """The counts of a split; ``None`` where no source states them."""

    videos: int | None = None
    frames: int | None = None
    tracks: int | None = None
    categories: int | None = None

    def items(self) -> list[tuple[str, int | None]]:
        return [(f.name, getattr(self, f.name)) for f in fields(self)]


@dataclass(frozen=True, slots=True)
class ImageCounts(CopyCounts):
    """What a set of images holds: an image is a frame, an object in it a track."""

    def items(self) -> list[tuple[str, int | None]]:
        return [("images", self.frames), ("objects", self.tracks), ("categories", self.categories)]


@dataclass(frozen=True, slots=True)
class Fault:
    """Files with the same fault: how many, and the first few by name."""

    count: int = 0
    first: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"count": self.count, "first": list(self.first)}


class FrameFaults(NamedTuple):
    """Frames that are missing; that are truncated, outside their folder or in an unknown format; and whose size differs
    from the annotations."""

    missing: Fault
    truncated: Fault
    resized: Fault = Fault()


@dataclass(frozen=True)
class SplitReport:
    """One split of a copy. ``annotations`` is ``None`` if no annotation file was found; ``notes`` do not make it
    incomplete, ``faults`` do. ``sources`` say by count who states what is expected; what is a little below an
    expectation that is not of the release is a note."""

    split: str
    annotations: str | None
    release: str | None
    truth: str
    found: CopyCounts = CopyCounts()
    expected: CopyCounts = CopyCounts()
    missing_frames: Fault = Fault()
    truncated_frames: Fault = Fault()
    resized_frames: Fault = Fault()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    frames: str | None = None
    sources: Mapping[str, CountSource] = field(default_factory=dict)

    @property
    def shortfall(self) -> tuple[str, ...]:
        """The counts below the expected ones, in words."""
        return tuple(self._other_count(name, expected) for name, expected in self._differing(False))

    @property
    def other_counts(self) -> tuple[str, ...]:
        """The counts that differ from the stated ones although nothing is missing, in words."""
        return tuple(self._other_count(name, expected) for name, expected in self._differing(True))

    def _differing(self, is_note: bool) -> Iterator[tuple[str, int]]:
        found = dict(self.found.items())
        for name, expected in self.expected.items():
            count = found[name]
            if expected is None or count is None or count == expected:
                continue
            source = self.sources.get(name)
            about = source is not None and not source.of_release and count >= _ABOUT * expected
            if (count > expected or about) == is_note:
                yield name, expected

    def _other_count(self, name: str, expected: int) -> str:
        source = self.sources.get(name)
        return f"{dict(self.found.items())[name]} {name}, {expected} expected{f' ({source})' if source else ''}"

    @property
    def complete(self) -> bool:
        frames = self.missing_frames.count or self.truncated_frames.count or self.resized_frames.count
        return self.annotations is not None and not (frames or self.faults or self.shortfall)

    def to_dict(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "complete": self.complete,
            "annotations": self.annotations,
            "release": self.release,
            "truth": self.truth,
            "found": dict(self.found.items()),
            "expected": dict(self.expected.items()),
            "missing_frames": self.missing_frames.to_dict(),
            "truncated_frames": self.truncated_frames.to_dict(),
            "resized_frames": self.resized_frames.to_dict(),
            "frames": self.frames,
            "sources": {name: source._asdict() for name, source in self.sources.items()},
            "faults": [*self.faults, *self.shortfall],
            "notes": [*self.notes, *self.other_counts],
        }


@dataclass(frozen=True)
class CopyReport:
    """A copy of a dataset: one report per split that was asked for; ``home`` says where to get the rest."""

    dataset: str
    folder: str
    splits: tuple[SplitReport, ...]
    home: str

    @property
    def complete(self) -> bool:
        return all(split.complete for split in self.splits)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return {
            "dataset": self.dataset,
            "folder": self.folder,
            "complete": self.complete,
            "splits": [split.to_dict() for split in self.splits],
            "home": self.home,
        }


class NamedSplit(Protocol):
    """A declared split of any format."""

    @property
    def name(self) -> str: ...


SplitOf = TypeVar("SplitOf", bound=NamedSplit)


def declared_split(dataset: str, declared: Sequence[SplitOf], name: str) -> SplitOf:
    """The declared split of a name; raises `UserError` with near names where there is none."""
    for split in declared:
        if split.name == name:
            return split
    where = f'{dataset}, split "{name}"'
    raise UserError(where, "there is no such split", near(name, (split.name for split in declared)))


class StatedFrame(NamedTuple):
    """A frame's name below its folder, and its height and width in pixels as the annotations state them."""

    name: str
    height: int
    width: int


def check_frames(root: Path, frames: Iterable[str | StatedFrame]) -> FrameFaults:
    """Look at the first and last bytes of every frame below ``root``, and at its header where a size is stated.

    No image is decoded.
    """
    missing, truncated, resized = _Tally(), _Tally(), _Tally()
    for frame in frames:
        name = frame if isinstance(frame, str) else frame.name
        try:
            path = inside(root, name)
            whole, kind = _looked_at(path)
            if not whole:
                truncated.add(name + (f" ({kind})" if kind else ""))
            elif isinstance(frame, StatedFrame):
                size = header_size(path, (frame.height, frame.width))
                if size != (frame.height, frame.width):
                    resized.add(f"{name} is {size[0]}x{size[1]}, stated {frame.height}x{frame.width}")
        except FileNotFoundError:
            missing.add(name)
        except UserError as error:
            truncated.add(str(error))
        except OSError as error:
            truncated.add(f"{name} ({error.strerror})")
    return FrameFaults(missing.fault(), truncated.fault(), resized.fault())


class _Tally:
    """Counts files, and keeps the names of the first few."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.first) < _EXAMPLES:
            self.first.append(name)

    def fault(self) -> Fault:
        return Fault(self.count, tuple(self.first))


def refuse_missing_files(root: Path, names: Iterable[str], hint: str) -> None:
    """Raise `UserError` if files below ``root`` are missing; folders are listed once, no file is opened."""
    listed: dict[str, set[str]] = {}
    missing = []
    for name in names:
        folder, _, file = name.rpartition("/")
        if folder not in listed:
            place = inside(root, folder) if folder else root
            listed[folder] = set(os.listdir(place)) if place.is_dir() else set()  # noqa: PTH208 (names only)
        if file not in listed[folder]:
            missing.append(name)
    if missing:
        what = f"lacks {len(missing)} of the files that the annotations name, first: {missing[0]}"
        raise UserError(str(root), what, hint)


def _looked_at(path: Path) -> tuple[bool, str]:
    """Whether a file is a complete image in a known format; else in words what it is."""
    with open_file(path, UNBOUNDED) as file:
        head = file.read(_HEAD_BYTES)
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
    if head.startswith(JPEG_START):
        return JPEG_END in tail, ""
    if head.startswith(PNG_START):
        return PNG_END in tail, ""
    if head.startswith(WEBP_START) and head[8:12] == b"WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= size, ""
    if not head:
        return False, "empty"
    found = other_format(head)
    return False, f"a {found} image, which is not read" if found else "not an image"
