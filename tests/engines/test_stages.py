"""What the stages of a model's work take is told with every video, and kept over sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from small_runs import SmallConfig, SmallModel, make_dataset

from harness.engines.local import VideoRunner
from harness.engines.model_spec import ModelSpec
from harness.engines.stages import StageClock, time_stages
from harness.frames import Image
from harness.run_folder.store import PredictionStore
from harness.types import LoadContext, Track, Video, Vocabulary


class Black:
    def __len__(self) -> int:
        return 2

    def __getitem__(self, frame_index: int, /) -> Image:
        return np.zeros((4, 4, 3), np.uint8)


VIDEO = Video(1, "black", 4, 4, Black())


def spec() -> ModelSpec:
    """One whose categories and seed are all that counts."""
    return ModelSpec(SmallModel(), SmallConfig(), LoadContext(make_dataset()))


class Staged:
    """Enters one stage per frame, and one per video."""

    def __init__(self, fails: bool = False) -> None:
        self.stage: Callable[[str], AbstractContextManager[object]] = lambda name: nullcontext()
        self.fails = fails

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        for _ in video.read():
            with self.stage("backbone"):
                np.ones(1000).sum()
        with self.stage("matching"):
            if self.fails:
                raise ValueError("no")
        yield Track(video.id, 1, 0.5, (None, None))


def test_a_video_tells_its_stages_and_the_hook_is_given_back(tmp_path: Path) -> None:
    model = Staged()
    before = model.stage
    event = VideoRunner(spec(), model).attempt(VIDEO, PredictionStore(tmp_path))
    assert event.kind == "done"
    assert list(event.stages) == ["backbone", "matching"]
    assert all(use.seconds >= 0 and use.memory_bytes > 1 << 20 for use in event.stages.values())
    assert sum(use.seconds for use in event.stages.values()) <= event.seconds
    assert model.stage is before


def test_a_model_that_fails_in_a_stage_is_reported_as_ever(tmp_path: Path) -> None:
    model = Staged(fails=True)
    before = model.stage
    event = VideoRunner(spec(), model).attempt(VIDEO, PredictionStore(tmp_path))
    assert (event.kind, event.error) == ("failed", "ValueError: no")
    assert model.stage is before


def test_a_model_without_stages_is_let_be() -> None:
    with time_stages(object()) as stages:
        assert stages == {}


class PretendedGpu:
    """Stands in for ``torch.cuda``: a stage of the work takes it 2 s, and it counts how often the host waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.waits = self.resets = 0
        self.passed = 0
        """Up to which time the GPU has done what it was given."""
        gpu = self

        class Event:
            def __init__(self, enable_timing: bool = False) -> None:
                assert enable_timing
                self.at = 0

            def record(self, stream: object) -> None:
                assert stream == "stream of cuda:1"
                self.at = gpu.now

            def query(self) -> bool:
                return self.at <= gpu.passed

            def elapsed_time(self, other: Event) -> float:
                assert other.query(), "before the GPU is there"
                return 1000.0 * (other.at - self.at)

        def waited(device: str) -> None:
            assert device == "cuda:1"
            self.waits += 1
            self.passed = self.now

        def reset(device: str) -> None:
            self.resets += 1

        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
        monkeypatch.setattr(torch.cuda, "synchronize", waited)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7)


class StagedOnGpu(Staged):
    """Two stages per frame, of which the GPU does one."""

    device = torch.device("cuda:1")

    def __init__(self, gpu: PretendedGpu, fails: bool = False) -> None:
        super().__init__(fails)
        self.gpu = gpu

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        for _ in video.read():
            with self.stage("decode"):
                np.ones(1000).sum()
            with self.stage("backbone"):
                self.gpu.now += 2
        yield from super().predict(video, vocabulary)


def test_the_host_waits_for_a_gpu_once_in_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = PretendedGpu(monkeypatch)
    event = VideoRunner(spec(), StagedOnGpu(gpu)).attempt(VIDEO, PredictionStore(tmp_path))
    assert (event.kind, gpu.waits) == ("done", 1)
    assert event.stages["backbone"].seconds == pytest.approx(4.0, abs=0.5)
    assert 0 < event.stages["decode"].seconds < 1
    assert event.stages["matching"].memory_bytes == 7


def test_between_two_videos_the_host_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU may be busy with the next video: what it has not done yet counts there."""
    gpu = PretendedGpu(monkeypatch)
    runner, store = VideoRunner(spec(), StagedOnGpu(gpu)), PredictionStore(tmp_path)
    gpu.passed = 2
    first = runner.attempt(VIDEO, store, then=VIDEO)
    assert (gpu.waits, gpu.now) == (0, 4)
    assert first.stages["backbone"].seconds == pytest.approx(2.0, abs=0.5)
    second = runner.attempt(VIDEO, store)
    assert (gpu.waits, gpu.now) == (1, 8)
    assert second.stages["backbone"].seconds == pytest.approx(6.0, abs=0.5)
    assert first.stages["backbone"].seconds == pytest.approx(2.0, abs=0.5), "not changed later"


def test_stages_of_a_failed_video_are_not_counted_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = PretendedGpu(monkeypatch)
    model = StagedOnGpu(gpu, fails=True)
    runner, store = VideoRunner(spec(), model), PredictionStore(tmp_path)
    assert runner.attempt(VIDEO, store, then=VIDEO).kind == "failed"
    model.fails = False
    assert runner.attempt(VIDEO, store).stages["backbone"].seconds == pytest.approx(4.0, abs=0.5)


def test_nothing_waits_for_a_gpu_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = PretendedGpu(monkeypatch)
    event = VideoRunner(spec(), StagedOnGpu(gpu, fails=True)).attempt(VIDEO, PredictionStore(tmp_path))
    assert (event.error, gpu.waits) == ("ValueError: no", 0)


def test_a_measurement_stage_by_stage_waits_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = PretendedGpu(monkeypatch)
    model = StagedOnGpu(gpu)
    with time_stages(model, synchronise=True) as stages:
        list(model.predict(VIDEO, Vocabulary(())))
    assert gpu.waits == 2 + 2 + 2 + 1
    assert stages["backbone"].seconds < 1  # the host's: this GPU takes it no time


def test_stages_of_two_threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peaks of memory are not forgotten within a stage that another thread is in."""
    gpu = PretendedGpu(monkeypatch)
    clock = StageClock("cuda:1")
    with clock("backbone"):
        thread = Thread(target=lambda: clock("matching").__enter__())
        thread.start()
        thread.join()
    assert gpu.resets == 1
