"""detectron2's video models as models of the harness: built from a config, fed with our words, and what is refused.

Tests of `baselines/detectron2_adapter/network.py` and `baselines/detectron2_adapter/plugin.py`.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2_library import HEIGHT, LENGTH, PROJECT, VIDEO, WIDTH, WORDS, Balls, command, library, pixels
from small_runs import make_dataset

from harness import plugins
from harness.errors import UserError
from harness.testing import check_model
from harness.types import LoadContext

SETUP = {"config_file": str(PROJECT / "colour.yaml"), "project": str(PROJECT)}
SETUP["setup"] = ["colour_project:add_colour_config"]  # type: ignore[assignment]


@pytest.fixture(scope="module")
def detectron2() -> Iterator[None]:
    with library():
        yield


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.pth"
    torch.save({"model": {"score": torch.tensor(0.75)}, "iteration": 9}, path)
    return path


def load(weights: Path | None, **config: Any) -> Any:
    plugin = plugins.model("detectron2")
    read = plugin.Config.model_validate(SETUP | config)
    dataset = replace(make_dataset(), categories=WORDS.categories)
    return plugin.load(read, LoadContext(dataset, checkpoint=weights))


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
        ({"model": {}, "trainer": Harmful()}, "is not a file of plain tensors: .*; save it again as"),
        ([1, 2], "is not a dictionary of tensors"),
    ],
)
def test_weights_of_something_else_are_refused(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load(saved(tmp_path, content))


@pytest.mark.usefixtures("detectron2")
def test_weights_that_are_left_over_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(saved(tmp_path, {"score": torch.tensor(0.5), "criterion.empty_weight": torch.zeros(1)}))
    assert "1 weights are unused by the model, first: criterion.empty_weight" in caplog.text


@pytest.mark.usefixtures("detectron2")
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"setup": ["no_such_project"]}, "setup no_such_project: does not load"),
        ({"setup": ["colour_project:no_such"]}, "setup colour_project:no_such: does not load"),
        ({"options": {"MODEL": {"COLOR": {"MARGIN": 1}}}}, "cannot be built: .*MODEL.COLOR.MARGIN"),
        ({"options": {"MODEL": {"META_ARCHITECTURE": "Unheard"}}}, "cannot be built: .*Unheard.*; name the modules"),
    ],
)
def test_what_cannot_be_built_is_told(weights: Path, config: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        load(weights, **config)


@pytest.mark.usefixtures("detectron2")
def test_weights_are_needed() -> None:
    with pytest.raises(UserError, match="has no weights; give its checkpoint, a file"):
        load(None)


@pytest.mark.parametrize("module", ["model", "evaluators", "catalog"])
def test_without_detectron2_it_says_how_to_get_it(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"harness.baselines.detectron2_adapter.{module}"
    for known in list(sys.modules):
        if known.startswith(f"{name.rpartition('.')[0]}."):
            monkeypatch.delitem(sys.modules, known)
        if known.partition(".")[0] == "detectron2":
            monkeypatch.setitem(sys.modules, known, None)
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(UserError, match=r"detectron2: is not installed; .*git\+https://github.com/facebookresearch"):
        importlib.import_module(name)


def test_the_command_line_runs_it(tmp_path: Path, weights: Path) -> None:
    settings = (f"config_file={SETUP['config_file']}", f"project={PROJECT}",
                "setup=colour_project:add_colour_config", "options.INPUT.MIN_SIZE_TEST=48")  # fmt: skip
    given = [word for setting in settings for word in ("--set", setting)]
    rest = ["--dataset", "shapes", "--limit", "2", "--device", "cpu", "--no-mlflow", "--json"]
    done = command(tmp_path, ["run", "--model", "detectron2", "--checkpoint", str(weights), *rest, *given])
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["runs"]
    assert record["complete"] is True
    assert record["counts"]["tracks"] > 0
