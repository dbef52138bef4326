"""Files that another version of the harness has written: told as such, and not as damage."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec


class _File(msgspec.Struct):
    format: int


def other_version(data: bytes, reads: Collection[int] = (1,), decode: Callable[..., Any] = msgspec.json.decode) -> str:
    """What is wrong with a file that could not be read: its format is not the one that is read; else empty.

    ``data`` is an object with the key ``format``, a whole number, as ``decode`` (JSON by default) reads it. Those of
    ``reads`` can be read.
    """
    try:
        found = decode(data, type=_File).format
    except msgspec.MsgspecError:
        return ""
    return "" if found in reads else in_words(found, max(reads))


def in_words(found: int | str, reads: int | str) -> str:
    """The two formats, as what goes on after the file's name."""
    return f"was written by another version of the harness (format {found}; this one reads {reads})"
