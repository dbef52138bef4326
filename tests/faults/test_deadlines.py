"""Servers that never end an answer, or ask for an hour: the run goes on, gives up, and is logged later.

Tests of `harness/tracking/calls.py`.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from first_runs import first_run
from mlflow import MlflowClient
from typer.testing import CliRunner

from harness.cli.main import build
from harness.errors import UserError
from harness.paths import ObjectPath, StoreError
from harness.tracking import calls
from harness.tracking.calls import BackgroundThread, call_with_deadline
from harness.tracking.mlflow import MlflowTracker

BUSY = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3600\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
DRIP = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{"


@pytest.fixture(autouse=True)
def no_server_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def lock_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock of its own: a call that is given up keeps it for as long as the server lives."""
    monkeypatch.setattr(calls, "ONE_AT_A_TIME", threading.RLock())
    monkeypatch.setattr("harness.tracking.mlflow.ONE_AT_A_TIME", calls.ONE_AT_A_TIME)


@contextmanager
def hostile(answer: bytes, drips: bool) -> Iterator[str]:
    """A server that answers every request so; with ``drips`` it sends a further byte each 0.2 seconds, for ever."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(1 << 16)
                connection.sendall(answer)
                while drips and not over.wait(0.2):
                    connection.sendall(b" ")
            except OSError:
                pass

    def listen(listener: socket.socket) -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, args=(listener,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()


SERVERS = {"busy": (BUSY, False, "too many 429"), "drips": (DRIP, True, "has not answered within 1 s")}


def run(folder: Path, *arguments: str) -> Any:
    words = ("run", "--model", "oracle", "--dataset", "shapes", "--limit", "1", "--runs-dir", str(folder), "--json")
    return CliRunner().invoke(build(), [*words, *arguments])


@pytest.mark.usefixtures("lock_of_calls")
@pytest.mark.parametrize("kind", SERVERS)
def test_a_hostile_server_costs_a_line_and_is_caught_up_with(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, drips, cause = SERVERS[kind]
    monkeypatch.setattr("harness.tracking.mlflow.FINISH_SECONDS", 30.0 if kind == "busy" else 1.0)
    began = time.monotonic()
    with hostile(answer, drips) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        done = run(tmp_path / "runs")
    assert done.exit_code == 0
    assert time.monotonic() - began < 30
    record = json.loads(done.stdout)["runs"][0]
    (folder,) = (tmp_path / "runs").glob("oracle-*")
    assert record["complete"]
    assert cause in done.stderr
    assert f"run `harness log {folder}` to log it once MLflow answers" in done.stderr
    time.sleep(1)  # the call that was given up ends with its server
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    logged = CliRunner().invoke(build(), ["log", str(folder), "--tag", "late=yes"])
    assert logged.exit_code == 0, logged.stderr
    uri = f"sqlite:///{tmp_path / 'runs' / '.mlflow' / 'mlflow.db'}"
    assert logged.stdout == f"{folder}: {uri}\n"
    client = MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("shapes").experiment_id])
    assert (found.info.status, found.data.tags["late"]) == ("FINISHED", "yes")
    assert found.data.metrics["AP"] == record["metrics"]["AP"]
    files = {file.path for file in client.list_artifacts(found.info.run_id)}
    assert {"metrics.json", "per_category.json", "config.json"} <= files


@pytest.mark.usefixtures("lock_of_calls")
def test_a_run_does_not_wait_for_a_server_while_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.tracking.mlflow.STOPPED_SECONDS", 0.5)
    folder = tmp_path / "oracle-shapes-val-1"
    folder.mkdir()
    with hostile(DRIP, drips=True) as uri:
        tracker = MlflowTracker(tmp_path, uri)
        began = time.monotonic()
        tracker.start({"model": "oracle", "dataset": "shapes", "folder": str(folder)})
        for step in range(100):
            tracker.log_step({"loss": 1.0}, step)
        assert time.monotonic() - began < 1
        (warning,) = tracker.finish()
        assert time.monotonic() - began < 10
        assert "has not answered within 0 s" in warning
        assert tracker.finish() == []  # and at once
        assert tracker.outcome.startswith("not logged")
    assert not (folder / "mlflow.json").exists()


@pytest.mark.usefixtures("lock_of_calls")
def test_reading_an_experiment_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.tracking.experiment import records_of

    monkeypatch.setattr("harness.tracking.experiment.SEARCH_SECONDS", 1.0)
    with hostile(DRIP, drips=True) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(UserError, match="cannot be read: it has not answered within 1 s"):
            records_of("shapes", tmp_path)


def test_an_object_store_that_sends_a_byte_now_and_then_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    from object_stores import environment, s3_environment

    for name in ("REQUEST_SECONDS", "LIST_SECONDS", "READ_SECONDS"):
        monkeypatch.setattr(f"harness.paths.{name}", 1.0)
    place = ObjectPath("s3://bucket/runs/config.json")
    with hostile(DRIP, drips=True) as address, environment(s3_environment(address)):
        for use in (place.read_bytes, place.is_file, lambda: list(place.parent.glob("*")), lambda: place.write(b"1")):
            began = time.monotonic()
            with pytest.raises(StoreError):
                use()
            assert time.monotonic() - began < 15
            monkeypatch.setattr("harness.paths.SILENT_SECONDS", 0.0)  # ask again at once


def test_actions_beside_are_done_in_order_and_waited_for() -> None:
    beside, done, gate = BackgroundThread("test"), list[int](), threading.Event()
    beside.do(lambda: (beside.do(lambda: done.append(0)), done.append(1))[1])  # within an action at once
    beside.do(lambda: bool(gate.wait(10)) and None)
    beside.do(lambda: done.append(2))
    assert not beside.wait(0.1)
    assert not beside.wait(10, longest=0.05)
    assert done == [0, 1]
    gate.set()
    assert beside.wait(10)
    assert done == [0, 1, 2]
    beside.do(lambda: done.append(3))  # by a new thread
    assert beside.wait(10)
    assert done[-1] == 3


def test_a_call_returns_or_raises_what_its_action_does() -> None:
    assert call_with_deadline(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        call_with_deadline(lambda: 1 / 0)


def test_three_first_runs_at_once_are_all_logged(tmp_path: Path) -> None:
    processes = [
        multiprocessing.get_context("spawn").Process(target=first_run, args=(str(tmp_path), number))
        for number in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [path.read_text() for path in sorted(tmp_path.glob("*/warnings"))] == [""] * 3
    client = MlflowClient(f"sqlite:///{tmp_path / '.mlflow' / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("shapes").experiment_id])
    assert {run.data.tags["number"] for run in found} == {"0", "1", "2"}


def test_the_store_that_another_process_opens_is_waited_for_up_to_a_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr("harness.tracking.mlflow.CREATE_SECONDS", 0.2)
    (tmp_path / ".mlflow").mkdir()
    place = tmp_path / "oracle-shapes-val-1"
    place.mkdir()
    with (tmp_path / ".mlflow" / "create.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        tracker = MlflowTracker(tmp_path)
        tracker.start({"model": "oracle", "dataset": "shapes", "split": "val", "folder": str(place)})
        (warning,) = tracker.finish()
    assert "another run has been opening it for 0 s" in warning
