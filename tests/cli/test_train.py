"""``harness train`` as a user calls it: a real model in small on shapes, resumed, refused, validated.

Tests of `baselines/ov2seg/training.py`, `harness/training/config.py`, `harness/training/progress.py`,
`harness/training/report.py`, `harness/training/setup.py` and `models/clipvis/training.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_runs import make_dataset
from typer.testing import CliRunner, Result

from harness import plugins
from harness.cli.train import train
from harness.errors import UserError
from harness.models.backbones.clip import ClipBackbone
from harness.models.miniatures.clip import CLIP_NAME

SMALL = ("iterations=4", "batch_size=2", "milestones=[]", "image_size=64", "dim=32", "queries=6", "points=32",
         "feedforward=16", "encoder_layers=1", "encoder_feedforward=16", "decoder_layers=1", "log_every=1",
         "checkpoint_every=2", "weights=fp32", "inference_short_edge=64", "warm_up=0")  # fmt: skip
QUERIES = "sem_seg_head.predictor.query_feat.weight"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of an untrained miniature CLIP."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    state = ClipBackbone(CLIP_NAME).clip_model.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def command(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(train)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def trained(
    clip: Path, out: Path, *more: str | Path, model: str = "clipvis", settings: tuple[str, ...] = SMALL
) -> Result:
    given = [part for setting in (*settings, f"clip_pretrained={clip}") for part in ("--set", setting)]
    base = ("--model", model, "--dataset", "shapes", "--device", "cpu", "--workers", "0", "--no-mlflow", "--out", out)
    return command(*base, *given, *more)


def losses(folder: Path) -> list[tuple[int, float]]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(r["step"], r["total"]) for r in records if "total" in r]


def test_clipvis_is_trained_and_resumed_exactly(clip: Path, tmp_path: Path) -> None:
    whole, half, cut = tmp_path / "whole", tmp_path / "half", tmp_path / "cut"
    result = trained(clip, whole, "--json")
    assert result.exit_code == 0, result.output
    weights = Path(json.loads(result.stdout.splitlines()[-1])["weights"])
    with safe_open(weights, "pt") as file:
        facts = file.metadata()
    assert facts["short_edge"] == "64"
    assert json.loads(facts["harness"])["dataset"] == "shapes"

    assert trained(clip, half, settings=(*SMALL, "iterations=2")).exit_code == 0
    assert losses(half) == losses(whole)[:2]  # the same seed: the same new network, the same images
    # as if the first training had been killed after the checkpoint of step 2
    shutil.copytree(whole, cut)
    (cut / "model.safetensors").unlink()
    state = torch.load(half / "state.pt", weights_only=True)
    torch.save({**state, "digest": torch.load(whole / "state.pt", weights_only=True)["digest"]}, cut / "state.pt")
    assert trained(clip, cut).exit_code == 0
    assert losses(cut) == losses(whole)
    one, other = load_file(weights), load_file(cut / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_trained_weights_are_validated_by_a_run(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = SimpleNamespace(default_split="val", open=lambda data_root, split: make_dataset(1))
    known = plugins.dataset
    monkeypatch.setattr(plugins, "dataset", lambda name, *_: opened if name == "small" else known(name))
    settings = (*SMALL, "iterations=1")
    assert trained(clip, tmp_path / "out", "--validate", "small", settings=settings).exit_code == 0
    record = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[-1])
    assert record["step"] == 1
    assert 0 <= record["validation"]["AP"] <= 1
    (metrics,) = (tmp_path / "out" / "validation").rglob("metrics.json")
    assert json.loads(metrics.read_text())["complete"] is True


def test_ov2seg_is_trained(clip: Path, tmp_path: Path) -> None:
    small = (*SMALL, "backbone_width=8", "backbone_blocks=[1,1,1,1]", "embed_dim=64", "iterations=2")
    result = trained(clip, tmp_path / "out", model="ov2seg", settings=small)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[-1])
    assert {"loss_class", "loss_mask", "loss_dice", "loss_object_ce", "loss_class_0"} <= set(record)
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert file.metadata()["text_tower"] == CLIP_NAME


def test_torchrun_starts_it_as_a_module(clip: Path, tmp_path: Path) -> None:
    settings = (*SMALL, "iterations=1", f"clip_pretrained={clip}")
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("torchrun"), "--nproc-per-node", "2", "-m", "harness", "train"),
            *("--model", "clipvis", "--dataset", "shapes", "--device", "cpu", "--workers", "0", "--no-mlflow"),
            *("--out", "trained", "--json", *(part for setting in settings for part in ("--set", setting))),
        ],
        capture_output=True, text=True, cwd=tmp_path, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PET_STANDALONE": "1"},  # a free port, whoever trains beside us
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"weights": "trained/model.safetensors", "folder": "trained"}
    assert (tmp_path / "trained" / "model.safetensors").is_file()


def test_what_cannot_be_trained_is_refused(clip: Path, tmp_path: Path) -> None:
    def error(*arguments: str) -> str:
        result = command(*arguments, "--out", str(tmp_path), "--device", "cpu", "--no-mlflow")
        assert isinstance(result.exception, UserError), result.output
        return str(result.exception)

    assert "cannot be trained here" in error("--model", "oracle", "--dataset", "shapes")
    assert "iteratoins: is not a configuration key" in error(
        "--model", "clipvis", "--dataset", "shapes", "--set", "iteratoins=3"
    )
    assert 'did you mean "iterations"' in error("--model", "clipvis", "--dataset", "shapes", "--set", "iteration=3")
    assert "there is no such split" in error("--model", "clipvis", "--dataset", "shapes", "--split", "dev")
    assert "not a multiple of" in error(
        "--model", "clipvis", "--dataset", "shapes", "--set", "batch_size=3", "--set", "accumulate=2",
        "--set", f"clip_pretrained={clip}",
    )  # fmt: skip
    assert "cannot be loaded" in error(
        "--model", "clipvis", "--dataset", "shapes", "--set", "clip_model=RN50", "--set", "clip_pretrained=none.pt"
    )


def test_a_folder_of_another_training_is_refused_unless_fresh(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    short = (*SMALL, "iterations=1")
    assert trained(clip, out, settings=short).exit_code == 0
    first = load_file(out / "model.safetensors")[QUERIES]
    other = trained(clip, out, "--seed", "5", settings=short)
    assert isinstance(other.exception, UserError)
    assert "is of another training (other seed)" in str(other.exception)
    assert trained(clip, out, "--seed", "5", "--fresh", settings=short).exit_code == 0
    # far more than what one step changes: it began with other weights
    assert (load_file(out / "model.safetensors")[QUERIES] - first).abs().max() > 0.1
