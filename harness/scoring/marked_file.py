"""Files of scoring results in a run folder: a mark, a SHA-256 and MessagePack, so that any damage is an error."""

from __future__ import annotations

import hashlib
from typing import TypeVar

import msgspec

from harness.atomic_write import write_atomically
from harness.errors import UserError
from harness.input_files import SHARD_BYTES, read_file
from harness.paths import Location
from harness.versions import other_version

T = TypeVar("T")

_DIGEST = hashlib.sha256().digest_size


def write_marked(path: Location, mark: bytes, content: msgspec.Struct) -> None:
    """Write ``mark``, a checksum and the content, the same bytes for the same content; `UserError` if that fails."""
    data = msgspec.msgpack.encode(content)
    write_atomically(path, mark + hashlib.sha256(data).digest() + data)


def read_marked(path: Location, mark: bytes, kind: type[T], name: str, hint: str) -> T:
    """Read a file of `write_marked`; raises `UserError` if it is missing, damaged, or not of this ``kind``.

    ``name`` says what it is, ``hint`` what to do where it is not that.
    """
    try:
        data = read_file(path, SHARD_BYTES)
    except FileNotFoundError as error:
        raise UserError(str(path), "does not exist", "repeat its `harness run`, which writes it") from error
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}", f"run `chmod u+rw {path}`") from error
    begin = len(mark) + _DIGEST
    if data[: len(mark)] != mark or hashlib.sha256(data[begin:]).digest() != data[len(mark) : begin]:
        raise UserError(str(path), f"is damaged or is not {name}", hint)
    try:
        return msgspec.msgpack.decode(data[begin:], type=kind)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        what = other_version(data[begin:], decode=msgspec.msgpack.decode) or f"is not {name} ({error})"
        raise UserError(str(path), what, hint) from error
