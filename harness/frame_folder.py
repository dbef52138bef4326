"""A folder of frames without annotations: its frames and their order."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from harness.errors import UserError
from harness.image_files import ImageFrames

IMAGE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
"""Suffixes of frames, in any case."""
OTHER_IMAGES = frozenset((
    ".avif", ".bmp", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".jfif", ".jp2", ".jxl", ".pgm", ".ppm", ".tif",
    ".tiff",
))  # fmt: skip
"""Suffixes of images that are not read."""
_NUMBER = re.compile(r"(\d+)")


class FolderFrames(ImageFrames):
    """The frames of a folder that has no annotations: the first frame states the size."""

    size_source = "the first frame is"
    size_fix = "give frames of one size"
    broken_fix = "repair the file or remove it"


def frame_names(folder: Path) -> list[str]:
    """Return the names of the frames in ``folder``, in order; hidden files are left out. docs/frames.md has the rules.

    Raises `UserError` if there is no frame, if two files may be the same frame (a mask next to its frame, ``1.jpg`` and
    ``01.jpg``), if a frame has an unsupported format, and if the order is ambiguous.
    """
    try:
        with os.scandir(folder) as entries:
            visible = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(str(folder), f"cannot be listed: {error.strerror}", "check its permissions") from error
    files = sorted(name for name, is_folder in visible if not is_folder)
    names = [name for name in files if _suffix(name) in IMAGE_FORMATS]
    if not names:
        raise _no_frames(folder, files, sorted(name for name, is_folder in visible if is_folder))
    _refuse_two_of_one_frame(folder, names)
    _refuse_frames_not_read(folder, names, [name for name in files if _suffix(name) in OTHER_IMAGES])
    return _ordered(folder, names)


def _ordered(folder: Path, names: list[str]) -> list[str]:
    """Names in numeric order, if they differ by numbers only or if alphabetic order is the same."""
    by_number = sorted(names, key=natural_key)
    wordings = {_words(name) for name in names}
    if len(wordings) == 1:
        # A dot between two numbers may be a decimal point: 0.5 comes before 0.25 as two numbers, after it as a decimal.
        if "." not in next(iter(wordings))[1:-1]:
            return by_number
    elif len({IMAGE_FORMATS[_suffix(name)] for name in names}) > 1:
        first = names[0]
        other = next(n for n in names if _words(n) != _words(first))
        what = f"holds images in several formats, and names differ by more than a number: {first}, {other}"
        raise UserError(str(folder), what, "move files that are not frames elsewhere, or use one format for all frames")
    plain = sorted(names)
    if plain != by_number:
        start = max(0, next(i for i, name in enumerate(plain) if name != by_number[i]) - 1)
        orders = [", ".join(order[start : start + 4]) for order in (plain, by_number)]
        what = f"the order of its frames is unclear: {orders[0]} by characters, {orders[1]} by numbers"
        raise UserError(str(folder), what, "rename them so that they differ by one number only (frame_00001.jpg)")
    return plain


def _refuse_two_of_one_frame(folder: Path, names: Sequence[str]) -> None:
    seen: dict[str | tuple[int, ...], str] = {}
    for name in names:
        other = seen.setdefault(_frame(name), name)
        if other != name:
            same = "name" if PurePath(name).stem == PurePath(other).stem else "number"
            what = f"two files have the same {same}: {other}, {name}"
            raise UserError(str(folder), what, "move masks and other images that are not frames to another folder")


def _refuse_frames_not_read(folder: Path, names: Sequence[str], others: Sequence[str]) -> None:
    """Refuse images of unsupported formats that continue the frames; one with a frame's number is a mask or copy."""
    frames, wordings = {_frame(name) for name in names}, {_words(name) for name in names}
    for other in others:
        if _words(other) in wordings and _frame(other) not in frames:
            what = f"{other} continues the frames ({names[0]}, ...), and {_suffix(other)} files are not read"
            raise UserError(str(folder), what, "convert it to PNG, or remove it")


def _no_frames(folder: Path, files: Sequence[str], folders: Sequence[str]) -> UserError:
    """The error that says what the folder holds instead."""
    what = f"has no frames ({', '.join(IMAGE_FORMATS)})"
    suffixes = Counter(_suffix(name) for name in files)
    held = [f"{suffix or 'no suffix'}: {count}" for suffix, count in sorted(suffixes.items())]
    held += [f"folders: {len(folders)}"] if folders else []
    if held:
        what += f"; it holds {(*files, *folders)[0]} ({', '.join(held)})"
    if OTHER_IMAGES & suffixes.keys():
        return UserError(str(folder), what, "convert the images to PNG")
    return UserError(str(folder), what, "name the folder that holds the images, or a video file")


def _suffix(name: str) -> str:
    return PurePath(name).suffix.lower()


def natural_key(name: str) -> tuple[str | int, ...]:
    """Words and numbers of a name, alternating, without the suffix: ``frame_07.jpg`` is ``("frame_", 7, "")``."""
    split = _NUMBER.split(PurePath(name).stem)
    return tuple(int(piece) if i % 2 else piece for i, piece in enumerate(split))


def _words(name: str) -> tuple[str, ...]:
    return tuple(_NUMBER.split(PurePath(name).stem)[::2])


def _frame(name: str) -> str | tuple[int, ...]:
    """The key of a frame: the numbers in its name, or the name itself without numbers."""
    return tuple(int(number) for number in _NUMBER.findall(PurePath(name).stem)) or PurePath(name).stem
