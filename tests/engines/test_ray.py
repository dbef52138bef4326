"""The Ray engine, with real Ray on this machine where it is installed: the same bytes, whichever actors are killed.

Commands that are killed over Ray are in `tests/faults/test_kill.py`.

Tests of `harness/engines/ray_connection.py` and `harness/engines/ray_guard.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from worker_runs import Assassin, faulty_run, is_alive, needs_ray, network_run, results, shapes_run

from harness.engines import ray as engine
from harness.errors import UserError
from harness.runner import execute

TWO = partial(engine.ray_pool, workers=2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for several tests, after another one: a run does not end what it has not started."""
    for is_last in (False, True):
        ray, own = engine.connect(None)
        assert own is not None
        if is_last:
            yield
        assert ray.is_initialized()
        own.end(ray)


@needs_ray
def test_actors_that_are_killed_at_work_do_not_change_a_byte(cluster: None, tmp_path: Path) -> None:
    alone, stormy = shapes_run(tmp_path / "alone"), shapes_run(tmp_path / "stormy")
    execute(alone)
    assassin = Assassin(TWO, kills=2)
    outcome = execute(stormy, on_event=assassin.notice, engine=assassin.engine)
    assert outcome.exit_code == 0
    assert len(assassin.killed) == 2
    assert results(stormy) == results(alone)
    assert "was lost: " in (stormy.folder / "run.log").read_text()


@needs_ray
def test_a_network_gives_the_same_bytes_with_two_actors_of_which_one_is_killed(cluster: None, tmp_path: Path) -> None:
    alone, stormy = network_run(tmp_path / "alone"), network_run(tmp_path / "stormy")
    execute(alone)
    assassin = Assassin(TWO, kills=1)
    assert execute(stormy, on_event=assassin.notice, engine=assassin.engine).exit_code == 0
    assert len(assassin.killed) == 1
    assert results(stormy) == results(alone)


@needs_ray
def test_tracks_come_through_the_object_store_where_the_store_is_not_seen(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.SharedFilesystemProbe, "write", lambda probe: None)
    near, far = faulty_run(tmp_path / "near"), faulty_run(tmp_path / "far")
    execute(near)
    assert execute(far, engine=TWO).exit_code == 0
    assert results(far) == results(near)


@needs_ray
def test_a_video_that_kills_or_fails_twice_is_isolated(cluster: None, tmp_path: Path) -> None:
    run = faulty_run(tmp_path, signals={2: signal.SIGSEGV}, errors=[4])
    assert execute(run, engine=TWO).exit_code == 1
    failures = json.loads((run.folder / "failures.json").read_text())["failed"]
    assert [f["video_id"] for f in failures] == [2, 4]
    assert " was lost: " in failures[0]["error"]
    assert run.store.done() == {1, 3}


@needs_ray
def test_a_video_that_hangs_is_ended_at_its_limit(cluster: None, tmp_path: Path) -> None:
    run = faulty_run(tmp_path / "a", 3, signals={2: signal.SIGSTOP})
    assert execute(run, engine=partial(engine.ray_pool, workers=1, video_timeout=8.0)).exit_code == 1
    (failure,) = json.loads((run.folder / "failures.json").read_text())["failed"]
    assert failure["error"].endswith("was ended: video 2 took longer than 8 s (--video-timeout)")
    assert run.store.done() == {1, 3}


