"""Resuming: what is done is not done again, what failed is tried again, and two runs never share a folder."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest.mock import Mock

import pytest
from small_runs import SmallModel, interrupting, make_dataset, make_run

from harness.errors import UserError
from harness.events import Event
from harness.reports.tables import table_of_run
from harness.run_folder.checksums import SUMS_FILE as SUMS
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.lock import locked
from harness.run_folder.status import read_status
from harness.runner import execute


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


def test_there_are_no_checksums_while_files_may_change(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    execute(run)
    before = (run.folder / SUMS).read_bytes()
    run.store.path(3).unlink()
    with pytest.raises(KeyboardInterrupt):
        execute(make_run(tmp_path, interrupting(3)))
    assert not (run.folder / SUMS).exists()
    assert FinishedRun.open(run.folder).record["complete"] is True  # of the run before
    execute(run)
    kept = [line for line in before.splitlines() if not line.endswith(b"environment.json")]  # which has the time
    assert set(kept) <= set((run.folder / SUMS).read_bytes().splitlines())


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


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def test_damaged_shards_are_computed_anew(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    whole = execute(run)
    shards = {v: run.store.path(v).read_bytes() for v in (1, 3)}
    for video in shards:
        cut(run.store.path(video))
    cut(run.store.path(4).rename(run.store.path(9)))  # of a video that is not the run's: it is in the way, too
    model, events = SmallModel(), list[Event]()
    outcome = execute(make_run(tmp_path, model), on_event=events.append)
    assert model.seen == [4, 1, 3]
    assert [(e.kind, e.video_id) for e in events] == [
        ("done", 4), ("lost", 1), ("lost", 3), ("done", 1), ("done", 3)
    ]  # fmt: skip
    assert outcome.record == whole.record
    assert outcome.exit_code == 0
    (message,) = outcome.messages
    assert "the predictions of 2 of 4 videos were damaged or lost: computed again" in message
    assert {v: run.store.path(v).read_bytes() for v in shards} == shards
    assert "3.parquet is truncated" in (run.folder / "run.log").read_text()
    now = read_status(run.folder)
    assert now.session is not None
    assert (now.state, now.session.videos, now.session.done, now.session.work) == ("complete", 3, 3, 1)


def test_what_fails_when_it_is_computed_anew_is_missing(tmp_path: Path) -> None:
    def before(video_id: int) -> None:
        if video_id == 3:
            raise RuntimeError("not today")

    run = make_run(tmp_path)
    execute(run)
    cut(run.store.path(3))
    outcome = execute(make_run(tmp_path, SmallModel(before)))
    assert outcome.exit_code == 1
    assert outcome.record["videos"]["done"] == 3
    assert [e["video_id"] for e in json.loads((run.folder / "failures.json").read_text())["failed"]] == [3]
    assert not run.store.path(3).exists()


def test_videos_that_failed_are_not_tried_again_for_the_damage_of_others(tmp_path: Path) -> None:
    def before(video_id: int) -> None:
        if video_id == 3:
            cut(run.store.path(1))
            raise RuntimeError("not today")

    run = make_run(tmp_path)
    model = SmallModel(before)
    outcome = execute(make_run(tmp_path, model))
    assert model.seen == [1, 2, 3, 3, 4, 1]
    assert outcome.record["videos"]["failed"] == [{"video_id": 3, "error": "RuntimeError: not today"}]
    assert [e["video_id"] for e in json.loads((run.folder / "failures.json").read_text())["failed"]] == [3]


def test_a_disk_that_damages_every_shard_is_given_up(tmp_path: Path) -> None:
    def before(video_id: int) -> None:
        if video_id > 1 or len(model.seen) > 4:
            cut(run.store.path(1))

    run, model = make_run(tmp_path), SmallModel(before)
    execute(run)
    for video in (1, 2):
        cut(run.store.path(video))
    with pytest.raises(UserError, match=r"1\.parquet: is truncated .*; repeat its `harness run`"):
        execute(make_run(tmp_path, model))
    assert model.seen == [1, 2]


@pytest.mark.parametrize("limit", [None, 2])
def test_damage_is_found_where_there_is_nothing_to_score(tmp_path: Path, limit: int | None) -> None:
    given = {"dataset": make_dataset(with_truth=False), "limit": limit}
    run = make_run(tmp_path, **given)
    whole = execute(run)
    cut(run.store.path(2))
    tracker = Mock(**{"finish.return_value": []})
    outcome = execute(make_run(tmp_path, **given), tracker)
    assert "the predictions of 1 of" in outcome.messages[0]
    assert outcome.messages[1:] == whole.messages
    assert len(run.store.read_video(2)) == 1
    assert [call[0] for call in tracker.method_calls] == ["start", "log_result", "finish"]


def test_a_shard_that_cannot_be_read_is_no_refusal_of_the_scorer(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    execute(run)
    before = (run.folder / "metrics.json").read_bytes()
    run.store.path(3).unlink()
    run.store.path(3).mkdir()
    with pytest.raises(UserError, match=r"3\.parquet: cannot be read"):
        execute(run)
    assert (run.folder / "metrics.json").read_bytes() == before


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    execute(run)
    left = [run.folder / ".metrics.json.123.tmp", run.store.folder / ".2.parquet.123.tmp"]
    for path in left:
        path.write_bytes(b"half")
    execute(run)
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize("damage", ["{", "[1]", '"\\ud800"', "\xff", "", '{"seed": 1}', "[" * 100_000])
def test_a_damaged_configuration_is_written_anew(tmp_path: Path, damage: str) -> None:
    run = make_run(tmp_path)
    execute(run)
    config = run.folder / "config.json"
    before = config.read_bytes()
    config.write_text(damage, encoding="latin-1")
    assert execute(run).exit_code == 0
    assert config.read_bytes() == before
    assert "config.json is damaged and is rewritten" in (run.folder / "run.log").read_text()


def test_a_configuration_of_another_format_is_not_called_damaged(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    execute(run)
    config = run.folder / "config.json"
    before = config.read_bytes()
    config.write_bytes(before.replace(b'"format": 2', b'"format": 1'))
    assert execute(run).exit_code == 0
    assert config.read_bytes() == before
    told = "config.json was written by another version of the harness (format 1; this one reads 2) and is rewritten"
    assert told in (run.folder / "run.log").read_text()


def test_another_configuration_of_the_same_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runner.content_digest", lambda content: f"{0:08}{content['seed']}")  # they begin alike
    run, other = make_run(tmp_path), make_run(tmp_path, seed=1)
    assert run.folder == other.folder
    execute(run)
    with pytest.raises(UserError, match="is of another configuration"):
        execute(other)
    assert execute(run).exit_code == 0
    assert execute(other, fresh=True).exit_code == 0


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


def test_a_larger_limit_goes_on_and_a_smaller_one_takes_nothing_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = execute(make_run(tmp_path, limit=2)).record
    assert (first["limit"], first["videos"]["total"]) == (2, 2)
    model = SmallModel()
    run = make_run(tmp_path, model, dataset=make_dataset())
    assert execute(run).record["limit"] is None
    assert model.seen == [3, 4]
    whole = (run.folder / "metrics.json").read_bytes()
    smaller = make_run(tmp_path, model, limit=1)
    assert execute(smaller).record["videos"]["total"] == 4
    assert (run.folder / "metrics.json").read_bytes() == whole
    assert "is complete for 4 videos: its numbers stay over these" in caplog.text
    assert execute(smaller, fresh=True).record["limit"] == 1


def test_a_limit_on_a_run_that_was_cut_short_is_what_is_run(tmp_path: Path) -> None:
    model = SmallModel(before=lambda video: die() if video == 3 else None)
    with pytest.raises(KeyboardInterrupt):
        execute(make_run(tmp_path, model))
    run = make_run(tmp_path, limit=1)
    record = execute(run).record
    assert (record["videos"]["total"], record["videos"]["done"], record["limit"]) == (1, 1, 1)


def die() -> None:
    raise KeyboardInterrupt


def test_another_protocol_scores_the_same_predictions(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    execute(run)
    first = (run.folder / "per_category.csv").read_bytes()
    model = SmallModel()
    both = execute(make_run(tmp_path, model, protocols=("lvvis", "ytvis"))).record
    assert model.seen == []
    assert [one["protocol"]["name"] for one in both["protocols"]] == ["lvvis", "ytvis"]
    assert both["metrics"] == both["protocols"][0]["metrics"]
    assert (run.folder / "per_category.csv").read_bytes() == first
    assert (run.folder / "scores/ytvis/per_category.csv").exists()
    other = execute(make_run(tmp_path, model, protocols=("ytvis",))).record
    assert [one["protocol"]["name"] for one in other["protocols"]] == ["ytvis", "lvvis"]
    assert (run.folder / "scores/lvvis/per_category.csv").read_bytes() == first
    assert not (run.folder / "scores/ytvis").exists()
    renewed = execute(make_run(tmp_path, model, protocols=("ytvis",)), fresh=True).record
    assert [one["protocol"]["name"] for one in renewed["protocols"]] == ["ytvis"]
    assert not (run.folder / "scores").exists()


HOLDER = """
import sys
from pathlib import Path
from harness.run_folder.lock import locked
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


def test_the_table_of_a_run_has_a_column_for_each_protocol(tmp_path: Path) -> None:
    run = make_run(tmp_path, protocols=("lvvis", "hota", "lvvis-fixed"))
    execute(run, table=table_of_run)
    head = (run.folder / "table.md").read_text().splitlines()[0]
    assert [cell.strip() for cell in head.split("|")[-3:-1]] == [
        "HOTA (all scores)",
        "AP_fixed",
    ] or "AP\\_fixed" in head
