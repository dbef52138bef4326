"""Models that want to know which videos will come: what they are told, and the folder that outlives a kill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from small_runs import SmallModel, make_run

from harness.runner import SCRATCH, execute
from harness.types import BatchModel, Video


@dataclass
class Batched(SmallModel):
    """Notes what it is told, and leaves a file in the folder it is given."""

    told: list[list[int]] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def prepare(self, videos: Sequence[Video], scratch: Path) -> None:
        self.told.append([v.id for v in videos])
        self.found += [p.name for p in scratch.glob("*")]
        scratch.mkdir(exist_ok=True)
        (scratch / "kept").write_text("work of the first session")


def interrupt(video_id: int) -> None:
    if video_id == 3:
        raise KeyboardInterrupt


def test_a_model_is_told_which_videos_come(tmp_path: Path) -> None:
    model = Batched()
    assert isinstance(model, BatchModel)
    execute(make_run(tmp_path, model))
    assert model.told == [[1, 2, 3, 4]]
    assert model.seen == [1, 2, 3, 4]


def test_its_folder_outlives_an_interruption_and_ends_with_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, Batched(interrupt))
    with pytest.raises(KeyboardInterrupt):
        execute(run)
    assert (run.folder / SCRATCH / "kept").exists()
    model = Batched()
    execute(make_run(tmp_path, model))
    assert (model.told, model.found) == ([[3, 4]], ["kept"])
    assert not (run.folder / SCRATCH).exists()


def test_a_finished_run_tells_nothing(tmp_path: Path) -> None:
    execute(make_run(tmp_path, Batched()))
    model = Batched()
    execute(make_run(tmp_path, model))
    assert model.told == []


def test_its_folder_stays_while_videos_fail(tmp_path: Path) -> None:
    def fail(video_id: int) -> None:
        if video_id == 2:
            raise RuntimeError("not today")

    run = make_run(tmp_path, Batched(fail))
    assert execute(run).exit_code == 1
    assert (run.folder / SCRATCH / "kept").exists()


def test_a_fresh_start_begins_with_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute(make_run(tmp_path, Batched(interrupt)))
    model = Batched()
    execute(make_run(tmp_path, model), fresh=True)
    assert (model.told, model.found) == ([[1, 2, 3, 4]], [])
