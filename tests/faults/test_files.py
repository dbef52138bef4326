"""Files that are damaged, lost or refused behind a run's back: the next run mends it, or says what to delete."""

from __future__ import annotations

import errno
import os
import random
import shutil
import time
from pathlib import Path

import pytest
from fault_count import FAULTS
from small_runs import SmallModel, make_run

from harness.errors import UserError
from harness.run import Run, execute

UNEQUAL = ("environment.json", "timings.json", "progress.json", "run.log", "run.lock")
"""Files that say when and where; all others are the same in every run."""


def contents(run: Run) -> dict[str, bytes]:
    """What must not depend on faults; folders of runs differ, and are left out."""
    files = [p for p in run.folder.rglob("*") if p.is_file() and p.name not in UNEQUAL]
    named = str(run.folder).encode()
    return {str(p.relative_to(run.folder)): p.read_bytes().replace(named, b"FOLDER") for p in files}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """The files of a run without faults."""
    run = make_run(tmp_path / "whole")
    assert execute(run).exit_code == 0
    return contents(run)


def assert_goes_on(run: Run, whole: dict[str, bytes]) -> None:
    """One more run mends it; or it refuses, until what it says was done."""
    try:
        outcome = execute(run)
    except UserError as error:
        refusal = error
        if is_file := "delete it" in refusal.mend:
            Path(refusal.where).unlink()
        outcome = execute(run, fresh=not is_file)
        assert is_file or "--fresh" in str(refusal)
    assert outcome.exit_code == 0
    assert contents(run) == whole


def flip(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ chance.randrange(1, 256)]) + data[at + 1 :]


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def overwrite(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(data))
    return data[:start] + chance.randbytes(min(64, len(data) - start)) + data[start + 64 :]


DAMAGES = (flip, truncate, overwrite)


def test_damage_to_any_file_is_mended_or_refused(tmp_path: Path, whole: dict[str, bytes]) -> None:
    chance = random.Random(0)
    run = make_run(tmp_path / "damaged")
    execute(run)
    files = sorted(p for p in run.folder.rglob("*") if p.is_file())
    for number in range(4 * FAULTS):
        path, damage = files[number % len(files)], DAMAGES[number % len(DAMAGES)]
        path.write_bytes(damage(path.read_bytes() or b"nothing", chance))
        assert_goes_on(run, whole)


def test_a_damaged_shard_is_never_read(tmp_path: Path) -> None:
    chance = random.Random(1)
    run = make_run(tmp_path)
    execute(run)
    path = run.store.path(2)
    intact = path.read_bytes()
    for _ in range(50 * FAULTS):
        for damage in DAMAGES:
            path.write_bytes(damage(intact, chance))
            with pytest.raises(UserError, match=r"2\.parquet: is (damaged|truncated)"):
                run.store.read_table(2)


@pytest.mark.parametrize("lost", ["predictions", ""])
def test_a_folder_that_vanishes_during_a_run_costs_its_videos_only(
    tmp_path: Path, whole: dict[str, bytes], lost: str
) -> None:
    chance = random.Random(lost)
    for number in range(FAULTS):
        at = chance.randrange(1, 5)

        def vanish(video_id: int, at: int = at, folder: Path = tmp_path / f"{number}") -> None:
            if video_id == at:
                for run_folder in folder.iterdir():
                    shutil.rmtree(run_folder / lost, ignore_errors=True)

        run = make_run(tmp_path / f"{number}", SmallModel(vanish))
        assert execute(run).exit_code == (0 if at == 1 else 1)
        assert_goes_on(make_run(tmp_path / f"{number}"), whole)


def test_a_file_system_that_fails_at_any_moment_is_said_in_one_line(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, flush = random.Random(3), os.fsync
    for number in range(FAULTS):
        calls, at, code = 0, chance.randrange(20), chance.choice((errno.EIO, errno.ENOSPC, errno.ESTALE, errno.EROFS))

        def fail(descriptor: int, at: int = at, code: int = code) -> None:
            nonlocal calls
            calls += 1
            if calls > at:
                raise OSError(code, os.strerror(code))
            flush(descriptor)

        run = make_run(tmp_path / f"{number}")
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            with pytest.raises(UserError, match=f"cannot be written: {os.strerror(code)}"):
                execute(run)
        assert_goes_on(run, whole)


def test_clocks_and_file_times_that_jump_change_nothing(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, now = random.Random(4), time.time

    def stop(video_id: int) -> None:
        if video_id == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now() + chance.choice((-1e9, -5.0, 0.0, 1e9)))
        for number in range(FAULTS):
            with pytest.raises(KeyboardInterrupt):
                execute(make_run(tmp_path / f"{number}", SmallModel(stop)))
            run = make_run(tmp_path / f"{number}")
            for path in run.folder.rglob("*"):
                os.utime(path, (0, chance.uniform(0, 2e9)))
            assert_goes_on(run, whole)
