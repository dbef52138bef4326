"""``SHA256SUMS`` of a run folder: what its files were when the run ended, so that no damage to them goes unseen.

It has the format of the tool ``sha256sum``: ``sha256sum --check SHA256SUMS`` in the folder says the same. A run removes
it before it changes any of the files and writes it last of all. Folders without it, of runs that have not ended and of
earlier versions, are read as they are. Sums are against accidents; they are no signature.
"""

from __future__ import annotations

import hashlib
import re
from typing import TypeVar

import msgspec

from harness.atomic_write import write_atomically
from harness.errors import UnreadableFileError, UserError
from harness.paths import Location
from harness.run_folder.schemas import FORMAT
from harness.versions import other_version

FILE = "SHA256SUMS"
SUMMED = (
    "config.json",
    "environment.json",
    "failures.json",
    "metrics.json",
    "per_category.csv",
    "per_pair.csv",
    "table.md",
    "videos.json",
)
"""Files that stay as the run has left them. Shards and match tables are not among them: they have sums of their own."""

_HINT = "repeat its harness run"
_LINE = re.compile(rb"([0-9a-f]{64})  ([\w.-]+)\n")
_MOST_BYTES = 1 << 16

T = TypeVar("T")


def write_sums(folder: Location) -> None:
    """Write the sums of those of `SUMMED` that the folder has; raises `UserError` where the disk refuses."""
    found = {name: _bytes(folder / name) for name in SUMMED}
    lines = [f"{_sum(data)}  {name}\n" for name, data in found.items() if data is not None]
    write_atomically(folder / FILE, "".join(lines).encode())


def remove_sums(folder: Location) -> None:
    """Remove the sums: the files will change. Raises `UserError` where that is not permitted."""
    path = folder / FILE
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(str(path), f"cannot be removed: {error.strerror or error}", "run `chmod u+rw` on it") from error


class CheckedFiles:
    """The files of a run folder, each compared with the folder's sums, which are read once."""

    def __init__(self, folder: Location) -> None:
        self.folder = folder
        self._sums: dict[str, str] | None = None

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file, ``None`` where it is absent.

        Raises `UnreadableFileError` where they are not those that the folder's sums are of.
        """
        data = _bytes(self.folder / name)
        if data is None or name not in SUMMED:
            return data
        known = self._sums is not None
        if self._fits(name, data):
            return data
        if known:  # a run that was repeated meanwhile has removed the sums, or written others
            self._sums = None
            if self._fits(name, data):
                return data
        what = f"is damaged: it does not fit the checksum of {name} in {FILE}"
        raise UnreadableFileError(str(self.folder / name), what, _HINT)

    def _fits(self, name: str, data: bytes) -> bool:
        if self._sums is None:
            sums = _bytes(self.folder / FILE)
            if sums is None:
                return True
            self._sums = parse(sums, str(self.folder / FILE))
        return self._sums.get(name) == _sum(data)

    def read_json(self, name: str, kind: type[T]) -> T | None:
        """Return the content of a JSON file, ``None`` where it is absent.

        Raises `UnreadableFileError` like `read`, and where the file does not hold a ``kind``, or another version of
        the harness has written it.
        """
        data = self.read(name)
        if data is None:
            return None
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:
            what = other_version(data, (FORMAT,)) or f"is damaged: {error}"
            raise UnreadableFileError(str(self.folder / name), what, _HINT) from error


def parse(data: bytes, where: str) -> dict[str, str]:
    """Return sums in hexadecimal digits by file name, a plain one.

    Raises `UnreadableFileError` for what `write_sums` never writes.
    """
    sums = {name.decode(): digest.decode() for digest, name in _LINE.findall(data[:_MOST_BYTES])}
    if "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode() != data:
        raise UnreadableFileError(where, "is damaged: it is no list of checksums", _HINT)
    return sums


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bytes(path: Location) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnreadableFileError(
            str(path), f"cannot be read: {error.strerror or error}", "run `chmod u+rw` on it"
        ) from error
