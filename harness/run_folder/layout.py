"""The files of a run folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from harness.errors import UserError
from harness.paths import Location, ObjectPath
from harness.plain_text import utf8
from harness.run_folder import checksums

PREDICTIONS = "predictions"
PER_CATEGORY = "per_category.csv"
PER_PAIR = "per_pair.csv"
"""Scores of phrase protocols: a row per pair of a video and a phrase."""
SCORES = "scores"
"""Folder of the scores by protocols other than the run's own, one folder each: table by category or pair, match table.
"""
SUBMISSION = "submission.zip"
BENCH = "bench.json"
"""What ``harness bench --run`` has measured, see `harness.run_folder.bench`."""
RUN_FILES = (
    "config.json",
    "environment.json",
    "experiment.yaml",
    "videos.json",
    "failures.json",
    "weights.json",
    "metrics.json",
    PER_CATEGORY,
    PER_PAIR,
    "matches.msgpack",
    "contributions.msgpack",
    "table.md",
    "timings.json",
    BENCH,
    "progress.json",
    SUBMISSION,
    "run.log",
    "mlflow.json",
    checksums.SUMS_FILE,
)
"""Files that ``--fresh`` removes besides the predictions. Other files in the folder stay."""


def content_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content of ``config.json``, independent of its formatting."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(utf8(text)).hexdigest()


def remove_content(folder: Location) -> None:
    """Remove the files of earlier runs, but not the lock or other files; raises `UserError` if that fails."""
    try:
        remove_tree(folder / PREDICTIONS)
        remove_tree(folder / SCORES)
        for name in RUN_FILES:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        hint = f"run `chmod -R u+rwX {folder}`"
        raise UserError(str(folder), f"cannot be removed: {error.strerror}", hint) from error


def remove_tree(folder: Location) -> None:
    """Remove a folder and its content, if it exists. Raises `OSError`."""
    if isinstance(folder, ObjectPath):
        folder.remove_tree()
        return
    with suppress(FileNotFoundError):
        shutil.rmtree(str(folder))
