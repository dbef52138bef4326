"""``harness table`` from run folders on disk, and what it says when they are not usable.

Tests of `reports/confidence_intervals.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import latex
import pytest
import typer
from compared_runs import Runs, make_runs, run_oracle
from hypothesis import given
from hypothesis import strategies as st
from run_folders import make_record, make_run
from typer.testing import CliRunner, Result
from workload import Workload, make

from harness.cli.main import build
from harness.cli.table import table
from harness.errors import UserError
from harness.reports.comparison import compare_runs
from harness.reports.run_files import groups_of_seeds, mean_record, read_runs
from harness.run_folder.finished_run import FinishedRun


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(table)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error_of(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    records = [make_record("first", AP=0.31, APn=0.5, AR100=0.25), make_record("second", AP=0.4, APn=None)]
    return [make_run(tmp_path, record, record["model"]) for record in records]


def test_folders_and_their_metrics_files_make_the_same_table(two: list[Path]) -> None:
    result = run(*two)
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == ["first", "second"]
    assert run(*(folder / "metrics.json" for folder in two)).stdout == result.stdout
    assert run(two[0], *two, two[1]).stdout == result.stdout  # a run named twice is shown once
    assert "\x1b" not in result.stdout  # not a terminal


def test_formats_and_options(two: list[Path]) -> None:
    assert "\\toprule" in run(*two, "--format", "latex").stdout
    assert "| **40.0** |" in run(*two, "--format", "markdown").stdout.replace("    ", " ")
    assert "AP corr." in run(*two, "--corrected").stdout
    lines = [line.split() for line in run(*two, "--published", "all").stdout.splitlines()]
    assert ["CLIP-VIS", "R50", "LVIS"] in [line[:3] for line in lines]
    assert "neither main nor all" in error_of(*two, "--published", "--corrected")
    assert 'did you mean "latex"' in error_of(*two, "--format", "latx")


def test_json_is_one_object_of_fractions(two: list[Path]) -> None:
    made = json.loads(run(*two, "--json", "--published", "all").stdout)["rows"]
    assert made[0]["metrics"] == {"AP": 0.31, "APb": None, "APn": 0.5, "AP50": None, "AP75": None, "AR": 0.25}
    assert [row["published"] for row in made[:3]] == [False, False, True]
    clip_vis = next(row for row in made if row["backbone"] == "ConvNeXt-B")
    assert clip_vis["metrics"]["AP"] == 0.322
    assert len(clip_vis["sources"]) == 2


def test_out_writes_the_file_and_prints_nothing(two: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "table.tex"
    assert run(*two, "--format", "latex", "--out", out).stdout == ""
    assert out.read_text() == run(*two, "--format", "latex").stdout
    assert "cannot be written" in error_of(*two, "--out", tmp_path / "none" / "table.tex")
    assert "is not a file" in error_of(*two, "--out", tmp_path)
    assert list(tmp_path.rglob("*.tmp")) == []


def test_a_dataset_nobody_published_on_is_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path, make_record("m", "shapes", AP=0.5), "m")
    assert "no published results on shapes val" in run(folder, "--published", "all").stderr


def test_published_metrics_that_no_column_shows_are_named_and_can_be_shown(tmp_path: Path) -> None:
    folder = make_run(tmp_path, make_record("m", "burst", AP=0.5), "m")
    assert "published on burst in columns not shown: mAP, HOTA, HOTA_common" in run(folder, "--published", "all").stderr
    shown = run(folder, "--published", "all", "--columns", "AP,HOTA,mAP")
    assert shown.stdout.splitlines()[0].split() == [
        "Method", "Backbone", "Training", "data", "AP", "HOTA", "mAP", "Source"
    ]  # fmt: skip
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("GLEE-Lite")]
    assert line.split()[-4:-1] == ["–", "22.6", "12.6"]
    rows = json.loads(run(folder, "--published", "all", "--columns", "HOTA", "--json").stdout)["rows"]
    glee = [row for row in rows if row["method"].startswith("GLEE-Lite")]
    assert [(row["split"], row["metrics"]) for row in glee] == [("not stated", {"HOTA": 0.226})]
    assert '"HOTB" is not a metric' in error_of(folder, "--published", "all", "--columns", "HOTB")
    assert "names no metric" in error_of(folder, "--columns", " ,")


def test_speeds_stay_what_they_are_in_json(tmp_path: Path) -> None:
    folder = make_run(tmp_path, make_record("m", "ytvis2019", AP=0.5), "m")
    rows = json.loads(run(folder, "--published", "all", "--columns", "AP,FPS", "--json").stdout)["rows"]
    assert {"AP": 0.689, "FPS": 133.0} in [row["metrics"] for row in rows]


def test_a_run_that_only_a_server_can_score_is_all_dashes(tmp_path: Path) -> None:
    record = {**make_record("m"), "metrics": None, "corrected": None, "protocol": None}
    result = run(make_run(tmp_path, record, "m"), "--corrected")
    assert [line.split() for line in result.stdout.splitlines() if line.startswith("m ")] == [["m"] + 9 * ["–"]]


def test_what_is_not_a_finished_run(tmp_path: Path) -> None:
    assert "does not exist" in error_of(tmp_path / "nothing")
    assert "is not a run folder" in error_of(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "was not finished" in error_of(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(b"SQLite format 3\0")
    assert "is not a run folder" in error_of(tmp_path / "mlflow.db")


def test_files_beside_the_runs_are_left_out_with_a_line_each(two: list[Path], tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>")
    (tmp_path / ".mlflow").mkdir()
    result = run(*sorted(tmp_path.glob("[!.]*")))  # what a shell makes of runs/*
    assert result.stdout == run(*two).stdout
    assert result.stderr == f"harness: left out: {tmp_path / 'report.html'} is a file, not a run folder\n"
    assert "is not a run folder" in error_of(tmp_path / "report.html")
    assert "does not exist" in error_of(*two, tmp_path / "report.txt")


@pytest.mark.parametrize("command", ["table", "compare", "analyse", "report", "figures --out drawn"])
def test_every_command_for_several_runs_leaves_files_out(tmp_path: Path, command: str) -> None:
    (tmp_path / "report.html").write_text("<p>")
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(build(), [*command.split(), str(tmp_path / "empty"), str(tmp_path / "report.html")])
    assert f"left out: {tmp_path / 'report.html'} is a file" in result.stderr
    assert str(result.exception).startswith(f"{tmp_path / 'empty'}: is not a run folder")


def test_the_folder_of_the_runs_is_answered_with_how_to_name_them(two: list[Path], tmp_path: Path) -> None:
    assert error_of(tmp_path).endswith(f"name the run folders in it, for example {tmp_path}/*")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"format": 1}, "written by another version of the harness (format 1"),
        ({"model": 3}, "$.model"),
        ({"complete": "yes"}, "$.complete"),
        ({"metrics": {"AP": "0.5"}}, "$.metrics"),
        ({"metrics": {"AP": 32.2}}, "<= 1.0"),
        ({"metrics": {"AP": -1.5}}, ">= -1"),
        ({"corrected": []}, "$.corrected"),
        ({"videos": {"total": 1}}, "done"),
    ],
)
def test_a_record_with_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], what: str) -> None:
    folder = make_run(tmp_path, {**make_record("m", AP=0.5), **change}, "m")
    message = error_of(folder)
    assert "metrics.json" in message
    assert what in message


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"format": 1}'])
def test_a_damaged_record_is_one_line(tmp_path: Path, content: bytes) -> None:
    folder = make_run(tmp_path, make_record("m", AP=0.5), "m")
    (folder / "metrics.json").write_bytes(content)
    assert "\n" not in error_of(folder)


@given(content=st.binary(max_size=200))
def test_arbitrary_bytes_are_a_user_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("run") / "metrics.json"
    path.write_bytes(content)
    with pytest.raises(UserError):
        FinishedRun.open(path)


def test_a_terminal_gets_marks_unless_no_color_asks_otherwise(two: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cli.table.sys.stdout.isatty", lambda: True, raising=False)
    printed: list[str] = []
    monkeypatch.setattr("harness.cli.table.sys.stdout.write", printed.append, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    table(two)
    monkeypatch.setenv("NO_COLOR", "1")
    table(two)
    assert ["\x1b[1m" in text for text in printed] == [True, False]


def test_intervals_and_significance(compared: Runs) -> None:
    folders = [compared.noisy, compared.good, compared.blurred / "metrics.json"]
    options = ("--intervals", "--significance", "first")
    rows = json.loads(run(*folders, *options, "--json").stdout)["rows"]
    comparison = compare_runs(read_runs([compared.noisy, compared.good]))
    found = comparison.runs[1].metrics["AR100"]
    assert rows[1]["half_intervals"]["AR"] == pytest.approx((found.value or 0) - (found.low or 0))
    assert "significant" not in rows[0]
    assert comparison.pairs[0].metrics["AP"].is_significant
    assert set(rows[1]["significant"]) == {"AP"}  # the others not, corrected for their number
    assert "AP" in rows[2]["significant"]
    text = run(*folders, *options, "--format", "latex").stdout
    assert "$_{\\pm" in text
    assert "$^{*}$" in text
    latex.check(text)
    assert "±: half the 95 % interval, jackknife over videos" in run(*folders, *options).stdout


@pytest.mark.parametrize("columns", ["AP,hota/HOTA,lvvis-fixed/AP,hota/MOTA", "AP,HOTA (all scores)"])
def test_metrics_of_other_protocols_have_intervals(tmp_path: Path, columns: str) -> None:
    small = make_runs(tmp_path, 8, ("lvvis", "lvvis-fixed", "hota"))
    rows = json.loads(run(small.noisy, small.good, "--intervals", "--columns", columns, "--json").stdout)["rows"]
    asked = ("hota/HOTA", "lvvis-fixed/AP")
    found = compare_runs(read_runs([small.noisy, small.good]), metrics=asked).runs[1].metrics
    halves = {key: max(found[key].value - found[key].low, found[key].high - found[key].value) for key in asked}
    if columns.endswith("(all scores)"):
        assert rows[1]["half_intervals"]["HOTA (all scores)"] == pytest.approx(halves["hota/HOTA"], abs=1e-6)
    else:
        assert {key: rows[1]["half_intervals"][key] for key in asked} == pytest.approx(halves, abs=1e-6)
        assert "hota/MOTA" not in rows[1]["half_intervals"]


def test_seeds_of_a_model_are_one_row(compared: Runs, tmp_path: Path) -> None:
    data = compared.copy(tmp_path)
    seeds = [run_oracle(tmp_path, data.annotations, seed=seed, wrong_label=0.3) for seed in (0, 1)]
    options = ("--intervals", "--significance", "best")
    rows = json.loads(run(*seeds, data.good, *options, "--json").stdout)["rows"]
    own = [json.loads((folder / "metrics.json").read_text())["metrics"]["AP"] for folder in seeds]
    assert len(rows) == 2
    assert rows[0]["metrics"]["AP"] == pytest.approx(sum(own) / 2)
    spread = abs(own[0] - own[1]) / 2**0.5
    assert rows[0]["method"] == f"oracle (2 seeds, SD of AP {100 * spread:.2f})"
    joined = compare_runs(read_runs([*seeds, data.good]), join_seeds=True).runs[0].metrics["AP"]
    assert rows[0]["half_intervals"]["AP"] == pytest.approx((joined.value or 0) - (joined.low or 0), abs=1e-6)
    assert len(json.loads(run(*seeds, data.good, "--each-seed", "--json").stdout)["rows"]) == 3


def test_tested_rates_of_presence_are_columns(tmp_path: Path) -> None:
    small = Workload(videos=8, frames=2, categories=5, truths=2, tracks=1, height=48, width=64)
    annotations, _ = make(tmp_path, small, seed=2)
    annotations.write_text(json.dumps({**json.loads(annotations.read_text()), "exhaustive": True}))
    right = run_oracle(tmp_path, annotations, wrong_label=0)
    seeds = [run_oracle(tmp_path, annotations, seed=seed, wrong_label=0.8, score_noise=0) for seed in (0, 1)]
    rows = json.loads(run(right, *seeds, "--intervals", "--significance", "best", "--json").stdout)["rows"]
    comparison = compare_runs(read_runs([right, *seeds]), join_seeds=True)
    for row, measured in zip(rows, comparison.runs, strict=True):
        for rate in ("IL_MCC", "IL_FPR"):
            found = measured.metrics[f"presence@0.5/{rate}"]
            assert row["metrics"][f"{rate}@0.5"] == pytest.approx(found.value, abs=1e-6)
            half = max(found.value - found.low, found.high - found.value)  # type: ignore[operator]
            assert row["half_intervals"][f"{rate}@0.5"] == pytest.approx(half, abs=1e-6)
    assert "IL_MCC@0.5" in rows[1]["significant"]
    assert "significant" not in rows[0]
    text = run(right, *seeds, "--intervals").stdout
    assert "IL_FPR@0.5" in text
    assert "lower is better" in " ".join(text.split())
    assert "IL_FPR" not in run(right, *seeds).stdout


def test_seeds_without_numbers_are_one_row(tmp_path: Path) -> None:
    records = [{**make_record("a"), "metrics": None, "corrected": None, "seed": seed} for seed in (0, 1)]
    folders = [make_run(tmp_path, record, f"run{n}") for n, record in enumerate(records)]
    assert mean_record(read_runs(folders))["metrics"] is None
    assert [len(group) for group in groups_of_seeds(read_runs(folders))] == [2]


def test_the_best_run_can_be_the_reference(compared: Runs) -> None:
    rows = json.loads(run(compared.noisy, compared.good, "--significance", "best", "--json").stdout)["rows"]
    assert "AP" in rows[0]["significant"]
    assert "significant" not in rows[1]
    assert "half_intervals" not in rows[0]
    assert 'did you mean "first"' in error_of(compared.noisy, "--significance", "frst")


def test_incomplete_runs_have_no_interval(compared: Runs, tmp_path: Path) -> None:
    part = make_run(tmp_path, make_record("part", "gt", "custom", done=7, AP=0.9), "part")
    rows = json.loads(run(compared.good, part, "--intervals", "--json").stdout)["rows"]
    assert ["half_intervals" in row for row in rows] == [True, False]


def test_provenance_is_a_comment(two: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["harness", "table", "a run", "--format", "latex"])
    lines = run(*two, "--format", "latex").stdout.splitlines()
    assert lines[0] == "% harness table 'a run' --format latex"
    assert lines[1:3] == [f"% run {name}-lvvis-val-0123abcd: protocol lvvis version 1" for name in ("first", "second")]
    assert "<!--" not in run(*two).stdout


def test_layout_and_side_by_side(two: list[Path], tmp_path: Path) -> None:
    layout = tmp_path / "layout.yaml"
    layout.write_text("columns: [AP]\nrows: [{run: second, name: Ours}]")
    result = run(*two, "--layout", layout, "--side-by-side")
    assert result.stdout.splitlines()[0].split() == ["Method", "lvvis", "val", "AP"]
    assert result.stdout.splitlines()[2].split() == ["Ours", "40.0"]


def test_runs_come_from_folders_or_from_mlflow(two: list[Path], tmp_path: Path) -> None:
    assert "needs runs" in error_of()
    assert "cannot be combined with run folders" in error_of(*two, "--from-mlflow", "lvvis")
    assert "cannot be combined with run folders" in error_of("--intervals", "--from-mlflow", "lvvis")
    assert "does not exist" in error_of("--from-mlflow", "lvvis", "--runs-dir", tmp_path)


def test_a_run_that_cannot_be_read_is_left_out_and_listed_at_the_end(two: list[Path], tmp_path: Path) -> None:
    whole = run(two[0]).stdout
    bad = make_run(tmp_path, make_record("bad", AP=0.1), "bad")
    (bad / "metrics.json").write_text("{")
    result = run(bad, two[0])
    assert (result.exit_code, result.stdout) == (1, whole)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"harness: left out: {bad / 'metrics.json'}: ")
    assert str(bad) in error_of(bad)
    assert "does not exist" in error_of(two[0], tmp_path / "mistyped")


def test_a_run_whose_predictions_are_damaged_has_no_interval(compared: Runs, tmp_path: Path) -> None:
    data = compared.copy(tmp_path)
    (data.noisy / "matches.msgpack").unlink()
    shard = sorted((data.noisy / "predictions").iterdir())[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    options = ("--annotations", data.annotations)
    alone = run(data.good, "--intervals", *options)
    result = run(data.good, data.noisy, "--intervals", *options)
    assert (alone.exit_code, result.exit_code) == (0, 1)
    assert result.stderr.startswith(f"harness: left out: {shard}: ")
    assert alone.stdout.count("\u00b1") == result.stdout.count("\u00b1") > 1
    assert "A run whose predictions cannot be read has no interval" in result.stdout
    drawn = CliRunner().invoke(
        build(), ["figures", *map(str, (data.good, data.noisy, *options, "--out", tmp_path / "drawn"))]
    )
    told = [line for line in drawn.stderr.splitlines() if "not drawn" not in line]
    assert (drawn.exit_code, told) == (1, result.stderr.splitlines())
    assert list((tmp_path / "drawn").iterdir())
