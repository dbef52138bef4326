"""Atomic writes: a file is complete or absent, even if the process is killed or the machine stops.

On a disk this takes a temporary name, a flush and a rename; in an object store a single request is atomic.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from harness.errors import UserError
from harness.paths import Location, ObjectPath
from harness.plain_text import utf8

_SURROGATES = re.compile("[\ud800-\udfff]")
"""Bytes of names that are not UTF-8. Their escape is written as text: as a character, no strict reader takes it."""


@contextmanager
def atomic_write(path: Location) -> Iterator[IO[bytes]]:
    """Open a file for writing that gets the name ``path`` when the block ends without an exception.

    It is written under a temporary name in the same folder, flushed to the disk and renamed; then the folder is
    flushed too. An object is first written to a temporary file on this machine. After an exception nothing remains.
    Raises `UserError` if the file cannot be written (disk full, not permitted).
    """
    if isinstance(path, ObjectPath):
        with _user_errors(path), TemporaryDirectory(prefix="harness-") as folder:
            whole = Path(folder) / path.name
            with whole.open("wb") as file:
                yield file
            path.upload(whole)
        return
    assert isinstance(path, Path)
    # processes on two machines of a cluster may have the same id
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with _user_errors(path):
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _user_errors(path: Location) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise UserError(str(path), what, "free disk space there or permit writing, then repeat the command") from error


def write_atomically(path: Location, data: bytes) -> None:
    """Write a whole file; see `atomic_write`."""
    if isinstance(path, ObjectPath):
        with _user_errors(path):
            path.write(data)
        return
    with atomic_write(path) as file:
        file.write(data)


def write_unflushed(path: Location, data: bytes) -> None:
    """Write a file atomically without flushing it, for files that may be lost. Raises `OSError`."""
    if isinstance(path, ObjectPath):
        path.write(data)
        return
    assert isinstance(path, Path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Location, value: Any) -> None:
    """Write a value as JSON, the same bytes for the same value; see `atomic_write`."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, utf8(_SURROGATES.sub(r"\\\g<0>", text)) + b"\n")


def discard_unfinished(folder: Location) -> None:
    """Remove temporary files that a killed process left; only the single writer of a folder may call it."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
