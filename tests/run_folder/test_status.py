"""What `harness status` says of runs that run, have ended, were stopped or killed; from their files alone.

Tests of `harness/cli/status.py` and `harness/run_folder/progress.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from small_runs import SmallModel, make_run, make_video

from harness.errors import UserError
from harness.events import Event
from harness.run_folder.lock import locked
from harness.run_folder.progress import PROGRESS_FILE, RunProgress, Snapshot, write_progress
from harness.run_folder.status import read_status
from harness.runner import Run, execute


def finished(tmp_path: Path, **options: Any) -> Run:
    run = make_run(tmp_path, **options)
    execute(run)
    return run


def say(run: Run, **said: Any) -> None:
    """Let a run have said this of itself."""
    snapshot = Snapshot(**({"written": time.time()} | said))
    (run.folder / PROGRESS_FILE).write_bytes(msgspec.json.encode(snapshot))


def test_a_finished_run_is_complete(tmp_path: Path) -> None:
    now = read_status(finished(tmp_path).folder)
    assert (now.state, now.total, now.done, now.failed, now.seconds_left) == ("complete", 4, 4, (), None)
    assert now.session is not None
    assert (now.session.done, now.session.frames, now.session.work) == (4, 12, 1)
    (worker,) = now.session.workers
    assert (worker.device, worker.done, worker.frames, worker.state, worker.video) == ("cpu", 4, 12, "idle", None)
    assert now.frames_per_second is not None
    assert now.frames_per_second > 0


def test_failures_are_told(tmp_path: Path) -> None:
    def before(video_id: int) -> None:
        if video_id == 2:
            raise RuntimeError("no luck")

    now = read_status(finished(tmp_path, model=SmallModel(before)).folder)
    assert (now.state, now.done) == ("incomplete", 3)
    assert [(f.video_id, f.error) for f in now.failed] == [(2, "RuntimeError: no luck")]
    assert now.session is not None
    assert (now.session.failed, now.session.workers[0].failed) == (1, 2)


def test_an_interrupted_run_is_named_so(tmp_path: Path) -> None:
    def before(video_id: int) -> None:
        if video_id == 3:
            raise KeyboardInterrupt

    run = make_run(tmp_path, SmallModel(before))
    with pytest.raises(KeyboardInterrupt):
        execute(run)
    now = read_status(run.folder)
    assert (now.state, now.done) == ("interrupted", 2)


def test_a_run_that_spoke_just_now_is_running(tmp_path: Path) -> None:
    run = finished(tmp_path)
    run.store.path(4).unlink()
    say(run, videos=4, done=3, frames=9, work=0.75, seconds=30.0)
    now = read_status(run.folder)
    assert (now.state, now.done) == ("running", 3)
    assert now.seconds_left == pytest.approx(10, abs=1)
    assert (now.videos_per_second, now.frames_per_second) == (0.1, 0.3)


@pytest.mark.parametrize("shift", [-3600, 3600])
def test_a_silent_run_is_running_while_its_folder_is_locked_and_dead_after(tmp_path: Path, shift: float) -> None:
    """Clocks may be wrong by an hour, in both directions."""
    run = finished(tmp_path)
    say(run, written=time.time() + shift)
    with locked(run.folder):
        assert read_status(run.folder).state == "running"
    assert read_status(run.folder).state == "dead"


@pytest.mark.parametrize("damage", [None, b"", b"{", b'{"format": 9}', b'{"workers": 3}'])
def test_a_folder_without_a_readable_progress_still_has_numbers(tmp_path: Path, damage: bytes | None) -> None:
    run = finished(tmp_path)
    path = run.folder / PROGRESS_FILE
    path.unlink() if damage is None else path.write_bytes(damage)
    now = read_status(run.folder)
    assert (now.state, now.done, now.total, now.session) == ("complete", 4, 4, None)
    (run.folder / "metrics.json").unlink()
    assert read_status(run.folder).state == "dead"


def test_a_session_is_told_as_it_goes(tmp_path: Path) -> None:
    progress, videos = RunProgress(), [make_video(1, length=9), make_video(2)]
    progress.expect(videos)
    progress.worker(1, "loading", "cuda:1")
    progress.worker(1, "idle", host="node", pid=7)
    progress.began(1, videos[0])
    first = progress.snapshot()
    assert [w.state for w in first.workers] == ["loading", "working"]
    assert (first.workers[1].device, first.workers[1].host, first.workers[1].video) == ("cuda:1", "node", 1)
    progress.worker(1, "lost")
    progress.worker(1, "loading")
    progress.ended(1, Event("retried", 1, 2.0, 9))
    progress.began(0, videos[0])
    progress.ended(0, Event("done", 1, 3.0, 9, 1))
    now = progress.snapshot()
    assert (now.done, now.failed, now.frames, now.work) == (1, 0, 9, 0.75)
    assert (now.workers[1].state, now.workers[1].losses, now.workers[1].failed) == ("loading", 1, 1)
    assert (now.workers[0].state, now.workers[0].seconds) == ("idle", 3.0)


def test_a_folder_that_takes_no_file_does_not_stop_a_run(tmp_path: Path) -> None:
    (tmp_path / PROGRESS_FILE).mkdir()
    with write_progress(RunProgress(), tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [PROGRESS_FILE]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-c", "from harness.cli.main import main; main()", "status"]
    environment = {**os.environ, "COLUMNS": "120"}
    return subprocess.run([*start, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_the_command_tells_it_in_words_and_as_json(tmp_path: Path) -> None:
    run = finished(tmp_path)
    done = command(str(run.folder), "--watch")
    assert done.returncode == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert first == f"{run.folder}: complete"
    assert second.startswith("4 of 4 videos (100 %), 0 failed, ")
    assert "cpu" in done.stdout
    say(run, written=1.0)
    dead = command(str(run.folder), "--json")
    assert dead.returncode == 1
    record = json.loads(dead.stdout)
    assert (record["state"], record["videos"]) == ("dead", {"total": 4, "done": 4, "failed": []})


def test_no_run_folder_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        read_status(tmp_path)


def test_files_that_were_changed_after_the_run_are_named(tmp_path: Path) -> None:
    folder = finished(tmp_path).folder
    for name in ("metrics.json", "failures.json"):
        (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    (folder / PROGRESS_FILE).write_text("{")
    now = read_status(folder)
    assert [line.partition(":")[0] for line in now.damaged] == [
        str(folder / name) for name in ("failures.json", "metrics.json", PROGRESS_FILE)
    ]
    assert "does not match the checksum of metrics.json in SHA256SUMS" in now.damaged[1]
    assert now.record()["damaged"] == list(now.damaged)
    done = subprocess.run([sys.executable, "-m", "harness", "status", str(folder)], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout.count(b"\ndamaged: ") == 3


def test_hostile_progress_is_told_without_an_error(tmp_path: Path) -> None:
    run = finished(tmp_path)
    say(run, state="running", seconds=1e308, work=1e-300, host="\x1b[31m", pid=1)
    assert read_status(run.folder).seconds_left is None
