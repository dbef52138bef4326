"""``harness run --sweep`` and ``--ablate``: each variation is a run, and one table shows what differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from harness.cli.run import run
from harness.cli.table import table
from harness.errors import UserError


def invoke(command: Any, *arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def oracle(runs: Path, *arguments: str, models: str = "oracle") -> Result:
    common = ("--dataset", "shapes", "--limit", "2", "--no-mlflow", "--runs-dir", runs)
    return invoke(run, "--model", models, *common, *arguments)


def configurations(result: Result) -> list[tuple[float, float]]:
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)["runs"]
    return [(record["config"]["erode_px"], record["config"]["drop_frames"]) for record in records]


def test_a_run_has_the_name_that_the_user_gives_it(tmp_path: Path) -> None:
    (record,) = json.loads(oracle(tmp_path, "--name", "mine, R50", "--json").stdout)["runs"]
    assert (record["name"], record["model"], record["dataset"]) == ("mine, R50", "oracle", "shapes")
    assert "mine, R50" in invoke(table, record["folder"]).stdout
    refused = oracle(tmp_path, "--name", "mine", models="oracle,clipvis").exception
    assert isinstance(refused, UserError)
    assert str(refused) == "--name: names one model; run each model by itself, or name them in an experiment file"


def test_each_variation_is_a_run_of_its_own(tmp_path: Path) -> None:
    found = configurations(oracle(tmp_path, "--sweep", "erode_px=0,4", "--ablate", "drop_frames=0.5", "--json"))
    assert found == [(0, 0.05), (0, 0.5), (4, 0.05), (4, 0.5)]
    assert len(list(tmp_path.glob("oracle-shapes-val-*/metrics.json"))) == 4


def test_what_comes_to_the_same_is_run_once(tmp_path: Path) -> None:
    found = configurations(oracle(tmp_path, "--ablate", "erode_px=1,1,4", "--ablate", "drop_frames=0.05", "--json"))
    assert found == [(1, 0.05), (4, 0.05)]  # 1 and 0.05 are the defaults


def test_a_variation_that_was_run_is_not_run_again(tmp_path: Path) -> None:
    first = oracle(tmp_path, "--set", "erode_px=4")
    assert first.exit_code == 0
    [folder] = tmp_path.glob("oracle-*")
    written = (folder / "predictions").stat().st_mtime_ns
    assert oracle(tmp_path, "--sweep", "erode_px=0,4").exit_code == 0
    assert (folder / "predictions").stat().st_mtime_ns == written
    assert len(list(tmp_path.glob("oracle-*"))) == 2


def test_the_table_shows_what_differs_and_so_does_harness_table(tmp_path: Path) -> None:
    result = oracle(tmp_path, "--ablate", "erode_px=4", "--ablate", "drop_frames=0.5", "--format", "csv")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Method,Backbone,Training data,Dataset,Split,erode_px,drop_frames,AP,")
    assert [line.split(",")[5:7] for line in lines[1:]] == [["1", "0.05"], ["4", "0.05"], ["1", "0.5"]]
    assert lines[1:] == [line for line in lines[1:] if line.startswith("oracle,")]  # folders are not in the way
    again = invoke(table, *tmp_path.glob("oracle-*"), "--json")
    settings = [row["settings"] for row in json.loads(again.stdout)["rows"]]
    assert {"erode_px": "4", "drop_frames": "0.05"} in settings
    assert len(settings) == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--sweep", "erode_px"), "--sweep erode_px: is not key=value,value"),
        (("--ablate", "erode=1"), 'did you mean "erode_px"'),
        (("--sweep", "erode_px=0,soon"), "erode_px"),
        (("--format", "latx"), 'did you mean "latex"'),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(
    tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    result = oracle(tmp_path / "runs", *arguments)
    assert isinstance(result.exception, UserError), result.output
    assert complaint in str(result.exception)
    assert not (tmp_path / "runs").exists()
