"""Worker processes on this machine: the same bytes as without them, whoever is killed, and nobody left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import worker_models
from small_runs import SmallModel, make_run
from worker_runs import SAME, Assassin, faulty_run, is_alive, network_run, results, shapes_run

from harness.engines import processes
from harness.errors import UserError
from harness.runner import execute

TWO = partial(processes.process_pool, devices=("cpu", "cpu"))


def test_workers_that_are_killed_at_work_do_not_change_a_byte(tmp_path: Path) -> None:
    alone, stormy = shapes_run(tmp_path / "alone"), shapes_run(tmp_path / "stormy")
    execute(alone)
    assassin = Assassin(TWO, kills=3)
    outcome = execute(stormy, on_event=assassin.notice, engine=assassin.engine)
    assert outcome.exit_code == 0
    assert len(assassin.killed) == 3
    assert sum(worker.losses for worker in assassin.snapshot().workers) == 3
    assert results(stormy) == results(alone)
    assert not any(is_alive(worker.pid) for worker in assassin.snapshot().workers)
    first = next(e for e in assassin.events if e.kind == "done")
    assert first.frames == max(len(v.frames) for v in stormy.videos)


@pytest.mark.parametrize("model", ["clipvis", "ov2seg"])
def test_a_network_gives_the_same_bytes_with_two_workers_of_which_one_is_killed(tmp_path: Path, model: str) -> None:
    alone, stormy = network_run(tmp_path / "alone", model), network_run(tmp_path / "stormy", model)
    execute(alone)
    assassin = Assassin(TWO, kills=1)
    assert execute(stormy, on_event=assassin.notice, engine=assassin.engine).exit_code == 0
    assert len(assassin.killed) == 1
    assert results(stormy) == results(alone)


def test_a_video_that_kills_or_fails_twice_is_isolated(tmp_path: Path) -> None:
    run = faulty_run(tmp_path / "a", 5, signals={2: signal.SIGSEGV}, errors=[4])
    outcome = execute(run, engine=TWO)
    assert outcome.exit_code == 1
    failures = json.loads((run.folder / "failures.json").read_text())["failed"]
    assert [f["video_id"] for f in failures] == [2, 4]
    assert failures[0]["error"].endswith("was killed by SIGSEGV")
    assert failures[1]["error"] == "RuntimeError: no luck with 4 in process True"
    assert "Traceback" in failures[1]["traceback"]
    assert run.store.done() == {1, 3, 5}


def test_a_video_that_hangs_is_ended_at_its_limit(tmp_path: Path) -> None:
    run = faulty_run(tmp_path / "a", 4, signals={2: signal.SIGSTOP})
    began = time.monotonic()
    outcome = execute(run, engine=partial(TWO, video_timeout=8.0))
    assert time.monotonic() - began < 100
    assert outcome.exit_code == 1
    (failure,) = json.loads((run.folder / "failures.json").read_text())["failed"]
    assert (failure["video_id"], failure["attempts"]) == (2, 2)
    assert failure["error"].endswith("was ended: video 2 took longer than 8 s (--video-timeout)")
    assert run.store.done() == {1, 3, 4}


def test_a_worker_that_fills_its_memory_costs_one_video(tmp_path: Path) -> None:
    run = faulty_run(tmp_path / "a", 4, hogs=[2])
    assert execute(run, engine=TWO).exit_code == 1
    (failure,) = json.loads((run.folder / "failures.json").read_text())["failed"]
    assert (failure["video_id"], failure["attempts"]) == (2, 2)
    assert failure["error"].startswith("MemoryError")
    assert run.store.done() == {1, 3, 4}


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A cgroup (of either version) whose processes may have 128 MB of memory more together."""
    root = Path("/sys/fs/cgroup")
    parent, limit = (root / "memory", "limit_in_bytes") if (root / "memory").is_dir() else (root, "max")
    group = parent / f"harness-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / f"memory.{limit}").write_text(f"{128 << 20}")
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no cgroup with a memory limit can be made here: {error}")
    yield group
    group.rmdir()


def test_a_worker_that_the_kernel_kills_for_memory_costs_one_video(tmp_path: Path, small_group: Path) -> None:
    run = faulty_run(tmp_path / "a", 4, hogs=[2], group=small_group)
    assert execute(run, engine=TWO).exit_code == 1
    (failure,) = json.loads((run.folder / "failures.json").read_text())["failed"]
    assert (failure["video_id"], failure["attempts"]) == (2, 2)
    assert failure["error"].endswith("was killed by SIGKILL (out of memory?)")
    assert run.store.done() == {1, 3, 4}


