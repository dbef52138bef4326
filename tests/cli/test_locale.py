"""In a locale without Unicode: files are in UTF-8, and the terminal gets ASCII."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from vis_documents import document, perfect

C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def harness(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-c", "from harness.cli.main import main; main()", *map(os.fsencode, arguments)]
    return subprocess.run(command, capture_output=True, timeout=300, env=os.environ | C, check=False)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    truth = document()
    truth["categories"][0]["name"] = "猫 é"
    gt, results = tmp_path / "prüfung.json", tmp_path / "r.json"
    gt.write_text(json.dumps(truth))
    odd = [{**one, "score": 2} for one in perfect(truth)]
    results.write_text(json.dumps(odd))
    return gt, results


def test_eval(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, results = files
    out = tmp_path / "rows.csv"
    arguments = ("eval", "--protocol", "ytvis", "--annotations", gt, "--predictions", results, "--per-category", out)
    done = harness(*arguments)
    assert done.returncode == 0, done.stderr
    assert "100.00" in done.stdout.decode("ascii")
    assert [row["name"] for row in csv.DictReader(out.read_text(encoding="utf-8").splitlines())] == ["猫 é", "yak"]
    done = harness(*arguments[:3], "--annotations", gt.with_name("größe.json"), "--predictions", results)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr
    assert b"No such file" in done.stderr


def test_a_run_and_its_table(files: tuple[Path, Path], tmp_path: Path) -> None:
    gt, _ = files
    (tmp_path / "frames").mkdir()
    runs = tmp_path / "runs"
    done = harness("run", "--model", "oracle", "--annotations", gt, "--frames", tmp_path / "frames", "--protocol",
                   "ytvis", "--no-mlflow", "--runs-dir", runs)  # fmt: skip
    assert done.returncode == 0, done.stderr
    done.stdout.decode("ascii")
    (folder,) = runs.iterdir()
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["dataset"] == "prüfung"
    assert "猫 é" in (folder / "per_category.csv").read_text(encoding="utf-8")
    latex = tmp_path / "t.tex"
    assert harness("table", folder, "--format", "markdown", "--out", latex).returncode == 0
    shown = harness("table", folder, "--format", "markdown")
    assert (shown.returncode, shown.stderr) == (0, b"")
    shown.stdout.decode("ascii")
