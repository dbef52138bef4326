"""Projects as they are published: words in the constructor, logits, configs on configs, checkpoints in their wrappings.

With ``HARNESS_DETECTRON2`` the same runs with the real library.

Tests of `baselines/detectron2_adapter/config.py`, `baselines/detectron2_adapter/deformable_attention.py`,
`baselines/detectron2_adapter/user_code.py`, `baselines/detectron2_adapter/weights.py` and
`baselines/detectron2_adapter/words.py`.
"""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2_library import PROJECT, VIDEO, WORDS, Balls, command, library, pixels
from small_runs import make_dataset

import harness
from harness import plugins
from harness.config import read_config
from harness.errors import UserError
from harness.runner import Run
from harness.testing import check_model
from harness.types import LoadContext, LoadedWeights, Vocabulary

PLUGIN = plugins.model("detectron2")
OPEN = {
    "config_file": str(PROJECT / "open_colour.yaml"),
    "project": str(PROJECT),
    "setup": "open_colour_project:add_open_colour_config",
    "class_counts": "TEST.NUM_NAMES",
    "options": {"INPUT": {"MIN_SIZE_TEST": VIDEO.height}},
}
DATASET = replace(make_dataset(), categories=WORDS.categories)


@pytest.fixture(autouse=True, scope="module")
def detectron2() -> Iterator[None]:
    with library():
        yield


def state(layers: int = 2, score: float = 0.75) -> dict[str, torch.Tensor]:
    """Weights as the project's training saves them."""
    norms = torch.nn.Sequential(*(torch.nn.BatchNorm2d(3) for _ in range(layers)))
    return {f"layers.{name}": tensor for name, tensor in norms.state_dict().items()} | {"score": torch.tensor(score)}


def under(prefix: str, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in values.items()}


def saved(tmp_path: Path, content: Any, name: str = "model.pth") -> Path:
    if name.endswith(".pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / name)
    return tmp_path / name


def load(weights: Path, **config: Any) -> Any:
    return PLUGIN.load(PLUGIN.Config.model_validate(OPEN | config), LoadContext(DATASET, checkpoint=weights))


def assert_balls(tracks: list[Any]) -> None:
    """The red and the blue ball, each where it is; what is learnt of them is the score."""
    assert [(t.video_id, t.category_id, t.score) for t in tracks] == [(5, 4, 0.75), (5, 9, 0.75)]
    for track, channel, value in ((tracks[0], 0, 220), (tracks[1], 2, 220)):
        for frame_index, mask in enumerate(pixels(track)):
            expected = Balls()[frame_index][:, :, channel] == value
            assert (mask & expected).sum() / (mask | expected).sum() > 0.8  # logits are of a quarter of the size


CHECKPOINTS = {
    "plain": (state(), "model.pth"),
    "detectron2": ({"model": state(), "iteration": 9, "lr": np.float64(0.1)}, "model.pth"),
    "state_dict": ({"state_dict": state()}, "model.pth"),
    "DataParallel": ({"model": under("module.", state())}, "model.pth"),
    "zoo": ({"model": {n: t.numpy() for n, t in state().items()}, "__author__": "the zoo"}, "model_final_1.pkl"),
    "numpy": ({"model": {n: t.numpy() for n, t in state().items()}}, "model.pth"),
    "renamed": ({"model": {n.replace("layers.", "norms."): t for n, t in state().items()}}, "model.pth"),
    "old": ({"model": {n: t for n, t in state().items() if "num_batches" not in n} | {"pixel_mean": torch.ones(3)}},
            "model.pth"),
}  # fmt: skip


@pytest.mark.parametrize("form", CHECKPOINTS)
def test_it_runs_as_it_is_with_checkpoints_of_every_form(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    model = load(saved(tmp_path, *CHECKPOINTS[form]))
    assert_balls(model.predict(VIDEO, WORDS))
    assert model.loaded_weights == LoadedWeights(9, 9)
    assert model.facts() == {"words": "3, read by the model"}
    assert [r for r in caplog.records if r.levelname == "WARNING" and r.name.startswith("harness")] == []


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ({"teacher": state()}, {}, "is not a dictionary of tensors"),
        (under("student.", state()), {}, r"has no weight of the model; it has 11 others \(student.layers.0.weight, "),
        (state(1), {}, r"lacks 4 of the model's 9 weights \(layers.1.bias, .*\), which would stay random; give the we.*"
         r"name in allow_missing the weights that may keep the model"),
        (state(), {"COLOUR": {"LAYERS": 3}}, "lacks 4 of the model's 13 weights"),
        ({n: t for n, t in state().items() if n.endswith("num_batches_tracked")}, {}, "has no weight of the model"),
        ({n: t[:1] if t.dim() else t for n, t in state().items()}, {}, "does not fit the model: .*size mismatch"),
    ],
)  # fmt: skip
def test_weights_that_would_stay_random_are_refused(tmp_path: Path, content: Any, options: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load(saved(tmp_path, content), options={"MODEL": options})


def test_weights_may_be_missing_where_the_user_names_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path, state(1) | {"criterion.empty_weight": torch.ones(2)})
    model = load(path, allow_missing="layers.1.*")
    assert model.loaded_weights == LoadedWeights(9, 5, ("criterion.empty_weight",))
    assert "1 weights are unused by the model, first: criterion.empty_weight" in caplog.text
    with pytest.raises(UserError, match=r"lacks 1 of .*layers.1.bias"):
        load(path, allow_missing=["layers.1.weight", "layers.1.running_*"])
    with pytest.raises(
        UserError, match=r'allow_missing "layer.1.\*" names no weight of the model; its weights are called'
    ):
        load(path, allow_missing="layer.1.*")


