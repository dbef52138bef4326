"""Which files a run folder holds."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from harness.errors import UserError
from harness.paths import Location, ObjectPath
from harness.run_folder import checksums

PREDICTIONS = "predictions"
PER_CATEGORY = "per_category.csv"
PER_PAIR = "per_pair.csv"
"""What phrase protocols give by pair of a video and a phrase."""
SCORES = "scores"
"""Folder of what protocols besides the run's own give, a folder each: tables by category or pair, the match table."""
SUBMISSION = "submission.zip"
FILES = (
    "config.json",
    "environment.json",
    "experiment.yaml",
    "videos.json",
    "failures.json",
    "metrics.json",
    PER_CATEGORY,
    PER_PAIR,
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


def content_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of what ``config.json`` holds, however it is laid out there."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def remove_content(folder: Location) -> None:
    """Remove what earlier runs wrote; the lock stays, and so do files of others."""
    try:
        remove_tree(folder / PREDICTIONS)
        remove_tree(folder / SCORES)
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
