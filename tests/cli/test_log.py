"""``harness log``: what is logged later, what is refused, and what MLflow's absence costs."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from harness.cli.main import build


def command(*arguments: str) -> Any:
    return CliRunner().invoke(build(), [*arguments])


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a finished run that was not logged."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    shared = ("run", "--model", "oracle", "--dataset", "shapes", "--limit", "1", "--no-mlflow", "--json")
    assert command(*shared, "--runs-dir", str(tmp_path / "runs")).exit_code == 0
    return tmp_path / "runs"


def test_a_run_is_logged_once_however_often_it_is_asked_for(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = runs.glob("oracle-*")
    uri = f"sqlite:///{runs / '.mlflow' / 'mlflow.db'}"
    for _ in range(2):
        done = command("log", str(folder), "--json", "--experiment", "late")
        assert (done.exit_code, json.loads(done.stdout)) == (0, {"logged": {str(folder): uri}})
    client = MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("late").experiment_id])
    assert found.info.status == "FINISHED"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # `load_table` searches there, whatever its client's address
    table = client.load_table(found.info.experiment_id, "per_category.json", run_ids=[found.info.run_id])
    assert {"id", "name", "AP"} <= set(table.columns)
    assert not [key for key in found.data.metrics if key.startswith("system/")]


def test_what_is_no_run_is_listed_and_the_others_are_logged(runs: Path) -> None:
    (folder,) = runs.glob("oracle-*")
    (runs / "a").mkdir()
    done = command("log", str(runs / "a"), str(folder))
    assert done.exit_code == 2
    assert "harness: not logged: " in done.stderr
    assert done.stdout.startswith(f"{folder}: sqlite:///")


def test_a_server_that_is_not_there_is_a_failure(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = runs.glob("oracle-*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free.getsockname()[1]}")
        done = command("log", str(folder), "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, {"logged": {str(folder): None}})
    (line,) = done.stderr.splitlines()
    assert f"run `harness log {folder}` to log it once MLflow answers" in line
