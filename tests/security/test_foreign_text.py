"""Text of untrusted files on the terminal, in the log and in CSV: no escape sequence, forged line, or formula."""

from __future__ import annotations

import csv
import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from oracle_runs import oracle_run

from harness.atomic_write import write_json
from harness.datasets.shapes import PLUGIN as SHAPES
from harness.errors import UserError
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.log import logged_to
from harness.run_folder.results import _csv
from harness.standard_output import tell

EVIL = "a\x1b[31mb\x1b]0;t\x07\nERROR forged\u202e\r\udcff"


def test_an_error_is_one_line_without_control_characters() -> None:
    assert str(UserError(EVIL, "is\todd", "fix\nit")) == (
        r"a\x1b[31mb\x1b]0;t\x07 ERROR forged\u202e\r\udcff: is\todd; fix it".replace(r"\r\udcff", r" \udcff")
    )
    assert str(UserError("two  blanks.json", "does not exist")) == "two  blanks.json: does not exist"


def test_what_is_told_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell(f"warning: {EVIL}")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said


def test_a_record_of_the_log_cannot_forge_another(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    with logged_to(path):
        logging.getLogger("harness.x").error("video failed: %s", EVIL)
    first, *others = path.read_text(encoding="utf-8").splitlines()
    assert first.endswith(r"ERROR harness.x: video failed: a\x1b[31mb\x1b]0;t\x07")
    assert others
    assert all(line.startswith("    ") and line.isprintable() for line in others)


def test_a_category_that_is_a_formula_keeps_its_name_for_readers(tmp_path: Path) -> None:
    name = "=HYPERLINK(1)"
    text = _csv([{"id": 1, "name": name, "groups": ["-x"], "AP": -0.0}])
    assert list(csv.reader(io.StringIO(text)))[1] == ["1", f"'{name}", "'-x", "-0.0"]
    run = oracle_run(tmp_path, SHAPES.open(Path(), "val"), limit=1)
    path = run / "per_category.csv"
    head, line, *rest = path.read_text(encoding="utf-8").split("\n")
    number, _, others = line.split(",", 2)
    path.write_text("\n".join([head, f"{number},'{name},{others}", *rest]), encoding="utf-8")
    (run / "SHA256SUMS").unlink()
    assert FinishedRun.open(run).categories[0].name == name


def test_names_that_are_not_utf_8_are_recorded_as_text(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"folder": "a\udcff"})
    assert json.loads((tmp_path / "x.json").read_bytes().decode()) == {"folder": r"a\udcff"}


def test_a_run_in_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / "r\udcff"
    run = oracle_run(folder, SHAPES.open(Path(), "val"), limit=1)
    commands = (
        ["table", str(run)],
        ["status", str(run)],
        ["leaderboard", str(folder), "--out", str(tmp_path / "site")],
    )
    start = [sys.executable, "-m", "harness"]
    for command in commands:
        done = subprocess.run([*start, *command], capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
