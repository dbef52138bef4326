"""Results files as runs: `eval --name`, results files among the runs of `compare`, and rows that are nobody's run.

Tests of `harness/cli/results_files.py`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result
from vis_documents import document, perfect

import harness
from harness.cli.main import build
from harness.errors import UserError
from harness.reports.published import read_given
from harness.run_folder import results
from harness.run_folder.finished_run import FinishedRun


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(build(), [str(one) for one in arguments])


def refusal(*arguments: str | Path) -> str:
    found = command(*arguments).exception
    assert isinstance(found, UserError), found
    return str(found)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The truth, results that equal it, and results with one wrong name."""
    paths = {name: tmp_path / f"{name}.json" for name in ("gt", "good", "bad")}
    tracks = perfect(document())
    paths["gt"].write_text(json.dumps(document()))
    paths["good"].write_text(json.dumps(tracks))
    tracks[1]["category_id"] = 1
    paths["bad"].write_text(json.dumps(tracks))
    return paths


def named(files: dict[str, Path], name: str, runs: Path) -> FinishedRun:
    return harness.run_of_results(name, files[name], annotations=files["gt"], protocol=["lvvis"], runs_dir=runs)


def test_eval_with_a_name_leaves_a_run(files: dict[str, Path], tmp_path: Path) -> None:
    common = ("eval", "--protocol", "lvvis", "--annotations", files["gt"], "--predictions", files["bad"], "--json")
    plain = command(*common).stdout
    told = command(*common, "--name", "mine", "--runs-dir", tmp_path / "runs")
    assert told.stdout == plain
    run = FinishedRun.open(Path(told.stderr.strip().splitlines()[-1]))
    assert run.record["name"] == run.label == "mine"
    assert run.record["model"] == "results"
    assert run.metrics["AP"] == json.loads(plain)["metrics"]["AP"]
    assert run.matches is not None
    assert len(run.predictions) == 2
    for reader in ("compare", "analyse", "table"):
        assert command(reader, run.folder).exit_code == 0
    assert command("report", run.folder, "--out", tmp_path / "report.html").exit_code == 0