def test_weights_of_another_shape_may_be_left_out(tmp_path: Path) -> None:
    """As OV2Seg's classifier of the words it was trained with."""
    path = saved(tmp_path, state() | {"layers.1.bias": torch.ones(4)})
    with pytest.raises(UserError, match=r"does not fit the model: .*size mismatch for layers.1.bias"):
        load(path)
    model = load(path, allow_missing="layers.1.bias")
    assert model.loaded_weights == LoadedWeights(9, 8, ("layers.1.bias",))
    assert torch.equal(model.network.layers[1].bias, torch.zeros(3))


def test_other_words_are_seen_as_well(tmp_path: Path) -> None:
    """Reordered, fewer and others: labels are positions in the words that the model has seen."""
    path = saved(tmp_path, state())
    moved = Vocabulary(tuple(replace(c, id=c.id + 100) for c in reversed(WORDS.categories)))
    for config in ({}, {"words": "open_colour_project:tell_words", "class_counts": []}):
        model = load(path, **config, options=OPEN["options"] | {"TEST": {"NUM_NAMES": 3}})
        assert [t.category_id for t in model.predict(VIDEO, moved)] == [109, 104]
        assert [t.category_id for t in model.predict(VIDEO, WORDS)] == [4, 9]
        assert model.predict(VIDEO, Vocabulary(())) == []
    assert "given to open_colour_project:tell_words" in model.facts()["words"]
    one = Vocabulary(WORDS.categories[-1:])
    assert [t.category_id for t in load(path).predict(VIDEO, one)] == [9]


def test_it_is_loaded_before_there_are_words(tmp_path: Path) -> None:
    given: Any = OPEN
    model = harness.load_model("detectron2", checkpoint=saved(tmp_path, state()), device="cpu", **given)
    assert_balls(model.predict(VIDEO, WORDS))


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    videos = (replace(VIDEO, id=1), replace(VIDEO, id=2))
    shown = replace(make_dataset(2), videos=videos, categories=WORDS.categories[::-1])
    check_model("detectron2", OPEN, checkpoint=saved(tmp_path, state()), dataset=shown)


