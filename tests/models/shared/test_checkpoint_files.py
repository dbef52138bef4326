"""Checkpoint files as people have them: what loads, and what each other file is called.

Tests of `models/shared/inert_pickle.py`.
"""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from argparse import Namespace
from contextlib import suppress
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from harness.errors import UserError
from harness.models.shared.checkpoint_files import read_tensors, short_edge_of

WEIGHTS = {"a.weight": torch.ones(3000), "b": torch.zeros(2, dtype=torch.int64)}
ARRAYS = {name: tensor.numpy() for name, tensor in WEIGHTS.items()}
NUMBERS = {"lr": np.float64(0.1), "best": np.float32(1), "step": np.int64(3), "done": np.bool_(True)}


def under(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in WEIGHTS.items()}


@pytest.mark.parametrize(
    "document",
    [
        WEIGHTS,
        {"model": WEIGHTS, "optimizer": {"state": {0: {"step": torch.ones(1)}}}, "iteration": 3},
        {"model": WEIGHTS, **NUMBERS},
        {"model": ARRAYS, "__author__": "the model zoo", "matching_heuristics": False},
        {"state_dict": WEIGHTS},
        under("module."),
        {"model": under("module.")},
        under("_orig_mod."),
        {"model": under("module._orig_mod.")},
        {"model": WEIGHTS, "args": Namespace(out=Path("x"), at=datetime(2026, 1, 1)), "torch": torch.__version__},
        {"state_dict": under("model."), "pytorch-lightning_version": "2.0.0"},
        {"state_dict": under("model.module."), "pytorch-lightning_version": "2.0.0"},
    ],
    ids=[
        "plain",
        "training",
        "numpy",
        "arrays",
        "state_dict",
        "module",
        "model, module",
        "compiled",
        "module, compiled",
        "settings",
        "lightning",
        "lightning, module",
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_of_every_kind(tmp_path: Path, document: Any, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(document, path, _use_new_zipfile_serialization=zipped)
    found = read_tensors(path, "give another")
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("weights", [ARRAYS, WEIGHTS], ids=["arrays", "tensors"])
def test_pickles_of_the_model_zoo(tmp_path: Path, weights: Any, protocol: int) -> None:
    path = tmp_path / "model_final_1.pkl"
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "zoo", **NUMBERS}, protocol=protocol))
    found = read_tensors(path, "give another")
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())


@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f4", "<f8", "|i1", ">i8", "|u1", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("suffix", ["pkl", "pth"])
def test_arrays_are_read_as_they_were_written(tmp_path: Path, kind: str, order: Any, suffix: str) -> None:
    given = {
        "a": np.array([[0, 1, 2], [3, 4, 5]], kind, order=order),
        "one": np.array(7, kind),
        "no": np.zeros(0, kind),
    }
    path = tmp_path / f"w.{suffix}"
    if suffix == "pkl":
        path.write_bytes(pickle.dumps(given, protocol=2))
    else:
        torch.save(given, path)
    for name, tensor in read_tensors(path, "give another").items():
        np.testing.assert_array_equal(tensor.numpy(), given[name])


def test_bytes_of_python_2_are_read(tmp_path: Path) -> None:
    """Its pickles hold bytes as text (opcode U), and numpy was another package."""
    raw = np.arange(3, dtype="<f4").tobytes()
    data = (
        b"\x80\x02}U\x05model}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\n"
        b"ndarray\nK\x00\x85U\x01b\x87R(K\x01K\x03\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(raw)]) + raw + b"tbss."
    )
    (tmp_path / "w.pkl").write_bytes(data)
    assert read_tensors(tmp_path / "w.pkl", "give another")["a"].tolist() == [0.0, 1.0, 2.0]


def test_the_versions_of_modules_are_kept(tmp_path: Path) -> None:
    state = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.BatchNorm2d(2))).state_dict()
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    found: Any = read_tensors(tmp_path / "w.pth", "give another")
    assert found._metadata["0"] == {"version": 2}
    assert "0.num_batches_tracked" in found


