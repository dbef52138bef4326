"""Standard output belongs to what a command prints there; what plugins and libraries print goes to the log or stderr.

File descriptor 1 itself is diverted, so that prints of C libraries and of processes that plugins start are caught too.
It is one for the whole process: while it is diverted, prints of all threads go there.
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

log = logging.getLogger(__name__)

_STDOUT, _STDERR = 1, 2
_MOST_BYTES = 1 << 20
"""What is printed at once beyond this is left out of the log."""

_SIGNS = {
    "–": "-", "—": "-", "−": "-", "±": "+/-", "†": "+", "×": "x", "·": ".", "…": "...", "▲": "^", "▼": "v", "→": "->",
    "≤": "<=", "≥": ">=", "“": '"', "”": '"', "‘": "'", "’": "'",
}  # fmt: skip
"""What the harness prints beyond ASCII, and how where the terminal has ASCII only."""

_is_diverted = False


@contextmanager
def printed_to_stderr() -> Iterator[None]:
    """Standard output goes to standard error; inside another diversion it stays with that one."""
    if _is_diverted:
        try:
            yield
        finally:
            flush_all()  # what a worker process holds back would be lost with it
        return
    with _diverted(_STDERR, sys.stderr):
        yield


@contextmanager
def printed_to_log() -> Iterator[Callable[[], None]]:
    """Standard output goes to the harness's log, line by line, whenever the function that is yielded is called.

    What was printed before the function is called for the first time waits for that; where it never is, because there
    is no log yet, it goes to standard error in the end, and at once where no temporary file can be made. Inside another
    diversion standard output stays with that one.
    """
    if _is_diverted:
        yield lambda: None
        return
    # a file and no pipe: a library that prints much while it keeps the interpreter to itself would wait for ever
    try:
        opened = tempfile.TemporaryFile("a+b", buffering=0)  # noqa: SIM115  below
    except OSError:  # the disk is full
        with printed_to_stderr():
            yield lambda: None
        return
    with opened as file:
        taker, logged = _Taker(file.fileno()), -1

        def log_printed() -> None:
            nonlocal logged
            flush_all()
            begin, logged = max(logged, 0), os.fstat(file.fileno()).st_size
            data = os.pread(file.fileno(), min(logged - begin, _MOST_BYTES), begin)
            for line in filter(None, map(str.strip, data.decode(errors="replace").splitlines())):
                log.info("printed: %s", line)
            if logged - begin > len(data):
                log.info("printed: %s bytes more, which are left out", logged - begin - len(data))

        try:
            with _diverted(file.fileno(), io.TextIOWrapper(taker, "utf-8", "backslashreplace", write_through=True)):
                yield log_printed
        finally:
            if logged < 0:
                with suppress(OSError):
                    os.write(_STDERR, os.pread(file.fileno(), _MOST_BYTES, 0))
            taker.descriptor = None  # whoever kept the stream must not write into another file of the same number


def stay_with_driver() -> None:
    """In a worker process, whose driver has diverted the standard output that it has inherited: leave it there."""
    global _is_diverted
    _is_diverted = True
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what it holds back is lost with a process that is killed


def open_closed_streams() -> None:
    """Give a process that was started with closed standard streams (``>&-``) ones that lead nowhere.

    Otherwise the next file that is opened gets number 1, and prints go there.
    """
    opened = os.open(os.devnull, os.O_RDWR)
    while opened <= _STDERR:
        opened = os.dup(opened)
    os.close(opened)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  for good


def print_in_any_locale() -> None:
    """What the terminal's encoding cannot show is printed in ASCII, in place of an error.

    Signs have a plain form; letters lose their accents; all else is printed as its number, like ``\\u732b``. Files are
    written in UTF-8, whatever the locale is.
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
    """Flush what was printed; from now on standard output is standard error, also for what runs at exit."""
    flush_all()
    with suppress(OSError):
        os.dup2(_STDERR, _STDOUT)
    sys.stdout = sys.stderr


def flush_all() -> None:
    """Flush the standard streams, and those of C libraries."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)


class _Taker(io.RawIOBase):
    """The bytes that are printed, for a file. A full disk must not make prints fail, and loses them."""

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
    """Let the standard output of Python and of the process go to ``text`` and ``descriptor``, which are the same."""
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
