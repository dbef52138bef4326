"""The contract test kit: sound models pass, and each kind of broken model is caught by the rule that is for it.

Tests of `harness/testing/rules.py` and `harness/testing/trials.py`.
"""

from __future__ import annotations

import importlib
import os
import random
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco
from pydantic import BaseModel, ConfigDict
from small_runs import make_dataset

from harness.errors import UserError
from harness.masks import Rle
from harness.testing import ContractError, check_model
from harness.types import Dataset, Track, Video, Vocabulary

PACKAGE = Path(__file__).parents[1] / "data" / "plugin_package"


HEIGHT, WIDTH, LENGTH = 48, 64, 7


class Patches:
    """Frames with a red patch that moves."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, frame_index: int, /) -> np.ndarray:
        image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        image[4:20, frame_index : frame_index + 24] = (220, 40, 40)
        return image


def patches() -> Dataset:
    """Two videos that take next to no time."""
    videos = tuple(Video(v, f"patch {v}", HEIGHT, WIDTH, Patches()) for v in (1, 2))
    return replace(make_dataset(2), videos=videos)


def encode(pixels: np.ndarray) -> Rle:
    """A mask ``(height, width)`` as the harness wants it."""
    height, width = pixels.shape
    return Rle((height, width), coco.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"])


class Colourful:
    """Finds coloured pixels and calls them by the first word: sound in all respects."""

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        if not vocabulary.categories:
            return
        masks = [encode(np.ptp(image.astype(int), axis=2) > 40) for image in video.read()]
        yield Track(video.id, vocabulary.categories[0].id, 0.5, tuple(masks))


@dataclass
class Edited:
    """A sound model whose tracks are changed: ``edit(track, video, vocabulary, model)``; ``count`` counts videos."""

    edit: Callable[[Track, Video, Vocabulary, Edited], Any]
    count: int = 0
    last: str = ""
    kept: list[Any] = field(default_factory=list)

    def predict(self, video: Video, vocabulary: Vocabulary) -> list[Any]:
        found = [self.edit(track, video, vocabulary, self) for track in Colourful().predict(video, vocabulary)]
        self.count += 1
        self.last = video.name
        return found


def refuse(condition: bool, track: Track) -> Track:
    if condition:
        raise ValueError("cannot do that")
    return track


def keep(track: Track, model: Edited, thing: Any) -> Track:
    model.kept.append(thing)
    return track


def tensor(frames: list[Any]) -> Any:
    import torch

    return torch.from_numpy(np.stack(frames)).float()


def swapped(mask: Rle | None) -> Rle:
    assert mask is not None
    return encode(coco.decode({"size": list(mask.size), "counts": mask.counts}).T)


BROKEN: dict[str, tuple[str, str, Callable[[Track, Video, Vocabulary, Edited], Any]]] = {
    "dictionaries": ("predict", "not a harness.types.Track", lambda t, v, w, m: {"score": t.score}),
    "raises": ("predict", "ValueError: cannot do that (", lambda t, v, w, m: refuse(True, t)),
    "ends the program": ("predict", "has raised SystemExit", lambda t, v, w, m: sys.exit(0)),
    "masks one by one": (
        "predict",
        "masks is a tuple_iterator, not a tuple",
        lambda t, v, w, m: replace(t, masks=iter(t.masks)),
    ),
    "other video": ("video ids", "video_id is 0", lambda t, v, w, m: replace(t, video_id=0)),
    "last frame missing": ("frame counts", "masks for 6 frames", lambda t, v, w, m: replace(t, masks=t.masks[:-1])),
    "width first": (
        "mask sizes",
        "that is (width, height)",
        lambda t, v, w, m: replace(t, masks=tuple(map(swapped, t.masks))),
    ),
    "arrays": (
        "mask sizes",
        "mask is a ndarray",
        lambda t, v, w, m: replace(t, masks=(np.zeros((v.height, v.width)),) * len(t.masks)),
    ),
    "text counts": (
        "mask encodings",
        "counts are a str, not bytes",
        lambda t, v, w, m: replace(t, masks=tuple(x and Rle(x.size, x.counts.decode()) for x in t.masks)),
    ),
    "cut counts": (
        "mask encodings",
        "counts end before the mask does",
        lambda t, v, w, m: replace(t, masks=tuple(x and Rle(x.size, x.counts[:1]) for x in t.masks)),
    ),
    "percent": ("scores", "score is 50.0, not in [0, 1]", lambda t, v, w, m: replace(t, score=50.0)),
    "not a number": ("scores", "score is nan", lambda t, v, w, m: replace(t, score=float("nan"))),
    "text score": ("scores", "score is a str", lambda t, v, w, m: replace(t, score="0.5")),
    "complex score": ("scores", "score is a complex", lambda t, v, w, m: replace(t, score=0.5 + 0j)),
    "part of an id": ("categories", "category_id is 1.5, a float", lambda t, v, w, m: replace(t, category_id=1.5)),
    "position for id": ("categories", "a position in the vocabulary?", lambda t, v, w, m: replace(t, category_id=1)),
    "own list of words": ("categories", "category 77777", lambda t, v, w, m: replace(t, category_id=77777)),
    "needs two frames": ("one frame", "cannot do that", lambda t, v, w, m: refuse(len(v.frames) < 2, t)),
    "needs even sizes": ("sizes", "frames of 47x57", lambda t, v, w, m: refuse(v.width % 2 == 1, t)),
    "landscape only": ("sizes", "rows and columns swapped", lambda t, v, w, m: refuse(v.height > v.width, t)),
    "needs many words": ("other vocabularies", "one word", lambda t, v, w, m: refuse(len(w.categories) == 1, t)),
    "counter": ("determinism", "score of track 0 differs", lambda t, v, w, m: replace(t, score=0.5 + m.count / 1000)),
    "own rng": (
        "determinism",
        "score of track 0 differs",
        lambda t, v, w, m: replace(t, score=random.SystemRandom().random()),
    ),
    "remembers the last video": (
        "independence of other videos",
        "score of track 0 differs",
        lambda t, v, w, m: replace(t, score=0.25 if m.last not in ("", v.name) else 0.5),
    ),
    "keeps frames": ("memory", "KiB more are held after every video", lambda t, v, w, m: keep(t, m, list(v.read()))),
    "keeps tensors": ("memory", "KiB more are held", lambda t, v, w, m: keep(t, m, tensor(list(v.read())))),
}


def test_a_sound_model_passes() -> None:
    report = check_model(Colourful())
    assert report.broken == ()
    assert not any(check.left_out for check in report.checks)
    assert str(report).startswith("model Colourful: all rules kept\n  ok        predict\n")


def test_our_own_model_passes() -> None:
    assert check_model("oracle", {"drop_tracks": 0.5}).broken == ()


def test_seeded_chance_is_deterministic() -> None:
    edit = lambda t, v, w, m: replace(t, score=random.random())  # noqa: E731
    assert check_model(Edited(edit), dataset=patches()).broken == ()


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_model_is_caught_by_the_right_rule(kind: str) -> None:
    rule, says, edit = BROKEN[kind]
    with pytest.raises(ContractError) as caught:
        check_model(Edited(edit), dataset=patches())
    report = caught.value.report
    assert report.broken == (rule,)
    (broken,) = (check for check in report.checks if check.broken)
    assert says in broken.broken
    assert f"BROKEN    {rule}: " in str(caught.value)


class Talkative(Colourful):
    """Finds something even where nothing was asked for."""

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        asked = vocabulary if vocabulary.categories else make_dataset().vocabulary
        yield from super().predict(video, asked)


class Helpless(Colourful):
    """Takes the first word without looking whether there is one."""

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        assert vocabulary.categories[0]
        yield from super().predict(video, vocabulary)


class Demanding(Colourful):
    """Says that it wants words."""

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        if not vocabulary.categories:
            raise UserError("vocabulary", "is empty", "name at least one category")
        yield from super().predict(video, vocabulary)


def test_an_empty_vocabulary_may_be_refused() -> None:
    assert check_model(Demanding(), dataset=patches()).broken == ()


@pytest.mark.parametrize(("model", "says"), [(Talkative(), "1 tracks on"), (Helpless(), "IndexError")])
def test_an_empty_vocabulary_is_asked_for(model: Any, says: str) -> None:
    with pytest.raises(ContractError, match=says) as caught:
        check_model(model, dataset=patches())
    assert "empty vocabulary" in caught.value.report.broken


def test_a_model_that_finds_nothing_has_shown_nothing() -> None:
    class Blind:
        def predict(self, video: Video, vocabulary: Vocabulary) -> list[Track]:
            return []

    with pytest.raises(ContractError, match="no track was found on any video"):
        check_model(Blind())


def test_the_dataset_of_the_videos_can_be_named() -> None:
    class Truthful(Colourful):
        """Finds a corner, of black frames too."""

        def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
            pixels = np.zeros((video.height, video.width), np.uint8)
            pixels[:3, :3] = 1
            for category in vocabulary.categories[:1]:
                yield Track(video.id, category.id, 1.0, (encode(pixels),) * len(video.frames))

    assert check_model(Truthful(), dataset=make_dataset()).broken == ()
    report = check_model(Truthful(), dataset=make_dataset(1))
    assert [c.name for c in report.checks if c.left_out] == ["independence of other videos"]


class FrozenConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    threshold: int = 40


class Plugin:
    """A sound plugin."""

    name = "colourful"
    version = "1"
    summary = "Finds coloured pixels"
    Config: Any = FrozenConfig

    def load(self, config: Any, context: Any) -> Any:
        assert config.threshold == 40
        return Colourful()


class LooseConfig(BaseModel):
    threshold: int = 40


@pytest.mark.parametrize(
    ("attribute", "value", "rule", "says"),
    [
        ("version", 1, "plugin", "version is 1, not a text"),
        ("summary", "", "plugin", "summary is '', not a text"),
        ("Config", dict, "plugin", "not a pydantic model"),
        ("Config", LooseConfig, "plugin", "misspelt keys must be errors"),
        ("load", lambda config, context: None, "load", "the loaded model has no predict"),
        ("load", lambda config, context: open("/no/weights"), "load", "FileNotFoundError"),  # noqa: PTH123, SIM115
    ],
)  # fmt: skip
def test_a_plugin_is_checked_before_its_model(attribute: str, value: Any, rule: str, says: str) -> None:
    plugin = Plugin()
    assert check_model(plugin, dataset=patches()).broken == ()
    setattr(plugin, attribute, value)
    with pytest.raises(ContractError, match=says) as caught:
        check_model(plugin, dataset=patches())
    assert rule in caught.value.report.broken


def test_a_name_that_is_not_installed_is_told() -> None:
    with pytest.raises(UserError, match="did you mean"):
        check_model("oracel")


NETWORK = """
import numpy as np

def load_network(checkpoint, device):
    return lambda frames, names: [(np.stack([np.ptp(f, axis=2) > 40 for f in frames]).astype(np.uint8), 0, 0.75)]
"""


def test_the_guides_model_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "adding-a-model.md").read_text()
    code = guide.partition("    # my_method.py\n")[2].partition("    # pyproject.toml\n")[0]
    (tmp_path / "my_method.py").write_text(textwrap.dedent(code))
    (tmp_path / "my_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    plugin = importlib.import_module("my_method").PLUGIN
    check_model(plugin, {"threshold": 0.7}, checkpoint="weights.pt", dataset=patches())
    with pytest.raises(ContractError, match="my-method: has no weights"):
        check_model(plugin, dataset=patches())


def test_a_third_partys_model_passes_from_its_own_pytest(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    target = [str(tmp_path / "source"), "--target", str(tmp_path / "site")]
    subprocess.run([*pip, *target], capture_output=True, text=True, check=True)
    (tmp_path / "test_theirs.py").write_text(
        "from harness.testing import check_model\n\n\n"
        "def test_contract():\n    check_model('corners')\n\n\n"
        "def test_another_threshold():\n    check_model('corners', {'threshold': 255})\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_theirs.py"]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
