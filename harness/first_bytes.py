"""Recognises files by their first bytes: web pages, pointers and archives that were given in place of the file."""

from __future__ import annotations

from typing import NamedTuple

FIRST_BYTES = 512
_WEB_PAGE = (b"<!doctype html", b"<html")


class Kind(NamedTuple):
    """A kind of file as text, and what to do about it."""

    what: str
    hint: str


_KINDS = (
    (b"BZh", Kind("a bzip2 file", "unpack it")),
    (b"\xfd7zXZ", Kind("an xz file", "unpack it")),
    (b"\x28\xb5\x2f\xfd", Kind("a zstd file", "unpack it")),
    (b"7z\xbc\xaf", Kind("a 7-zip archive", "unpack it")),
    (b"Rar!", Kind("a RAR archive", "unpack it")),
    (b"PAR1", Kind("a Parquet file", "name another file")),
    (b"GGUF", Kind("a GGUF file", "name another file")),
    (b"\x89HDF", Kind("an HDF5 file", "name another file")),
    (b"\x93NUMPY", Kind("a numpy file", "name another file")),
    (b"version https://git-lfs", Kind("a Git LFS pointer, not the file itself", "run `git lfs pull`")),
)


def foreign_file(head: bytes) -> Kind | None:
    """Return the kind of a file from its first `FIRST_BYTES`; ``None`` if it is none of the known kinds."""
    for first, kind in _KINDS:
        if head.startswith(first):
            return kind
    if head[257:262] == b"ustar":
        return Kind("a tar archive", "unpack it")
    if head.lstrip()[:15].lower().startswith(_WEB_PAGE):
        return Kind("a web page, not the file itself", "download the file; a server has sent this page in its place")
    return None


def pickle_file(head: bytes) -> Kind | None:
    """Return the kind if a file begins like a Python pickle of protocol 2 or later."""
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return Kind(
            "a Python pickle", "write JSON with json.dump; pickles run code when they are read, so they are not"
        )
    return None
