"""A runner of videos tells the model what comes next; what goes wrong with a next video is no fault of this one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import LENGTH, SmallConfig, SmallModel, interrupting, make_dataset, make_run, make_video, truth_of

from harness.engines.local import VideoRunner
from harness.engines.model_spec import ModelSpec
from harness.frames import Image
from harness.run_folder.store import PredictionStore
from harness.runner import execute
from harness.types import LoadContext, Track, Video, Vocabulary


class Expecting(SmallModel):
    """Notes what it is told."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.told: list[list[int]] = []
        self.fails = fails

    def expect(self, videos: Sequence[Video]) -> None:
        self.told.append([video.id for video in videos])
        if self.fails:
            raise SystemExit("no")

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        self.before(video.id)
        self.seen.append(video.id)
        if self.seen.count(video.id) == 1 and video.id == 2:
            raise RuntimeError("at first")
        yield Track(video.id, 1, 0.5, truth_of(video.id))


def runner_of(model: SmallModel) -> VideoRunner:
    return VideoRunner(ModelSpec(model, SmallConfig(), LoadContext(make_dataset())), model)


def test_a_run_tells_its_model_what_comes_next(tmp_path: Path) -> None:
    model = Expecting()
    assert execute(make_run(tmp_path, model)).record["complete"]
    assert model.told == [[1, 2], [2, 3], [2, 3], [3, 4], [4], []]  # the second one is tried twice


def test_a_run_that_resumes_expects_only_what_is_left(tmp_path: Path) -> None:
    model = Expecting()
    model.before = interrupting(3).before
    with pytest.raises(KeyboardInterrupt):
        execute(make_run(tmp_path, model))
    assert model.told[-2:] == [[3, 4], []], "what was decoded is dropped"
    model = Expecting()
    assert execute(make_run(tmp_path, model)).record["complete"]
    assert model.told == [[3, 4], [4], []]


def test_a_model_that_cannot_prepare_the_next_video_runs_this_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = runner_of(Expecting(fails=True))
    assert runner.attempt(make_video(1), PredictionStore(tmp_path), make_video(2)).kind == "done"
    assert "model small cannot prepare the next video: model small has raised SystemExit: no" in caplog.text


class Frames:
    """Frames that note when they are read and digested."""

    def __init__(self, notes: list[str], name: str, broken: bool = False) -> None:
        self.notes, self.name, self.broken = notes, name, broken

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, frame_index: int, /) -> Image:
        return np.zeros((12, 16, 3), np.uint8)

    def digests(self, whole: bool) -> Sequence[str]:
        self.notes.append(f"digests of {self.name}")
        if self.broken:
            raise OSError("the disk is gone")
        return [self.name] * LENGTH


def test_frames_are_digested_before_the_model_may_read_them_and_once(tmp_path: Path) -> None:
    notes: list[str] = []

    class Noting(Expecting):
        def expect(self, videos: Sequence[Video]) -> None:
            notes.append(f"expect {[video.id for video in videos]}")

    runner, store = runner_of(Noting()), PredictionStore(tmp_path)
    one, three = (replace(make_video(number), frames=Frames(notes, f"{number}")) for number in (1, 3))
    assert runner.attempt(one, store, three).kind == "done"
    assert runner.attempt(three, store).kind == "done"
    assert notes == ["digests of 1", "digests of 3", "expect [1, 3]", "expect [3]"]


def test_digests_of_the_next_video_that_fail_are_an_error_in_its_turn(tmp_path: Path) -> None:
    notes: list[str] = []
    model = Expecting()
    runner, store = runner_of(model), PredictionStore(tmp_path)
    broken = replace(make_video(3), frames=Frames(notes, "3", broken=True))
    assert runner.attempt(make_video(1), store, broken).kind == "done"
    event = runner.attempt(broken, store, make_video(4))
    assert (event.kind, event.error) == ("failed", "OSError: the disk is gone")
    assert (model.told, len(notes)) == ([[1]], 2)


def test_models_that_do_not_ask_are_not_told(tmp_path: Path) -> None:
    notes: list[str] = []
    runner = runner_of(SmallModel())
    assert runner.attempt(make_video(1), PredictionStore(tmp_path), replace(make_video(2), frames=Frames(notes, "2")))
    runner.close()
    assert notes == []
