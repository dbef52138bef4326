"""Files that are there whole or not at all, even if the process is killed or the machine stops."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.errors import UserError


@contextmanager
def durable(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes the name ``path`` once the block has ended well.

    It is written under a temporary name in the same folder, flushed to the disk and renamed; then the folder is
    flushed too. After an exception nothing is left. Raises `UserError` where the disk refuses (full, not permitted).
    """
    # two machines of a cluster may have processes of the same number
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        what = f"cannot be written: {error.strerror or error}"
        raise UserError(str(path), what, "make room there or permit writing, then repeat the command") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Write a whole file; see `durable`."""
    with durable(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, the same bytes for the same value; see `durable`."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_durably(path, text.encode() + b"\n")


def discard_unfinished(folder: Path) -> None:
    """Remove what a killed process left under temporary names; to be called by the only writer of a folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
