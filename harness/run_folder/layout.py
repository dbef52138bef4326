"""A run's folder: which files it holds, which videos it is about, and its log."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

import msgspec

from harness.errors import UserError
from harness.events import StageUse
from harness.paths import Location, ObjectPath
from harness.run_folder import checksums

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
        raise UserError(str(folder), f"cannot be removed: {error.strerror}", "run `chmod u+rw` on it") from error


def remove_tree(folder: Location) -> None:
    """Remove a folder with all that is in it, if it is there. Raises `OSError`."""
    if isinstance(folder, ObjectPath):
        folder.remove_tree()
        return
    with suppress(FileNotFoundError):
        shutil.rmtree(str(folder))
