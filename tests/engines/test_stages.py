"""What the stages of a model's work take is told with every video, and kept over sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from small_runs import SmallConfig, SmallModel, make_dataset

from harness.engines.local import attempt_video
from harness.engines.model_spec import ModelSpec
from harness.engines.stages import time_stages
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
    event = attempt_video(spec(), model, VIDEO, PredictionStore(tmp_path))
    assert event.kind == "done"
    assert list(event.stages) == ["backbone", "matching"]
    assert all(use.seconds >= 0 and use.memory_bytes > 1 << 20 for use in event.stages.values())
    assert sum(use.seconds for use in event.stages.values()) <= event.seconds
    assert model.stage is before


def test_a_model_that_fails_in_a_stage_is_reported_as_ever(tmp_path: Path) -> None:
    model = Staged(fails=True)
    before = model.stage
    event = attempt_video(spec(), model, VIDEO, PredictionStore(tmp_path))
    assert (event.kind, event.error) == ("failed", "ValueError: no")
    assert model.stage is before


def test_a_model_without_stages_is_let_be() -> None:
    with time_stages(object()) as stages:
        assert stages == {}
