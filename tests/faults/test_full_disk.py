"""A disk that takes no more: one line, exit code 2, nothing half-written; with room again the run goes on."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [
    *(sys.executable, "-c", "from harness.cli.main import main; main()"),
    *("run", "--model", "oracle", "--dataset", "shapes", "--no-mlflow", "--json"),
]


def run(cwd: Path, room: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run with a limit in bytes on every file, which the system enforces as it does a full disk."""

    def limit() -> None:
        if room is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    return subprocess.run(COMMAND, cwd=cwd, preexec_fn=limit, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What an undisturbed run says; it also compiles the kernels, whose cache the limit would hit."""
    done = run(tmp_path_factory.mktemp("whole"))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("room", [0, 300, 2000])
def test_a_full_disk_is_one_line_and_nothing_is_lost(whole: str, tmp_path: Path, room: int) -> None:
    done = run(tmp_path, room)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (said,) = (line for line in done.stderr.splitlines() if line.startswith("harness: "))
    assert "cannot be written: File too large" in said
    assert "Traceback" not in done.stderr
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".tmp")]
    (folder,) = (tmp_path / "runs").iterdir()
    for name in ("config.json", "videos.json", "environment.json", "failures.json", "metrics.json"):
        if (folder / name).exists():
            json.loads((folder / name).read_text())
    again = run(tmp_path)
    assert (again.returncode, again.stdout) == (0, whole), again.stderr
