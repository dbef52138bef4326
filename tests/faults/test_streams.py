"""Standard streams that are closed, full or in a poor encoding, a working directory that is gone, Python's switches."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from oracle_runs import oracle_run

from harness.datasets.shapes import PLUGIN as SHAPES
from harness.errors import EXIT_FAILED
from harness.warnings import tolerate_warnings_of_libraries

HARNESS = f'"{sys.executable}" -m harness'
RUN = "run --model oracle --dataset shapes --limit 1 --no-mlflow --runs-dir new"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in ``runs``, and a baseline that it falls short of."""
    folder, dataset = tmp_path_factory.mktemp("made"), SHAPES.open(Path(), "val")
    oracle_run(folder / "better", dataset, limit=1)
    oracle_run(folder / "runs", dataset, limit=1, drop_tracks=1.0)
    assert shell(folder, f"{HARNESS} regress better/* --baseline gate.json --update").returncode == 0
    return folder


def shell(cwd: Path, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line in bash."""
    given = {**os.environ, **environment}
    return subprocess.run(["bash", "-c", line], cwd=cwd, env=given, capture_output=True, text=True, check=False)


def test_a_full_disk_behind_the_output_is_told_and_the_work_is_kept(tmp_path: Path) -> None:
    done = shell(tmp_path, f"{HARNESS} {RUN} > /dev/full")
    assert done.returncode == EXIT_FAILED
    assert done.stderr.splitlines()[-1] == (
        "harness: standard output cannot be written: No space left on device; the output is lost"
    )
    assert "Traceback" not in done.stderr
    assert len(list(tmp_path.glob("new/*/SHA256SUMS"))) == 1


@pytest.mark.parametrize("lost", ["2>&-", "2> /dev/full"])
def test_a_run_goes_on_without_standard_error(tmp_path: Path, lost: str) -> None:
    done = shell(tmp_path, f"{HARNESS} {RUN} {lost}")
    assert done.returncode == 0
    assert "oracle" in done.stdout
    assert len(list(tmp_path.glob("new/*/SHA256SUMS"))) == 1


@pytest.mark.parametrize("reader", ["true", "head -c 1"])
def test_a_reader_that_leaves_does_not_pass_a_gate_that_failed(made: Path, reader: str) -> None:
    gate = f"{HARNESS} regress runs/* --baseline gate.json | {reader} > /dev/null; exit ${{PIPESTATUS[0]}}"
    done = shell(made, gate)
    assert (done.returncode, done.stderr) == (
        shell(made, f"{HARNESS} regress runs/* --baseline gate.json").returncode,
        "",
    )
    assert done.returncode == EXIT_FAILED


@pytest.mark.parametrize(
    "poor", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_poor_encoding_gets_ascii(made: Path, poor: dict[str, str]) -> None:
    done = shell(made, f"{HARNESS} table better/*", **poor)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "oracle+" in done.stdout


def test_a_working_directory_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    done = shell(tmp_path, f"mkdir gone; cd gone; rmdir ../gone; {HARNESS} table x")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "harness: the working directory: cannot be used: No such file or directory; change to a folder that exists"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("switch", ["-O", "-W error"])
def test_switches_of_python_do_not_change_a_run(tmp_path: Path, switch: str) -> None:
    done = shell(tmp_path, f'"{sys.executable}" {switch} -m harness {RUN}')
    assert done.returncode == 0, done.stderr


def test_warnings_as_errors_are_for_the_harness_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", ["error"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tolerate_warnings_of_libraries()
        with warnings.catch_warnings(record=True) as told:
            warnings.warn_explicit("old", DeprecationWarning, "x.py", 1, module="library.part")
        assert len(told) == 1
        with pytest.raises(DeprecationWarning):
            warnings.warn_explicit("old", DeprecationWarning, "x.py", 1, module="harness.part")
