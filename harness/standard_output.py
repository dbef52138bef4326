"""Keeps standard output for the command's own output; prints of plugins and libraries go to the log or standard error.

File descriptor 1 itself is redirected, to include C libraries and the child processes of plugins. The process has only
one: while it is redirected, the prints of all threads are.
"""

from __future__ import annotations

import codecs
import ctypes
import io
import logging
import os
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from harness.plain_text import one_line

log = logging.getLogger(__name__)

_STDOUT, _STDERR = 1, 2
_MOST_BYTES = 1 << 20
"""If more is printed at once, the rest is left out of the log."""

_MOST_KEPT = 64 << 20
"""If the file of what was printed is larger, it is emptied once its lines are in the log."""

_SIGNS = {
    "–": "-", "—": "-", "−": "-", "±": "+/-", "†": "+", "×": "x", "·": ".", "…": "...", "▲": "^", "▼": "v", "→": "->",
    "≤": "<=", "≥": ">=", "“": '"', "”": '"', "‘": "'", "’": "'",
}  # fmt: skip
"""ASCII replacements of the other characters that the harness prints."""

_is_diverted = False
_lost: dict[int, OSError] = {}
"""By descriptor, the error with which a standard stream was lost."""


@contextmanager
def printed_to_stderr() -> Iterator[None]:
    """Redirect standard output to standard error; inside another redirection, do nothing."""
    if _is_diverted:
        try:
            yield
        finally:
            flush_all()  # the buffer of a worker process would be lost with it
        return
    with _diverted(_STDERR, sys.stderr):
        yield


@contextmanager
def printed_to_log() -> Iterator[Callable[[], None]]:
    """Redirect standard output to the harness's log: each call of the yielded function logs the lines printed so far.

    If the function is never called, because there is no log yet, the prints go to standard error at the end of the
    block; they go there at once if no temporary file can be created. Inside another redirection, do nothing.
    """
    if _is_diverted:
        yield lambda: None
        return
    # a file, not a pipe: a library that fills a pipe while it holds the GIL would wait forever
    try:
        opened = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115  below
    except OSError:  # the disk is full
        with printed_to_stderr():
            yield lambda: None
        return
    with opened as file:
        taker, logged = _RedirectedOutput(file.fileno()), -1

        def log_printed() -> None:
            nonlocal logged
            flush_all()
            begin, logged = max(logged, 0), os.fstat(file.fileno()).st_size
            data = os.pread(file.fileno(), min(logged - begin, _MOST_BYTES), begin)
            for line in filter(None, map(str.strip, data.decode(errors="replace").splitlines())):
                log.info("printed: %s", line)
            if logged - begin > len(data):
                log.info("printed: %s bytes more, which are left out", logged - begin - len(data))
            if logged > _MOST_KEPT:  # the file is opened for appending: what comes next is at its beginning
                os.ftruncate(file.fileno(), 0)
                logged = 0

        try:
            with _diverted(file.fileno(), io.TextIOWrapper(taker, "utf-8", "backslashreplace", write_through=True)):
                yield log_printed
        finally:
            if logged < 0:
                with suppress(OSError):
                    os.write(_STDERR, os.pread(file.fileno(), _MOST_BYTES, 0))
            taker.descriptor = None  # code that kept the stream must not write to a later file with this descriptor


def stay_with_driver() -> None:
    """In a worker process, keep the redirected standard output that it inherits from its driver."""
    global _is_diverted
    _is_diverted = True
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A killed process loses its buffer. With PYTHONUNBUFFERED, print would write a line and its end one after the
        # other, and lines of other workers come between.
        sys.stdout.reconfigure(line_buffering=True, write_through=False)


def open_closed_streams() -> None:
    """Open closed standard streams (``>&-``) on the null device.

    Otherwise the next file that is opened gets descriptor 1, and prints go there.
    """
    opened = os.open(os.devnull, os.O_RDWR)
    while opened <= _STDERR:
        opened = os.dup(opened)
    os.close(opened)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  for good


def survive_lost_streams() -> None:
    """From now on, what cannot be printed (a full disk, a closed pipe) is dropped instead of raising an error.

    So the work of a command is finished and kept; `lost_output` says at the end what happened to its output.
    """
    for name, descriptor in (("stdout", _STDOUT), ("stderr", _STDERR)):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            buffered = io.BufferedWriter(_Surviving(descriptor))
            is_eager = descriptor == _STDERR or os.isatty(descriptor)
            setattr(sys, name, io.TextIOWrapper(buffered, stream.encoding, stream.errors, line_buffering=is_eager))


def lost_output() -> OSError | None:
    """Flush standard output, and return the error with which it was lost, if it was."""
    flush_all()
    return _lost.get(_STDOUT)


def print_in_any_locale() -> None:
    """Print characters that the terminal's encoding does not have in ASCII, instead of failing.

    Known symbols have a replacement; letters lose their accents; other characters become escapes like ``\\u732b``.
    Files are written in UTF-8 in any locale.
    """
    codecs.register_error("harness.ascii", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="harness.ascii")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _SIGNS.get(character) or letters or character.encode("ascii", "backslashreplace").decode()


def end_output() -> None:
    """Flush standard output and redirect it to standard error from now on, also for code that runs at exit."""
    flush_all()
    with suppress(OSError):
        os.dup2(_STDERR, _STDOUT)
    sys.stdout = sys.stderr


def tell(text: str) -> None:
    """Print a line on standard error; what it quotes from files and programs of others is made harmless."""
    print(one_line(text), file=sys.stderr, flush=True)


def flush_all() -> None:
    """Flush the standard streams, and those of C libraries."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)


class _Surviving(io.RawIOBase):
    """A raw stream on a descriptor that notes the first error in `_lost` and drops all that follows."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any, /) -> int:
        if self._descriptor not in _lost:
            try:
                return os.write(self._descriptor, data)
            except OSError as error:
                _lost[self._descriptor] = error
        return len(memoryview(data).cast("B"))


class _RedirectedOutput(io.RawIOBase):
    """A raw stream that writes prints to a file; on a full disk they are lost, without an error."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor: int | None = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return _STDOUT

    def write(self, data: Any, /) -> int:
        if self.descriptor is not None:
            with suppress(OSError):
                os.write(self.descriptor, data)
        return len(memoryview(data).cast("B"))


@contextmanager
def _diverted(descriptor: int, text: Any) -> Iterator[None]:
    """Redirect Python's standard output to ``text`` and the process's to ``descriptor``, which are the same file."""
    global _is_diverted
    open_closed_streams()
    flush_all()
    before, kept = sys.stdout, os.dup(_STDOUT)
    try:
        sys.stdout, _is_diverted = text, True
        with suppress(OSError):  # standard error is closed
            os.dup2(descriptor, _STDOUT)
        yield
    finally:
        flush_all()
        sys.stdout, _is_diverted = before, False
        os.dup2(kept, _STDOUT)
        os.close(kept)
