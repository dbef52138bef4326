"""Ctrl-C, SIGTERM and SIGHUP end a command with exit code 130; a run says how to go on, and goes on at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from worker_runs import is_alive, needs_ray

MAIN = "from harness.cli.main import main; main()"
COMMAND = [sys.executable, "-c", MAIN, "run", "--model", "oracle"]
ARGUMENTS = ["--dataset", "shapes", "--split", "train", "--set", "erode_px=-64", "--no-mlflow"]


def has_begun(folder: Path) -> bool:
    """Wait until the first video of a run is done."""
    deadline = time.monotonic() + 90
    while not list(folder.glob("runs/*/predictions/*.parquet")):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def state(folder: Path) -> str:
    (run,) = folder.glob("runs/*")
    done = subprocess.run([sys.executable, "-c", MAIN, "status", str(run), "--json"], capture_output=True, check=False)
    assert done.returncode == 1
    return str(json.loads(done.stdout)["state"])


def workers(folder: Path) -> list[int]:
    (file,) = folder.glob("runs/*/progress.json")
    return [worker["pid"] for worker in json.loads(file.read_bytes())["workers"] if worker["pid"]]


@pytest.fixture(autouse=True)
def signals_as_in_a_terminal() -> Iterator[None]:
    """Commands inherit ignored signals: those of tests that run in the background, or under nohup."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("number", "to_all", "options"),
    [
        (signal.SIGINT, False, []),
        (signal.SIGTERM, False, []),
        (signal.SIGHUP, False, []),
        (signal.SIGTERM, False, ["--workers", "2"]),
        (signal.SIGTERM, True, ["--workers", "2"]),  # as SLURM does
        (signal.SIGHUP, True, ["--workers", "2"]),  # as a terminal does
        pytest.param(signal.SIGTERM, False, ["--engine", "ray", "--workers", "1"], marks=needs_ray),
    ],
)
def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals, to_all: bool, options: Sequence[str]
) -> None:
    command = [*COMMAND, *ARGUMENTS, *options]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert has_begun(tmp_path)
        if to_all:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    expected = " ".join(["harness run --model oracle", *ARGUMENTS, *options])
    by = "" if number == signal.SIGINT else f" by {number.name}"
    assert said.splitlines()[-1] == f"harness: interrupted{by}; finished videos are kept, resume with: {expected}"
    assert "Traceback" not in said
    assert state(tmp_path) == "interrupted"
    assert not any(is_alive(pid) for pid in workers(tmp_path))
    if options or number != signal.SIGTERM:
        return
    again = subprocess.run([*command, "--limit", "20"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr


def test_a_hangup_that_is_ignored_stays_so(tmp_path: Path) -> None:
    ignoring = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); {MAIN}"  # what nohup does
    command = [sys.executable, "-c", ignoring, *COMMAND[3:], *ARGUMENTS, "--limit", "20"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        assert has_begun(tmp_path)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_other_commands_say_that_they_were_interrupted(number: signal.Signals) -> None:
    slow = f"import os, harness.cli.doctor as doctor; doctor.examine = lambda: os.kill(os.getpid(), {number.value}); "
    command = [sys.executable, "-c", slow + MAIN, "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    by = "" if number == signal.SIGINT else " by SIGTERM"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"harness: interrupted{by}\n")
