"""Checkpoints: the released names and shapes, strict loading but for stated entries, sizes read off, bad files."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import ov2seg_golden
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from harness.baselines.ov2seg.checkpoint import architecture_of, load_network, used
from harness.baselines.ov2seg.network import Ov2SegArchitecture, Ov2SegNetwork
from harness.errors import UserError
from harness.models.backbones.swin import SwinSize

State = dict[str, Tensor]


def test_names_and_shapes_are_the_released_ones() -> None:
    with torch.device("meta"):
        network = Ov2SegNetwork(Ov2SegArchitecture())
        released = {name: torch.empty(shape) for name, shape in ov2seg_golden.RELEASED.items()}
    assert len(released) == 566
    needed = used(released)
    assert {name: t.shape for name, t in network.state_dict().items()} == {n: t.shape for n, t in needed.items()}
    left_out = released.keys() - needed.keys()
    assert {name for name in left_out if not name.endswith("num_batches_tracked")} == {
        "sem_seg_head.predictor.class_embed.zs_weight",
        "criterion.empty_weight",
        "criterion.empty_object_weight",
        "criterion.freq_weight",
    }
    assert architecture_of(needed, Path("released.pth")) == Ov2SegArchitecture()


def test_swin_b_is_read_off_its_shapes() -> None:
    with torch.device("meta"):
        state = Ov2SegNetwork(Ov2SegArchitecture(SwinSize(), decoder_layers=9, queries=300)).state_dict()
    found = architecture_of(state, Path("swin.pth"))
    assert found == Ov2SegArchitecture(SwinSize(128, (2, 2, 18, 2), (4, 8, 16, 32), 7), decoder_layers=9, queries=300)
    assert sum(t.numel() for n, t in state.items() if n.startswith("backbone.layers.")) > 86_000_000


@pytest.mark.parametrize("form", ["under model", "plain", "half precision", "old name", "safetensors"])
def test_forms_of_a_checkpoint(form: str, tiny_state: State, architecture: Ov2SegArchitecture, tmp_path: Path) -> None:
    path = tmp_path / ("tiny.safetensors" if form == "safetensors" else "tiny.pth")
    written = dict(tiny_state)
    if form == "half precision":
        written = {name: t.half() if t.is_floating_point() else t for name, t in written.items()}
    if form == "old name":
        predictor = "sem_seg_head.predictor."
        written[f"{predictor}static_query.weight"] = written.pop(f"{predictor}query_feat.weight")
    if form == "safetensors":
        save_file(written, path, {"short_edge": "64"})
    else:
        torch.save({"model": written, "iteration": 3} if form == "under model" else written, path)
    network = load_network(path)
    atol = 2e-3 if form == "half precision" else 0.0
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, tiny_state[name], atol=atol, rtol=atol)
    assert not network.training
    assert network.short_edge == (64 if form == "safetensors" else 480)
    assert architecture_of(network.state_dict(), path) == architecture


def test_a_loaded_network_runs(saved: Path, tiny_state: State, architecture: Ov2SegArchitecture) -> None:
    network = Ov2SegNetwork(architecture)
    network.load_state_dict(used(tiny_state))
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(load_network(saved)(images).mask_logits, network.eval()(images).mask_logits)


def test_differences_are_told(tiny_state: State, tmp_path: Path) -> None:
    state = dict(tiny_state)
    del state["sem_seg_head.pixel_decoder.adapter_1.weight"]
    state["sem_seg_head.predictor.iou_head.weight"] = torch.zeros(2)
    state["sem_seg_head.predictor.object_embed.layers.1.weight"] = torch.zeros(3, 32)
    path = tmp_path / "bad.pth"
    torch.save({"model": state}, path)
    with pytest.raises(UserError) as caught:
        load_network(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: tensors differ from OV2Seg")
    assert "1 missing (sem_seg_head.pixel_decoder.adapter_1.weight)" in said
    assert "1 unexpected (sem_seg_head.predictor.iou_head.weight)" in said
    assert "1 misshapen (sem_seg_head.predictor.object_embed.layers.1.weight (3, 32) where (2, 32)" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("sem_seg_head.predictor.query_feat.weight", (10,)),
        ("sem_seg_head.predictor.query_feat.weight", (10, 30)),
        ("sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.sampling_offsets.bias", ()),
        ("sem_seg_head.predictor.class_embed.linear.2.weight", ()),
    ],
)
def test_sizes_that_no_network_has(name: str, shape: tuple[int, ...], tiny_state: State, tmp_path: Path) -> None:
    path = tmp_path / "bad.pth"
    torch.save(tiny_state | {name: torch.zeros(shape)}, path)
    with pytest.raises(UserError) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class Malicious:
    """Pickles to a call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    path, made = tmp_path / "bad.pth", tmp_path / "made"
    path.write_bytes(pickle.dumps({"model": Malicious(made)}))
    with pytest.raises(UserError, match=r"is a Python pickle.*would run code"):
        load_network(path)
    assert not made.exists()


def test_other_documents(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"epoch": 3}, path)
    with pytest.raises(UserError, match=r"not a dictionary of tensors.*OV2Seg"):
        load_network(path)
    torch.save({"backbone.stem.weight": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="is not a checkpoint of OV2Seg: it lacks"):
        load_network(path)
    with pytest.raises(UserError, match="does not exist"):
        load_network(tmp_path / "absent.pth")


def test_a_checkpoint_of_clipvis_is_told_apart(tmp_path: Path) -> None:
    """The heads' names overlap; what OV2Seg needs first and CLIP-VIS lacks is named."""
    path = tmp_path / "clipvis.pth"
    shapes = (Path(__file__).parents[2] / "data" / "clipvis" / "state_dict_rn50.json").read_text()
    torch.save({name: torch.zeros(shape).to(torch.int8) for name, shape in json.loads(shapes).items()
                if name.startswith("sem_seg_head")}, path)  # fmt: skip
    with pytest.raises(UserError, match="is not a checkpoint of OV2Seg: it lacks backbone"):
        load_network(path)