def test_eval_with_a_name_scores_once_what_the_store_gives(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("eval", "--protocol", "lvvis,hota,lvvis-fixed", "--annotations", files["gt"], "--json")
    bad = (*common, "--predictions", files["bad"], "--runs-dir", tmp_path / "runs")
    scored = []
    once = results.score_all
    monkeypatch.setattr(results, "score_all", lambda names, *more: scored.append(names) or once(names, *more))
    told = command(*bad, "--name", "mine")
    folder = Path(told.stderr.strip().splitlines()[-1])
    names = ("metrics.json", "per_category.csv", "matches.msgpack", "scores/hota/per_category.csv")
    before = [(folder / name).read_bytes() for name in names]
    (folder / "predictions" / "1.parquet").write_bytes(b"damaged")
    assert command(*bad, "--name", "renamed").stdout == told.stdout
    again = [(folder / name).read_bytes() for name in names]
    assert again[1:] == before[1:]
    assert json.loads(again[0]) == {**json.loads(before[0]), "name": "renamed"}
    assert scored == []
    protocols = ["lvvis", "hota", "lvvis-fixed"]  # scored from the store
    harness.run_of_results("x", files["bad"], annotations=files["gt"], protocol=protocols, runs_dir=tmp_path / "runs")
    assert scored == [tuple(protocols)]
    assert [(folder / name).read_bytes() for name in names[1:]] == before[1:]
    labels = command("table", folder, named(files, "good", tmp_path / "runs").folder, "--format", "csv").stdout
    assert "\nx," in labels
    assert "sha256" not in labels


def test_a_run_without_official_numbers_has_the_corrected_ones(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official tool aborts on annotations without areas. Every command works, or says why not in one line."""
    monkeypatch.chdir(tmp_path)
    truth = document()
    del truth["annotations"][0]["areas"]
    files["gt"].write_text(json.dumps(truth))
    common = ("eval", "--protocol", "lvvis", "--annotations", files["gt"], "--json")
    plain = command(*common, "--predictions", files["bad"])
    named = command(*common, "--predictions", files["bad"], "--name", "mine")
    assert (named.exit_code, named.stdout) == (0, plain.stdout)
    run = FinishedRun.open(Path(named.stderr.strip().splitlines()[-1]))
    assert set(run.record["metrics"].values()) == {None}
    assert run.record["corrected"] == json.loads(plain.stdout)["corrected"]
    assert run.record["corrected"]["AP"] == pytest.approx(0.25)
    why = 'annotation 1: has no "areas"; the official lvvis tool needs it'
    assert why in run.record["undefined"]["metrics"]["AP"]
    assert why in refusal(*common, "--predictions", files["bad"], "--name", "strict", "--strict")
    several = (*common, "--protocol", "lvvis,lvvis-fixed", "--predictions", files["bad"], "--strict")
    refused = command(*several, "--name", "strict")
    assert (refused.exit_code, isinstance(refused.exception, SystemExit)) == (2, True)
    errors = [one["error"] for one in json.loads(refused.stdout)["protocols"]]
    assert (len(errors), why in errors[0]) == (2, True)
    assert f"harness: lvvis: {errors[0]}" in refused.stderr
    assert "needs a protocol" not in refused.stderr
    assert [folder.name for folder in (tmp_path / "runs").glob("results-*")] == [run.folder.name]
    assert why in refusal(*several, "--record", tmp_path / "record.json")

    told = command("table", run.folder, "--corrected", "--format", "csv")
    assert ",25," in told.stdout
    assert f"harness: mine: there are no official numbers: the official lvvis tool aborts: {files['gt']}, {why}" in (
        told.stderr
    )
    assert "score it by lvvis-corrected, or choose a run whose AP is defined" in refusal("compare", run.folder)
    [analysed] = json.loads(command("analyse", run.folder, "--json").stdout)["runs"]
    assert (analysed["protocol"], analysed["errors"]["ap50"]) == ("lvvis-corrected", run.record["corrected"]["AP50"])
    [found] = json.loads(command("analyse", run.folder, "--ceilings", "--json").stdout)["runs"]
    assert [one["name"] for one in found["ceilings"]["protocols"]] == ["lvvis-corrected", "hota"]
    as_given, classes, *_ = found["ceilings"]["rows"]
    assert as_given["metrics"]["lvvis-corrected"]["AP"] == run.record["corrected"]["AP"]
    assert classes["metrics"]["lvvis-corrected"]["AP"] == 1.0
    recorded = command("record", run.folder, "--out", "r.json")
    assert "r.yaml: is not written, since there are no official numbers" in recorded.stderr
    verified = command("verify", "r.json", "--predictions", files["bad"], "--annotations", files["gt"], "--json")
    assert json.loads(verified.stdout)["equal"]
    assert json.loads(verified.stdout)["compared"] == 2 * len(run.record["metrics"])
    assert command("report", run.folder, "--out", "report.html").exit_code == 0
    assert "the official lvvis tool aborts" in Path("report.html").read_text()
    assert command("leaderboard", "runs", "--out", "site").exit_code == 0
    assert "there are no official numbers: the official lvvis tool aborts" in Path("site/gt-custom.html").read_text()

    again = command(*common, "--predictions", files["bad"], "--name", "mine", "--protocol", "lvvis-corrected")
    assert again.exit_code == 0
    assert command("compare", run.folder).exit_code == 0  # as the refusal said


def test_runs_that_hota_alone_scored_have_its_numbers(files: dict[str, Path], tmp_path: Path) -> None:
    runs = [
        harness.run_of_results(
            name, files[name], annotations=files["gt"], protocol=["hota"], runs_dir=tmp_path / "runs"
        )
        for name in ("good", "bad")
    ]
    folders = [run.folder for run in runs]
    told = command("table", *folders, "--format", "csv").stdout.splitlines()
    assert "HOTA (all scores)" in told[0]
    assert " AP" not in told[0]
    assert "was scored by hota, which keeps no matches to compare; score the run by an AP protocol" in refusal(
        "compare", *folders
    )
    page = tmp_path / "report.html"
    assert command("report", *folders, "--out", page).exit_code == 0
    assert re.search(r"HOTA \(all scores\): good \d+\.\d, bad \d+\.\d\.", page.read_text())
    assert command("leaderboard", tmp_path / "runs", "--out", tmp_path / "site").exit_code == 0
    assert "hota/HOTA" in (tmp_path / "site" / "gt-custom.html").read_text().replace("<wbr>", "")


def test_results_with_text_ids_and_escaped_counts_are_the_same_run(files: dict[str, Path], tmp_path: Path) -> None:
    truth = document()
    tracks = perfect(truth)
    first = named(files, "good", tmp_path / "runs")
    for one in tracks:
        one["video_id"] = str(one["video_id"])
        one["segmentations"] = [*one["segmentations"][:1], None]
    files["good"].write_text(json.dumps(tracks))
    second = named(files, "good", tmp_path / "runs")
    assert first.id != second.id
    assert second.predictions["masks"][0][0] == first.predictions["masks"][0][0]
    assert second.predictions["masks"][0][1] is None


def test_compare_takes_results_files(files: dict[str, Path], tmp_path: Path) -> None:
    common = ("compare", files["good"], files["bad"])
    truth = ("--annotations", files["gt"], "--protocol", "lvvis")
    found = json.loads(command(*common, *truth, "--json").stdout)
    assert [one["label"] for one in found["runs"]] == ["good", "bad"]
    run = named(files, "good", tmp_path / "runs")
    assert command("compare", run.folder, files["bad"], *truth).exit_code == 0
    assert "name its truth with --annotations or --dataset" in refusal(*common)
    assert "--protocol" in refusal(*common, *truth[:2])
    assert "are for results files" in refusal("compare", run.folder, *truth)


def test_a_name_refuses_what_is_no_results_file(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a name"):
        harness.run_of_results(" ", files["good"], annotations=files["gt"], protocol=["lvvis"], runs_dir=tmp_path)
    run = named(files, "good", tmp_path / "runs")
    common = ("eval", "--protocol", "lvvis", "--annotations", files["gt"], "--name", "x")
    assert "is a run folder already" in refusal(*common, "--predictions", run.folder)
    assert "--exhaustive" in refusal(*common, "--predictions", files["good"], "--exhaustive")


def test_rows_of_a_file_enter_a_table(files: dict[str, Path], tmp_path: Path) -> None:
    run = named(files, "good", tmp_path / "runs")
    rows = tmp_path / "rows.csv"
    head = "method,dataset,split,metric,value,source"
    rows.write_text(f"{head}\nServer A,gt,custom,AP,55.5,its page\nB,ytvis2019,val,AP,3,p\n")
    told = command("table", run.folder, "--rows", rows)
    assert "Server A" in told.stdout
    assert "[1] its page (given by the user, not a run of this harness)" in told.stdout
    assert "1 of 2 rows are on other data, first: ytvis2019 val" in told.stderr
    (tmp_path / "rows.yaml").write_text(
        "- {method: Server A, dataset: LV-VIS, split: val, metric: AP, value: 30, source: s, year: 2025}"
    )
    [row] = read_given(tmp_path / "rows.yaml")
    assert (row.label, row.value, row.cited) == ("Server A", 30.0, "s, 2025")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has no rows"),
        ("method,dataset\na,b\n", "row 1: lacks split, metric, value, source"),
        ("method,dataset,split,metric,value,source\na,b,c,APx,1,s\n", '"APx" is not a known metric'),
        ("method,dataset,split,metric,value,source\na,b,c,AP,one,s\n", "is not a number"),
        ("method,dataset,split,metric,value,source\na,b,c,AP,101,s\n", "is not within"),
        ("methods,dataset\na,b\n", '"methods" is not a column'),
    ],
)
def test_faulty_rows_are_refused(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(UserError, match=fault):
        read_given(tmp_path / "rows.csv")
