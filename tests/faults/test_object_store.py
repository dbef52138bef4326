"""Runs in an object store whose processes are killed, and whose line to the store is slow, cut, or dead for a while."""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from fault_count import FAULTS
from faulty_runs import COMMAND, LAUNCHES
from object_stores import BadLine, Throttle, s3_environment
from worker_runs import SAME

from harness.paths import Location, ObjectPath


def environment(address: str) -> dict[str, str]:
    return {**os.environ, **s3_environment(address), "OMP_NUM_THREADS": "1"}


def contents(runs: Location) -> dict[str, bytes]:
    """What must not depend on where a run lies, nor on what happened to it."""
    (folder,) = runs.glob("*")
    named = json.loads((folder / "metrics.json").read_bytes())["folder"].encode()
    files = [*(folder / "predictions").glob("*.parquet"), *(folder / name for name in (*SAME, "failures.json"))]
    return {path.name: path.read_bytes().replace(named, b"FOLDER") for path in files}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run on a disk that nobody disturbed."""
    cwd = tmp_path_factory.mktemp("quiet")
    subprocess.run([*COMMAND, "runs"], cwd=cwd, capture_output=True, check=True)
    return contents(cwd / "runs")


def killed_at_random(command: Sequence[str], cwd: Path, given: dict[str, str], rng: random.Random) -> int | None:
    """Start a command and kill it before long; return its exit code if it was quicker."""
    with subprocess.Popen(command, cwd=cwd, env=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            return process.wait(rng.uniform(0.5, 6))
        except subprocess.TimeoutExpired:
            process.kill()
    return None


def test_runs_killed_at_random_moments_go_on(
    s3: str, s3_folder: ObjectPath, quiet: dict[str, bytes], tmp_path: Path
) -> None:
    rng, left = random.Random(0), FAULTS
    while left:
        runs = s3_folder / f"{left}"
        for _ in range(LAUNCHES + left):
            code = killed_at_random([*COMMAND, str(runs)], tmp_path, environment(s3), rng) if left else None
            left -= left > 0 and code is None
            if code is None and not left:
                code = subprocess.run([*COMMAND, str(runs)], env=environment(s3), cwd=tmp_path, check=False).returncode
            assert code in (None, 0)
            if code == 0:
                break
        assert contents(runs) == quiet


def test_a_line_that_waits_and_is_cut_changes_nothing(
    s3: str, s3_folder: ObjectPath, quiet: dict[str, bytes], tmp_path: Path
) -> None:
    for number in range(max(FAULTS // 4, 1)):
        runs = s3_folder / f"{number}"
        with BadLine(s3, badness=0.012, seed=number).open() as line:
            for _ in range(LAUNCHES):
                done = subprocess.run(
                    [*COMMAND, str(runs)], env=environment(line.address), cwd=tmp_path, capture_output=True, text=True,
                    check=False,
                )  # fmt: skip
                assert done.returncode in (0, 2), done.stderr
                assert "Traceback" not in done.stderr
                if done.returncode == 0:
                    break
            assert line.cuts + line.waits > 0
        assert contents(runs) == quiet


def test_a_store_that_vanishes_during_a_run_is_one_line_and_costs_nothing(
    s3: str, s3_folder: ObjectPath, quiet: dict[str, bytes], tmp_path: Path
) -> None:
    with BadLine(s3).open() as line:
        command, given = [*COMMAND, str(s3_folder)], {**environment(line.address), "AWS_MAX_ATTEMPTS": "2"}

        def vanish() -> None:
            deadline = time.monotonic() + 60
            while len(list(s3_folder.rglob("*.parquet"))) < 9 and time.monotonic() < deadline:
                time.sleep(0.01)
            line.is_down = True

        watcher = threading.Thread(target=vanish)
        watcher.start()
        done = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True, check=False)
        watcher.join()
        assert done.returncode == 2, done.stderr
        (said,) = (text for text in done.stderr.splitlines() if text.startswith("harness: "))
        assert said.startswith(f"harness: {s3_folder}/oracle-shapes-val-")
        assert "Traceback" not in done.stderr
        kept = len(list(s3_folder.rglob("*.parquet")))
        assert kept >= 9
        line.is_down = False
        again = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["runs"][0]["complete"] is True
    assert contents(s3_folder) == quiet


def test_a_store_that_throttles_is_asked_again(
    s3: str, s3_folder: ObjectPath, quiet: dict[str, bytes], tmp_path: Path
) -> None:
    with Throttle(s3, share=0.05).open() as store:
        done = subprocess.run(
            [*COMMAND, str(s3_folder)], env=environment(store.address), cwd=tmp_path, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert store.refused > 3
    assert contents(s3_folder) == quiet


def test_a_store_that_refuses_everything_is_named_in_one_line(s3: str, s3_folder: ObjectPath, tmp_path: Path) -> None:
    with Throttle(s3, share=1.0).open() as store:
        given = {**environment(store.address), "AWS_MAX_ATTEMPTS": "2"}
        done = subprocess.run(
            [*COMMAND, str(s3_folder)], env=given, cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"harness: {s3_folder}")
    assert "Service Unavailable" in said
