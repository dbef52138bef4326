"""Reports in MLflow: they reach the runs of their run folders, and what cannot be reached is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from harness.tracking.artifacts import log_files
from harness.tracking.mlflow import MlflowTracker


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "runs" / "oracle-shapes-val-0123abcd"
    folder.mkdir(parents=True)
    record: dict[str, Any] = {"model": "oracle", "dataset": "shapes", "split": "val", "folder": str(folder)}
    (folder / "table.md").write_text("| Method | AP |\n|:--|--:|\n| oracle | 50.0 |\n")
    tracker = MlflowTracker(folder.parent)
    tracker.start(record)
    tracker.log_result(folder, {**record, "complete": True, "metrics": {"AP": 0.5}}, [])
    assert tracker.finish() == []
    return folder


def test_reports_and_figures_become_artifacts_and_the_table_the_description(logged: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<!doctype html>")
    figure = tmp_path / "precision_recall.svg"
    figure.write_text("<svg/>")
    assert log_files([logged], [report, figure]) == []
    link = json.loads((logged / "mlflow.json").read_text())
    client = MlflowClient(link["tracking_uri"])
    assert {report.name, figure.name} <= {file.path for file in client.list_artifacts(link["run_id"])}
    assert client.get_run(link["run_id"]).data.tags["mlflow.note.content"] == (logged / "table.md").read_text()


def test_what_cannot_be_logged_is_one_line_each(logged: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<!doctype html>")
    link = json.loads((logged / "mlflow.json").read_text())
    (tmp_path / "never").mkdir()
    for content in (b"{", json.dumps({**link, "tracking_uri": f"sqlite:///{tmp_path}/none/mlflow.db"}).encode()):
        (logged / "mlflow.json").write_bytes(content)
        lines = log_files([logged, tmp_path / "never"], [report])
        assert len(lines) == 2
        assert "was not logged to MLflow" in lines[1]
        assert not any("\n" in line for line in lines)
