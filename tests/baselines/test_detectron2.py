"""detectron2's video models as models of the harness: built from a config, fed with our words, and what is refused."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2_library import PROJECT, STAND_IN, library
from pycocotools import mask as coco
from small_runs import make_dataset

from harness import plugins
from harness.errors import UserError
from harness.testing import check_model
from harness.types import Category, LoadContext, Track, Video, Vocabulary

HEIGHT, WIDTH, LENGTH = 48, 64, 3
WORDS = Vocabulary((Category(4, "red ball"), Category(7, "dog"), Category(9, "blue ball")))
SETUP = {"config_file": str(PROJECT / "colour.yaml"), "project": str(PROJECT)}
SETUP["setup"] = ["colour_project:add_colour_config"]  # type: ignore[assignment]


@pytest.fixture(scope="module")
def detectron2() -> Iterator[None]:
    with library():
        yield


class Balls:
    """A red patch that moves, and a blue one that stays."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, frame_index: int, /) -> np.ndarray:
        image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        image[4:20, frame_index : frame_index + 24] = (220, 40, 40)
        image[30:40, 30:50] = (40, 40, 220)
        return image


VIDEO = Video(5, "balls", HEIGHT, WIDTH, Balls())


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.pth"
    torch.save({"model": {"score": torch.tensor(0.75)}, "iteration": 9}, path)
    return path


def load(weights: Path | None, **config: Any) -> Any:
    plugin = plugins.model("detectron2")
    read = plugin.Config.model_validate(SETUP | config)
    return plugin.load(read, LoadContext(make_dataset(), checkpoint=weights))


def pixels(track: Track) -> list[np.ndarray]:
    masks = [m for m in track.masks if m is not None]
    return [coco.decode({"size": list(m.size), "counts": m.counts}).astype(bool) for m in masks]