def test_a_wrong_count_of_classes_is_told(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        load(saved(tmp_path, state()), class_counts=[], options={"TEST": {"NUM_NAMES": 2}}).predict(VIDEO, WORDS)
    with pytest.raises(UserError, match=r"cannot be built: .*TEST.NUMBER_OF_NAMES"):
        load(saved(tmp_path, state()), class_counts="TEST.NUMBER_OF_NAMES")


def test_outputs_of_a_form_of_its_own(tmp_path: Path) -> None:
    path, options = saved(tmp_path, state()), {**OPEN["options"], "MODEL": {"META_ARCHITECTURE": "OwnFormModel"}}  # type: ignore[dict-item]
    with pytest.raises(UserError, match=r"masks are float32 from -0.5 to 0.5, not 0 and 1; .*outputs=MODULE:FUNCTION"):
        load(path, options=options).predict(VIDEO, WORDS)
    assert_balls(load(path, options=options, outputs="open_colour_project:of_my_own").predict(VIDEO, WORDS))


IMAGES = OPEN | {"options": {**OPEN["options"], "MODEL": {"META_ARCHITECTURE": "ImageColourModel"}}}  # type: ignore[dict-item]


def tracking(weights: Path, config: dict[str, Any] = IMAGES, **settings: Any) -> Any:
    plugin = plugins.model("track-by-detection")
    given = plugin.Config.model_validate({"segmenter": "detectron2", "detectron2": config, **settings})
    return plugin.load(given, LoadContext(DATASET, checkpoint=weights))


@pytest.mark.parametrize("tracker", ["mask_iou", "sort"])
def test_objects_of_an_image_model_are_linked(tmp_path: Path, tracker: str) -> None:
    model = tracking(saved(tmp_path, state() | {"extra": torch.ones(1)}), tracker=tracker)
    assert_balls(model.predict(VIDEO, WORDS))
    moved = Vocabulary(tuple(replace(c, id=c.id + 100) for c in reversed(WORDS.categories)))
    assert sorted(t.category_id for t in model.predict(VIDEO, moved)) == [104, 109]
    assert model.predict(VIDEO, Vocabulary(())) == []
    assert model.loaded_weights == LoadedWeights(9, 9, ("extra",))
    assert model.facts() == {"words": "3, read by the model"}


def test_masks_of_an_image_model_are_kept_as_they_are(tmp_path: Path) -> None:
    model = tracking(saved(tmp_path, state()))
    for index, found in enumerate(model.segmenter.model.images(VIDEO, WORDS)):
        of_frame = [pixels(replace(track, masks=(track.masks[index],)))[0] for track in model.predict(VIDEO, WORDS)]
        assert np.array_equal(found.masks.astype(bool), np.stack(of_frame))


def test_an_image_model_that_cannot_be_tracked_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, state())
    with pytest.raises(UserError, match=r"tracker embedding: compares embeddings, .*; set tracker=mask_iou"):
        tracking(path, tracker="embedding")
    model = tracking(path)
    model.segmenter.model._outputs = lambda outputs, inputs: [{"panoptic_seg": outputs}]
    with pytest.raises(UserError, match=r"frame 0: the model's output for an image is not understood \(.*instances"):
        model.predict(VIDEO, WORDS)
    plugin = plugins.model("track-by-detection")
    config = plugin.Config.model_validate({"segmenter": "detectron2"})
    with pytest.raises(UserError, match=r"segmenter detectron2: has no config; set detectron2.config_file="):
        plugin.load(config, LoadContext(DATASET, checkpoint=path))


