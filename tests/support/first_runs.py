"""The first run of a runs folder as MLflow sees it: a function that a process of its own can import."""

from __future__ import annotations

from pathlib import Path

from harness.tracking.mlflow import MlflowTracker


def first_run(folder: str, number: int) -> None:
    """Log a finished run that has this number as a tag; its warnings go to a file in its folder."""
    tracker = MlflowTracker(Path(folder), tags={"number": str(number)})
    place = Path(folder, f"oracle-shapes-val-{number:08d}")
    place.mkdir()
    record = {"model": "oracle", "dataset": "shapes", "split": "val", "folder": str(place), "complete": True}
    tracker.start(record)
    tracker.log_result(place, {**record, "metrics": {"AP": 0.5}, "corrected": {}, "warnings": []}, [])
    warnings = tracker.finish()
    (place / "warnings").write_text("\n".join(warnings))