@pytest.mark.usefixtures("detectron2")
@pytest.mark.parametrize("output", ["dictionary", "instances", "frames"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_every_kind_of_output_becomes_the_same_tracks(weights: Path, output: str, order: str) -> None:
    options = {"MODEL": {"COLOUR": {"OUTPUT": output}}, "INPUT": {"FORMAT": order, "MIN_SIZE_TEST": HEIGHT}}
    tracks = load(weights, options=options).predict(VIDEO, WORDS)
    assert [(t.video_id, t.category_id, t.score) for t in tracks] == [(5, 4, 0.75), (5, 9, 0.75)]
    for frame_index, mask in enumerate(pixels(tracks[0])):
        np.testing.assert_array_equal(mask, Balls()[frame_index][:, :, 0] == 220)
    for frame_index, mask in enumerate(pixels(tracks[1])):
        np.testing.assert_array_equal(mask, Balls()[frame_index][:, :, 2] == 220)


@pytest.mark.usefixtures("detectron2")
def test_frames_are_resized_as_the_config_says(weights: Path) -> None:
    model = load(weights, options={"INPUT": {"MIN_SIZE_TEST": 96, "MAX_SIZE_TEST": 1000}})
    seen = []
    model.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    tracks = model.predict(VIDEO, WORDS)
    (given,) = seen
    assert [tuple(frame.shape) for frame in given["image"]] == [(3, 96, 128)] * LENGTH
    assert (given["height"], given["width"], given["length"], given["video_id"]) == (HEIGHT, WIDTH, LENGTH, 5)
    assert given["meta"]["dataset_name"] == given["dataset_name"]
    assert {m.size for t in tracks for m in t.masks if m is not None} == {(HEIGHT, WIDTH)}


@pytest.mark.usefixtures("detectron2")
@pytest.mark.parametrize("output", ["dictionary", "instances", "frames"])
def test_it_keeps_the_contract(weights: Path, output: str) -> None:
    dataset = make_dataset(2)
    videos = (replace(VIDEO, id=1), replace(VIDEO, id=2))
    shown = replace(dataset, videos=videos, categories=WORDS.categories[::-1])
    check_model("detectron2", SETUP | {"options": {"MODEL": {"COLOUR": {"OUTPUT": output}}}}, checkpoint=weights,
                dataset=shown)  # fmt: skip


@pytest.mark.usefixtures("detectron2")
def test_labels_outside_of_the_vocabulary_are_refused(weights: Path) -> None:
    model = load(weights, options={"MODEL": {"COLOUR": {"FIRST_LABEL": 2}}})
    with pytest.raises(UserError, match="video 5: label 4 for a vocabulary of 3 names"):
        model.predict(VIDEO, WORDS)


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    return path


class Harmful:
    """What a checkpoint must not hold."""


@pytest.mark.usefixtures("detectron2")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"model": {"other": torch.zeros(1)}}, "has no weight of the model"),
        ({"model": {"score": torch.zeros(3)}}, "does not fit the model: .*size mismatch"),
        ({"model": {}, "trainer": Harmful()}, "is no checkpoint of tensors alone"),
        ([1, 2], "has no weight of the model"),
    ],
)
def test_weights_of_something_else_are_refused(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load(saved(tmp_path, content))


@pytest.mark.usefixtures("detectron2")
def test_weights_that_are_left_over_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(saved(tmp_path, {"score": torch.tensor(0.5), "criterion.empty_weight": torch.zeros(1)}))
    assert "has besides 1 weights, first: criterion.empty_weight" in caplog.text


@pytest.mark.usefixtures("detectron2")
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"setup": ["no_such_project"]}, "setup no_such_project: does not load"),
        ({"setup": ["colour_project:no_such"]}, "setup colour_project:no_such: does not load"),
        ({"options": {"MODEL": {"COLOR": {"MARGIN": 1}}}}, "cannot be built: .*MODEL.COLOR.MARGIN"),
        ({"options": {"MODEL": {"META_ARCHITECTURE": "Unheard"}}}, "cannot be built: .*Unheard.*; name in setup"),
    ],
)
def test_what_cannot_be_built_is_told(weights: Path, config: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        load(weights, **config)


@pytest.mark.usefixtures("detectron2")
def test_weights_are_needed() -> None:
    with pytest.raises(UserError, match="has no weights; give --checkpoint FILE"):
        load(None)


def test_the_content_of_the_config_file_is_part_of_what_the_run_is(tmp_path: Path) -> None:
    config = tmp_path / "model.yaml"
    dumps = []
    for text in ("MODEL: {}", "INPUT: {}"):
        config.write_text(text)
        read = plugins.model("detectron2").Config.model_validate({"config_file": str(config)})
        dumps.append(json.dumps(read.model_dump(mode="json")))
    assert dumps[0] != dumps[1]


@pytest.mark.parametrize("module", ["model", "evaluators", "catalog"])
def test_without_detectron2_it_says_how_to_get_it(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"harness.baselines.detectron2_adapter.{module}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    for part in ("detectron2", "detectron2.config", "detectron2.data", "detectron2.evaluation"):
        monkeypatch.setitem(sys.modules, part, None)
    with pytest.raises(UserError, match=r"detectron2: is not installed; .*git\+https://github.com/facebookresearch"):
        importlib.import_module(name)


def test_the_command_line_runs_it(tmp_path: Path, weights: Path) -> None:
    settings = (f"config_file={SETUP['config_file']}", f"project={PROJECT}",
                "setup=[colour_project:add_colour_config]", "options.INPUT.MIN_SIZE_TEST=48")  # fmt: skip
    given = [word for setting in settings for word in ("--set", setting)]
    start = [sys.executable, "-c", "from harness.cli.main import main; main()", "run", "--model", "detectron2"]
    rest = ["--dataset", "shapes", "--limit", "2", "--device", "cpu", "--no-mlflow", "--json"]
    path = os.pathsep.join([str(STAND_IN), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*start, "--checkpoint", str(weights), *rest, *given],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["runs"]
    assert record["complete"] is True
    assert record["counts"]["tracks"] > 0
