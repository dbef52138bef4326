"""The log of a run, ``run.log``."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from pathlib import Path

from harness.atomic_write import write_atomically
from harness.errors import UserError, shortened
from harness.input_files import UNBOUNDED, open_file, refuse_odd_file
from harness.paths import Location, ObjectPath
from harness.plain_text import indented

_LOG_SECONDS = 10.0
LINE_CHARACTERS = 16_000
"""Longest message of a line in the log."""
SESSION_BYTES, KEPT_BYTES = 32 << 20, 16 << 20
"""Most bytes that one session adds to the log, and as many again for warnings. If the log of earlier sessions has more
than ``SESSION_BYTES``, only its last ``KEPT_BYTES`` are kept."""
_MOST_HELD = 10_000


class _SizeLimit:
    """Limits the bytes that one session writes to the log."""

    def __init__(self) -> None:
        self._written = 0
        self._is_reported = False

    def admitted(self, line: str, level: int) -> str:
        """Return the line to write, shortened if it is too long; empty if the log is full.

        The first line that does not fit is replaced by a note.
        """
        line = shortened(line, LINE_CHARACTERS)
        written = self._written + len(line.encode(errors="replace")) + 1
        if written <= (2 * SESSION_BYTES if level >= logging.WARNING else SESSION_BYTES):
            self._written = written
            return line
        if self._is_reported:
            return ""
        self._is_reported = True
        return f"the log of this session has {SESSION_BYTES >> 20} MiB: further lines are left out"


class _RecordFormatter(logging.Formatter):
    """Indents all lines of a record but the first, and escapes control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record, without a line break at the end."""
        return indented(super().format(record))


class _FileLog(logging.FileHandler):
    """A log of bounded size. It ignores a full disk, which writing the results reports once, in one line."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="replace")
        self._limit = _SizeLimit()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if there is room for it."""
        try:
            line = self._limit.admitted(self.format(record), record.levelno)
            if line and self.stream is not None:
                self.stream.write(line + self.terminator)
                self.flush()
        except Exception:  # as in `logging.StreamHandler`
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Do nothing."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class _ObjectLog(logging.Handler):
    """A log in an object store. Objects cannot be appended to, so the whole log is written, at most every ten seconds.

    If the process is killed, the last seconds are lost.
    """

    def __init__(self, path: ObjectPath) -> None:
        super().__init__()
        self._path, self._written = path, time.monotonic()
        self._limit = _SizeLimit()
        self._lines: list[bytes] = []
        with suppress(FileNotFoundError):
            self._lines.append(_end_of(path.read_bytes()))

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line, if there is room for it."""
        line = self._limit.admitted(self.format(record), record.levelno)
        if line:
            self._lines.append(line.encode(errors="replace") + b"\n")
        if time.monotonic() - self._written > _LOG_SECONDS:
            self._put()

    def close(self) -> None:
        self._put()
        super().close()

    def _put(self) -> None:
        with suppress(OSError):
            self._path.write(b"".join(self._lines))
        self._written = time.monotonic()


class _HeldLog(logging.Handler):
    """Holds records until the log file is open."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Hold a record; those beyond `_MOST_HELD` are dropped."""
        if len(self.records) < _MOST_HELD:
            self.records.append(record)


@contextmanager
def held_log() -> Iterator[list[logging.LogRecord]]:
    """Collect the harness's log records and Python's warnings for a file that is opened later."""
    handler = _HeldLog()
    with _listening(handler):
        yield handler.records


@contextmanager
def logged_to(path: Location, before: Iterable[logging.LogRecord] = ()) -> Iterator[None]:
    """Append the records ``before``, then the harness's log records and Python's warnings, to a file.

    Raises `UserError` if it cannot be opened.
    """
    handler = _handler(path)
    handler.setFormatter(_RecordFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for record in before:
        handler.handle(record)
    try:
        with _listening(handler):
            yield
    finally:
        handler.close()


@contextmanager
def _listening(handler: logging.Handler) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("harness", "py.warnings")]
    levels = [logger.level for logger in loggers]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
        logging.captureWarnings(False)


class SentLog(QueueHandler):
    """Sends records of bounded length to another process."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Format the arguments into the message, because other processes may not be able to unpickle them."""
        found: logging.LogRecord = super().prepare(record)
        found.msg = found.message = shortened(str(found.msg), LINE_CHARACTERS)
        return found


def _end_of(data: bytes) -> bytes:
    """Return the last `KEPT_BYTES` of a log, from the start of a line; a shorter log unchanged."""
    return data if len(data) <= KEPT_BYTES else data[-KEPT_BYTES:].partition(b"\n")[2]


def _handler(path: Location) -> logging.Handler:
    try:
        if isinstance(path, ObjectPath):
            return _ObjectLog(path)
        assert isinstance(path, Path)
        if path.is_symlink():
            raise UserError(str(path), "is a symbolic link, which is not followed", "remove it")
        if path.exists():
            refuse_odd_file(path)
            if path.stat().st_size > SESSION_BYTES:
                with open_file(path, UNBOUNDED) as file:
                    file.seek(-KEPT_BYTES - 1, os.SEEK_END)
                    write_atomically(path, _end_of(file.read(KEPT_BYTES + 1)))
        return _FileLog(path)
    except OSError as error:
        hint = f"free disk space, or run `chmod u+rw {path}`"
        raise UserError(str(path), f"cannot be written: {error.strerror}", hint) from error
