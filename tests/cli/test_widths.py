"""Everything that is read on a terminal fits into 80 columns; words that nobody should cut may be longer.

Tests of `reports/terminal.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from compared_runs import Runs
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from run_folders import make_record
from typer.testing import CliRunner
from vis_documents import document, perfect

from harness.cli.main import build
from harness.reports.layouts import Column, Sheet, render_table
from harness.reports.terminal import fitted, folded

COMMANDS = sorted(typer.main.get_command(build()).commands)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def output(*arguments: str | Path) -> str:
    result = CliRunner().invoke(build(), [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def too_wide(text: str) -> list[str]:
    return [line for line in text.splitlines() if cell_len(line) > 80 and len(line.split()) > 1]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    assert too_wide(output(command, "--help")) == []


def test_commands_on_runs(compared: Runs, tmp_path: Path) -> None:
    runs = [compared.noisy, compared.good, compared.blurred]
    assert too_wide(output("compare", *runs)) == []
    assert too_wide(output("analyse", *runs[:2])) == []
    assert too_wide(output("table", *runs, "--corrected", "--intervals")) == []
    assert too_wide(output("status", runs[0]).replace(str(runs[0]), "runs/a")) == []
    assert too_wide(output("leaderboard", runs[0].parent, "--out", tmp_path / "site")) == []
    assert too_wide(output("eval", "--protocol", "lvvis,hota", "--annotations", compared.annotations,
                           "--predictions", runs[0])) == []  # fmt: skip
    assert too_wide(output("datasets", "list")) == []
    assert too_wide(output("models", "list")) == []


def test_published_rows_fit(tmp_path: Path) -> None:
    record: dict[str, Any] = make_record("mine", AP=0.25, APn=0.24)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(record))
    for which in ("main", "all"):
        assert too_wide(output("table", tmp_path / "run", "--published", which)) == []


def test_eval_shows_what_is_compared_and_all_if_asked(tmp_path: Path) -> None:
    truth, results = tmp_path / "gt.json", tmp_path / "results.json"
    truth.write_text(json.dumps(document()))
    results.write_text(json.dumps(perfect(document())))
    given_files = ("eval", "--protocol", "lvvis", "--annotations", truth, "--predictions", results)
    short, whole = output(*given_files), output(*given_files, "--all")
    metrics = json.loads(output(*given_files, "--json"))["metrics"]
    cells = [line.split()[1] for line in short.splitlines() if line.startswith("│")]
    assert cells == ["AP", "AP50", "AP75", "AR100", "APb", "APn"]
    assert f"{len(metrics) - len(cells)} more with --all" in short
    assert [line.split()[1] for line in whole.splitlines() if line.startswith("│")] == list(metrics)


WORDS = st.text(st.characters(codec="ascii", categories=["L", "N", "Zs"]), max_size=40)


@given(st.lists(st.lists(WORDS, min_size=4, max_size=4), max_size=4), st.lists(WORDS, min_size=4, max_size=4))
def test_a_fitted_table_keeps_every_word(lines: list[list[str]], headers: list[str]) -> None:
    lines = [[" ".join(cell.split()) for cell in line] for line in lines]
    text = fitted(headers, lines, [False, True, True, False], 80)
    words = text.split()
    for line in lines:
        for cell in line:
            assert all(word in words for word in cell.split())


def test_columns_that_do_not_fit_follow_below_with_the_same_names() -> None:
    headers = ["run", "K", *(f"metric {n}" for n in range(20))]
    text = fitted(headers, [["one", "1", *["12.5"] * 20]], [False, False, *[True] * 20], 60)
    parts = text.split("\n\n")
    assert len(parts) == 4
    assert all(part.splitlines()[-1].split()[:2] == ["one", "1"] for part in parts)
    assert text.split().count("12.5") == 20


def test_headings_of_blocks_cross_the_columns() -> None:
    heading = "a heading that is longer than the first column"
    sheet = Sheet([Column("a"), Column("b", True)], [["x", "1"], ["y", "2"]], blocks={1: heading})
    assert render_table(sheet, "terminal").splitlines()[2:] == ["x      1", heading, "y      2"]


def test_notes_are_folded_and_nothing_is_cut() -> None:
    long = "https://example.org/" + "x" * 100
    assert folded(f"see {long} there", 40).splitlines() == ["see", f"    {long}", "    there"]
