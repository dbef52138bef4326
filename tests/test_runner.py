"""A run from the model to the files in its folder: what is written, what fails, and what is said about it.

Tests of `harness/run_folder/provenance.py`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import SmallConfig, SmallModel, box, make_dataset, make_run
from typer.testing import CliRunner

from harness.cli.main import build
from harness.errors import FrameError, UserError
from harness.events import Event
from harness.frame_digests import digests_of
from harness.reports.tables import table_of_run
from harness.run_folder.provenance import environment, git_commit
from harness.run_folder.store import tabulate
from harness.runner import Run, execute
from harness.scoring.score import score_results
from harness.types import Track

DIGEST = hashlib.sha256(b"1").hexdigest()


def read(run: Run, name: str) -> Any:
    return json.loads((run.folder / name).read_bytes())


class Recorder:
    """A tracker that remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start(self, record: Any) -> None:
        self.calls.append(("start", dict(record), (Path(record["folder"]) / "config.json").exists()))

    def log_result(self, run_folder: Path, record: Any, per_category: Any) -> None:
        self.calls.append(("log_result", run_folder, (run_folder / "metrics.json").exists(), len(per_category)))

    def finish(self) -> list[str]:
        self.calls.append(("finish",))
        return ["the server sleeps"]


def failing(*videos: int, times: int = 99, error: Exception | None = None) -> SmallModel:
    """A model that fails on these videos, the first ``times`` times."""
    left = dict.fromkeys(videos, times)

    def before(video_id: int) -> None:
        if left.get(video_id, 0) > 0:
            left[video_id] -= 1
            raise error or RuntimeError(f"no luck with {video_id}\nsecond line")

    return SmallModel(before)


def test_a_perfect_model_gets_a_perfect_score(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    outcome = execute(run)
    assert outcome.exit_code == 0
    assert outcome.messages == ()
    record = read(run, "metrics.json")
    assert record == json.loads(json.dumps(outcome.record))
    assert record["complete"] is True
    assert record["protocol"]["name"] == "lvvis"
    assert record["metrics"]["AP"] == pytest.approx(1, abs=1e-12)
    assert record["corrected"]["APb"] == pytest.approx(1, abs=1e-12)
    assert record["metrics"]["APn"] is None
    assert record["undefined"]["metrics"]["APn"]
    assert record["videos"] == {"total": 4, "done": 4, "failed": []}


def test_the_folder_holds_what_the_run_was(tmp_path: Path) -> None:
    run = make_run(tmp_path, config=SmallConfig(score=0.25), seed=7)
    execute(run, table=table_of_run)
    assert run.folder.name == f"small-small-val-{run.digest[:8]}"
    config = read(run, "config.json")
    assert (config["config"], config["seed"], config["digest"]) == ({"score": 0.25}, 7, run.dataset.digest)
    assert read(run, "environment.json")["inputs"] == {"annotations": run.dataset.digest}
    with (run.folder / "per_category.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["name"], r["groups"]) for r in rows] == [("box", "base"), ("ball", "novel")]
    assert float(rows[0]["AP"]) == pytest.approx(1, abs=1e-12)
    assert rows[1]["AP"] == ""
    assert "| small" in (run.folder / "table.md").read_text()
    assert set(read(run, "timings.json")["videos"]) == {"1", "2", "3", "4"}
    assert "video 3: 1 tracks" in (run.folder / "run.log").read_text()


def test_metrics_have_no_times_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run = make_run(Path("runs"))
        execute(run)
        texts.append((run.folder / "metrics.json").read_bytes())
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "options",
    [
        {"config": SmallConfig(score=0.75)},
        {"seed": 1},
        {"precision": "fp16"},
        {"dataset": make_dataset(3)},
        {"model": SmallModel(version="2")},
        {"model": SmallModel(name="other")},
    ],
)
def test_other_content_has_another_folder(tmp_path: Path, options: dict[str, Any]) -> None:
    assert make_run(tmp_path, **options).folder != make_run(tmp_path).folder


def test_the_checkpoints_bytes_count_and_not_its_name(tmp_path: Path) -> None:
    folders = []
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")):
        (tmp_path / name).write_bytes(content)
        folders.append(make_run(tmp_path, checkpoint=tmp_path / name).folder)
    assert folders[0] == folders[1] != folders[2]


@pytest.mark.parametrize(
    ("card", "backbone", "trained_on"),
    [
        (
            {"variants": [{"backbone": "R50", "trained_on": "LVIS", "sha256": DIGEST}, {"backbone": "R101"}]},
            "R50",
            "LVIS",
        ),
        ({"variants": [{"backbone": "ResNet-50", "in_tables": ["R50", "LVIS"], "sha256": DIGEST}]}, "R50", "LVIS"),
        ({"shipped_miniature": {"backbone": "small", "trained_on": "shapes", "sha256": DIGEST}}, "small", "shapes"),
        ({"variants": [{"backbone": "R50", "sha256": DIGEST}]}, "R50", None),
        ({"variants": [{"backbone": "R50", "sha256": "0"}]}, None, None),
        ({"variants": [{"backbone": "R50"}]}, None, None),
        ({}, None, None),
        ({"variants": 7}, None, None),
        ("free text", None, None),
    ],
)
def test_the_variant_of_the_card_with_the_checkpoints_digest_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: Any, backbone: str | None, trained_on: str | None
) -> None:
    (tmp_path / "mine.pt").write_bytes(b"1")
    run = make_run(tmp_path, checkpoint=tmp_path / "mine.pt")
    monkeypatch.setattr(run.plugin, "card", card, raising=False)
    record = execute(run).record
    assert (record["backbone"], record["trained_on"]) == (backbone, trained_on)
    assert (record["weights"], record["name"]) == ("mine.pt", None)


