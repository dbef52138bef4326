"""Files that are damaged, lost or refused behind a run's back: the run itself or the next one makes them anew."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_count import FAULTS
from file_damages import DAMAGES
from small_runs import SmallModel, make_run

from harness.errors import UserError
from harness.reports.tables import table_of_run
from harness.run_folder.checksums import SUMMED, parse_sums
from harness.run_folder.checksums import SUMS_FILE as SUMS
from harness.run_folder.layout import PER_PAIR
from harness.run_folder.status import read_status
from harness.run_folder.store import PredictionStore
from harness.runner import Run, execute

UNEQUAL = ("environment.json", "timings.json", "progress.json", "run.log", "run.lock")
"""Files that say when and where; all others are the same in every run."""
OF_EVERY_RUN = tuple(name for name in SUMMED if name not in (PER_PAIR, "weights.json"))


def contents(run: Run) -> dict[str, bytes]:
    """What must not depend on faults; folders of runs differ, and are left out. The sums must be those of the files."""
    files = {str(p.relative_to(run.folder)): p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    sums = parse_sums(files.pop(SUMS), SUMS)
    assert sums == {name: hashlib.sha256(files[name]).hexdigest() for name in OF_EVERY_RUN}
    named = str(run.folder).encode()
    return {name: data.replace(named, b"FOLDER") for name, data in files.items() if name not in UNEQUAL}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """The files of a run without faults."""
    run = make_run(tmp_path / "whole")
    assert execute(run, table=table_of_run).exit_code == 0
    return contents(run)


def assert_goes_on(run: Run, whole: dict[str, bytes]) -> None:
    """One more run repairs it."""
    assert execute(run, table=table_of_run).exit_code == 0
    assert contents(run) == whole


def test_damage_to_any_file_is_repaired(tmp_path: Path, whole: dict[str, bytes]) -> None:
    rng = random.Random(0)
    run = make_run(tmp_path / "damaged")
    execute(run, table=table_of_run)
    files = sorted(p for p in run.folder.rglob("*") if p.is_file())
    assert {path.name for path in files} > {*OF_EVERY_RUN, SUMS, "1.parquet", "matches.msgpack", "run.lock"}
    for number in range(4 * FAULTS):
        path, damage = files[number % len(files)], DAMAGES[number % len(DAMAGES)]
        path.write_bytes(damage(path.read_bytes() or b"nothing", rng))
        assert_goes_on(run, whole)


def test_a_damaged_shard_is_never_read(tmp_path: Path) -> None:
    rng = random.Random(1)
    run = make_run(tmp_path)
    execute(run, table=table_of_run)
    path = run.store.path(2)
    intact = path.read_bytes()
    for _ in range(50 * FAULTS):
        for damage in DAMAGES:
            path.write_bytes(damage(intact, rng))
            with pytest.raises(UserError, match=r"2\.parquet: is (damaged|truncated)"):
                run.store.read_table(2)


def test_shards_that_are_damaged_during_a_run_are_computed_anew(tmp_path: Path, whole: dict[str, bytes]) -> None:
    rng = random.Random(5)
    for number in range(FAULTS):
        at = rng.randrange(2, 5)
        damage, victim, model = DAMAGES[number % len(DAMAGES)], rng.randrange(1, at), SmallModel()
        run = make_run(tmp_path / f"{number}", model)
        shard = run.folder / "predictions" / f"{victim}.parquet"

        def harm(video_id: int, at: int = at, damage: Any = damage, shard: Path = shard) -> None:
            if video_id == at:
                shard.write_bytes(damage(shard.read_bytes(), rng))

        model.before = harm
        outcome = execute(run, table=table_of_run)
        assert outcome.exit_code == 0
        assert "the predictions of 1 of 4 videos were damaged or lost: computed again" in outcome.messages[0]
        assert contents(run) == whole


@pytest.mark.parametrize("lost", ["predictions", ""])
def test_a_folder_that_vanishes_during_a_run_costs_its_videos_only(
    tmp_path: Path, whole: dict[str, bytes], lost: str
) -> None:
    rng = random.Random(lost)
    for number in range(FAULTS):
        at = rng.randrange(1, 5)

        def vanish(video_id: int, at: int = at, folder: Path = tmp_path / f"{number}") -> None:
            if video_id == at:
                for run_folder in folder.iterdir():
                    shutil.rmtree(run_folder / lost, ignore_errors=True)

        run = make_run(tmp_path / f"{number}", SmallModel(vanish))
        outcome = execute(run, table=table_of_run)
        assert outcome.exit_code == 0
        assert (f"the predictions of {at - 1} of 4 videos" in "".join(outcome.messages)) == (at > 1)
        assert contents(run) == whole


def test_a_shard_that_is_gone_for_a_moment_is_not_scored_as_absent(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, listings = make_run(tmp_path), 0

    def done(store: PredictionStore) -> set[int]:
        nonlocal listings
        found = listed(store)
        if len(found) == len(run.videos):
            listings += 1
            for video in found if listings == 1 else ():
                store.path(video).rename(store.path(video).with_suffix(".away"))
        return found

    listed = PredictionStore.done
    monkeypatch.setattr(PredictionStore, "done", done)
    outcome = execute(run, table=table_of_run)
    for path in run.store.folder.glob("*.away"):
        path.unlink()
    assert (outcome.exit_code, contents(run)) == (0, whole)
    assert "the predictions of 4 of 4 videos were damaged or lost: computed again" in outcome.messages[0]


def test_a_file_system_that_fails_at_any_moment_is_said_in_one_line(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, flush = random.Random(3), os.fsync
    for number in range(FAULTS):
        calls, at, code = 0, rng.randrange(20), rng.choice((errno.EIO, errno.ENOSPC, errno.ESTALE, errno.EROFS))

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
                execute(run, table=table_of_run)
        assert_goes_on(run, whole)


def test_a_slow_file_system_costs_time_only_and_the_run_is_seen_to_live(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, states, calls = random.Random(5), set[str](), 0

    def slow(action: Callable[..., Any]) -> Callable[..., Any]:
        def after_a_while(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            time.sleep(rng.uniform(0, 0.02))
            return action(*given, **named)

        return after_a_while

    run = make_run(tmp_path / "slow", SmallModel(lambda video_id: states.add(read_status(run.folder).state)))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", slow(os.fsync))
        for name in ("replace", "read_bytes", "unlink", "open", "exists"):
            patched.setattr(Path, name, slow(getattr(Path, name)))
        assert execute(run, table=table_of_run).exit_code == 0
    assert calls > 50
    assert states == {"running"}
    assert contents(run) == whole


def test_clocks_and_file_times_that_jump_change_nothing(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, now = random.Random(4), time.time

    def stop(video_id: int) -> None:
        if video_id == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: now() + rng.choice((-1e9, -5.0, 0.0, 1e9)))
        for number in range(FAULTS):
            with pytest.raises(KeyboardInterrupt):
                execute(make_run(tmp_path / f"{number}", SmallModel(stop)))
            run = make_run(tmp_path / f"{number}")
            for path in run.folder.rglob("*"):
                os.utime(path, (0, rng.uniform(0, 2e9)))
            assert_goes_on(run, whole)
