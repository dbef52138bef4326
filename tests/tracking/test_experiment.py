"""Records of runs from a tracking store: what a table needs comes back, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from run_folders import make_record

from harness.errors import UserError
from harness.reports.tables import comparison_table
from harness.tracking.experiment import records_of
from harness.tracking.mlflow import MlflowTracker


def log_run(runs: Path, name: str, topk: int, **metrics: Any) -> None:
    """A finished run folder, logged to the store of ``runs``."""
    folder = runs / f"{name}-lvvis-val-0123abc{topk}"
    folder.mkdir(parents=True)
    record = {**make_record(name, **metrics), "folder": str(folder), "limit": None}
    config = {"format": 1, "model": name, "config": {"topk": topk, "part": {"kind": "x"}}, "seed": 0, "limit": None}
    (folder / "config.json").write_text(json.dumps({**config, "digest": "ab" * 32, "precision": "fp32"}))
    (folder / "environment.json").write_text("{}")
    tracker = MlflowTracker(runs)
    tracker.start(record)
    tracker.log_result(folder, record, [])
    assert tracker.finish() == []


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of a model in an experiment, with a training beside them; and an experiment of a faulty run."""
    folder = tmp_path_factory.mktemp("logged") / "runs"
    log_run(folder, "a", 1, AP=0.25, APn=None, AR100=0.5)
    log_run(folder, "a", 2, AP=0.5, APn=0.1)
    client = MlflowClient(f"sqlite:///{folder / '.mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("lvvis")
    assert experiment is not None
    training = client.create_run(experiment.experiment_id)
    client.log_metric(training.info.run_id, "loss", 3.0)
    faulty = client.create_run(client.create_experiment("faulty", artifact_location=str(folder / "none")))
    client.log_metric(faulty.info.run_id, "AP", 32.0)
    client.set_tag(faulty.info.run_id, "protocol.name", "lvvis")
    client.create_experiment("empty", artifact_location=str(folder / "none"))
    return folder


def test_what_is_not_comparable_stays_so(tmp_path: Path) -> None:
    log_run(tmp_path, "a", 1, AP=0.25)
    log_run(tmp_path, "b", 2, done=7, AP=0.9)
    found = records_of("lvvis", tmp_path)
    assert [(one["comparable"], one["not_comparable"]) for one in found] == [
        (True, []),
        (False, ["5 of 12 videos failed"]),
    ]
    text = comparison_table(found, "markdown", columns=("AP",), published="all")
    assert "| b†" in text
    assert "**90.0**" not in text
    assert "- † b: not comparable: 5 of 12 videos failed" in text


@pytest.fixture(autouse=True)
def no_server_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_table_of_an_experiment(runs: Path) -> None:
    assert comparison_table(records_of("lvvis", runs), columns=("AP", "APn", "AR")) == (
        "Method    topk      AP    APn    AR\n"
        "--------  ------  ----  -----  ----\n"
        "a         1       25.0      –  50.0\n"
        "a         2       50.0   10.0     –\n"
    )


def test_records_say_what_they_are_of(runs: Path) -> None:
    first, _ = records_of("lvvis", runs)
    assert first["folder"] == "a-lvvis-val-0123abc1"
    assert (first["protocol"], first["complete"], first["limit"]) == ({"name": "lvvis", "version": "1"}, True, None)
    assert first["videos"] == {"total": 12, "done": 12, "failed": []}
    assert first["corrected"] == {"AP": 0.125, "AR100": 0.25}


def test_what_is_not_there_is_told(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for experiment, what in (("lvis", 'did you mean "lvvis"'), ("empty", "no scored run"), ("faulty", "<= 1.0")):
        with pytest.raises(UserError, match=what):
            records_of(experiment, runs)
    with pytest.raises(UserError, match="does not exist"):
        records_of("lvvis", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://name:secret@127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be read") as error:
        records_of("lvvis", runs)
    assert "secret" not in str(error.value)
