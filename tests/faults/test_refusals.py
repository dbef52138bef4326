"""Commands that cannot have their folder: one line, exit code 2, and nothing of what is there is lost."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from fault_count import FAULTS

from harness.cli import main

COMMAND = [
    *(sys.executable, "-c", "from harness.cli.main import main; main()"),
    *("run", "--model", "oracle", "--dataset", "shapes", "--no-mlflow", "--json", "--runs-dir", "runs"),
]
DROP_FROM_BOUNDING_SET, OVERRIDE_PERMISSIONS = 24, 1  # of Linux' prctl and capabilities


def obey_permissions() -> None:
    """Make the command that follows obey the permissions of files, even root's."""
    if sys.platform == "linux" and os.geteuid() == 0:
        ctypes.CDLL(None).prctl(DROP_FROM_BOUNDING_SET, OVERRIDE_PERMISSIONS, 0, 0, 0)


def run(cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(COMMAND, cwd=cwd, preexec_fn=obey_permissions, capture_output=True, text=True, check=False)


def contents(cwd: Path) -> dict[str, bytes]:
    names = ("*/metrics.json", "*/per_category.csv", "*/predictions/*")
    return {str(p): p.read_bytes() for name in names for p in sorted((cwd / "runs").glob(name))}


def test_a_read_only_folder_is_refused_until_it_is_opened(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    runs.chmod(0o555)
    assert_refused(run(tmp_path))
    runs.chmod(0o755)
    first = run(tmp_path)
    assert first.returncode == 0, first.stderr
    before = contents(tmp_path)
    (folder,) = runs.iterdir()
    for closed in (folder, folder / "predictions"):
        (folder / "predictions" / "1.parquet").unlink(missing_ok=True)
        closed.chmod(0o555)
        assert_refused(run(tmp_path))
        closed.chmod(0o755)
    again = run(tmp_path)
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path) == before


def assert_refused(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 2, done.stderr
    (said,) = (line for line in done.stderr.splitlines() if line.startswith("harness: "))
    assert "Permission denied" in said
    assert "Traceback" not in done.stderr


def test_of_commands_that_race_for_a_folder_one_has_it_and_the_others_say_so(tmp_path: Path) -> None:
    for number in range(max(FAULTS // 4, 1)):
        cwd = tmp_path / f"{number}"
        cwd.mkdir()
        given = {"cwd": cwd, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        racers = [subprocess.Popen(COMMAND, **given) for _ in range(2)]  # type: ignore[call-overload]
        ends = [(*racer.communicate(timeout=120), racer.returncode) for racer in racers]
        assert 0 in [code for *_, code in ends]
        for said, errors, code in ends:
            assert code in (0, 2), errors
            if code == 2:
                assert "is being run by process" in errors.splitlines()[-1]
                assert said == ""
        assert len({said for said, _, code in ends if code == 0}) == 1


def test_little_address_space_is_refused_before_libraries_wait_for_ever(tmp_path: Path) -> None:
    """With 550 MB OpenBLAS never ends being loaded."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (550 << 20, resource.RLIM_INFINITY))

    done = subprocess.run(
        COMMAND, cwd=tmp_path, preexec_fn=limit, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "harness: this process: has 550 MiB of address space, and needs 1536 MiB to start; raise the limit that "
        "`ulimit -v` shows\n"
    )


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (
            "can't start new thread",
            "the machine starts no more threads; raise the limits that `ulimit -u` and `ulimit -v` show",
        ),
        (
            "cannot cache function 'f': no locator available for file 'rle.py'",
            "compiled code can be kept neither in the package's folder nor in the home folder; set NUMBA_CACHE_DIR to a"
            " folder that can be written to",
        ),
    ],
)
def test_a_limit_of_the_machine_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: str, told: str
) -> None:
    def fail() -> None:
        raise RuntimeError(raised)

    monkeypatch.setattr(main, "build", lambda only: fail)
    monkeypatch.setattr("sys.argv", ["harness", "run"])
    assert main._run() == 1
    assert capsys.readouterr().err == f"harness: {told} (--debug shows where)\n"


def test_other_errors_of_that_kind_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("another one")

    monkeypatch.setattr(main, "build", lambda only: fail)
    monkeypatch.setattr("sys.argv", ["harness", "run"])
    with pytest.raises(RuntimeError, match="another one"):
        main._run()
