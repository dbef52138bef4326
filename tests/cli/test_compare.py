"""``harness compare``: what it prints in each format, and what it refuses.

Tests of `reports/comparison_text.py`.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import latex
import pytest
import typer
from compared_runs import ODD, Runs, make_runs, run_oracle
from typer.testing import CliRunner, Result

from harness.cli.compare import compare
from harness.errors import UserError
from harness.reports.layouts import TABLE_FORMATS
from harness.run_folder.checksums import write_sums


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrapped; tests/cli/test_widths.py looks at narrow ones."""
    monkeypatch.setenv("COLUMNS", "300")


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(compare)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error_of(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def test_terminal(compared: Runs) -> None:
    result = run(compared.noisy, compared.good)
    assert result.exit_code == 0, result.output
    assert "gt custom, 10 videos, protocol lvvis version 1, percent" in result.stdout
    assert "[95 % interval]: sampling error of the choice of videos, by a jackknife over them" in result.stdout
    line = next(line for line in result.stdout.splitlines() if line.startswith("AP "))
    assert line.split()[2] == "100.0"
    assert "*" in line
    assert "Detectable: smallest true difference" in result.stdout
    assert "Influence" in result.stdout
    assert ODD in result.stdout


def test_metrics_of_other_protocols_have_intervals_where_their_matches_are_stored(tmp_path: Path) -> None:
    small = make_runs(tmp_path, 8, ("lvvis", "lvvis-fixed", "hota"))
    keys = ("hota/HOTA", "hota/MOTA", "lvvis-fixed/AP", "lvvis-fixed/AR", "lvvis/AP", "lvvis/APm")
    asked = [f"--metric={key}" for key in keys]
    found = json.loads(run(small.noisy, small.good, *asked, "--json").stdout)
    records = [json.loads((folder / "metrics.json").read_text())["protocols"] for folder in (small.noisy, small.good)]
    before, after = ({one["protocol"]["name"]: one["metrics"] for one in record} for record in records)
    metrics = found["pairs"][0]["metrics"]
    assert metrics["hota/HOTA"]["value"] == pytest.approx(after["hota"]["HOTA"] - before["hota"]["HOTA"], abs=1e-12)
    fixed = metrics["lvvis-fixed/AP"]
    assert fixed["value"] == pytest.approx(after["lvvis-fixed"]["AP"] - before["lvvis-fixed"]["AP"], abs=1e-12)
    assert fixed["low"] <= fixed["value"] <= fixed["high"]
    assert fixed["videos"] == metrics["AP"]["videos"]
    assert metrics["lvvis-fixed/AR"]["p_value"] is not None
    hota = metrics["hota/HOTA"]
    assert hota["low"] < hota["value"] < hota["high"]
    assert hota["p_value"] is not None
    assert (metrics["hota/MOTA"]["low"], metrics["hota/MOTA"]["p_value"]) == (None, None)
    assert "lvvis/AP" not in metrics  # it is AP
    why = "run folders do not hold what each video adds to it"
    known = {"hota/HOTA": "", "lvvis-fixed/AP": "", "lvvis-fixed/AR": ""}
    assert found["further"] == {**known, "hota/MOTA": why, "lvvis/APm": why}
    text = run(small.noisy, small.good, *asked).stdout
    assert f"MOTA (all scores): no interval and no test: {why}" in text
    assert '"hota/HOT" is not a metric of these runs; did you mean "hota/HOTA"' in error_of(
        small.noisy, small.good, "--metric", "hota/HOT"
    )
    record = json.loads((small.noisy / "metrics.json").read_text())
    record["protocols"] = record["protocols"][:2]
    (small.noisy / "metrics.json").write_text(json.dumps(record))
    write_sums(small.noisy)
    told = error_of(small.noisy, small.good, "--metric", "hota/HOTA")
    assert "was not scored by hota, so hota/HOTA cannot be compared" in told


def test_a_group_in_few_videos_has_no_interval_and_no_test(compared: Runs, tmp_path: Path) -> None:
    truth = json.loads(compared.annotations.read_text())
    novel = {category["id"] for category in truth["categories"] if category["partition"] > 1}
    truth["annotations"] = [a for a in truth["annotations"] if a["category_id"] not in novel or a["video_id"] < 4]
    annotations = tmp_path / "few.json"
    annotations.write_text(json.dumps(truth))
    folders = [run_oracle(tmp_path, annotations, erode_px=erode_px) for erode_px in (0, 1)]
    found = json.loads(run(*folders, "--json").stdout)["pairs"][0]["metrics"]["APn"]
    assert 1 <= found["videos"] <= 3
    assert found["value"] is not None
    assert (found["low"], found["p_value"], found["adjusted_p"]) == (None, None, None)
    text = run(*folders).stdout
    assert f"APn: only {found['videos']} videos have its truth: no interval and no test below 6" in text
    assert "AP: only" not in text


def test_a_run_that_found_nothing_is_compared_as_0(compared: Runs, tmp_path: Path) -> None:
    copy = compared.copy(tmp_path)
    nothing = run_oracle(copy.annotations.parent, copy.annotations, drop_tracks=1)
    text = run(copy.good, nothing).stdout
    assert "found nothing: official tools abort on an empty list and give no number; it is compared as 0" in text
    found = json.loads(run(copy.good, nothing, "--json").stdout)
    assert [one["metrics"]["AP"]["value"] for one in found["runs"]] == [pytest.approx(1), 0]
    assert [one["found_nothing"] for one in found["runs"]] == [False, True]
    assert found["pairs"][0]["metrics"]["AP"]["value"] == pytest.approx(-1)
    (nothing / "matches.msgpack").unlink()
    assert run(copy.good, nothing).stdout == text  # the run folder knows where its data lies
    (nothing / "matches.msgpack").unlink()
    moved = copy.annotations.rename(tmp_path / "moved.json")
    assert "name the annotation file as annotations" in error_of(copy.good, nothing)
    assert run(copy.good, nothing, "--annotations", moved).stdout == text


def test_one_run_has_intervals(compared: Runs) -> None:
    result = run(compared.noisy)
    assert "[" in result.stdout.splitlines()[2]
    assert "Difference" not in result.stdout


def test_json_is_one_object_with_everything(compared: Runs) -> None:
    made = json.loads(run(compared.noisy, compared.good, "--json").stdout)
    assert made == json.loads(run(compared.noisy, compared.good, "--format", "json").stdout)
    assert set(made["pairs"][0]["metrics"]["AP"]) == {
        "value", "low", "high", "standard_error", "p_value", "detectable", "videos", "adjusted_p"
    }  # fmt: skip
    assert set(made["runs"][0]["metrics"]) == {
        "APb-APn",
        *(metric + group for metric in ("AP", "AP50", "AP75", "AR100") for group in ("", "b", "n")),
    }
    assert len(made["pairs"][0]["videos"]) == 10


def test_csv_has_every_number_in_percent(compared: Runs) -> None:
    rows = list(csv.DictReader(io.StringIO(run(compared.noisy, compared.good, "--format", "csv").stdout)))
    made: dict[str, Any] = json.loads(run(compared.noisy, compared.good, "--json").stdout)
    assert len(rows) == 3 * 13
    difference = next(row for row in rows if row["minus"] and row["metric"] == "APn")
    assert float(difference["value"]) == pytest.approx(100 * made["pairs"][0]["metrics"]["APn"]["value"])
    assert float(difference["p_value"]) == made["pairs"][0]["metrics"]["APn"]["p_value"]


def test_every_category_goes_to_a_file(compared: Runs, tmp_path: Path) -> None:
    path = tmp_path / "categories.csv"
    run(compared.noisy, compared.good, "--per-category", path)
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert {row["category"] for row in rows} == {"c1", "c2", ODD, "c4", "c5"}
    made = json.loads(run(compared.noisy, compared.good, "--json").stdout)["pairs"][0]
    total = sum(float(row["share"]) for row in rows)
    assert total == pytest.approx(100 * made["metrics"]["AP"]["value"])


@pytest.mark.parametrize("format", TABLE_FORMATS)
def test_formats_are_the_same_bytes_each_time(compared: Runs, tmp_path: Path, format: str) -> None:
    result = run(compared.noisy, compared.good, "--format", format, "--out", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (0, "")
    text = (tmp_path / "out").read_text()
    assert text == run(compared.noisy, compared.good, "--format", format).stdout
    if format == "html":
        assert "<b>" not in text


def test_latex_would_compile(compared: Runs) -> None:
    tables = latex.check(run(compared.noisy, compared.good, compared.blurred, "--format", "latex").stdout)
    assert [len(table) - 1 for table in tables] == [3, 3, 13, 5, 8, 13, 5, 8]


def test_every_pair_of_three_runs_has_a_difference_and_every_run_places(compared: Runs) -> None:
    text = run(compared.noisy, compared.good, compared.blurred).stdout
    assert "AP of the row's run minus that of the column's" in text
    made = json.loads(run(compared.noisy, compared.good, compared.blurred, "--json").stdout)
    assert len(made["contrasts"]) == 3
    assert len(made["pairs"]) == 2
    labels = [one["label"] for one in made["runs"]]
    assert sorted(made["ranks"]) == sorted(labels)
    assert made["ranks"][labels[1]] == [1, 1]
    p = sorted(one["metrics"]["AP"]["p_value"] for one in made["contrasts"])
    adjusted = sorted(one["metrics"]["AP"]["adjusted_p"] for one in made["contrasts"])
    assert adjusted[0] == pytest.approx(3 * p[0])
    assert made["top"]["run"] == labels[1]


def test_identical_runs_are_called_identical(compared: Runs, tmp_path: Path) -> None:
    copy = compared.copy(tmp_path)
    text = run(compared.good, copy.good).stdout
    assert "the two runs are identical: every scored track has the same score" in text


def test_what_is_refused(compared: Runs, tmp_path: Path) -> None:
    assert "does not exist" in error_of(tmp_path / "nothing")
    assert "is not a run folder" in error_of(tmp_path)
    assert 'did you mean "latex"' in error_of(compared.good, "--format", "latx")
    assert "is not a file" in error_of(compared.good, "--out", tmp_path)
    assert run(compared.good, "--seed", "-1").exit_code == 2
