"""Models that try to end the program, that print, and whose tracks are not what they seem: over every engine."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import SmallModel, box, make_dataset, make_run, truth_of
from worker_runs import faulty_run, needs_ray

from harness.engines import processes, ray
from harness.engines.local import InProcess
from harness.errors import UserError
from harness.masks import Rle
from harness.run_folder.store import tabulate
from harness.runner import execute
from harness.types import Category, Track, Vocabulary

TWO = partial(processes.process_pool, devices=("cpu", "cpu"))
WORDS = Vocabulary((Category(1, "box"), Category(2, "ball")))


@pytest.mark.parametrize("engine", [InProcess, TWO], ids=["in process", "workers"])
def test_a_model_that_ends_the_program_fails_on_its_video(engine: Any, tmp_path: Path) -> None:
    run = faulty_run(tmp_path, videos=3, raises={1: "SystemExit", 3: "GeneratorExit"})
    outcome = execute(run, engine=engine)
    assert outcome.exit_code == 1
    assert outcome.record["videos"]["failed"] == [
        {"video_id": 1, "error": "model faulty has raised SystemExit: 0, which no plugin may"},
        {"video_id": 3, "error": "model faulty has raised GeneratorExit: 0, which no plugin may"},
    ]
    assert run.store.done() == {2}


@pytest.mark.parametrize("engine", [InProcess, TWO], ids=["in process", "workers"])
def test_a_model_that_ends_the_program_while_it_loads_is_named(engine: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^model faulty on cpu.*: does not load: SystemExit: 0; see the traceback"):
        execute(faulty_run(tmp_path, load="SystemExit"), engine=engine)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "engine",
    [InProcess, TWO, pytest.param(partial(ray.ray_pool, workers=1), marks=needs_ray)],
    ids=["in process", "workers", "ray"],
)
def test_prints_go_to_the_log(engine: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = faulty_run(tmp_path, videos=2, prints="hello", seconds=0.2)
    assert execute(run, engine=engine).exit_code == 0
    assert capfd.readouterr().out == ""
    log = (run.folder / "run.log").read_text()
    for what in ("by Python", "by write", "by C"):
        assert len(re.findall(rf"printed: hello {what}\n", log)) == 2
        assert re.search(rf"printed: hello while loading {what}\n", log)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_command_prints_its_json_and_nothing_else(
    workers: str, tmp_path: Path, faulty_environment: dict[str, str], faulty_command: list[str]
) -> None:
    settings = ["--workers", workers, "--set", "prints=hello", "--set", "raises={2: SystemExit}", "--json"]
    done = subprocess.run(
        [*faulty_command, *settings],
        cwd=tmp_path,
        env=faulty_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (record,) = json.loads(done.stdout)["runs"]
    assert record["videos"]["done"] == 3
    assert "hello" not in done.stderr


def test_a_model_without_predict_is_refused_when_it_loads(tmp_path: Path) -> None:
    class Empty(SmallModel):
        def load(self, config: Any, context: Any) -> Any:
            return None

    with pytest.raises(UserError, match="model small on cpu: its load gives a NoneType, which has no predict"):
        execute(make_run(tmp_path, Empty()))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_cannot_be_named_are_a_refusal(tmp_path: Path) -> None:
    model = SmallModel()
    model.shipped_weights = lambda name: exec("raise SystemExit")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="model small: its shipped_weights fails: SystemExit"):
        make_run(tmp_path, model).digest  # noqa: B018


def track(**changed: Any) -> Track:
    values = {"video_id": 1, "category_id": 1, "score": 0.5, "masks": truth_of(1)}
    return Track(**(values | changed))


MASKS = truth_of(1)
FAULTY: dict[str, tuple[Callable[[], Any], str]] = {
    "dict": (lambda: {"video_id": 1}, "track 0: is a dict; give a harness.types.Track"),
    "video": (lambda: track(video_id=2), "track 0: is of video 2; return tracks"),
    "category 1.5": (lambda: track(category_id=1.5), "category_id is 1.5, a float; give a category's id, an int"),
    "category nan": (lambda: track(category_id=float("nan")), "category_id is nan, a float"),
    "category bool": (lambda: track(category_id=True), "category_id is True, a bool"),
    "category text": (lambda: track(category_id="1"), "category_id is '1', a str"),
    "category None": (lambda: track(category_id=None), "category_id is None, a NoneType"),
    "foreign": (lambda: track(category_id=3), "category 3 is not in the vocabulary; give the id of a category in it"),
    "score nan": (lambda: track(score=float("nan")), "score is nan; give a finite number"),
    "score inf": (lambda: track(score=np.float32("inf")), "score is inf; give a finite number"),
    "score complex": (lambda: track(score=0.5 + 0j), r"score is \(0.5\+0j\), a complex; give a real number"),
    "score numpy complex": (lambda: track(score=np.complex64(0.5)), "a complex64; give a real number"),
    "score text": (lambda: track(score="0.5"), "score is '0.5', a str"),
    "score bool": (lambda: track(score=True), "score is True, a bool"),
    "score huge": (lambda: track(score=10**400), "give a real number"),
    "masks generator": (lambda: track(masks=iter(MASKS)), "masks is a tuple_iterator; give a tuple"),
    "masks few": (lambda: track(masks=MASKS[:2]), "2 masks for 3 frames"),
    "mask dict": (lambda: track(masks=(None, {"size": [12, 16]}, None)), "frame 1: mask is a dict; give a harness"),
    "mask tuple": (lambda: track(masks=(tuple(MASKS[0]), None, None)), "frame 0: mask is a tuple; give a harness"),
    "mask size": (lambda: track(masks=(Rle((16, 12), b"0"), None, None)), "mask is 16x12, the video 12x16"),
    "mask no size": (lambda: track(masks=(Rle(None, b"0"), None, None)), "mask is None, the video 12x16"),  # type: ignore[arg-type]
    "mask text": (
        lambda: track(masks=(Rle((12, 16), MASKS[0].counts.decode()), None, None)),  # type: ignore[arg-type]
        "counts of the mask are a str; give bytes",
    ),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_faulty_tracks_are_refused_where_they_enter(fault: str) -> None:
    make, message = FAULTY[fault]
    with pytest.raises(UserError, match=message):
        tabulate(make_dataset().videos[0], [make()], WORDS)


def test_numbers_of_other_types_are_taken_as_they_are() -> None:
    torch = pytest.importorskip("torch")
    video = make_dataset().videos[0]
    tracks = [
        track(category_id=np.int64(2), score=np.float32(0.25), video_id=np.int32(1)),
        track(category_id=1.0, score=1),
        track(category_id=torch.tensor(2), score=torch.tensor(0.75), masks=[None, box(1, 1, 2, 2), None]),
    ]
    table = tabulate(video, tracks, WORDS)
    assert table["category_id"].to_pylist() == [2, 1, 2]
    assert table["score"].to_pylist() == [0.25, 1.0, 0.75]


def test_a_track_that_changes_is_stored_as_it_was_looked_at() -> None:
    class Lying(Track):
        looks = 0

        @property
        def category_id(self) -> int:  # type: ignore[override]
            Lying.looks += 1
            return 1 if Lying.looks == 1 else 99

    lying = Lying.__new__(Lying)
    for name, value in {"video_id": 1, "score": 0.5, "masks": MASKS}.items():
        object.__setattr__(lying, name, value)
    assert tabulate(make_dataset().videos[0], [lying], WORDS)["category_id"].to_pylist() == [1]


def test_a_foreign_category_fails_its_video_and_not_the_score_of_the_others(tmp_path: Path) -> None:
    def tracks(video_id: int) -> list[Track]:
        return [Track(video_id, 7 if video_id == 2 else 1, 0.5, truth_of(video_id))]

    outcome = execute(make_run(tmp_path, SmallModel(tracks=tracks)))
    assert outcome.exit_code == 2
    assert outcome.record["videos"]["done"] == 3
    assert "video 2, track 0: category 7 is not in the vocabulary" in outcome.messages[0]
