"""A run's folder: which files it holds, who may write to it, and which videos it is about."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness import checksums
from harness.engines.stages import StageUse
from harness.errors import UserError

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

_LOCK = "run.lock"


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


def content_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of what ``config.json`` holds, however it is laid out there."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_video_ids(folder: Path) -> VideoIds:
    """Return the ids of a run's videos; raises `UserError` where ``folder`` is no run folder, or damaged."""
    ids = checksums.read_json(folder, "videos.json", VideoIds)
    if ids is None:
        raise UserError(str(folder), "is not a run folder: it has no videos.json", "name one that a run wrote")
    return ids


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and keep other processes from running it; raises `UserError` where another one does.

    The lock is the operating system's: it ends with the process that holds it, however that ends.
    """
    path = folder / _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # no link: the folder may come from elsewhere, and what the lock's name leads to is emptied
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise UserError(str(folder), f"cannot be written: {error.strerror}", "name another --runs-dir") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            what = f"is being run by process {holder}"
            raise UserError(str(folder), what, "wait for it, stop it, or name another --runs-dir") from error
        with suppress(OSError):  # a full disk: the lock holds without the number, and what must be kept will say it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a process runs the folder, as far as this machine can tell: some network file systems keep locks apart.

    A run that starts in the very moment of the question may be refused; do not ask without need.
    """
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # this file system has no locks
        return False
    finally:
        os.close(descriptor)
    return False


def remove_content(folder: Path) -> None:
    """Remove what earlier runs wrote; the lock stays, and so do files of others."""
    try:
        if (folder / PREDICTIONS).is_dir():
            shutil.rmtree(folder / PREDICTIONS)
        for name in FILES:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(str(folder), f"cannot be removed: {error.strerror}", "mend its permissions") from error


class _Log(logging.FileHandler):
    """A log that gives way on a full disk: the files that must be kept report it, once and in one line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Stay silent."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Append what the harness logs, and Python's warnings, to a file; raises `UserError` where it cannot be opened."""
    if path.is_symlink():
        raise UserError(str(path), "is a link, which is not written through", "remove it")
    try:
        handler = _Log(path, encoding="utf-8")
    except OSError as error:
        raise UserError(str(path), f"cannot be written: {error.strerror}", "make room or permit writing") from error
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
