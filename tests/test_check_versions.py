"""`scripts/check_versions.py`: its rows are those of the public workflow; its table; what it says of absent rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from project_scripts import load_script

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.setitem(sys.modules, "check_versions", ModuleType("check_versions"))  # and away at the end
    return load_script("check_versions")


def test_the_workflow_has_the_same_rows(script: Any) -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    listed = workflow["jobs"]["tests"]["strategy"]["matrix"]["include"]
    assert [(row.python, row.resolution, " ".join(row.pins)) for row in script.ROWS] == [
        (each["python"], each["versions"], each["pins"]) for each in listed
    ]


def test_a_row_that_cannot_be_had_is_listed_with_the_reason(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "uv"
    program.write_text("#!/bin/sh\necho first; echo 'no interpreter found' >&2; exit 2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    out = tmp_path / "kept" / "versions.json"
    monkeypatch.setattr(sys, "argv", ["check_versions.py", "--row", "oldest", "--out", str(out)])
    assert script.main() == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row["not_run"] == "no interpreter found"
    assert row["row"]["pins"] == ["cuda-bindings==12.9.*", "nvidia-cuda-nvrtc-cu12==12.8.*"]
    assert "- oldest, not run: no interpreter found" in out.with_suffix(".md").read_text()
    assert "| oldest | 3.11 |" in capsys.readouterr().out


def test_without_uv_it_says_how_to_get_it(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", ["check_versions.py"])
    assert script.main() == 2
    assert capsys.readouterr().err == "check_versions: uv is not installed: pip install uv\n"


def test_faults_are_listed_below_the_table(script: Any) -> None:
    row = script.Outcome(script.ROWS[0], versions=(("python", "3.11.7"), ("numpy", "1.26.0")), faults=("import x: no",))
    lines = script.table([row]).splitlines()
    assert lines[2].startswith("| oldest | 3.11.7 |  | 1.26.0 |")
    assert lines[-1] == "- oldest: import x: no"


def test_only_packages_that_are_optional_may_be_absent(script: Any) -> None:
    assert script.is_optional(ModuleNotFoundError("No module named 'ray'", name="ray"))
    assert not script.is_optional(ModuleNotFoundError("No module named 'numpy'", name="numpy"))
    assert "harness.models.ops.build" in list(script.modules())
