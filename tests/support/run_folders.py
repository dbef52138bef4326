"""Run folders as `harness run` leaves them, made small for tests of what reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def make_record(
    model: str, dataset: str = "lvvis", split: str = "val", done: int = 12, **metrics: Any
) -> dict[str, Any]:
    """The record of a run; complete, and comparable with published numbers, where all 12 videos are ``done``."""
    own = {
        "protocol": {"name": "lvvis", "version": "1"},
        "metrics": metrics,
        "corrected": {key: value and value / 2 for key, value in metrics.items()},
        "undefined": {},
        "warnings": [],
        "slices": {},
    }
    return {
        "format": 2,
        "comparable": done == 12,
        "not_comparable": [] if done == 12 else [f"{12 - done} of 12 videos failed"],
        "model": model,
        "dataset": dataset,
        "split": split,
        "folder": f"runs/{model.replace('/', '_')}-{dataset}-{split}-0123abcd",
        "complete": done == 12,
        "limit": None,
        **own,
        "protocols": [own],
        "videos": {"total": 12, "done": done, "failed": []},
    }


def make_run(runs: Path, record: dict[str, Any], name: str) -> Path:
    """Write ``record`` as the run folder ``name``; returns the folder."""
    folder = runs / name
    folder.mkdir(parents=True)
    config = {key: record[key] for key in ("model", "dataset", "split")}
    (folder / "config.json").write_text(json.dumps({"format": 2, **config, "digest": "d" * 64}))
    (folder / "metrics.json").write_text(json.dumps(record))
    (folder / "videos.json").write_text(json.dumps({"format": 2, "split": [1], "run": [1]}))
    return folder
