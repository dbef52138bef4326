"""Files are recognised by their first bytes, as the programs that make them write them."""

from __future__ import annotations

import bz2
import io
import lzma
import pickle
import tarfile
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.first_bytes import FIRST_BYTES, foreign_file, pickle_file


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), file)
    return file.getvalue()


def numpy_file() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return file.getvalue()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: bz2.compress(b"[]"), "a bzip2 file"),
        (lambda: lzma.compress(b"[]"), "an xz file"),
        (parquet, "a Parquet file"),
        (numpy_file, "a numpy file"),
        (tar, "a tar archive"),
        (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer, not the file itself"),
        (lambda: b"\n <!DOCTYPE HTML><html>", "a web page, not the file itself"),
        (lambda: b"<HTML><head>", "a web page, not the file itself"),
    ],
)
def test_what_a_file_is_from_its_first_bytes(make: Callable[[], bytes], what: str) -> None:
    kind = foreign_file(make()[:FIRST_BYTES])
    assert kind is not None
    assert kind.what == what
    assert kind.hint


@pytest.mark.parametrize(
    "head", [b"", b"[]", b'{"videos": []}', b"\xef\xbb\xbf[", b"<annotations>", b"PK\3\4", b"\x1f\x8b"]
)
def test_what_the_readers_read_themselves_is_not_foreign(head: bytes) -> None:
    assert foreign_file(head) is None
    assert pickle_file(head) is None


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_are_recognised(protocol: int) -> None:
    kind = pickle_file(pickle.dumps([1], protocol))
    assert kind is not None
    assert "pickle" in kind.what