def test_a_variant_is_known_by_its_sizes_and_its_training_data_by_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes tell the backbone, not what it was trained on; weights of `harness train` tell that themselves."""
    names = {"variants": [{"in_tables": ["R50", "LVIS"]}, {"in_tables": ["Swin-B", "LVIS"]}]}
    for name, trained_on in (("other.pt", None), ("own.safetensors", "coco")):
        path = tmp_path / name
        header = json.dumps({"__metadata__": {"harness": json.dumps({"dataset": "coco"})}}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        run = make_run(tmp_path, checkpoint=path)
        monkeypatch.setattr(run.plugin, "card", names, raising=False)
        monkeypatch.setattr(run.plugin, "released_variant", lambda path: 1, raising=False)
        record = execute(run).record
        assert (record["backbone"], record["trained_on"]) == ("Swin-B", trained_on)


def test_a_missing_checkpoint_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.pt: No such file"):
        execute(make_run(tmp_path, checkpoint=tmp_path / "gone.pt"))


def test_the_device_does_not_change_the_folder(tmp_path: Path) -> None:
    assert make_run(tmp_path, device="cuda:1").folder == make_run(tmp_path).folder


def test_names_stay_inside_the_runs_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path, SmallModel(name="../../evil/name"))
    assert run.folder.parent == tmp_path


def test_a_video_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    model, events = failing(2, times=1), list[Event]()
    outcome = execute(make_run(tmp_path, model), on_event=events.append)
    assert outcome.exit_code == 0
    assert model.seen == [1, 2, 2, 3, 4]
    assert [e.kind for e in events] == ["done", "retried", "done", "done", "done"]


def test_a_video_that_fails_twice_is_reported_and_the_rest_is_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, failing(2))
    outcome = execute(run)
    assert outcome.exit_code == 1
    record = read(run, "metrics.json")
    assert record["complete"] is False
    assert record["videos"] == {
        "total": 4,
        "done": 3,
        "failed": [{"video_id": 2, "error": "RuntimeError: no luck with 2 second line"}],
    }
    assert record["metrics"]["AP"] == pytest.approx(1, abs=1e-12)  # over the videos there are
    (message,) = outcome.messages
    assert "incomplete: 1 of 4 videos failed, the numbers are over the other 3 only" in message
    (failure,) = read(run, "failures.json")["failed"]
    assert "Traceback" in failure["traceback"]


def test_bad_input_in_a_video_is_exit_code_2(tmp_path: Path) -> None:
    outcome = execute(make_run(tmp_path, failing(2, error=UserError("2/00001.jpg", "frame is missing", "get it"))))
    assert outcome.exit_code == 2
    assert "2/00001.jpg: frame is missing; get it" in outcome.messages[0]
    assert outcome.record["videos"]["done"] == 3


def failing_alike(fault: str, videos: Sequence[int] = (1, 2, 3, 4)) -> SmallModel:
    """A model that refuses these videos for the same reason, in words that name the video."""

    def before(video_id: int) -> None:
        if video_id in videos:
            raise UserError(f"small, video {video_id}", f"{fault} ({video_id} of 9)", "correct it")

    return SmallModel(before)


def test_the_same_fault_on_the_first_three_videos_ends_the_run(tmp_path: Path) -> None:
    model = failing_alike("masks are logits")
    run = make_run(tmp_path, model)
    with pytest.raises(UserError, match=r"same reason, so the run was ended: small, video 3: masks are logits \(3 of"):
        execute(run)
    assert model.seen == [1, 2, 3]  # and no video twice
    assert [f["video_id"] for f in read(run, "failures.json")["failed"]] == [1, 2, 3]
    assert {f["attempts"] for f in read(run, "failures.json")["failed"]} == {1}


@pytest.mark.parametrize("videos", [(1, 2), (1, 3, 4), (2, 3, 4)])
def test_a_fault_of_other_videos_leaves_a_run_with_numbers(tmp_path: Path, videos: tuple[int, ...]) -> None:
    outcome = execute(make_run(tmp_path, failing_alike("masks are logits", videos)))
    assert (outcome.exit_code, outcome.record["videos"]["done"]) == (2, 4 - len(videos))


def test_different_faults_do_not_end_a_run(tmp_path: Path) -> None:
    def before(video_id: int) -> None:
        raise UserError("small", "this" if video_id == 2 else "that")

    assert execute(make_run(tmp_path, SmallModel(before))).exit_code == 2


def test_frames_that_are_missing_do_not_end_a_run(tmp_path: Path) -> None:
    def before(video_id: int) -> None:
        if video_id < 4:
            raise FrameError(f"{video_id}/0.jpg", "frame is missing", "get it")

    outcome = execute(make_run(tmp_path, SmallModel(before)))
    assert (outcome.exit_code, outcome.record["videos"]["done"]) == (2, 1)


def test_a_fault_of_the_videos_that_are_left_does_not_end_a_resumed_run(tmp_path: Path) -> None:
    dataset = make_dataset(6)
    for _ in range(2):
        outcome = execute(make_run(tmp_path, failing_alike("masks are logits", (2, 3, 4, 5)), dataset))
        assert outcome.record["videos"]["done"] == 2


def test_faulty_tracks_of_a_model_are_a_failure_of_the_video(tmp_path: Path) -> None:
    model = SmallModel(tracks=lambda video: [Track(video, 1, 0.5, (box(0, 0, 2, 2),) * (2 if video == 3 else 3))])
    outcome = execute(make_run(tmp_path, model))
    assert outcome.record["videos"]["failed"] == [
        {
            "video_id": 3,
            "error": "video 3, track 0: 2 masks for 3 frames; give one mask per frame, None where the object is absent",
        }
    ]


def test_a_run_of_failures_only_has_no_numbers(tmp_path: Path) -> None:
    outcome = execute(make_run(tmp_path, failing(1, 2, 3, 4)))
    assert outcome.exit_code == 1
    assert set(outcome.record["metrics"].values()) == {None}
    assert outcome.record["undefined"]["metrics"]["AP"] == "no video has predictions"
    assert "incomplete: 4 of 4 videos failed, there are no numbers; first: video 1: " in outcome.messages[0]


def test_a_model_that_finds_nothing_has_no_official_numbers_and_zero_corrected_ones(tmp_path: Path) -> None:
    run = make_run(tmp_path, SmallModel(tracks=lambda video: []))
    outcome = execute(run)
    record = read(run, "metrics.json")
    assert (outcome.exit_code, record["complete"]) == (0, True)
    reason = "there are no predictions; the official lvvis tool aborts on an empty list"
    assert outcome.messages == (f"{run.folder}: there are no official numbers: {reason}",)
    assert set(record["metrics"].values()) == {None}
    assert set(record["undefined"]["metrics"].values()) == {reason}
    assert (record["corrected"]["AP"], record["corrected"]["APb"], record["corrected"]["APn"]) == (0, 0, None)
    assert execute(run, strict=True).exit_code == 2


def test_strict_makes_a_warning_a_refusal(tmp_path: Path) -> None:
    run = make_run(tmp_path, dataset=make_dataset(first_annotation=0))
    outcome = execute(run)
    assert outcome.exit_code == 0
    assert [w["kind"] for w in outcome.record["warnings"]] == ["annotation id is 0"]
    outcome = execute(run, strict=True)
    assert outcome.exit_code == 2
    assert "annotation id is 0" in outcome.messages[0]


def test_a_limit_takes_the_first_videos_and_their_truth(tmp_path: Path) -> None:
    model = SmallModel()
    outcome = execute(make_run(tmp_path, model, limit=2))
    assert model.seen == [1, 2]
    assert outcome.record["complete"] is True
    assert outcome.record["videos"]["total"] == 2
    assert outcome.record["metrics"]["AR1"] == pytest.approx(1, abs=1e-12)


def test_withheld_truth_gives_no_number_but_the_zip(tmp_path: Path) -> None:
    run = make_run(tmp_path, dataset=make_dataset(with_truth=False))
    outcome = execute(run)
    assert outcome.exit_code == 0
    assert set(outcome.record["metrics"].values()) == {None}
    assert "submit the predictions to https://server.invalid/submit" in outcome.record["undefined"]["metrics"]["AP"]
    assert str(run.folder / "submission.zip") in outcome.messages[0]
    assert "https://server.invalid/submit" in outcome.messages[0]
    assert (run.folder / "submission.zip").exists()


def test_no_zip_where_videos_are_missing(tmp_path: Path) -> None:
    run = make_run(tmp_path, failing(2), dataset=make_dataset(with_truth=False))
    assert execute(run).exit_code == 1
    assert not (run.folder / "submission.zip").exists()


def test_a_tracker_is_told_in_order_and_its_warnings_are_logged(tmp_path: Path) -> None:
    run, tracker = make_run(tmp_path), Recorder()
    execute(run, tracker)
    start = {"model": "small", "dataset": "small", "split": "val", "folder": str(run.folder)}
    assert tracker.calls == [("start", start, True), ("log_result", run.folder, True, 2), ("finish",)]
    assert "the server sleeps" in (run.folder / "run.log").read_text()


def test_an_interrupted_run_finishes_its_tracking(tmp_path: Path) -> None:
    def interrupt(video_id: int) -> None:
        if video_id == 3:
            raise KeyboardInterrupt

    run, tracker = make_run(tmp_path, SmallModel(interrupt)), Recorder()
    with pytest.raises(KeyboardInterrupt):
        execute(run, tracker)
    assert [call[0] for call in tracker.calls] == ["start", "finish"]
    assert run.store.done() == {1, 2}
    assert not (run.folder / "metrics.json").exists()


def test_chance_is_seeded_per_video(tmp_path: Path) -> None:
    """A model that draws from the global streams draws the same whichever videos were run before."""
    drawn: list[dict[int, tuple[float, float]]] = []
    for order in ((1, 2, 3, 4), (3,)):
        here: dict[int, tuple[float, float]] = {}

        def draw(video_id: int, here: dict[int, tuple[float, float]] = here) -> None:
            here[video_id] = random.random(), float(np.random.random())

        run = make_run(tmp_path / str(len(order)), SmallModel(draw))
        for video_id in {1, 2, 3, 4} - set(order):
            video = run.videos[video_id - 1]
            run.store.write_table(video, tabulate(video, []), digests_of(video.frames))
        execute(run)
        drawn.append(here)
    assert drawn[0][3] == drawn[1][3]
    assert drawn[0][1] != drawn[0][2]


def test_the_store_and_its_export_score_the_same(tmp_path: Path) -> None:
    from harness.export import export_results

    run = make_run(tmp_path)
    outcome = execute(run)
    export_results(run.folder, tmp_path / "results.json")
    score = score_results("lvvis", run.dataset.annotations, tmp_path / "results.json")
    assert score.record()["metrics"] == outcome.record["metrics"]


def test_the_environment_has_versions_and_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "do-not-record-me")
    found = environment({"annotations": "abc"})
    assert found["packages"]["numpy"] == np.__version__
    assert found["inputs"] == {"annotations": "abc"}
    assert found["cpu"]["count"] >= 1
    assert "do-not-record-me" not in json.dumps(found)


def test_a_commit_is_found_where_there_is_one(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == (None, None)
    (tmp_path / "file").write_text("1")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.invalid"]
    for arguments in (["init", "-q"], ["add", "file"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    commit, is_changed = git_commit(tmp_path, tmp_path / "file")
    assert commit is not None
    assert (len(commit), is_changed) == (40, False)
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == (commit, True)
    (tmp_path / "installed").write_text("")
    assert git_commit(tmp_path, tmp_path / "installed") == (None, None)


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-c", "from harness.cli.main import main; main()"]
    return subprocess.run([*start, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_the_command_ends_with_one_json_object(tmp_path: Path) -> None:
    done = command(
        "run", "--model", "oracle", "--dataset", "shapes", "--limit", "3", "--no-mlflow", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["runs"]
    keys = {"model", "dataset", "split", "folder", "complete", "protocol", "metrics", "corrected"}
    assert keys <= set(record)
    assert json.loads((tmp_path / record["folder"] / "metrics.json").read_text()) == record
    assert "oracle on shapes val: 3 videos" in done.stderr


def test_the_command_runs_a_matrix_and_shows_a_table(tmp_path: Path) -> None:
    done = command("run", "--model", "oracle", "--dataset", "shapes,shapes", "--set", "oracle.drop_tracks=0",
                   "--no-mlflow", "--runs-dir", "out", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = (p for p in (tmp_path / "out").iterdir() if p.is_dir())
    assert done.stdout.splitlines()[-1] == f"out/{folder.name}"
    assert json.loads((folder / "config.json").read_text())["config"]["drop_tracks"] == 0


def test_the_command_says_what_it_computed_anew(tmp_path: Path) -> None:
    arguments = ["--model", "oracle", "--dataset", "shapes", "--limit", "2", "--no-mlflow", "--runs-dir", str(tmp_path)]
    whole = CliRunner().invoke(build(), ["run", *arguments])
    (shard, _) = sorted(tmp_path.glob("*/predictions/*.parquet"))
    intact = shard.read_bytes()
    shard.write_bytes(intact[:-1])
    again = CliRunner().invoke(build(), ["run", *arguments])
    assert (again.exit_code, again.stdout) == (0, whole.stdout)
    assert shard.read_bytes() == intact
    assert f"warning: 1 shard removed, first: {shard} is damaged: its checksum does not match" in again.stderr
    assert "oracle on shapes val: 2 of 2 videos, 0 s left" in again.stderr
    assert ": the predictions of 1 of 2 videos were damaged or lost: computed again" in again.stderr


def test_a_sleeping_tracking_server_costs_a_warning_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = command("run", "--model", "oracle", "--dataset", "shapes", "--limit", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["complete"] is True
    (warning,) = (line for line in done.stderr.splitlines() if line.startswith("warning: "))
    assert "MLflow at http://127.0.0.1:9 cannot be used" in warning


def test_a_run_is_logged_to_the_embedded_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = command("run", "--model", "oracle", "--dataset", "shapes", "--limit", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["runs"]
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs' / '.mlflow' / 'mlflow.db'}")
    linked = json.loads((tmp_path / record["folder"] / "mlflow.json").read_text())
    logged = client.get_run(linked["run_id"])
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics["AP"] == record["metrics"]["AP"]
    assert logged.data.params["seed"] == "0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "orakel", "--dataset", "shapes"], 'model "orakel": is not installed; did you mean "oracle"?'),
        (["--model", "oracle", "--dataset", "shape"], 'did you mean "shapes"?'),
        (["--model", "oracle", "--dataset", "shapes", "--split", "vall"], 'did you mean "val"?'),
        (["--model", "oracle"], "needs data"),
        (["--model", ",", "--dataset", "shapes"], "--model: names nothing"),
        (["--model", "oracle", "--dataset", "shapes", "--set", "drop=1"], "setting drop: is not a configuration key"),
        (["--model", "oracle", "--annotations", "a.json"], "frames is missing"),
        (["--model", "oracle", "--dataset", "shapes", "--frames", "."], "need --annotations"),
        (["--model", "oracle", "--dataset", "shapes", "--annotations", "a.json"], "replaces --dataset"),
        (["--model", "oracle", "--dataset", "shapes", "--checkpoint", "no.pt"], "no.pt: No such file"),
        (["--model", "oracle", "--dataset", "shapes", "--gpus-per-worker", "1"], "needs engine ray"),
    ],
)
def test_bad_arguments_get_one_line_and_leave_nothing(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = command("run", *arguments, "--no-mlflow", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
