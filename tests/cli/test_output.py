"""What commands share about their output: which of the named are runs, what is left out, and where files go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import typer

from harness.cli.output import command, end_with_faults, runs_among, show, write
from harness.errors import UserError


def test_the_command_is_quoted_for_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/harness", "table", "my runs/a", "--columns", "AP,$x"])
    assert command() == "harness table 'my runs/a' --columns 'AP,$x'"


def test_plain_files_among_runs_are_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, report, record, absent = (tmp_path / name for name in ("run", "report.html", "metrics.json", "absent"))
    run.mkdir()
    report.touch()
    record.touch()
    assert runs_among([run, report, record, absent]) == [run, record, absent]
    assert capsys.readouterr().err == f"harness: left out: {report} is a file, not a run folder\n"
    assert runs_among([report]) == [report]  # what reads runs refuses it


def test_what_was_left_out_makes_a_command_fail(capsys: pytest.CaptureFixture[str]) -> None:
    end_with_faults([])
    with pytest.raises(typer.Exit) as end:
        end_with_faults([UserError("runs/a", "is damaged"), "runs/b: is empty"])
    assert end.value.exit_code == 1
    assert capsys.readouterr().err == "harness: left out: runs/a: is damaged\nharness: left out: runs/b: is empty\n"


def test_text_goes_to_a_file_or_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show("a table", None)
    assert capsys.readouterr().out == "a table"
    show("a täble", tmp_path / "out.md")
    assert (tmp_path / "out.md").read_text(encoding="utf-8") == "a täble"


def test_pipes_and_folders_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(UserError, match="is not a file; name another file with --out"):
            write(path, "x")
    assert (tmp_path / "pipe").is_fifo()
