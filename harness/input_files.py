"""Opens untrusted files: regular files only, up to a size limit per kind of file. Decodes JSON of bounded depth.

All readers of annotations, results, run folders, checkpoints, frames and settings use this module. Reading a named pipe
or a device may block or never end, and a sparse file with few bytes on disk may have a size of gigabytes.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec

from harness.errors import UnreadableFileError
from harness.paths import Location, ObjectPath

T = TypeVar("T")

MIB, GIB = 1 << 20, 1 << 30
NOTE_BYTES = 1 * MIB
"""Most bytes of a small file of settings or state: locks, progress, links, lists of names."""
RECORD_BYTES = 64 * MIB
"""Most bytes of a JSON file of a run folder."""
TABLE_BYTES = 512 * MIB
"""Most bytes of a table or log in text: CSV, Markdown, ``run.log``."""
SHARD_BYTES = 2 * GIB
"""Most bytes of a shard of predictions or a match table, which are read whole."""
ANNOTATION_BYTES = 16 * GIB
"""Most bytes of an annotation file, which is read whole. Those of the largest benchmarks have several gigabytes."""
FRAME_BYTES = 512 * MIB
"""Most bytes of the image file of one frame."""
UNBOUNDED = 1 << 62
"""No limit: for results and videos, which are read in pieces, and weights, which are not read beyond the file's end."""

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_CHUNK = 1 << 20


def open_file(path: Path | str, most: int, *, is_text: bool = False) -> io.BufferedReader:
    """Open a regular file of at most ``most`` bytes. With ``is_text`` a sparse file is refused: it holds NUL bytes.

    Raises `UnreadableFileError` for any other file, without blocking, and `OSError` if the system cannot open it.
    """
    refuse_odd_file(path, most)
    # O_NONBLOCK: a pipe may have replaced the file since the check above; opening it must not block.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check(os.fstat(descriptor), path, most)
        if is_text and _has_hole(descriptor):
            raise _null_bytes(path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: Location, most: int, *, is_text: bool = False) -> bytes:
    """Return the content of a file as `open_file` opens it; with ``is_text`` NUL bytes are refused.

    Objects of a store are always plain data; their size is checked after reading.
    """
    if isinstance(path, ObjectPath):
        data = path.read_bytes()
        if len(data) > most:
            raise _too_large(path, len(data), most)
    else:
        assert isinstance(path, Path)
        with open_file(path, most, is_text=is_text) as file:
            data = read_all(file, path, most)
    if is_text:
        refuse_null_bytes(data, path)
    return data


def read_all(file: io.BufferedReader, path: Path, most: int) -> bytes:
    """Return all of an opened file; raises `UnreadableFileError` if it has more than ``most`` bytes.

    The file may be longer than its reported size: it grows, or its file system does not know the size.
    """
    size = os.fstat(file.fileno()).st_size
    data = file.read(size + 1) or b""
    if len(data) <= size:
        return data
    pieces, total = [data], len(data)
    while total <= most and (piece := file.read(_CHUNK)):
        pieces.append(piece)
        total += len(piece)
    if total > most:
        raise _too_large(path, total, most)
    return b"".join(pieces)


def refuse_null_bytes(data: bytes, path: Location) -> None:
    """Raise `UnreadableFileError` for NUL bytes in text."""
    if b"\0" in data:
        raise _null_bytes(path)


def refuse_odd_file(path: Path | str, most: int = UNBOUNDED) -> None:
    """Refuse a file that `open_file` would refuse; for libraries that open files by path.

    Raises `UnreadableFileError`, and `OSError` if there is no such file.
    """
    _check(os.stat(path), path, most)  # noqa: PTH116 (every frame: pathlib is slow)


@overload
def decode_json(data: bytes | msgspec.Raw) -> Any: ...
@overload
def decode_json(data: bytes | msgspec.Raw, kind: type[T]) -> T: ...
@overload
def decode_json(data: bytes | msgspec.Raw, kind: Any) -> Any: ...
def decode_json(data: bytes | msgspec.Raw, kind: Any = Any) -> Any:
    """Decode JSON as ``kind``. Raises `msgspec.MsgspecError` for other content and for JSON nested too deeply."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError as error:
        raise msgspec.DecodeError("JSON is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"JSON is not in UTF-8 ({error})") from error


def _check(status: os.stat_result, path: Path | str, most: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        what = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "no regular file")
        raise UnreadableFileError(str(path), f"is {what}, not a regular file", "put the file itself there")
    if status.st_size > most:
        raise _too_large(path, status.st_size, most)


def _has_hole(descriptor: int) -> bool:
    """Whether a file is sparse: its holes read as NUL bytes, which JSON and YAML do not contain."""
    size = os.fstat(descriptor).st_size
    if not size or not hasattr(os, "SEEK_HOLE"):
        return False
    try:
        hole = os.lseek(descriptor, 0, os.SEEK_HOLE)
        return hole < size and os.pread(descriptor, 1, hole) == b"\0"
    except OSError:  # the file system does not report holes
        return False
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)


def _too_large(path: Location | str, size: int, most: int) -> UnreadableFileError:
    what = f"has {size} bytes or more, and files of its kind at most {most}"
    return UnreadableFileError(str(path), what, "put the right file there")


def _null_bytes(path: Location | str) -> UnreadableFileError:
    return UnreadableFileError(str(path), "is damaged: it holds NUL bytes, which text does not", "copy it again")
