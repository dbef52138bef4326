"""``harness run experiment.yaml``: its runs, its reports and what the folders keep; what is refused before that.

Tests of `harness/cli/run.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from harness.cli.experiment import Experiment, read_experiment
from harness.cli.main import build

ROOT = Path(__file__).parents[2]
WHOLE: dict[str, Any] = {
    "models": {
        "oracle": {"settings": {"drop_tracks": 0.25}},
        "clean": {"model": "oracle", "settings": {"wrong_label": 0.0, "score_noise": 0.0}},
    },
    "datasets": ["shapes", {"name": "shapes", "split": "test"}],
    "protocols": ["lvvis", "ytvis"],
    "sweep": {"oracle.wrong_label": [0.0, 0.5]},
    "limit": 1,
    "seed": 3,
    "tracking": {"experiment": "team", "tags": {"project": "vis"}},
    "reports": {"table": {"format": "csv", "out": "table.csv"}, "leaderboard": {"out": "site"}},
}


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


def run(content: dict[str, Any], *arguments: str) -> Result:
    Path("e.yaml").write_text(yaml.safe_dump(content))
    return CliRunner().invoke(build(), ["run", "e.yaml", *arguments])


def message(content: dict[str, Any], *arguments: str) -> str:
    result = run(content, *arguments)
    assert not Path("runs").exists()  # nothing has begun
    return str(result.exception)


def test_the_whole_matrix_runs_once_and_its_reports_are_made() -> None:
    done = run(WHOLE)
    assert done.exit_code == 0, done.exception
    folders = sorted(Path("runs").glob("oracle-shapes-*"))
    assert len(folders) == 6  # two datasets; oracle twice, clean once
    configs = [json.loads((folder / "config.json").read_text()) for folder in folders]
    settings = [(c["split"], c["config"]["drop_tracks"], c["config"]["wrong_label"]) for c in configs]
    assert sorted(settings) == [(s, *v) for s in ("test", "val") for v in ((0.1, 0.0), (0.25, 0.0), (0.25, 0.5))]
    assert {c["seed"] for c in configs} == {3}
    record = json.loads((folders[0] / "metrics.json").read_text())
    assert (record["limit"], len(record["protocols"])) == (1, 2)
    assert len(Path("table.csv").read_text().splitlines()) == 7
    assert Path("site/index.html").is_file()
    client = MlflowClient(f"sqlite:///{Path('runs/.mlflow/mlflow.db').resolve()}")
    experiment = client.get_experiment_by_name("team")
    assert experiment is not None
    logged = client.search_runs([experiment.experiment_id])
    assert [one.data.tags["project"] for one in logged] == ["vis"] * 6
    assert "experiment.yaml" in {file.path for file in client.list_artifacts(logged[0].info.run_id)}


SMALL = {"models": ["oracle"], "datasets": ["shapes"], "limit": 1, "tracking": {"mlflow": False}}


def test_settings_win_over_the_file_and_the_folder_keeps_what_was_run() -> None:
    done = run(SMALL, "--set", "models.oracle.settings.drop_tracks=0.5", "--set", "seed=7", "--json")
    (record,) = json.loads(done.stdout)["runs"]
    assert (record["config"]["drop_tracks"], record["seed"]) == (0.5, 7)
    kept = Path(record["folder"], "experiment.yaml")
    found = read_experiment(kept, [])
    assert found.models["oracle"].settings == {"drop_tracks": 0.5}
    assert (found.seed, found.limit, found.precision, found.runs_dir) == (7, 1, "fp32", "runs")
    assert found == Experiment.model_validate(yaml.safe_load(kept.read_text()))
    again = CliRunner().invoke(build(), ["run", str(kept), "--json"])
    assert [one["folder"] for one in json.loads(again.stdout)["runs"]] == [record["folder"]]


def test_the_same_run_from_the_command_line_is_the_same_run() -> None:
    done = run(SMALL, "--json")
    options = ["run", "--model", "oracle", "--dataset", "shapes", "--limit", "1", "--no-mlflow", "--json"]
    plain = CliRunner().invoke(build(), options)
    assert json.loads(plain.stdout)["runs"] == json.loads(done.stdout)["runs"]


def test_reports_of_each_dataset_and_standard_output_that_stays_json() -> None:
    reports = {"table": {"out": "{dataset}.txt", "published": "all", "columns": "AP,APn"}, "analyse": {}}
    done = run({**SMALL, "reports": reports}, "--json")
    assert len(json.loads(done.stdout)["runs"]) == 1
    assert Path("shapes.txt").read_text().split()[:3] == ["Method", "AP", "APn"]


def test_checkpoints_and_precision_belong_to_their_model(tmp_path: Path) -> None:
    from harness.cli.run import _models_of

    whole = {"models": {"a": {"model": "clipvis", "checkpoint": "x.pth", "precision": "bf16"}, "b": None}}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump({**whole, "datasets": ["shapes"]}))
    first, second = _models_of(read_experiment(tmp_path / "e.yaml", []))
    assert (first.label, first.name, first.given) == (
        "a",
        "clipvis",
        {"checkpoint": Path("x.pth"), "precision": "bf16", "title": "a"},
    )
    assert (second.label, second.name, second.given) == ("b", "b", {})


def test_data_of_your_own(tmp_path: Path) -> None:
    own = {"annotations": str(tmp_path / "none.json"), "frames": str(tmp_path)}
    assert "none.json" in message({**SMALL, "datasets": [own], "protocols": ["lvvis"]})
    assert "protocol" in message({**SMALL, "datasets": [own]})
    assert "an entry has neither name nor annotations" in message({**SMALL, "datasets": [{"split": "val"}]})


@pytest.mark.parametrize(
    ("change", "arguments", "told"),
    [
        ({"limt": 2}, (), 'e.yaml, limt: is not a configuration key; did you mean "limit"?'),
        (
            {"models": {"oracle": {"setings": {}}}},
            (),
            "models.oracle.setings: is not a configuration key; did you mean",
        ),
        ({"datasets": [{"nam": "shapes"}]}, (), 'datasets.0.nam: is not a configuration key; did you mean "name"?'),
        ({"models": {}}, (), "e.yaml, models: "),
        ({"seed": "x"}, (), "not 'x'; correct it; docs/experiments.md explains the keys"),
        ({}, ("--set", "precision=int8"), "setting precision: "),
        ({"models": {"oracle": {"settings": {"drop": 1}}}}, (), "e.yaml, settings of oracle, drop: is not a config"),
        ({"sweep": {"topk": [1]}}, (), "e.yaml, settings of oracle, topk: is not a configuration key"),
        ({"models": ["oracl"]}, (), 'did you mean "oracle"?'),
        ({"datasets": ["shape"]}, (), 'did you mean "shapes"?'),
        ({"protocols": ["lvvi"]}, (), 'did you mean "lvvis"?'),
        ({"reports": {"tabel": {}}}, (), 'e.yaml, reports: "tabel" is not a report; did you mean "table"?'),
        ({"reports": {"table": {"formt": "csv"}}}, (), "e.yaml, reports, table: No such option: --formt"),
        ({"reports": {"report": {"videos": "x"}}}, (), "e.yaml, reports, report: Invalid value for '--videos'"),
        (
            {},
            ("--limit", "2"),
            "--limit: cannot be combined with the experiment e.yaml; write it into the file, or use --set",
        ),
        ({}, ("--model", "oracle"), "--model: cannot be combined with the experiment e.yaml"),
        ({"tracking": {"tags": {"dataset": "x"}, "mlflow": True}}, (), '"dataset" is a tag that every run has'),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    change: dict[str, Any], arguments: tuple[str, ...], told: str
) -> None:
    assert told in message({**SMALL, **change}, *arguments)


def test_without_a_file_a_model_is_needed() -> None:
    result = CliRunner().invoke(build(), ["run", "--dataset", "shapes"])
    assert str(result.exception) == "harness run: needs a model; name --model, or an experiment file"


def test_the_example_is_an_experiment() -> None:
    found = read_experiment(ROOT / "examples" / "experiment.yaml", ["limit=2"])
    assert list(found.models) == ["clipvis", "with-previous-frame"]
    assert found.limit == 2
