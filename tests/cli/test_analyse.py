"""``harness analyse`` as others call it, on runs of the oracle on shapes.

Tests of `reports/ceilings.py` and `reports/run_analysis.py`.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from harness.baselines.oracle import PLUGIN as ORACLE
from harness.baselines.oracle import OracleConfig
from harness.cli.main import build
from harness.datasets.shapes import PLUGIN as SHAPES
from harness.errors import UserError
from harness.run_folder.checksums import write_sums
from harness.runner import Run, execute


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrapped; tests/cli/test_widths.py looks at narrow ones."""
    monkeypatch.setenv("COLUMNS", "300")


def harness(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build(), [str(a) for a in arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs over the same first videos of shapes."""
    folder = tmp_path_factory.mktemp("runs")
    dataset = SHAPES.open(Path(), "val")
    made = [Run(ORACLE, OracleConfig(wrong_label=w, erode_px=0), dataset, folder, limit=12) for w in (0.1, 0.6)]
    for run in made:
        assert execute(run).exit_code == 0
    return [run.folder for run in made]


def test_json_has_every_number(runs: list[Path]) -> None:
    done = harness("analyse", runs[1], "--json")
    assert done.exit_code == 0, done.output
    (record,) = json.loads(done.output)["runs"]
    recorded = json.loads((runs[1] / "metrics.json").read_text())["metrics"]
    assert (record["errors"]["ap50"], record["errors"]["ap"]) == (recorded["AP50"], recorded["AP"])
    assert (record["dataset"], record["split"], record["videos"]) == ("shapes", "val", 12)
    kinds = record["errors"]["kinds"]
    assert max(kinds, key=lambda kind: kinds[kind]["dap50"]) == "classification"
    example = kinds["classification"]["examples"][0]
    assert example.keys() == {"video_id", "track", "truth_id", "score"}
    assert record["slices"]["groups"]["slices"][0]["name"] == "base"
    assert len(record["calibration"]["all"]["bins"]) == 10


def test_runs_stand_side_by_side(runs: list[Path]) -> None:
    text = harness("analyse", *runs).output
    assert "A dAP50" in text
    assert "B dAP50" in text
    assert "A oracle wrong_label=0.1: AP50 " in text
    assert "B oracle wrong_label=0.6: AP50 " in text
    assert "shapes val, 12 videos, protocol lvvis version 1" in text
    assert "expected calibration error" in text


def test_csv_has_one_line_per_number(runs: list[Path]) -> None:
    rows = list(csv.DictReader(io.StringIO(harness("analyse", *runs, "--format", "csv").output)))
    found = {(r["run"], r["table"], r["line"], r["number"]): r["value"] for r in rows}
    assert len(found) == len(rows)
    record = json.loads(harness("analyse", runs[0], "--json").output)["runs"][0]
    number = record["errors"]["kinds"]["missed"]["dap50"]
    assert float(found["oracle wrong_label=0.1", "errors", "missed", "dAP50"]) == pytest.approx(100 * number)
    assert found["oracle wrong_label=0.6", "area", "large", "AP"] == ""


@pytest.mark.parametrize(
    ("format", "line"),
    [("markdown", "| classification "), ("latex", "\nclassification & "), ("html", "<td>classification</td>")],
)
def test_tables_for_files(runs: list[Path], tmp_path: Path, format: str, line: str) -> None:
    out = tmp_path / "analysis"
    assert harness("analyse", runs[0], "--format", format, "--out", out).output == ""
    assert line in out.read_text()


def test_other_annotations_are_refused(runs: list[Path], golden: Path) -> None:
    done = harness("analyse", runs[0], "--annotations", golden / "ordinary" / "gt.json")
    assert isinstance(done.exception, UserError)
    assert "is not the file that" in str(done.exception)


def test_predictions_that_do_not_give_the_runs_numbers_are_refused(runs: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs[0], folder)
    record: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    record["metrics"]["AP50"] = 0.987
    (folder / "metrics.json").write_text(json.dumps(record))
    write_sums(folder)
    done = harness("analyse", folder)
    assert isinstance(done.exception, UserError)
    assert "do not give the numbers" in str(done.exception)


def test_ceilings_of_runs_and_of_files_agree(runs: list[Path], tmp_path: Path) -> None:
    done = harness("analyse", *runs, "--ceilings", "--json")
    assert done.exit_code == 0, done.output
    first, second = json.loads(done.output)["runs"]
    recorded = json.loads((runs[1] / "metrics.json").read_text())["metrics"]
    rows = {tuple(row["perfect"]): row["metrics"] for row in second["ceilings"]["rows"]}
    assert rows[()]["lvvis"] == recorded
    assert rows[("classes",)]["lvvis"]["AP"] > recorded["AP"] + 0.2
    assert first["ceilings"]["rows"][0] != second["ceilings"]["rows"][0]
    assert [one["name"] for one in second["ceilings"]["protocols"]] == ["lvvis", "hota"]
    lines = list(csv.DictReader(io.StringIO(harness("analyse", runs[1], "--ceilings", "--format", "csv").output)))
    value = next(r["value"] for r in lines if (r["perfect"], r["protocol"], r["metric"]) == ("classes", "lvvis", "AP"))
    assert float(value) == pytest.approx(100 * rows[("classes",)]["lvvis"]["AP"])
    text = harness("analyse", runs[1], "--ceilings").output
    assert "classes + masks + links + presence" in text
    assert "hota version 1, score threshold none" in text
    figure = tmp_path / "ceilings.svg"
    assert harness("analyse", runs[1], "--ceilings", "--figure", figure).exit_code == 0
    assert figure.read_bytes().startswith(b"<?xml")
    given = ["--predictions", runs[1], "--dataset", "shapes", "--protocol", "hota", "--json"]
    of_file = json.loads(harness("analyse", "--ceilings", *given).output)["runs"][0]
    assert {key for row in of_file["ceilings"]["rows"] for key in row["metrics"]} == {"hota"}


def test_ceilings_of_a_run_take_the_settings_of_its_scores(tmp_path: Path) -> None:
    case = Path(__file__).parents[1] / "data" / "hota_masks" / "ordinary"
    truth = ("--annotations", case / "gt.json")
    scored = harness(
        "eval", *truth, "--predictions", case / "predictions.json", "--protocol", "ytvis,hota,ytvis-fixed", "--json",
        "--score-threshold", "0.3", "--tracks-per-category", "2", "--name", "mine", "--runs-dir", tmp_path,
    )  # fmt: skip
    assert scored.exit_code == 0, scored.output
    (run,) = tmp_path.iterdir()
    recorded = {
        one["protocol"]["name"]: one["metrics"] for one in json.loads((run / "metrics.json").read_text())["protocols"]
    }

    def first_row(*options: str) -> dict[str, dict[str, float | None]]:
        done = harness("analyse", run, *truth, "--ceilings", "--json", *options)
        assert done.exit_code == 0, done.output
        found: dict[str, dict[str, float | None]] = json.loads(done.output)["runs"][0]["ceilings"]["rows"][0]["metrics"]
        return found

    assert first_row()["hota"]["HOTA"] == recorded["hota"]["HOTA"]
    both = first_row("--protocol", "hota,ytvis-fixed")
    assert both["ytvis-fixed"] == recorded["ytvis-fixed"]
    assert first_row("--score-threshold", "0")["hota"]["HOTA"] != recorded["hota"]["HOTA"]


def test_predictions_that_cannot_be_scored_have_no_ceilings(golden: Path) -> None:
    folder = golden / "foreign_video"
    given = ["--predictions", folder / "results.json", "--annotations", folder / "gt.json", "--protocol", "lvvis"]
    done = harness("analyse", "--ceilings", *given)
    assert "record 5: unknown video 99" in str(done.exception)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--figure", "x.svg"], "--figure: needs --ceilings"),
        (["--protocol", "hota"], "--protocol: needs --ceilings"),
        (["--ceilings", "--predictions", "x"], "--predictions: cannot be combined with run folders"),
        (["--ceilings", "--protocol", "teta"], "--protocol teta: has no ceilings"),
        (["--ceilings", "--figure", "x.png"], "is not the name of a figure"),
        (["--ceilings", "--split", "val"], "--split: comes from each run"),
    ],
)
def test_options_of_ceilings_are_refused_where_they_mean_nothing(runs: list[Path], given: list[str], told: str) -> None:
    done = harness("analyse", runs[0], *given)
    assert isinstance(done.exception, UserError)
    assert told in str(done.exception)
    assert "RUN: is missing" in str(harness("analyse").exception)
    assert "shows one run, not 2" in str(harness("analyse", *runs, "--ceilings", "--figure", "x.svg").exception)


def test_an_unknown_format_is_refused(runs: list[Path]) -> None:
    done = harness("analyse", runs[0], "--format", "markdwn")
    assert 'did you mean "markdown"?' in str(done.exception)
