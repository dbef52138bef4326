"""Detects files of another version of the harness, so that they are not reported as damaged."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec


class _File(msgspec.Struct):
    format: int


def other_version(data: bytes, reads: Collection[int] = (1,), decode: Callable[..., Any] = msgspec.json.decode) -> str:
    """Return a text if an unreadable file has a format other than those of ``reads``; else an empty string.

    ``data`` is an object with the key ``format``, an integer; ``decode`` reads it (by default as JSON).
    """
    try:
        found = decode(data, type=_File).format
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return "" if found in reads else in_words(found, max(reads))


def in_words(found: int | str, reads: int | str) -> str:
    """A predicate about the two formats that follows the file's name in a message."""
    return f"was written by another version of the harness (format {found}; this one reads {reads})"