def test_a_tracked_image_model_is_known_by_its_config_and_code(tmp_path: Path) -> None:
    plugin = plugins.model("track-by-detection")
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder)
    own = IMAGES | {"config_file": str(folder / "open_colour.yaml"), "project": str(folder)}
    config = plugin.Config.model_validate({"segmenter": "detectron2", "detectron2": own})
    before = plugin.depends_on(config, None)
    base = folder / "colour_base.yaml"
    base.write_text(base.read_text().replace("128", "129"))
    assert plugin.depends_on(config, None)["merged_config_sha256"] != before["merged_config_sha256"]
    assert str(tmp_path) not in json.dumps([before, config.model_dump(mode="json")])


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"outputs": "open_colour_project"}, "outputs open_colour_project: is not MODULE:FUNCTION"),
        ({"outputs": "open_colour_project:nothing"}, "module open_colour_project has no function nothing"),
        ({"words": "nowhere:tell"}, "words nowhere:tell: does not load: No module named 'nowhere'; name the project"),
        ({"words": ":tell"}, "words :tell: does not load"),
    ],
)
def test_functions_that_are_not_there_are_told(tmp_path: Path, config: dict[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        load(saved(tmp_path, state()), **config)


def test_a_compiled_extension_that_is_not_there_has_a_stand_in(tmp_path: Path) -> None:
    from harness.models.ops.reference import deformable_attention

    attention = load(saved(tmp_path, state())).network.attention
    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor([[4, 5], [2, 3]])
    value = torch.randn(1, 26, 2, 8, generator=generator)
    locations, weights = (
        torch.rand(1, 7, 2, 2, 4, 2, generator=generator),
        torch.rand(1, 7, 2, 2, 4, generator=generator),
    )
    found = attention(value, shapes, torch.tensor([0, 20]), locations, weights, 128)
    torch.testing.assert_close(found, deformable_attention(value, shapes, locations, weights))


def content(tmp_path: Path, folder: Path, **config: Any) -> dict[str, Any]:
    """A run's identity, of a copy of the project."""
    chosen = OPEN | {"config_file": str(folder / "open_colour.yaml"), "project": str(folder)} | config
    read = PLUGIN.Config.model_validate(chosen)
    return Run(PLUGIN, read, DATASET, tmp_path / "runs", checkpoint=saved(tmp_path, state())).content


def test_all_that_a_config_and_a_project_say_is_what_the_run_is(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "project", tmp_path / "b" / "project"
    for folder in (first, second):
        shutil.copytree(PROJECT, folder)
    before = content(tmp_path, first)
    assert content(tmp_path, second) == before
    assert str(tmp_path) not in json.dumps(before)
    base, code = first / "colour_base.yaml", first / "colour_project.py"
    base.write_text(base.read_text().replace("128", "129"))
    of_base = content(tmp_path, first)
    assert of_base["depends_on"]["merged_config_sha256"] != before["depends_on"]["merged_config_sha256"]
    same = content(
        tmp_path, second, options=OPEN["options"] | {"INPUT": {**OPEN["options"]["INPUT"], "MAX_SIZE_TEST": 129}}
    )  # type: ignore[index]
    assert same["depends_on"]["merged_config_sha256"] == of_base["depends_on"]["merged_config_sha256"]
    code.write_text(code.read_text() + "# changed\n")
    assert content(tmp_path, first)["depends_on"]["project"] != of_base["depends_on"]["project"]
    assert content(tmp_path, first, revision="2") != content(tmp_path, first)


def test_files_that_a_config_names_count_by_their_content(tmp_path: Path) -> None:
    digests = []
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "words.npy").write_text(text)
        options = {"MODEL": {"COLOUR": {"OUTPUT": str(tmp_path / name / "words.npy")}}}
        digests.append(content(tmp_path, PROJECT, options=options)["depends_on"]["merged_config_sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_a_project_in_git_is_known_by_its_commit_and_what_differs_from_it(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder)

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", *who, "-C", str(folder), *words], check=True, capture_output=True, text=True
        ).stdout

    git("init", "-q")
    (folder / ".gitignore").write_text("output/\n__pycache__/\n")
    git("add", ".")
    git("commit", "-qm", "one")
    clean = content(tmp_path, folder)["depends_on"]["project"]
    assert clean == {"commit": git("rev-parse", "HEAD").strip(), "changes": None}
    (folder / "output").mkdir()
    (folder / "output" / "made.py").write_text("1")
    (folder / "log.json").write_text("{}")
    assert content(tmp_path, folder)["depends_on"]["project"] == clean
    seen = [clean]
    for name, text in (("colour_project.py", "# 1"), ("colour_project.py", "# 2"), ("new.py", "1")):
        with (folder / name).open("a") as file:
            file.write(text)
        seen.append(content(tmp_path, folder)["depends_on"]["project"])
        assert seen[-1] not in seen[:-1]
        assert seen[-1]["commit"] == clean["commit"]


def test_settings_as_people_write_them(tmp_path: Path) -> None:
    settings = [f"config_file={OPEN['config_file']}", f"project={PROJECT}", "revision=1.10",
                "setup=open_colour_project:add_open_colour_config", "class_counts=TEST.NUM_NAMES",
                "options.MODEL.COLOUR.MARGIN=50", "options.MODEL.COLOUR.OUTPUT=7"]  # fmt: skip
    read = read_config(PLUGIN.Config, None, settings, "detectron2")
    assert (read.revision, read.setup) == ("1.10", ("open_colour_project:add_open_colour_config",))
    model = PLUGIN.load(read, LoadContext(DATASET, checkpoint=saved(tmp_path, state())))
    assert (model.cfg.MODEL.COLOUR.MARGIN, model.cfg.MODEL.COLOUR.OUTPUT) == (50.0, "7")


def test_the_command_line_runs_it_and_says_what_is_missing(tmp_path: Path) -> None:
    settings = [f"config_file={OPEN['config_file']}", f"project={PROJECT}", f"setup={OPEN['setup']}",
                "class_counts=TEST.NUM_NAMES", "options.INPUT.MIN_SIZE_TEST=48"]  # fmt: skip
    given = ["run", "--model", "detectron2", "--dataset", "shapes", "--limit", "2", "--device", "cpu", "--no-mlflow"]
    given += [word for setting in settings for word in ("--set", setting)]
    done = command(tmp_path, [*given, "--json", "--checkpoint", str(saved(tmp_path, state(1), "short.pth"))])
    assert done.returncode == 2
    assert "lacks 4 of the model's 9 weights" in done.stderr
    path = saved(tmp_path, {"model": under("module.", state()) | {"module.extra": torch.ones(1)}})
    done = command(tmp_path, [*given, "--json", "--checkpoint", str(path)])
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)["runs"]
    assert record["counts"]["tracks"] > 0
    assert record["loaded_weights"] == {"needed": 9, "loaded": 9, "unused": 1, "unused_names": ["extra"]}
    line = "1 weights are unused by the model, first: extra"
    assert done.stderr.count(line) == 1
    assert line in (tmp_path / record["folder"] / "run.log").read_text()
