"""Runs whose processes are killed again and again end with the same bytes as one that was left alone."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fault_count import FAULTS
from worker_runs import is_alive

from harness.datasets.shapes_scenes import VIDEOS

# Masks grown by many steps take a while, so that most kills meet a run in the middle of its videos.
COMMAND = [
    *(sys.executable, "-c", "from harness.cli.main import main; main()"),
    *("run", "--model", "oracle", "--dataset", "shapes", "--set", "erode_px=-24", "--set", "score_noise=1"),
    *("--no-mlflow", "--json", "--runs-dir", "runs", "--device", "cpu"),
]
SAME = ("metrics.json", "per_category.csv", "table.md", "config.json", "videos.json")
LAUNCHES = 20  # without a kill left to give, a launch ends well: more than a few means that runs do not go on

JUMPY_CLOCK = """
import random, time
_now, _chance = time.time, random.Random()
time.time = lambda: _now() + _chance.choice((-1e6, -5.0, 0.0, 0.0, 7.0, 1e6))
"""
"""What a process with this as its ``sitecustomize`` takes for the time of day."""


@dataclass
class Storm:
    """Kills the command of a run, or one of its workers, at random moments; ``left`` of them are still to come."""

    arguments: Sequence[str]
    environment: dict[str, str]
    left: int
    chance: random.Random = field(default_factory=lambda: random.Random(20))

    def launch(self, cwd: Path) -> tuple[int, str]:
        """Start the run and kill until it ends; return its exit code and what it said."""
        said = cwd / "stderr.txt"
        with (
            said.open("w") as errors,
            subprocess.Popen(
                [*COMMAND, *self.arguments], cwd=cwd, env=self.environment, stdout=subprocess.DEVNULL, stderr=errors
            ) as process,
        ):
            workers: set[int] = set()
            while self.left and process.poll() is None:
                self._wait(process, cwd)
                workers |= set(workers_of(process.pid))
                victim = self.chance.choice([process.pid, *filter(is_alive, sorted(workers))])
                if process.poll() is None:
                    os.kill(victim, 9)
                    self.left -= 1
                if victim == process.pid:
                    break
            process.wait(120)
        await_end(workers)
        return process.returncode, said.read_text()

    def _wait(self, process: subprocess.Popen[bytes], cwd: Path) -> None:
        """Until some videos or some time later."""
        wanted = len(shards(cwd)) + self.chance.choice((0, 1, 3, 6, 9))
        deadline = time.monotonic() + self.chance.choice((1, 5))
        while process.poll() is None and len(shards(cwd)) < wanted and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(self.chance.uniform(0, 0.01 if wanted else 1))


def workers_of(pid: int) -> list[int]:
    """The processes that a command has started, and those that they have; none where the system does not say."""
    found: list[int] = []
    try:
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            found += [child, *workers_of(child)]
    except OSError:
        pass
    return found


def await_end(workers: set[int]) -> None:
    """Wait until the workers have found out that their command is gone."""
    deadline = time.monotonic() + 60
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_alive, workers))


def shards(cwd: Path) -> list[Path]:
    return list(cwd.glob("runs/*/predictions/*.parquet"))


def contents(cwd: Path) -> dict[str, bytes]:
    """What must not depend on who was killed."""
    (folder,) = (cwd / "runs").iterdir()
    assert not list(folder.glob(".*.tmp")) + list(folder.glob("predictions/.*"))
    return {path.name: path.read_bytes() for path in [*shards(cwd), *(folder / name for name in SAME)]}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that nobody killed."""
    cwd = tmp_path_factory.mktemp("quiet")
    done = subprocess.run(COMMAND, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["complete"] is True
    assert len(shards(cwd)) == VIDEOS["val"]
    return contents(cwd)


@pytest.fixture
def jumpy_environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which the clock jumps, forth and back."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(JUMPY_CLOCK)
    path = [str(site), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="in-process"),
        pytest.param(("--workers", "2"), id="two workers"),
    ],
)
def test_runs_killed_at_random_moments_while_clocks_jump_end_with_the_same_bytes(
    quiet: dict[str, bytes], tmp_path: Path, jumpy_environment: dict[str, str], arguments: tuple[str, ...]
) -> None:
    storm = Storm(arguments, jumpy_environment, FAULTS)
    rounds = 0
    while storm.left:
        cwd = tmp_path / f"{rounds}"
        cwd.mkdir()
        for _ in range(LAUNCHES + storm.left):
            code, said = storm.launch(cwd)
            assert code in (0, 1, 2, -9), said
            assert "Traceback" not in said
            if code == 0:
                break
        assert contents(cwd) == quiet
        rounds += 1
