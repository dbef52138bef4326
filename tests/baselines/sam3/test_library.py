"""SAM 3's library and its checkpoints: what is missing, too old, broken or foreign is told in one line.

Tests of `baselines/sam3/card.py`, `baselines/sam3/config.py` and `baselines/sam3/plugin.py`.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import make_dataset
from typer.testing import CliRunner

from harness import plugins
from harness.cli.models import app
from harness.errors import UserError
from harness.types import LoadContext

PLUGIN: Any = plugins.model("sam3")
WEIGHTS = "model.safetensors"


def refusal(checkpoint: Path | None) -> str:
    with pytest.raises(UserError) as raised:
        PLUGIN.load(PLUGIN.Config(), LoadContext(make_dataset(1), checkpoint=checkpoint))
    return str(raised.value)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = 'sam3: needs the library transformers, which is not installed; pip install "ovvis-harness[sam3]"'
    assert refusal(None) == message


def test_with_a_library_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(__version__="4.40.0"))
    assert refusal(None).startswith("sam3: transformers 4.40.0 is too old, it has no SAM 3 for videos; pip install")


def test_the_card_and_the_keys_are_shown_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    shown = CliRunner().invoke(app, ["show", "sam3", "--json"])
    assert shown.exit_code == 0, shown.output
    record = json.loads(shown.stdout)
    assert "LV-VIS test AP 36.3" in record["card"]["published"]
    assert "BURST test HOTA 44.5" in record["card"]["published"]
    assert "arXiv 2511.16719), Table 4" in record["card"]["published_source"]
    assert "LV-VIS test AP 34.3" in record["card"]["published of SAM 3.1"]
    assert "does not run SAM 3.1" in record["card"]["published of SAM 3.1"]
    assert {"paper", "trained_on", "weights", "licence", "speed"} <= set(record["card"])
    assert "words_at_once" in record["config"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    import tiny_sam3

    return tiny_sam3.save(tmp_path_factory.mktemp("sam3"))


def without_a_tensor(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    del state["tracker_neck.fpn_layers.0.proj1.weight"]
    save_file(state, folder / WEIGHTS, {"format": "pt"})


def with_another_shape(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    save_file({**state, "detector_model.text_projection.bias": torch.zeros(3)}, folder / WEIGHTS, {"format": "pt"})


def truncated(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def of_another_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "sam2_video"}')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "does not exist"),
        (lambda folder: (folder / "config.json").unlink(), "config.json: is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: cannot be read"),
        (lambda folder: (folder / "sam3.1_multiplex.pt").write_bytes(b""), "holds weights of SAM 3.1 (sam3.1_multi"),
        (of_another_model, "is of a model of type 'sam2_video', not 'sam3_video'"),
        (pickled, "holds no weights in .safetensors"),
        (truncated, "cannot be loaded: "),
        (without_a_tensor, "1 tensors are missing (tracker_neck.fpn_layers.0.proj1.weight)"),
        (with_another_shape, "1 tensors are mismatched (detector_model.text_projection.bias)"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "its processor cannot be loaded"),
    ],
)
def test_what_cannot_be_loaded(damage: Callable[[Path], object], message: str, saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    damage(folder)
    told = refusal(folder)
    assert message in told
    assert told.startswith(str(folder))
    assert "\n" not in told


def test_a_file_in_place_of_the_folder(saved: Path) -> None:
    assert f"{WEIGHTS}: is not a folder" in refusal(saved / WEIGHTS)


def test_no_weights_are_named(saved: Path) -> None:
    assert refusal(None) == "sam3: has no weights; give its checkpoint, a folder (`harness models show sam3`)"


def test_tensors_that_are_of_no_use_are_counted(saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    state = load_file(folder / WEIGHTS)
    save_file({**state, "something.else": torch.zeros(1)}, folder / WEIGHTS, {"format": "pt"})
    with caplog.at_level(logging.WARNING, logger="harness"):
        model = PLUGIN.load(PLUGIN.Config(), LoadContext(make_dataset(1), checkpoint=folder))
    assert "1 tensors are unused, first: something.else" in caplog.text
    told = model.loaded_weights
    assert told is not None
    assert (told.needed, told.loaded, told.unused) == (len(model.network.state_dict()),) * 2 + (("something.else",),)
    assert model.facts() == {"words": "none"}
