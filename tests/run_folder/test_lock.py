"""Leases: of the processes that want a run folder in an object store one has it, and nobody waits for the dead."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from harness.errors import UserError
from harness.paths import ObjectPath
from harness.run_folder import lock
from harness.run_folder.lock import is_locked, locked


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that run out after seconds; stores tell times in whole seconds."""
    monkeypatch.setattr(lock, "LEASE_SECONDS", 3.0)
    monkeypatch.setattr(lock, "_RENEW_SECONDS", 0.2)


def leave_lease(folder: ObjectPath, host: str = "elsewhere", pid: int = 1, number: int = 1) -> ObjectPath:
    """A lease that its holder has not given back."""
    path = folder / f"run.lock.{number}"
    path.write(msgspec.json.encode({"host": host, "pid": pid, "word": "w", "beat": 0, "held": True}))
    return path


def names(folder: ObjectPath) -> list[str]:
    return [path.name for path in folder.glob("*")]


def test_a_lease_is_given_back_and_the_next_one_follows(store_folder: ObjectPath) -> None:
    assert not is_locked(store_folder)
    for number in (1, 2):
        with locked(store_folder) as check:
            assert is_locked(store_folder)
            assert names(store_folder) == [f"run.lock.{number}"]
            check()
        assert not is_locked(store_folder)


def test_who_comes_second_is_refused_once_the_first_has_shown_that_it_lives(s3_folder: ObjectPath) -> None:
    with locked(s3_folder) as check:
        with pytest.raises(UserError, match=rf"is being run by process {os.getpid()} on "), locked(s3_folder):
            pass
        check()
        assert names(s3_folder) == ["run.lock.1"]


def test_a_lease_of_another_machine_is_waited_for_until_it_has_run_out(s3_folder: ObjectPath) -> None:
    leave_lease(s3_folder)
    assert is_locked(s3_folder)
    began = time.monotonic()
    with locked(s3_folder):
        assert time.monotonic() - began > 1
        assert names(s3_folder) == ["run.lock.2"]


def test_the_lease_of_a_process_of_this_machine_that_has_ended_is_not_waited_for(
    s3_folder: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", 1e6)
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    leave_lease(s3_folder, lock._here(), int(ended.stdout))
    with locked(s3_folder):
        assert names(s3_folder) == ["run.lock.2"]


def test_a_holder_that_was_overtaken_finds_out(s3_folder: ObjectPath) -> None:
    with locked(s3_folder) as check:
        leave_lease(s3_folder, number=2)
        time.sleep(2)  # ten renewals
        with pytest.raises(UserError, match="was taken over by another process"):
            check()
    assert msgspec.json.decode((s3_folder / "run.lock.2").read_bytes())["held"] is True


def test_of_many_who_want_a_free_folder_one_gets_it(s3_folder: ObjectPath, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom harness.errors import UserError\nfrom harness.paths import location\n"
        "from harness.run_folder.lock import locked\n"
        "try:\n    with locked(location(sys.argv[1])):\n        print('had it', flush=True)\n        sys.stdin.read()\n"
        "except UserError as error:\n    print(error, flush=True)\n"
    )
    given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": tmp_path}
    wanting = [subprocess.Popen([sys.executable, "-c", program, str(s3_folder)], **given) for _ in range(4)]  # type: ignore[call-overload]
    said = []
    for process in wanting:
        said.append(process.stdout.readline().strip())
        assert sum(line == "had it" for line in said) <= 1
    for process in wanting:
        process.communicate("")
    assert sorted(line == "had it" for line in said) == [False, False, False, True]
    assert all(line == "had it" or "is being run by process" in line for line in said)


def test_a_lease_that_nobody_of_ours_wrote_does_not_block(s3_folder: ObjectPath) -> None:
    (s3_folder / "run.lock.7").write(b"\xff")
    (s3_folder / "run.lock.bak").write(b"")
    assert not is_locked(s3_folder)
    with locked(s3_folder):
        assert names(s3_folder) == ["run.lock.8", "run.lock.bak"]


def test_a_lease_that_makes_room_for_the_next_one_while_its_age_is_asked_for(
    s3_folder: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, modified = leave_lease(s3_folder), ObjectPath.modified

    def overtaken(path: ObjectPath) -> float:
        if path == first:
            leave_lease(s3_folder, number=2)
            first.unlink()
        return modified(path)

    monkeypatch.setattr(ObjectPath, "modified", overtaken)
    with pytest.raises(UserError, match="is being run by process 1 on elsewhere"), locked(s3_folder):
        pass
    assert names(s3_folder) == ["run.lock.2"]


def test_a_question_for_the_time_that_is_cleared_away_takes_no_lease_from_anybody(
    s3_folder: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    modified = ObjectPath.modified

    def cleared(path: ObjectPath) -> float:
        if path.name.endswith(".tmp"):
            path.unlink()
        return modified(path)

    with locked(s3_folder) as check:
        monkeypatch.setattr(ObjectPath, "modified", cleared)
        with pytest.raises(UserError, match=rf"is being run by process {os.getpid()} on "), locked(s3_folder):
            pass
        check()
