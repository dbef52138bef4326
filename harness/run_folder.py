"""A run's folder: which files it holds, which videos it is about, and its log."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness import checksums
from harness.engines.stages import StageUse
from harness.errors import UserError
from harness.locations import Location, ObjectPath

FORMAT = 1
"""Version of the files in a run folder."""

PREDICTIONS = "predictions"
SUBMISSION = "submission.zip"
FILES = (
    "config.json",
    "environment.json",
    "videos.json",
    "failures.json",
    "metrics.json",
    "per_category.csv",
    "matches.msgpack",
    "table.md",
    "timings.json",
    "progress.json",
    SUBMISSION,
    "run.log",
    "mlflow.json",
    checksums.FILE,
)
"""What a fresh start removes besides the predictions: what runs write, and nothing else that lies in the folder."""
_LOG_SECONDS = 10.0


class VideoIds(msgspec.Struct, frozen=True):
    """``videos.json``: ids of all videos of the split, and of those that are run."""

    format: Literal[1]
    split: list[int]
    run: list[int]


class Times(msgspec.Struct, frozen=True):
    """``timings.json``: seconds by video id, each session's number of videos and seconds, and what stages took."""

    videos: dict[str, float] = {}
    sessions: list[dict[str, float]] = []
    stages: dict[str, StageUse] = {}
    format: Literal[1] = 1


def content_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of what ``config.json`` holds, however it is laid out there."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_video_ids(folder: Location) -> VideoIds:
    """Return the ids of a run's videos; raises `UserError` where ``folder`` is no run folder, or damaged."""
    ids = checksums.read_json(folder, "videos.json", VideoIds)
    if ids is None:
        raise UserError(str(folder), "is not a run folder: it has no videos.json", "name one that a run wrote")
    return ids


def remove_content(folder: Location) -> None:
    """Remove what earlier runs wrote; the lock stays, and so do files of others."""
    try:
        remove_tree(folder / PREDICTIONS)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(str(folder), f"cannot be removed: {error.strerror}", "mend its permissions") from error


def remove_tree(folder: Location) -> None:
    """Remove a folder with all that is in it, if it is there. Raises `OSError`."""
    if isinstance(folder, ObjectPath):
        folder.remove_tree()
        return
    with suppress(FileNotFoundError):
        shutil.rmtree(str(folder))


class _FileLog(logging.FileHandler):
    """A log that gives way on a full disk: the files that must be kept report it, once and in one line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Stay silent."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class _ObjectLog(logging.Handler):
    """A log in an object, which cannot be appended to: it is kept here and written whole, at most every ten seconds.

    A process that is killed takes the last seconds with it.
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


@contextmanager
def logged_to(path: Location) -> Iterator[None]:
    """Append what the harness logs, and Python's warnings, to a file; raises `UserError` where it cannot be opened."""
    handler = _handler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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
        handler.close()


def _handler(path: Location) -> logging.Handler:
    try:
        if isinstance(path, ObjectPath):
            return _ObjectLog(path)
        assert isinstance(path, Path)
        if path.is_symlink():
            raise UserError(str(path), "is a link, which is not written through", "remove it")
        return _FileLog(path, encoding="utf-8")
    except OSError as error:
        raise UserError(str(path), f"cannot be written: {error.strerror}", "make room or permit writing") from error
