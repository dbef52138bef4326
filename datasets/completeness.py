"""Whether a copy of a dataset is complete: what was found, what there should be, which frames are missing or cut."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.image_files import inside, other_format

EXAMPLES = 5
"""How many missing or truncated files a report names."""
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"
WEBP_START = b"RIFF"
_HEAD_BYTES = 16
_TAIL_BYTES = 64
"""Some writers leave a few bytes behind the end marker."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a split holds; ``None`` where nobody states it."""

    videos: int | None = None
    frames: int | None = None
    tracks: int | None = None
    categories: int | None = None

    def items(self) -> list[tuple[str, int | None]]:
        return [(f.name, getattr(self, f.name)) for f in fields(self)]


@dataclass(frozen=True, slots=True)
class ImageCounts(Counts):
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
    """Frames that are not there, and frames that are cut off, lie outside of their folder or have no format we read."""

    missing: Fault
    truncated: Fault


@dataclass(frozen=True)
class SplitReport:
    """One split of a copy. ``annotations`` is ``None`` if no annotation file was found; ``notes`` do not make it
    incomplete, ``faults`` do."""

    split: str
    annotations: str | None
    release: str | None
    truth: str
    found: Counts = Counts()
    expected: Counts = Counts()
    missing_frames: Fault = Fault()
    truncated_frames: Fault = Fault()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def shortfall(self) -> tuple[str, ...]:
        """The counts that are below what there should be, in words."""
        found = dict(self.found.items())
        return tuple(
            f"{found[name]} {name}, {expected} expected"
            for name, expected in self.expected.items()
            if expected is not None and found[name] is not None and found[name] < expected  # type: ignore[operator]
        )

    @property
    def complete(self) -> bool:
        broken = self.missing_frames.count or self.truncated_frames.count or self.faults or self.shortfall
        return self.annotations is not None and not broken

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
            "faults": [*self.faults, *self.shortfall],
            "notes": list(self.notes),
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


def check_frames(root: Path, names: Iterable[str]) -> FrameFaults:
    """Look at the first and last bytes of every frame below ``root``; no image is decoded."""
    missing: list[str] = []
    truncated: list[str] = []
    missing_count = truncated_count = 0
    for name in names:
        try:
            whole, kind = _looked_at(inside(root, name))
            name += f" ({kind})" if kind else ""
        except FileNotFoundError:
            missing_count += 1
            missing += [name] if len(missing) < EXAMPLES else []
            continue
        except UserError as error:
            whole, name = False, str(error)
        except OSError as error:
            whole, name = False, f"{name} ({error.strerror})"
        if not whole:
            truncated_count += 1
            truncated += [name] if len(truncated) < EXAMPLES else []
    return FrameFaults(Fault(missing_count, tuple(missing)), Fault(truncated_count, tuple(truncated)))


def refuse_missing(root: Path, names: Iterable[str], hint: str) -> None:
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
    """Whether a file is an image of a format that is read, with its end; and in words what it is, if it is another."""
    with path.open("rb") as file:
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
    return False, f"a {found} image, which is not read" if found else "no image"
