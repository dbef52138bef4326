"""Resuming: what is done is not done again, what failed is tried again, and two runs never share a folder."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from small_runs import SmallModel, make_dataset, make_run

from harness.errors import UserError
from harness.run import execute
from harness.run_lock import locked


def interrupting(at: int) -> SmallModel:
    """A model during whose video ``at`` the user presses Ctrl-C."""

    def before(video_id: int) -> None:
        if video_id == at:
            raise KeyboardInterrupt

    return SmallModel(before)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(make_run(tmp_path / "a", interrupting(3)))
    model = SmallModel()
    outcome = execute(make_run(tmp_path / "a", model))
    assert model.seen == [3, 4]
    assert outcome.record["complete"] is True
    whole = execute(make_run(tmp_path / "b"))
    for record in (outcome.record, whole.record):
        del record["folder"]
    assert outcome.record == whole.record


def test_a_finished_run_is_only_scored_again(tmp_path: Path) -> None:
    first = execute(make_run(tmp_path))
    model = SmallModel()
    second = execute(make_run(tmp_path, model))
    assert (model.loads, model.seen) == (0, [])
    assert first.record == second.record


def test_fresh_starts_over_and_leaves_what_is_not_the_runs(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    execute(run)
    (run.folder / "my notes.txt").write_text("keep")
    (run.folder / "mlflow.json").write_text("{}")
    model = SmallModel()
    outcome = execute(make_run(tmp_path, model), fresh=True)
    assert model.seen == [1, 2, 3, 4]
    assert outcome.exit_code == 0
    assert (run.folder / "my notes.txt").read_text() == "keep"
    assert not (run.folder / "mlflow.json").exists()


def test_failed_videos_are_tried_again(tmp_path: Path) -> None:
    def before(video_id: int) -> None:
        if video_id == 2:
            raise RuntimeError("not today")

    run = make_run(tmp_path, SmallModel(before))
    assert execute(run).exit_code == 1
    model = SmallModel()
    outcome = execute(make_run(tmp_path, model))
    assert model.seen == [2]
    assert outcome.exit_code == 0
    assert outcome.record["videos"] == {"total": 4, "done": 4, "failed": []}
    assert json.loads((run.folder / "failures.json").read_text())["failed"] == []


def test_a_damaged_shard_is_named_and_made_anew_once_deleted(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    whole = execute(run)
    shard = run.store.path(3)
    shard.write_bytes(shard.read_bytes()[:100])
    before = (run.folder / "metrics.json").read_bytes()
    with pytest.raises(UserError, match=r"3\.parquet: .*delete it and run again"):
        execute(run)
    assert (run.folder / "metrics.json").read_bytes() == before
    shard.unlink()
    assert execute(run).record == whole.record


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    execute(run)
    left = [run.folder / ".metrics.json.123.tmp", run.store.folder / ".2.parquet.123.tmp"]
    for path in left:
        path.write_bytes(b"half")
    execute(run)
    assert not any(path.exists() for path in left)


def test_another_configuration_in_the_folder_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    execute(run)
    config = run.folder / "config.json"
    config.write_text(config.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match="is of another configuration"):
        execute(run)
    assert execute(run, fresh=True).exit_code == 0


def test_times_of_all_sessions_are_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(make_run(tmp_path, interrupting(3)))
    run = make_run(tmp_path)
    execute(run)
    times = json.loads((run.folder / "timings.json").read_text())
    assert sorted(times["videos"]) == ["1", "2", "3", "4"]
    assert [session["videos"] for session in times["sessions"]] == [2, 2]


@pytest.mark.parametrize("damage", ["[]", "{", '{"videos": 3}'])
def test_damaged_times_do_not_stop_a_run(tmp_path: Path, damage: str) -> None:
    run = make_run(tmp_path)
    execute(run)
    (run.folder / "timings.json").write_text(damage)
    assert execute(run).exit_code == 0
    assert len(json.loads((run.folder / "timings.json").read_text())["sessions"]) == 1


def test_the_limit_of_a_run_is_part_of_what_it_is(tmp_path: Path) -> None:
    execute(make_run(tmp_path, limit=2))
    model = SmallModel()
    execute(make_run(tmp_path, model, dataset=make_dataset()))
    assert model.seen == [1, 2, 3, 4]


HOLDER = """
import sys
from pathlib import Path
from harness.run_lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.readline()
"""


def test_two_processes_exclude_each_other_until_one_is_killed(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    arguments = [sys.executable, "-c", textwrap.dedent(HOLDER), str(run.folder)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "locked\n"
            for fresh in (False, True):
                with pytest.raises(UserError, match=f"is being run by process {holder.pid}; wait for it"):
                    execute(run, fresh=fresh)
            assert run.store.done() == set()
        finally:
            holder.kill()
    assert execute(run).exit_code == 0


def test_the_lock_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path / "run"):
            pass


def test_a_folder_that_cannot_be_written_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        execute(make_run(tmp_path / "runs"))
