"""Runs whose processes are killed again and again end with the same bytes as one that was left alone."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fault_count import FAULTS
from faulty_runs import COMMAND, LAUNCHES
from worker_runs import SAME, is_alive, needs_ray

from harness.datasets.shapes_scenes import VIDEOS

# While Ray starts it ends a process that has lost one of its daemons itself, with exit code 1 and a line of its log.
LAST_WORDS = r"harness: |\[\S+ \S+ E \d+ \d+\] "

JUMPY_CLOCK = """
import random, sys, time
_now, _chance = time.time, random.Random()
def jumpy_time():
    is_ray = sys._getframe(1).f_globals.get("__name__", "").startswith("ray.")
    return _now() + (0.0 if is_ray else _chance.choice((-1e6, -5.0, 0.0, 0.0, 7.0, 1e6)))
time.time = jumpy_time
"""
"""What a process with this as its ``sitecustomize`` takes for the time of day.

Ray's own code is told the true one: it waits for its daemons by the time of day, and does not start while that jumps.
"""


@dataclass(frozen=True)
class Engine:
    """How a run is asked for, how many kills it gets, how many seconds at most are spent on waiting for a video."""

    arguments: Sequence[str] = ()
    kills: int = FAULTS
    patience: Sequence[float] = (1, 5)


# Ray takes seconds to start: few kills meet anything else if they are not waited for, and each costs a start.
RAY = Engine(("--engine", "ray", "--workers", "2"), FAULTS if FAULTS > 10 else (FAULTS + 1) // 2, (3, 10, 60, 60))


@dataclass
class Storm:
    """Kills the command of a run, one of its workers, or one of Ray's daemons, at random moments."""

    engine: Engine
    environment: dict[str, str]
    killed: list[str] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(20))

    @property
    def left(self) -> int:
        """How many kills are still to come."""
        return self.engine.kills - len(self.killed)

    def launch(self, cwd: Path) -> tuple[int, str]:
        """Start the run and kill until it ends; return its exit code and what it said."""
        said = cwd / "stderr.txt"
        with (
            said.open("w") as errors,
            subprocess.Popen(
                [*COMMAND, "runs", *self.engine.arguments],
                cwd=cwd,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            ) as process,
        ):
            others: set[int] = set()
            while self.left and process.poll() is None:
                self._wait(process, cwd)
                others |= set(descendants(process.pid))
                kind, victim = self._victim(process.pid, sorted(filter(is_alive, others)))
                if process.poll() is None:
                    os.kill(victim, 9)
                    self.killed.append(kind)
                if victim == process.pid:
                    break
            process.wait(120)
        await_end(others)
        return process.returncode, said.read_text()

    def _victim(self, command: int, others: Sequence[int]) -> tuple[str, int]:
        """One process and its kind, each kind as often. Who guards Ray against the death of the command is spared."""
        kinds = {"command": [command]}
        for pid in others:
            kinds.setdefault(kind_of(pid), []).append(pid)
        kind = self.rng.choice(sorted(kinds.keys() - {"guard", "ended"}))
        return kind, self.rng.choice(kinds[kind])

    def _wait(self, process: subprocess.Popen[bytes], cwd: Path) -> None:
        """Until some more videos are done or some time later."""
        more = self.rng.choice((0, 1, 3, 6, 9))
        wanted = len(shards(cwd)) + more
        deadline = time.monotonic() + self.rng.choice(self.engine.patience)
        while process.poll() is None and len(shards(cwd)) < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(self.rng.uniform(0, 0.01 if more else min(self.engine.patience)))


def descendants(pid: int) -> list[int]:
    """The processes that a command has started, and those that they have; none where the system does not say."""
    found: list[int] = []
    try:
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            found += [child, *descendants(child)]
    except OSError:
        pass
    return found


def kind_of(pid: int) -> str:
    """What a process that a command has started is for."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return "ended"
    start = " ".join(line[:4])
    if "ray_guard.py" in start:
        return "guard"
    is_worker = any(word in start for word in ("multiprocessing", "default_worker.py", "ray::_Actor", "ray::IDLE"))
    return "worker" if is_worker else "daemon"


def await_end(others: set[int]) -> None:
    """Wait until all have found out that their command is gone."""
    deadline = time.monotonic() + 20
    while any(map(is_alive, others)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [(pid, kind_of(pid)) for pid in others if is_alive(pid)]


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
    done = subprocess.run([*COMMAND, "runs"], cwd=cwd, capture_output=True, text=True, check=False)
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
    "engine",
    [
        pytest.param(Engine(), id="in-process"),
        pytest.param(Engine(("--workers", "2")), id="two workers"),
        pytest.param(RAY, id="ray", marks=needs_ray),
    ],
)
def test_runs_killed_at_random_moments_while_clocks_jump_end_with_the_same_bytes(
    quiet: dict[str, bytes], tmp_path: Path, jumpy_environment: dict[str, str], engine: Engine
) -> None:
    storm = Storm(engine, jumpy_environment)
    rounds = 0
    while storm.left:
        cwd = tmp_path / f"{rounds}"
        cwd.mkdir()
        for _ in range(LAUNCHES + storm.left):
            code, said = storm.launch(cwd)
            assert code in (0, 1, 2, -9), said
            assert "Traceback" not in said
            assert code in (0, -9) or re.match(LAST_WORDS, said.splitlines()[-1]), said
            if code == 0:
                break
        assert contents(cwd) == quiet
        rounds += 1
