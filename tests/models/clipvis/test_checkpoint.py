"""Checkpoints: the released names and shapes, strict loading, sizes read off the tensors, bad files.

Tests of `models/clipvis/network.py`.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from harness.errors import UserError
from harness.models.clipvis.checkpoint import architecture_of, load_network
from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.network import ClipVisArchitecture, ClipVisNetwork

RELEASED = {"rn50": "RN50", "convnext_b": "convnext_base_w_320"}
State = dict[str, Tensor]


@pytest.mark.parametrize("kind", RELEASED)
def test_names_and_shapes_are_the_released_ones(kind: str) -> None:
    document = Path(__file__).parents[2] / "data" / "clipvis" / f"state_dict_{kind}.json"
    expected = {name: tuple(shape) for name, shape in json.loads(document.read_text()).items()}
    with torch.device("meta"):
        network = ClipVisNetwork(ClipVisArchitecture(RELEASED[kind]))
        empty = {name: torch.empty(shape) for name, shape in expected.items()}
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == expected
    assert architecture_of(empty, document) == ClipVisArchitecture(RELEASED[kind])


def test_decoder_depth_comes_from_the_checkpoint() -> None:
    with torch.device("meta"):
        state = ClipVisNetwork(ClipVisArchitecture("RN50", decoder_layers=9)).state_dict()
    assert architecture_of(state, Path("nine.pth")).decoder_layers == 9


@pytest.mark.parametrize("form", ["under model", "plain", "half precision", "safetensors"])
def test_forms_of_a_checkpoint(form: str, tiny_state: State, tmp_path: Path) -> None:
    path = tmp_path / ("tiny.safetensors" if form == "safetensors" else "tiny.pth")
    if form == "safetensors":
        save_file(tiny_state, path)
    elif form == "half precision":
        torch.save({name: t.half() if t.is_floating_point() else t for name, t in tiny_state.items()}, path)
    else:
        torch.save({"model": tiny_state, "iteration": 3} if form == "under model" else tiny_state, path)
    network = load_network(path)
    atol = 2e-3 if form == "half precision" else 0.0
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, tiny_state[name], atol=atol, rtol=atol)
    assert not network.training
    assert network.backbone.clip_model.attn_mask.shape == (77, 77)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, tiny_state: State, tmp_path: Path) -> None:
    name = next(n for n in tiny_state if n.endswith("query_feat.weight"))
    broken = tiny_state[name].clone()
    broken.view(-1)[:2] = value
    for path in (tmp_path / "tiny.safetensors", tmp_path / "tiny.pth"):
        (save_file if path.suffix == ".safetensors" else torch.save)({**tiny_state, name: broken}, path)
        with pytest.raises(UserError, match=rf"tensor {re.escape(name)}: 2 of {broken.numel()} values are not finite"):
            load_network(path)


def test_double_precision_that_float32_cannot_hold_is_refused(tiny_state: State, tmp_path: Path) -> None:
    state = {name: t.double() if t.is_floating_point() else t for name, t in tiny_state.items()}
    save_file(state, tmp_path / "fine.safetensors")
    assert load_network(tmp_path / "fine.safetensors").state_dict().keys() == tiny_state.keys()
    name = next(n for n, t in state.items() if t.is_floating_point())
    state[name] = torch.full_like(state[name], 1e300)
    save_file(state, tmp_path / "large.safetensors")
    with pytest.raises(UserError, match="values are not finite"):
        load_network(tmp_path / "large.safetensors")


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_weights_of_another_kind_of_numbers_are_refused(kind: torch.dtype, tiny_state: State, tmp_path: Path) -> None:
    name = next(n for n in tiny_state if n.endswith("query_feat.weight"))
    torch.save({**tiny_state, name: tiny_state[name].to(kind)}, tmp_path / "tiny.pth")
    said = str(kind).removeprefix("torch.")
    with pytest.raises(UserError, match=rf"tensor {re.escape(name)} is of type {said}, the model's of float32; use a"):
        load_network(tmp_path / "tiny.pth")


def test_differences_are_told(tiny_state: State, tmp_path: Path) -> None:
    state = dict(tiny_state)
    del state["sem_seg_head.pixel_decoder.adapter_1.weight"]
    state["sem_seg_head.predictor.class_embed.weight"] = torch.zeros(2)
    state["sem_seg_head.predictor.iou_head.layers.2.weight"] = torch.zeros(3, 32)
    path = tmp_path / "bad.pth"
    torch.save({"model": state}, path)
    with pytest.raises(UserError) as caught:
        load_network(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "1 missing (sem_seg_head.pixel_decoder.adapter_1.weight)" in said
    assert "1 unexpected (sem_seg_head.predictor.class_embed.weight)" in said
    assert "1 misshapen (sem_seg_head.predictor.iou_head.layers.2.weight (3, 32) where (1, 32) is needed)" in said
    assert "\n" not in said


class Malicious:
    """Pickles to a call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    path, made = tmp_path / "bad.pth", tmp_path / "made"
    for write in (lambda document: torch.save(document, path), lambda d: path.write_bytes(pickle.dumps(d))):
        write({"model": Malicious(made)})
        with pytest.raises(UserError, match=r"runs? code when"):
            load_network(path)
        assert not made.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"hello", b"junk\n", b"PK\x03\x04 not a zip", b"\x80\x04", b"\x00" * 4096])
@pytest.mark.parametrize("name", ["foreign.pth", "foreign.safetensors"])
def test_foreign_files(content: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not re.search(r"\(\d+\)", str(caught.value))  # a key of pickle's tables tells nobody anything


@pytest.mark.parametrize("kept", [0.2, 0.9, 0.999])
def test_truncated_files(kept: float, saved: Path) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UserError, match=r"tiny\.pth"):
        load_network(saved)


def test_other_documents(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    for document in ([1, 2], {"model": [1]}, {"epoch": 3}, {}, torch.zeros(3)):
        torch.save(document, path)
        with pytest.raises(UserError, match="not a dictionary of tensors"):
            load_network(path)
    torch.save({"backbone.stem.weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="is not a checkpoint of CLIP-VIS: it lacks"):
        load_network(path)
    with pytest.raises(UserError, match="does not exist"):
        load_network(tmp_path / "absent.pth")


def test_clip_weights_from_a_local_file(tiny_state: State, tmp_path: Path) -> None:
    """A checkpoint without CLIP takes it through open_clip, here from a file; without one the message says how."""
    prefix = "backbone.clip_model."
    clip = {name.removeprefix(prefix): t for name, t in tiny_state.items() if name.startswith(prefix)}
    rest = {name: t for name, t in tiny_state.items() if not name.startswith(prefix)}
    weights, path = tmp_path / "clip.pt", tmp_path / "heads.pth"
    torch.save(clip, weights)
    torch.save({"model": rest}, path)
    network = load_network(path, ClipVisConfig(clip_model="tiny-resnet", clip_pretrained=str(weights)))
    assert all(torch.equal(t, tiny_state[name]) for name, t in network.state_dict().items())
    with pytest.raises(UserError, match="set clip_model and clip_pretrained"):
        load_network(path, ClipVisConfig(clip_model="tiny-resnet"))
    with pytest.raises(UserError, match=r"cannot be loaded.*local file"):
        load_network(path, ClipVisConfig(clip_model="tiny-resnet", clip_pretrained=str(tmp_path / "absent.pt")))
    with pytest.raises(UserError, match="256 channels"):
        load_network(path)
