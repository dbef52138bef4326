"""The log of a run, ``run.log``."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import UserError
from harness.paths import Location, ObjectPath

_LOG_SECONDS = 10.0


class _FileLog(logging.FileHandler):
    """A log that ignores a full disk: writing the results reports it, once and in one line."""

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
        self._lines: list[bytes] = []
        with suppress(FileNotFoundError):
            self._lines.append(path.read_bytes())

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._lines.append(self.format(record).encode() + b"\n")
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
    """Keeps lines until there is a file for them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
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
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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


def _handler(path: Location) -> logging.Handler:
    try:
        if isinstance(path, ObjectPath):
            return _ObjectLog(path)
        assert isinstance(path, Path)
        if path.is_symlink():
            raise UserError(str(path), "is a symbolic link, which is not followed", "remove it")
        return _FileLog(path, encoding="utf-8")
    except OSError as error:
        hint = f"free disk space, or run `chmod u+rw {path}`"
        raise UserError(str(path), f"cannot be written: {error.strerror}", hint) from error