def test_what_failed_once_is_done_at_the_second_attempt(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    run = faulty_run(tmp_path, 5, signals={1: signal.SIGKILL, 3: signal.SIGKILL}, errors=[2], folder=marks)
    assert execute(run, engine=TWO).exit_code == 0
    assert {path.name for path in marks.iterdir()} == {"1", "2", "3"}
    assert "was killed by SIGKILL (out of memory?)" in (run.folder / "run.log").read_text()


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ("refuse", r"^weights\.pt: are not there; get them$"),
        ("break", r"^model faulty on cpu of .*: does not load: ZeroDivisionError: of zero; see the traceback"),
    ],
)
def test_a_model_that_does_not_load_leaves_no_folder(tmp_path: Path, load: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        execute(faulty_run(tmp_path, load=load), engine=TWO)
    assert list(tmp_path.iterdir()) == []


def test_workers_of_a_process_that_has_used_cuda_can_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a notebook's: they are new processes, and not forked ones, in which CUDA refuses every call."""
    monkeypatch.setattr(worker_models, "cuda_is_in_use", True)
    run = faulty_run(tmp_path, load="use cuda")
    with pytest.raises(UserError, match="Cannot re-initialize CUDA"):
        execute(run)
    assert execute(run, engine=TWO).exit_code == 0


def test_a_model_that_works_on_several_videos_itself_has_one_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = faulty_run(tmp_path, load="batched")
    assert execute(run, engine=TWO).exit_code == 0
    assert run.store.read_video(2)[0].score == 0.04
    assert "faulty processes several videos itself, so it runs in one worker" in caplog.text


def test_what_cannot_be_sent_to_a_process_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model small: cannot be sent to other processes.*one worker"):
        execute(make_run(tmp_path, SmallModel(before=lambda video: None)), engine=TWO)


def test_a_store_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    run = faulty_run(tmp_path)
    run.folder.mkdir(parents=True)
    run.store.folder.write_text("in the way")
    with pytest.raises(UserError, match="predictions: cannot be created"):
        execute(run, engine=TWO)


def test_the_command_reports_a_poisonous_video_of_a_third_partys_model(
    tmp_path: Path, faulty_environment: dict[str, str], faulty_command: list[str]
) -> None:
    poison = [*faulty_command, "--workers", "2", "--set", "signals={2: 9}", "--set", "score=0.25"]
    done = subprocess.run(poison, cwd=tmp_path, env=faulty_environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "1 of 4 videos failed" in done.stderr
    assert "video 2: worker" in done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    (failure,) = json.loads((folder / "failures.json").read_text())["failed"]
    assert (failure["video_id"], failure["attempts"]) == (2, 2)
    assert sorted(p.name for p in (folder / "predictions").iterdir()) == ["1.parquet", "3.parquet", "4.parquet"]


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_driver(
    tmp_path: Path, faulty_environment: dict[str, str], faulty_command: list[str], way: signal.Signals
) -> None:
    arguments = [*faulty_command, "--workers", "2", "--set", "seconds=300"]
    given: dict[str, Any] = {"cwd": tmp_path, "env": faulty_environment, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, start_new_session=True, **given) as driver:
        pids = working(tmp_path)
        if way == signal.SIGINT:  # Ctrl-C reaches all processes of the terminal
            os.killpg(driver.pid, way)
        else:
            driver.kill()
        assert driver.stderr is not None
        said = driver.stderr.read()
        driver.wait(30)
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, pids))
    assert "Traceback" not in said
    if way == signal.SIGINT:
        assert driver.returncode == 130
        assert "resume with: harness run --model faulty" in said.splitlines()[-1]


def working(folder: Path) -> list[int]:
    """Wait until two workers are at work; return their processes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for path in folder.glob("runs/*/progress.json"):
            workers = json.loads(path.read_text())["workers"]
            if sum(worker["state"] == "working" for worker in workers) == 2:
                return [worker["pid"] for worker in workers]
        time.sleep(0.05)
    raise AssertionError("no two workers began")


def test_a_run_whose_driver_is_killed_ends_with_the_same_bytes_with_any_number_of_workers(
    tmp_path: Path, faulty_environment: dict[str, str], faulty_command: list[str]
) -> None:
    quiet, stormy = tmp_path / "quiet", tmp_path / "stormy"
    arguments = [*faulty_command, "--limit", "16", "--set", "seconds=0.05", "--json", "--workers"]
    given: dict[str, Any] = {"env": faulty_environment, "text": True}
    for folder in (quiet, stormy):
        folder.mkdir()
    for workers, shards in (("2", 3), ("3", 9)):
        with subprocess.Popen([*arguments, workers], cwd=stormy, stderr=subprocess.DEVNULL, **given) as driver:
            deadline = time.monotonic() + 120
            while len(list(stormy.glob("runs/*/predictions/*.parquet"))) < shards and time.monotonic() < deadline:
                time.sleep(0.001)
            driver.kill()
        assert driver.returncode == -signal.SIGKILL
    last = subprocess.run([*arguments, "1"], cwd=stormy, capture_output=True, check=False, **given)
    whole = subprocess.run([*arguments, "2"], cwd=quiet, capture_output=True, check=False, **given)
    assert (last.returncode, last.stdout) == (0, whole.stdout), last.stderr
    (one,), (other,) = (list((folder / "runs").iterdir()) for folder in (quiet, stormy))
    written = [{p.name: p.read_bytes() for p in (f / "predictions").iterdir()} for f in (one, other)]
    assert written[0] == written[1]
    assert len(written[0]) == 16
    for name in SAME:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
