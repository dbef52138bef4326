"""``SHA256SUMS`` of a run folder: checksums of its files at the end of the run, to detect damage.

The format is that of the tool ``sha256sum``: ``sha256sum --check SHA256SUMS`` in the folder gives the same answer. A
run removes the file before it changes any other and writes it last. Folders without it (unfinished runs, earlier
versions) are read unchecked. The sums detect accidents, not tampering.
"""

from __future__ import annotations

import hashlib
import re
from typing import TypeVar

import msgspec

from harness.atomic_write import write_atomically
from harness.errors import UnreadableFileError, UserError
from harness.input_files import RECORD_BYTES, TABLE_BYTES, decode_json, read_file
from harness.paths import Location
from harness.run_folder.schemas import FORMAT
from harness.versions import other_version

SUMS_FILE = "SHA256SUMS"
SUMMED = (
    "config.json",
    "environment.json",
    "failures.json",
    "metrics.json",
    "per_category.csv",
    "per_pair.csv",
    "table.md",
    "videos.json",
    "weights.json",
)
"""Files that do not change after the run. Shards and match tables are not listed: each holds its own checksum."""

_HINT = "repeat its `harness run`"
_LINE = re.compile(rb"([0-9a-f]{64})  ([\w.-]+)\n")
_MOST_BYTES = 1 << 16

T = TypeVar("T")


def write_sums(folder: Location) -> None:
    """Write the sums of the files of `SUMMED` that exist; raises `UserError` if they cannot be written."""
    found = {name: _bytes(folder / name) for name in SUMMED}
    lines = [f"{_sum(data)}  {name}\n" for name, data in found.items() if data is not None]
    write_atomically(folder / SUMS_FILE, "".join(lines).encode())


def remove_sums(folder: Location) -> None:
    """Remove the sums before the files change; raises `UserError` if that is not permitted."""
    path = folder / SUMS_FILE
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        hint = f"run `chmod u+rw {path}`"
        raise UserError(str(path), f"cannot be removed: {error.strerror or error}", hint) from error


class CheckedFiles:
    """The files of a run folder, each checked against the folder's sums, which are read once."""

    def __init__(self, folder: Location) -> None:
        self.folder = folder
        self._sums: dict[str, str] | None = None

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file, ``None`` if it is absent.

        Raises `UnreadableFileError` if they do not match the folder's sums.
        """
        data = _bytes(self.folder / name)
        if data is None or name not in SUMMED:
            return data
        known = self._sums is not None
        if self._fits(name, data):
            return data
        if known:  # a run that was repeated meanwhile has removed or replaced the sums
            self._sums = None
            if self._fits(name, data):
                return data
        what = f"is damaged: it does not match the checksum of {name} in {SUMS_FILE}"
        raise UnreadableFileError(str(self.folder / name), what, _HINT)

    def _fits(self, name: str, data: bytes) -> bool:
        if self._sums is None:
            sums = _bytes(self.folder / SUMS_FILE)
            if sums is None:
                return True
            self._sums = parse_sums(sums, str(self.folder / SUMS_FILE))
        return self._sums.get(name) == _sum(data)

    def read_json(self, name: str, kind: type[T]) -> T | None:
        """Return the content of a JSON file, ``None`` if it is absent.

        Raises `UnreadableFileError` like `read`, and if the file does not hold a ``kind`` or was written by another
        version of the harness.
        """
        data = self.read(name)
        if data is None:
            return None
        try:
            return decode_json(data, kind)
        except msgspec.MsgspecError as error:
            what = other_version(data, (FORMAT,)) or f"is damaged: {error}"
            raise UnreadableFileError(str(self.folder / name), what, _HINT) from error


def parse_sums(data: bytes, where: str) -> dict[str, str]:
    """Return hexadecimal sums by file name (without folders).

    Raises `UnreadableFileError` for anything that `write_sums` never writes.
    """
    sums = {name.decode(): digest.decode() for digest, name in _LINE.findall(data[:_MOST_BYTES])}
    if "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode() != data:
        raise UnreadableFileError(where, "is damaged: it is not a list of checksums", _HINT)
    return sums


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bytes(path: Location) -> bytes | None:
    try:
        return read_file(path, TABLE_BYTES if path.suffix in (".csv", ".md") else RECORD_BYTES, is_text=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnreadableFileError(
            str(path), f"cannot be read: {error.strerror or error}", f"run `chmod u+rw {path}`"
        ) from error
