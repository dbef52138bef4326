"""``harness regress``: what passes, what fails, and what cannot be compared.

Tests of `reports/regression.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from run_folders import make_record, make_run
from small_runs import SmallConfig, SmallModel, truth_of
from small_runs import make_run as make_small_run
from typer.testing import CliRunner, Result

from harness.cli.regress import regress
from harness.errors import UserError
from harness.reports.regression import Baseline, baseline_of, compare_with_baseline
from harness.run_folder.schemas import ProtocolRecord
from harness.runner import execute
from harness.types import Track

METRICS = {"AP": 0.40, "APn": 0.30, "AP50": 0.60, "APl": None}


def misses_half() -> SmallModel:
    """Finds the objects of videos 1 and 2 only; as another version, so that its run has a folder of its own."""
    return SmallModel(tracks=lambda v: [Track(v, 1, 0.5, truth_of(v))] if v < 3 else [], version="2")


def gate(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(regress)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error_of(*arguments: str | Path) -> str:
    result = gate(*arguments)
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def run_with(folder: Path, name: str = "clipvis-lvvis-val-0123abcd", digest: str = "d1", **changes: Any) -> Path:
    metrics = changes.pop("metrics", METRICS)
    made = make_run(folder, {**make_record("clipvis", **metrics), **changes}, name)
    config = made / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "digest": digest}))
    return made


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    path = tmp_path / "gate.json"
    result = gate(run_with(tmp_path / "good"), "--baseline", path, "--update")
    assert result.exit_code == 0
    return path


def test_the_same_numbers_pass(tmp_path: Path, baseline: Path) -> None:
    result = gate(run_with(tmp_path), "--baseline", baseline)
    assert result.exit_code == 0
    assert result.stdout == "passed: no metric of 6 fell beyond its tolerance\n"


def test_a_metric_that_fell_fails(tmp_path: Path, baseline: Path) -> None:
    run = run_with(tmp_path, metrics={**METRICS, "APn": 0.2949, "AP": 0.45})
    result = gate(run, "--baseline", baseline)
    assert result.exit_code == 1
    assert "APn" in result.stdout
    assert "-0.51" in result.stdout
    assert "AP50" not in result.stdout
    assert "FAILED: of 6 metrics 1 fell beyond" in result.stdout
    assert gate(run, "--baseline", baseline, "--tolerance", "APn=0.6").exit_code == 0
    assert gate(run, "--baseline", baseline, "--tolerance", "0.6").exit_code == 0
    assert gate(run, "--baseline", baseline, "--tolerance", "2", "--tolerance", "APn=0.1").exit_code == 1


def test_a_model_that_finds_nothing_fell_to_0(tmp_path: Path) -> None:
    """Official tools give it no number; the gate counts it as 0, and a baseline of it is 0 too."""
    nothing = SmallModel(tracks=lambda video: [], version="2")
    good, empty = (execute(make_small_run(tmp_path, **options)) for options in ({}, {"model": nothing}))
    path = tmp_path / "gate.json"
    gate(good.record["folder"], "--baseline", path, "--update")
    result = gate(empty.record["folder"], "--baseline", path)
    assert result.exit_code == 1
    line = next(line for line in result.stdout.splitlines() if line.startswith("AP "))
    assert line.split()[1:] == ["100.00", "0.00", "-100.00", "0.5", "▼", "fell", "to", "0"]
    assert "counted as 0: there are no predictions; the official lvvis tool aborts on an empty list" in result.stdout
    assert "FAILED: AP fell to 0; of " in result.stdout
    record = json.loads(gate(empty.record["folder"], "--baseline", path, "--json").stdout)
    assert (record["passed"], record["metrics"][0]["after"], record["metrics"][0]["verdict"]) == (False, 0, "fell")
    assert gate(empty.record["folder"], "--baseline", path, "--update").exit_code == 0
    assert gate(good.record["folder"], "--baseline", path).exit_code == 0


def test_a_metric_that_is_undefined_now_says_why(tmp_path: Path, baseline: Path) -> None:
    reasons = {"metrics": {"APn": "no annotated novel track"}, "corrected": {"APn": "no annotated novel track"}}
    run = run_with(tmp_path, metrics={**METRICS, "APn": None}, undefined=reasons)
    told = "APn, corrected.APn are undefined now, but defined in the baseline; APn: no annotated novel track"
    assert told in error_of(run, "--baseline", baseline)
    none = run_with(tmp_path / "none", metrics=dict.fromkeys(METRICS), undefined={"metrics": {"AP": "nothing there"}})
    assert "AP, APn, AP50" in error_of(none, "--baseline", baseline)
    assert "; AP: nothing there" in error_of(none, "--baseline", baseline)
    told = "has no numbers: nothing there; choose a run whose AP is defined"
    assert told in error_of(none, "--baseline", tmp_path / "new.json", "--update")


def test_a_rise_passes_and_says_so(tmp_path: Path, baseline: Path) -> None:
    result = gate(run_with(tmp_path, metrics={**METRICS, "AP": 0.5}), "--baseline", baseline)
    assert result.exit_code == 0
    assert "2 rose beyond it: consider --update" in result.stdout


def test_a_rise_fails_both_ways(tmp_path: Path, baseline: Path) -> None:
    higher = run_with(tmp_path / "higher", metrics={**METRICS, "AP": 0.5, "AP50": METRICS["AP50"] - 0.1})
    result = gate(higher, "--baseline", baseline, "--both-ways")
    assert result.exit_code == 1
    assert "FAILED: of 6 metrics 2 fell and 2 rose beyond their tolerance" in result.stdout
    same = gate(run_with(tmp_path / "same"), "--baseline", baseline, "--both-ways")
    assert (same.exit_code, same.stdout) == (0, "passed: no metric of 6 moved beyond its tolerance\n")


def test_formats(tmp_path: Path, baseline: Path) -> None:
    run = run_with(tmp_path, metrics={**METRICS, "AP": 0.38})
    markdown = gate(run, "--baseline", baseline, "--format", "markdown").stdout
    assert "| AP           |      40.00 | 38.00 |    -2.00 |         0.5 | ▼ fell |" in markdown
    assert "| corrected.AP |      20.00 | 19.00 |    -1.00 |         0.5 | ▼ fell |" in markdown
    record = json.loads(gate(run, "--baseline", baseline, "--json").stdout)
    assert record["passed"] is False
    row = record["metrics"][0]
    assert (row["metric"], row["verdict"]) == ("AP", "fell")
    assert row["points"] == pytest.approx(-2)
    assert "is not a format" in error_of(run, "--baseline", baseline, "--format", "xml")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"digest": "d2"}, "the digest of the annotations is d2 here, and d1 in the baseline"),
        ({"model": "ov2seg"}, "the model is ov2seg here, and clipvis in the baseline"),
        ({"dataset": "ovis"}, "the dataset is ovis here, and lvvis in the baseline"),
        ({"split": "test"}, "the split is test here, and val in the baseline"),
        ({"limit": 5}, "the limit is 5 here, and not set in the baseline"),
        ({"protocol": {"name": "lvvis", "version": "2"}}, "lvvis version 2 here, and lvvis version 1 in the baseline"),
        ({"complete": False}, "is incomplete"),
        ({"protocol": None, "metrics": {}}, "has no numbers"),
        ({"metrics": {"AP": 0.4, "APn": None}}, "APn, AP50, corrected.APn, corrected.AP50 are undefined now"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, baseline: Path, changes: dict[str, Any], complaint: str
) -> None:
    record_of = {key: value for key, value in changes.items() if key != "metrics"}
    run = run_with(tmp_path, metrics=changes.get("metrics", METRICS), **record_of)
    assert complaint in error_of(run, "--baseline", baseline)


def test_files_that_are_no_baselines(tmp_path: Path, baseline: Path) -> None:
    run = run_with(tmp_path)
    assert "write it from a good run with --update" in error_of(run, "--baseline", tmp_path / "none.json")
    baseline.write_text('{"format": 1}')
    assert "is not a baseline" in error_of(run, "--baseline", baseline)


@pytest.mark.parametrize("text", ["x", "AP50=", "=1", "-1", "AP=nan", "inf"])
def test_tolerances_that_are_none(tmp_path: Path, baseline: Path, text: str) -> None:
    assert "is not POINTS or METRIC=POINTS" in error_of(run_with(tmp_path), "--baseline", baseline, "--tolerance", text)


def test_a_tolerance_of_no_metric_is_refused(tmp_path: Path, baseline: Path) -> None:
    assert '"APx" is not a metric' in error_of(run_with(tmp_path), "--baseline", baseline, "--tolerance", "APx=1")


def test_a_baseline_is_the_same_bytes_for_the_same_run(tmp_path: Path, baseline: Path) -> None:
    again = tmp_path / "again.json"
    gate(run_with(tmp_path), "--baseline", again, "--update")
    assert again.read_bytes() == baseline.read_bytes()


@given(before=st.floats(0, 1), after=st.floats(0, 1), tolerance=st.floats(0, 100).map(lambda points: round(points, 3)))
def test_it_fails_if_and_only_if_the_fall_is_larger_than_the_tolerance(
    before: float, after: float, tolerance: float
) -> None:
    def made(value: float) -> Baseline:
        return Baseline(1, "m", "d", "s", "x", "y", None, ProtocolRecord("lvvis", "1"), {"AP": value})

    [change] = compare_with_baseline(made(before), made(after), tolerance)
    fell = 100 * before - 100 * after > tolerance
    assert (change.verdict == "fell") == fell


def test_settings_that_differ_are_named_before_the_verdict_and_refused_with_strict(tmp_path: Path) -> None:
    good = execute(make_small_run(tmp_path)).record["folder"]
    (tmp_path / "weights.pt").write_bytes(b"1")
    options = {"config": SmallConfig(score=0.75), "seed": 1, "precision": "fp16", "checkpoint": tmp_path / "weights.pt"}
    other = execute(make_small_run(tmp_path, SmallModel(version="2"), **options)).record["folder"]
    path = tmp_path / "gate.json"
    gate(good, "--baseline", path, "--update")
    named = (
        "other settings: model_version (1 in the baseline, 2 in the run)",
        "other settings: checkpoint (not set in the baseline, 6b86b273ff34 in the run)",
        "other settings: precision (fp32 in the baseline, fp16 in the run)",
        "other settings: seed (0 in the baseline, 1 in the run)",
        "other settings: score (0.5 in the baseline, 0.75 in the run)",
    )
    result = gate(other, "--baseline", path)
    assert result.exit_code == 0
    assert sorted(result.stdout.splitlines()[:5]) == sorted(named)
    assert result.stdout.splitlines()[5] == ""
    assert "passed" in result.stdout.splitlines()[6]
    assert f"- {named[3]}\n" in gate(other, "--baseline", path, "--format", "markdown").stdout
    told = json.loads(gate(other, "--baseline", path, "--json").stdout)["settings"]
    assert {"name": "seed", "before": 0, "after": 1} in told
    assert len(told) == 5
    refused = error_of(other, "--baseline", path, "--strict")
    assert all(line.removeprefix("other settings: ") in refused for line in named)
    assert "run with the baseline's, or write a new baseline with --update" in refused
    same = gate(good, "--baseline", path, "--strict")
    assert (same.exit_code, same.stdout.count("\n")) == (0, 1)
    assert json.loads(gate(good, "--baseline", path, "--json").stdout)["settings"] == []


def test_a_baseline_of_an_earlier_version_has_no_settings(tmp_path: Path, baseline: Path) -> None:
    stored = json.loads(baseline.read_text())
    del stored["settings"]
    baseline.write_text(json.dumps({**stored, "format": 1}))
    run = run_with(tmp_path)
    result = gate(run, "--baseline", baseline)
    assert result.exit_code == 0
    assert result.stdout.startswith("the baseline does not state its settings, an earlier version wrote it: write it")
    assert json.loads(gate(run, "--baseline", baseline, "--json").stdout)["settings"] is None
    assert "does not state its settings" in error_of(run, "--baseline", baseline, "--strict")
    baseline.write_text(json.dumps({**stored, "format": 3}))
    assert "written by another version" in error_of(run, "--baseline", baseline)


def test_a_run_folder_without_its_configuration_is_refused(tmp_path: Path, baseline: Path) -> None:
    run = run_with(tmp_path)
    (run / "config.json").write_text("{}")
    assert "is not the configuration of a run" in error_of(run, "--baseline", baseline)
    (run / "config.json").unlink()
    assert "is not a run folder: it has no config.json" in error_of(run, "--baseline", baseline)


def test_a_real_run_passes_against_itself_and_fails_when_it_is_worse(tmp_path: Path) -> None:
    good, worse = (execute(make_small_run(tmp_path, **options)) for options in ({}, {"model": misses_half()}))
    path = tmp_path / "gate.json"
    assert gate(good.record["folder"], "--baseline", path, "--update").exit_code == 0
    assert gate(good.record["folder"], "--baseline", path).exit_code == 0
    assert gate(worse.record["folder"], "--baseline", path).exit_code == 1
    made = msgspec.json.decode(path.read_bytes(), type=Baseline)
    assert made == baseline_of(Path(good.record["folder"]))
    assert Path(good.record["folder"]).name.endswith(f"-{made.content[:8]}")
    assert "corrected.AP" in made.metrics


def test_a_folder_as_the_baseline_is_named_as_such(tmp_path: Path) -> None:
    run = run_with(tmp_path)
    assert error_of(run, "--baseline", tmp_path) == (
        f"{tmp_path}: is a folder, not a baseline; name the JSON file that --update wrote"
    )
    assert f"use `harness compare {run} RUN`" in error_of(run, "--baseline", run)


def test_metrics_of_every_protocol_are_gated(tmp_path: Path) -> None:
    def scored(folder: Path, hota: float | None) -> Path:
        own = make_record("clipvis", **METRICS)["protocols"]
        protocol = {"name": "hota", "version": "1", "score_threshold": 0.5}
        undefined = {} if hota is not None else {"HOTA": "the official tool aborts"}
        further = {"protocol": protocol, "metrics": {"HOTA": hota}, "undefined": {"metrics": undefined}}
        return run_with(folder, protocols=[own[0], further])

    path = tmp_path / "gate.json"
    assert gate(scored(tmp_path / "good", 0.5), "--baseline", path, "--update").exit_code == 0
    assert msgspec.json.decode(path.read_bytes(), type=Baseline).metrics["hota@0.5/HOTA"] == 0.5
    bad = scored(tmp_path / "worse", 0.25)
    worse = gate(bad, "--baseline", path)
    assert worse.exit_code == 1
    assert "hota@0.5/HOTA" in worse.stdout
    assert gate(bad, "--baseline", path, "--tolerance", "hota@0.5/HOTA=30").exit_code == 0
    assert '"hota/HOTA" is not a metric' in error_of(bad, "--baseline", path, "--tolerance", "hota/HOTA=30")
    gone = error_of(scored(tmp_path / "gone", None), "--baseline", path)
    assert "hota@0.5/HOTA is undefined now" in gone
    assert "the official tool aborts" in gone
    assert "its metrics.json does not have it" in error_of(run_with(tmp_path / "alone"), "--baseline", path)


def test_tolerances_take_every_metric_with_its_protocol(tmp_path: Path) -> None:
    def scored(folder: Path, teta: float, ap: float) -> Path:
        metrics = {**METRICS, "AP": ap}
        own = make_record("clipvis", **metrics)
        further = {"protocol": {"name": "teta", "version": "1", "score_threshold": 0.5}, "metrics": {"TETA": teta}}
        return run_with(folder, metrics=metrics, protocols=[own["protocols"][0], further])

    path = tmp_path / "gate.json"
    assert gate(scored(tmp_path / "good", 0.5, 0.3), "--baseline", path, "--update").exit_code == 0
    bad = scored(tmp_path / "worse", 0.25, 0.2)
    assert gate(bad, "--baseline", path, "--tolerance", "teta/TETA=30").exit_code == 1
    single = [f"--tolerance={text}" for text in ("teta/TETA=30", "lvvis/AP=20", "corrected.AP=20")]
    assert gate(bad, "--baseline", path, *single).exit_code == 0


def test_a_rise_of_false_alarms_fails(tmp_path: Path) -> None:
    def with_rate(folder: Path, rate: float) -> Path:
        rates = {"IL_MCC": 0.5, "IL_FPR": rate, "IL_recall": 0.5}
        protocols = make_record("clipvis", **METRICS)["protocols"]
        slices = {"presence": {"by_threshold": {"0.3": rates, "0.5": rates}}}
        return run_with(folder, protocols=[{**protocols[0], "slices": slices}])

    path = tmp_path / "gate.json"
    assert gate(with_rate(tmp_path / "good", 0.125), "--baseline", path, "--update").exit_code == 0
    worse = gate(with_rate(tmp_path / "worse", 0.25), "--baseline", path)
    assert worse.exit_code == 1
    assert "presence@0.5/IL_FPR" in worse.stdout
    assert "▲ rose, lower is better" in worse.stdout
    assert "presence@0.3" not in path.read_text()
    better = gate(with_rate(tmp_path / "better", 0.0625), "--baseline", path)
    assert better.exit_code == 0
    assert "▼ fell, lower is better" in better.stdout
