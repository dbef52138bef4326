"""``harness run --try``: one video, what there is to see, and nothing stored."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from small_runs import SmallModel, make_dataset, make_run, make_video
from typer.testing import CliRunner

from harness.baselines.external.config import ExternalConfig
from harness.baselines.external.plugin import PLUGIN as EXTERNAL
from harness.cli.main import build
from harness.errors import UserError
from harness.one_video import lines, try_video
from harness.runner import Run
from harness.types import LoadedWeights, Track


def test_the_command_line_tries_every_model_and_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["run", "--model", "oracle", "--dataset", "shapes", "--device", "cpu", "--try"]
    done = CliRunner().invoke(build(), given)
    assert done.exit_code == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith("oracle on shapes val, video 1 (")
    assert any(line.startswith("  found       ") for line in rest)
    (found,) = json.loads(CliRunner().invoke(build(), [*given, "--json"]).stdout)["tried"]
    assert found["found"] == found["annotated"]
    assert found["warnings"] == []
    assert not (tmp_path / "runs").exists()


def test_what_a_model_tells_of_itself_is_shown(tmp_path: Path) -> None:
    class Telling(SmallModel):
        def facts(self) -> dict[str, str]:
            return {"words": "all of them"}

        loaded_weights = LoadedWeights(4, 3, tuple(f"w{i}" for i in range(5)))

    model = Telling()
    found = try_video(make_run(tmp_path, model))
    assert model.seen == [1]
    weights = "3 of 4 tensors loaded (75 %); 5 of the checkpoint are unused (w0, w1, w2, ...)"
    assert found["facts"] == {"weights": weights, "words": "all of them"}
    assert f"  weights     {weights}" in list(lines(found))
    assert "  words       all of them" in list(lines(found))
    assert try_video(make_run(tmp_path))["facts"] == {
        "weights": "the model does not report how they were loaded",
        "words": "the model does not report which it has seen"
    }  # fmt: skip
    assert (found["found"], found["annotated"], found["visible"]) == ({"box": 1}, {"box": 1}, 1.0)
    assert found["video"] == {"id": 1, "name": "video 1", "frames": 3, "height": 12, "width": 16}


def test_odd_tracks_are_told(tmp_path: Path) -> None:
    nothing = try_video(make_run(tmp_path, SmallModel(tracks=lambda video: [])))
    assert nothing["warnings"] == ["the model has found nothing in this video"]
    assert "  found       nothing" in list(lines(nothing))
    empty = [Track(1, 2, score, (None,) * 3) for score in (0.5, 0.5)]
    warnings = try_video(make_run(tmp_path, SmallModel(tracks=lambda video: empty)))["warnings"]
    assert [w.partition(":")[0] for w in warnings] == [
        "every mask is empty", "all tracks are of one category", "all tracks have one score"
    ]  # fmt: skip


def test_the_job_of_a_command_that_fails_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    config = ExternalConfig(command=(sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(UserError, match=r"exit code 3 .*the job is .*job\.json") as refusal:
        try_video(Run(EXTERNAL, config, make_dataset(), tmp_path / "runs"))
    assert Path(str(refusal.value).rpartition("the job is ")[2]).is_file()


def test_what_would_fail_is_refused(tmp_path: Path) -> None:
    def fails(video_id: int) -> None:
        raise RuntimeError("no luck")

    with pytest.raises(UserError, match="model small: its predict fails: RuntimeError: no luck"):
        try_video(make_run(tmp_path, SmallModel(fails)))
    with pytest.raises(UserError, match="2 masks for 3 frames"):
        try_video(make_run(tmp_path, SmallModel(tracks=lambda video: [Track(1, 1, 0.5, (None,) * 2)])))


def test_videos_are_what_a_run_would_take_first(tmp_path: Path) -> None:
    dataset = make_dataset(3)
    assert try_video(make_run(tmp_path, dataset=dataset))["video"]["name"] == make_video(1).name