def test_a_prefix_of_some_names_stays(tmp_path: Path) -> None:
    save_file({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "w.safetensors")
    assert read_tensors(tmp_path / "w.safetensors", "").keys() == {"module.a", "b"}


def torch_file(zipped: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(WEIGHTS, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()


def saved(document: Any) -> bytes:
    out = io.BytesIO()
    torch.save(document, out)
    return out.getvalue()


def zipped_up(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return out.getvalue()


@pytest.mark.parametrize("made", [saved(WEIGHTS), torch_file(zipped=False), save(WEIGHTS), pickle.dumps(ARRAYS, 0)],
                         ids=["torch", "old torch", "safetensors", "pickle of protocol 0"])  # fmt: skip
@pytest.mark.parametrize("suffix", ["pth", "safetensors", "bin"])
def test_the_content_decides_not_the_suffix(tmp_path: Path, made: bytes, suffix: str) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(made)
    found = read_tensors(path, "give another")
    assert all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())


def test_the_metadata_are_read_under_any_suffix(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(save(WEIGHTS, {"short_edge": "64"}))
    assert short_edge_of(tmp_path / "w.pth", "") == 64


@pytest.mark.parametrize(("name", "content", "words"), [
    ("w.pth", b"", "is empty; download"),
    ("w.pth", b"<!DOCTYPE html><html><title>Virus scan warning</title></html>", "is a web page, not the file itself"),
    ("w.safetensors", b"\n<html>", "is a web page"),
    ("w.pth", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the file itself; run"),
    ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ("w.pkl", pickle.dumps({"model": {"a": np.ones(300)}})[:1000], "or is truncated (expected 2400 bytes"),
    ("w.pkl", b"\x80\x02}r\xff\xff\xff\x7f.", "its memo has more objects than it can"),
    ("w.pkl", b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00.", "or is truncated (expected"),
    ("w.pkl", pickle.dumps({"model": {"a": np.array([{}])}}), "is not a number type); if you trust it, save its"),
    ("w.pkl", pickle.dumps({"model": Fraction(1, 2)}), "would run code when read (it names fractions.Fraction"),
    ("w.pth", saved({"model": Fraction(1, 2)}), "it names fractions.Fraction and would run code when read"),
    ("w.pth", saved({"model_ema": WEIGHTS, "epoch": 3}), "`state_dict`; its keys are model_ema, epoch; give"),
    ("w.pth", zipped_up("x/data.pkl", "x/constants.pkl"), "is a TorchScript program, not weights alone"),
    ("w.pth", zipped_up("model.pth"), "is a zip with other files (model.pth); unpack it"),
    ("w.npz", zipped_up("a.npy", "b.npy"), "is a zip with other files (a.npy, b.npy)"),
    ("w.pth", gzip.compress(b"x"), "is a gzip file; unpack it"),
    ("w.pth", bytes(2000), "begins with zeros only"),
    ("w.safetensors", bytes(2000), "begins with zeros only"),
    ("w.safetensors", b'{"error": "Repository not found"}', "is a text file, not weights"),
    ("w.pth", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a text file, not weights"),
    ("w.pth", torch_file()[:6000], "is truncated: the end of a PyTorch checkpoint is missing"),
    ("w.pth", torch_file(zipped=False)[:6000], "is truncated; download"),
    ("w.pth", torch_file(zipped=False)[:100], "is truncated; download"),
    ("w.safetensors", save(WEIGHTS)[:6000], "is truncated (Error"),
    ("w.safetensors", save(WEIGHTS)[:20], "is truncated (Error"),
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


@settings(max_examples=300)
@given(st.data())
def test_damaged_pickles_are_refused_or_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    good = bytearray(
        pickle.dumps({"model": {"a": np.ones(4, "f4"), "b": np.zeros((2, 2), "i8")}, "n": np.float64(1)}, 2)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(2, len(good) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(bytes(good))
    with suppress(UserError):
        assert all(isinstance(tensor, torch.Tensor) for tensor in read_tensors(path, "give another").values())
