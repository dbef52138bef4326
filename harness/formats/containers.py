"""JSON files as they come: plain, zipped, gzipped, in UTF-16 or UTF-32, with a byte order mark, as JSON lines.

The container does not change the text; names of a zip's members are never used as paths, and what unpacks to
far more than JSON can is refused.
"""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from harness.errors import UserError
from harness.first_bytes import FIRST_BYTES, foreign_file, pickle_file
from harness.formats import lenient
from harness.input_files import ANNOTATION_BYTES, UNBOUNDED, open_file, read_all, refuse_null_bytes

CHUNK_BYTES = 1 << 20
FREE_BYTES, MOST_TIMES = 256 << 20, 100
"""An archive may unpack to this much, or to this many times its own size. Masks shrink to about a fifth."""
LONGEST_LINE = 64 << 20
"""Longer than any track in a file of JSON lines, in bytes."""
DAMAGED_ARCHIVE = (EOFError, OSError, zlib.error, lzma.LZMAError, struct.error, ValueError, zipfile.BadZipFile)
"""What `gzip` and `zipfile` raise for archives that are damaged or cut short."""
UNSUPPORTED_ARCHIVE = (RuntimeError, NotImplementedError)
"""What `zipfile` raises for a password, or a method that Python lacks."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks; UTF-32's come before UTF-16's, because they begin with those."""


def open_json(path: Path) -> io.BufferedReader:
    """Open a JSON file as plain UTF-8 text. A plain file is returned as it is.

    Raises `UserError`, at once or during reading, for a file that cannot be read, is something else, is damaged, or
    unpacks to too much.
    """
    try:
        file = open_file(path, UNBOUNDED, is_text=True)
        head = file.read(FIRST_BYTES)
        file.seek(0)
    except OSError as error:
        raise UserError(str(path), error.strerror or "cannot be read", "check the path") from error
    if _is_plain(head):  # most files
        return file
    with _closed_on_error(file):
        pieces = _unpacked(file, head, path)
    return file if pieces is None else _reader(pieces, file)


def open_records(path: Path) -> io.BufferedReader:
    """Open a results file as `open_json` does; JSON lines, one track on each, are returned as a list."""
    file = open_json(path)
    with _closed_on_error(file):
        if file.peek(FIRST_BYTES).lstrip()[:1] != b"{":
            return file
        first = _first_line(file)
    if _is_track(first):
        return _reader(_as_list(first, file), file)
    file.close()
    return open_json(path)


@contextmanager
def _closed_on_error(file: BinaryIO) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.close()
        raise


def read_json(path: Path) -> tuple[bytes, bytes]:
    """The plain UTF-8 text of a file of JSON, and the bytes of the file. Raises `UserError` as `open_json` does."""
    try:
        with open_file(path, ANNOTATION_BYTES, is_text=True) as file:
            raw = read_all(file, path, ANNOTATION_BYTES)
    except OSError as error:
        raise UserError(str(path), error.strerror or "cannot be read", "check the path") from error
    head = raw[:FIRST_BYTES]
    if _is_plain(head):
        refuse_null_bytes(raw, path)
        return raw, raw
    pieces = _unpacked(io.BytesIO(raw), head, path)
    return (raw if pieces is None else b"".join(pieces)), raw


def _is_plain(head: bytes) -> bool:
    return head[:1] in (b"[", b"{", b"") and b"\0" not in head[:4]


def _unpacked(file: BinaryIO, head: bytes, path: Path) -> Iterator[bytes] | None:
    """The text inside a container or in another encoding; ``None`` for plain text in UTF-8."""
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06")):
        pieces = _bounded(_archive(file, head, path), _size(file), path)
        return _decoded(*_with_head(pieces), path, inner=True)
    encoding = _encoding(head)
    if encoding is None:
        _refuse_foreign(head, path)
        return None
    return _decoded(head, _chunks(file), path)


