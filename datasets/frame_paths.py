"""Where the frames that an annotation file names are below a folder: one rule for all forms of names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from harness.errors import UserError


def components(file_name: str) -> tuple[str, ...]:
    """The folders and the file of a name; back slashes count as slashes, ``.`` and doubled slashes are left out."""
    return tuple(part for part in file_name.replace("\\", "/").split("/") if part not in ("", "."))


def tail(file_name: str, depth: int | None) -> str:
    """The last ``depth`` components of a name (``None``: all) with slashes; a leading slash stays where all do."""
    parts = components(file_name)
    rooted = "/" if depth is None and file_name.replace("\\", "/").startswith("/") else ""
    return rooted + "/".join(parts if depth is None else parts[-depth:])


class FramePaths:
    """Paths below ``root`` of the frames that names stand for, with slashes.

    A name stands for the longest end of it that is below ``root``. So folders that lead there from elsewhere are left
    out: those of an absolute path, ``JPEGImages/``, ``../frames/``. The first frame of each folder is searched for; the
    others of the folder use the same rule.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._dropped: dict[tuple[str, ...], int] = {}
        self._owners: dict[tuple[str, ...], tuple[str, ...]] = {}

    def of_video(self, file_names: Iterable[str], where: str) -> list[str]:
        """The paths of a video's frames; a name of which no end is there stays as it is.

        Raises `UserError` that begins with ``where`` for names that lead out of ``root``, and where two folders of the
        names are one folder below ``root``.
        """
        return ["/".join(self._path(name, where)) for name in file_names]

    def _path(self, name: str, where: str) -> tuple[str, ...]:
        parts = components(name)
        folder = parts[:-1]
        if folder not in self._dropped:
            self._dropped[folder] = self._to_drop(name, parts, where)
        return parts[self._dropped[folder] :]

    def _to_drop(self, name: str, parts: tuple[str, ...], where: str) -> int:
        """How many leading components of a name to leave out."""
        for dropped in range(len(parts)):
            end = parts[dropped:]
            if ".." in end or "\0" in name or not os.path.isfile(self.root.joinpath(*end)):  # noqa: PTH113 (long names)
                continue
            owner = self._owners.setdefault(end[:-1], parts[:-1])
            if owner != parts[:-1]:
                what = f"frames of {'/'.join(owner) or '.'} and of {'/'.join(parts[:-1]) or '.'} are in one folder"
                hint = "name the folder to which file_names in the file are relative as frames"
                raise UserError(where, f"{what}, {self.root.joinpath(*end[:-1])}", hint)
            return dropped
        if not parts or "\0" in name or ".." in parts or tail(name, None).startswith("/"):
            what = f"file name {name!r} is not a path below its folder, and no end of it is below {self.root}"
            raise UserError(where, what, "correct file_names, or name the folder of the frames as frames")
        return 0