@needs_ray
def test_a_model_that_does_not_load_leaves_no_folder(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^weights\.pt: are not there; get them$"):
        execute(faulty_run(tmp_path, load="refuse"), engine=partial(engine.ray_pool, workers=1))
    assert list(tmp_path.iterdir()) == []


@needs_ray
@pytest.mark.parametrize(
    ("ended", "code", "last"),
    [
        ("command", 130, "harness: interrupted"),
        ("raylet", 2, "harness: Ray on this machine: its raylet has ended; repeat the command to resume the run"),
    ],
)
def test_a_command_ends_its_ray_which_only_this_machine_could_reach(
    tmp_path: Path,
    faulty_environment: dict[str, str],
    faulty_command: list[str],
    ended: str,
    code: int,
    last: str,
) -> None:
    import psutil

    arguments = [*faulty_command, "--engine", "ray", "--workers", "1", "--set", "seconds=300"]
    given: dict[str, Any] = {"cwd": tmp_path, "env": faulty_environment, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, start_new_session=True, **given) as driver:
        deadline = time.monotonic() + 180
        while not list(tmp_path.glob("runs/*/progress.json")) and time.monotonic() < deadline:
            time.sleep(0.1)
        everybody = psutil.Process(driver.pid).children(recursive=True)
        listening = [c.laddr.ip for p in everybody for c in p.net_connections("inet") if c.status == "LISTEN"]
        if ended == "command":
            os.killpg(driver.pid, signal.SIGINT)
        else:
            next(p for p in everybody if p.name() == ended).kill()
        assert driver.stderr is not None
        said = driver.stderr.read()
        driver.wait(60)
    assert driver.returncode == code, said
    assert said.splitlines()[-1].startswith(last)
    assert listening
    assert {ip.removeprefix("::ffff:") for ip in listening} <= {"127.0.0.1", "::1"}
    assert all_end([p.pid for p in everybody])


def all_end(pids: Sequence[int]) -> bool:
    """Wait a while for processes to end; whether all do."""
    deadline = time.monotonic() + 30
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(map(is_alive, pids))


START_SESSIONS = """
import os, subprocess, sys, time
from pathlib import Path
from harness.engines.ray_connection import OwnRay
def start(session):
    logs = Path(session, "logs")
    logs.mkdir(parents=True)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], stdout=(logs / "out").open("w"))
    print(sleeper.pid, flush=True)
start(f"session_before_{os.getpid()}")
start("session_2_1")
own = OwnRay()
start(f"session_after_{os.getpid()}")
time.sleep(300)
"""


def test_what_a_killed_process_leaves_of_its_ray_is_killed_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_SESSIONS]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        before, other, after = (int(starter.stdout.readline()) for _ in range(3))
        starter.kill()
    assert all_end([after])
    assert is_alive(before)
    assert is_alive(other)
    for pid in (before, other):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("wanted", "resources", "expected"),
    [
        ({}, {"CPU": 8.0}, ("cpu", 8, 0)),
        ({}, {"CPU": 64.0, "GPU": 8.0}, ("cuda", 8, 1)),
        ({"gpus_per_worker": 0.5}, {"CPU": 64.0, "GPU": 4.0}, ("cuda", 8, 0.5)),
        ({"device": "cpu"}, {"CPU": 4.0, "GPU": 2.0}, ("cpu", 4, 0)),
        ({"device": "cuda", "workers": 16}, {"CPU": 1.0}, ("cuda", 16, 1)),
        ({"gpus_per_worker": 2.0}, {"CPU": 1.0, "GPU": 1.0}, ("cuda", 1, 2)),
    ],
)
def test_workers_fill_the_cluster(
    wanted: dict[str, Any], resources: Mapping[str, float], expected: tuple[str, int, float]
) -> None:
    assert engine.WorkerRequest(**wanted).resolve(resources) == expected


def test_gpus_that_this_machine_lacks_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0, "GPU": 1.0}, is_initialized=lambda: False)
    ended: list[object] = []
    own = SimpleNamespace(end=ended.append, lost=lambda: "")
    monkeypatch.setattr(engine, "connect", lambda address: (started, own))
    told = r"^GPUs: 64 requested for each worker, Ray finds 1 on this machine; name device cpu, fewer gpus"
    with pytest.raises(UserError, match=told):
        execute(faulty_run(tmp_path), engine=partial(engine.ray_pool, device="cuda", gpus_per_worker=64))
    assert ended == [started]
    assert list(tmp_path.iterdir()) == []


def test_ray_chooses_the_gpus(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="device: cuda:1 cannot be requested from Ray"):
        execute(faulty_run(tmp_path), engine=partial(engine.ray_pool, device="cuda:1"))


def test_without_ray_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"engine ray: Ray is not installed; pip install \"ovvis-harness\[ray\]\""):
        execute(faulty_run(tmp_path), engine=TWO)