def _archive(file: BinaryIO, head: bytes, path: Path) -> Iterator[bytes]:
    try:
        if head.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as stream:
                yield from _chunks(cast(BinaryIO, stream))
            return
        with zipfile.ZipFile(file) as archive, archive.open(_member(archive, path)) as member:
            yield from _chunks(member)
    except DAMAGED_ARCHIVE as error:
        raise UserError(str(path), f"the archive is damaged or cut short ({error})", "copy or pack it again") from error
    except UNSUPPORTED_ARCHIVE as error:
        raise UserError(str(path), f"the zip cannot be unpacked ({error})", "unpack it by hand") from error


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one JSON file in a zip."""
    files = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    chosen = [m for m in files if m.filename.lower().endswith(".json")]
    if not chosen and len(files) == 1:
        chosen = files
    if len(chosen) != 1:
        names = ", ".join(ascii(m.filename)[:60] for m in chosen[:3]) + (", ..." if len(chosen) > 3 else "")
        what = f"a zip with {len(chosen)} JSON files ({names})" if chosen else "a zip without a JSON file"
        raise UserError(str(path), f"is {what}, not with one", "unpack it and name the file")
    return chosen[0]


def _size(file: BinaryIO) -> int:
    place = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(place)
    return size


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _bounded(pieces: Iterable[bytes], packed: int, path: Path) -> Iterator[bytes]:
    """The pieces, up to the size to which an archive of ``packed`` bytes may unpack."""
    limit, total = max(FREE_BYTES, MOST_TIMES * packed), 0
    for piece in pieces:
        total += len(piece)
        if total > limit:
            what = f"{packed} bytes unpack to more than {limit}"
            raise UserError(str(path), what, "unpack it by hand if that is right")
        yield piece


def _with_head(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first bytes of pieces, and all pieces."""
    first = next(pieces, b"")

    def everything() -> Iterator[bytes]:
        yield first
        yield from pieces

    return first[:FIRST_BYTES], everything()


def _encoding(head: bytes) -> str | None:
    """The encoding that the first bytes state or show (JSON begins with ASCII); ``None`` for plain UTF-8."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    zeros = [at for at in range(min(4, len(head))) if head[at] == 0]
    return {(1, 2, 3): "utf-32-le", (0, 1, 2): "utf-32-be", (1, 3): "utf-16-le", (0, 2): "utf-16-be"}.get(tuple(zeros))


def _decoded(head: bytes, pieces: Iterator[bytes], path: Path, inner: bool = False) -> Iterator[bytes]:
    """Text in any of Unicode's encodings as UTF-8 without a mark; ``inner``: from inside an archive."""
    encoding = _encoding(head)
    if encoding is None:
        if inner and head.startswith((b"\x1f\x8b", b"PK\x03\x04")):
            raise UserError(str(path), "is an archive in an archive", "unpack it by hand")
        _refuse_foreign(head, path)
        yield from pieces
        return
    decoder, fresh = codecs.getincrementaldecoder(encoding)(), True
    try:
        for piece in pieces:
            text = decoder.decode(piece)
            yield (text.removeprefix("\ufeff") if fresh else text).encode()
            fresh = fresh and not text
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise UserError(str(path), f"is not valid text in {encoding.upper()} ({error})", "write UTF-8") from error


def _refuse_foreign(head: bytes, path: Path) -> None:
    found = foreign_file(head) or pickle_file(head)
    if found is not None:
        raise UserError(str(path), f"is {found.what}", found.hint)


class _Pieces(io.RawIOBase):
    """Pieces of bytes from a file, as a file to read from start to end."""

    def __init__(self, pieces: Iterator[bytes], file: BinaryIO) -> None:
        self._pieces, self._file, self._left = pieces, file, b""

    def close(self) -> None:
        self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        part = self._left[: len(buffer)]
        buffer[: len(part)] = part
        self._left = self._left[len(part) :]
        return len(part)


def _reader(pieces: Iterator[bytes], file: BinaryIO) -> io.BufferedReader:
    return io.BufferedReader(_Pieces(pieces, file), CHUNK_BYTES)


def _first_line(file: BinaryIO) -> bytes:
    """The first line that is not empty."""
    while (line := file.readline(LONGEST_LINE)) and not line.strip():
        pass
    return line


def _is_track(line: bytes) -> bool:
    """Whether a line is the JSON of a whole track."""
    try:
        value = lenient.loads(line, "")
    except UserError:
        return False
    return isinstance(value, dict) and {"video_id", "segmentations"} <= value.keys()


def _as_list(first: bytes, rest: BinaryIO) -> Iterator[bytes]:
    yield b"[" + first.strip()
    for line in rest:
        if line.strip():
            yield b",\n" + line.strip()
    yield b"]"
