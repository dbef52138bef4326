"""Checkpoint files as people have them: what loads, and what each other file is called."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from harness.errors import UserError
from harness.models.shared.checkpoint_files import read_tensors

WEIGHTS = {"a.weight": torch.ones(3000), "b": torch.zeros(2, dtype=torch.int64)}
NUMBERS = {"lr": np.float64(0.1), "best": np.float32(1), "step": np.int64(3), "done": np.bool_(True)}


def under(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in WEIGHTS.items()}


@pytest.mark.parametrize(
    "document",
    [
        WEIGHTS,
        {"model": WEIGHTS, "optimizer": {"state": {0: {"step": torch.ones(1)}}}, "iteration": 3},
        {"model": WEIGHTS, **NUMBERS},
        {"state_dict": WEIGHTS},
        under("module."),
        {"model": under("module.")},
        {"state_dict": under("model."), "pytorch-lightning_version": "2.0.0"},
        {"state_dict": under("model.module."), "pytorch-lightning_version": "2.0.0"},
    ],
    ids=["plain", "training", "numpy", "state_dict", "module", "model, module", "lightning", "lightning, module"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_of_every_kind(tmp_path: Path, document: Any, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(document, path, _use_new_zipfile_serialization=zipped)
    found = read_tensors(path, "give another")
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())


def test_a_prefix_of_some_names_stays(tmp_path: Path) -> None:
    save_file({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "w.safetensors")
    assert read_tensors(tmp_path / "w.safetensors", "").keys() == {"module.a", "b"}


def torch_file(zipped: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(WEIGHTS, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


@pytest.mark.parametrize(("name", "content", "words"), [
    ("w.pth", b"", "is empty; download"),
    ("w.pth", b"<!DOCTYPE html><html><title>Virus scan warning</title></html>", "is a web page, not the file itself"),
    ("w.safetensors", b"\n<html>", "is a web page"),
    ("w.pth", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the file itself; run"),
    ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ("w.pkl", pickle.dumps({"model": {"a": np.ones(3)}}), "is a plain Python pickle, as detectron2's .pkl files are"),
    ("w.pth", torch_file()[:6000], "is cut short: the end of a PyTorch checkpoint is missing"),
    ("w.pth", torch_file(zipped=False)[:6000], "is cut short; download"),
    ("w.pth", torch_file(zipped=False)[:100], "is cut short; download"),
    ("w.safetensors", save(WEIGHTS)[:6000], "is cut short (Error"),
    ("w.safetensors", save(WEIGHTS)[:20], "is cut short (Error"),
])  # fmt: skip
def test_other_files_are_named(tmp_path: Path, recwarn: Any, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as refusal:
        read_tensors(tmp_path / name, "give another")
    assert f"{tmp_path / name}: " in str(refusal.value)
    assert words in str(refusal.value)
    assert len(recwarn) == 0


class Runs:
    """Pickled, it writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_executed(tmp_path: Path, zipped: bool) -> None:
    torch.save(
        {"model": WEIGHTS, "x": Runs(tmp_path / "ran")}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped
    )
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    for name in ("w.pth", "w.pkl"):
        with pytest.raises(UserError, match="run"):
            read_tensors(tmp_path / name, "give another")
    assert not (tmp_path / "ran").exists()
