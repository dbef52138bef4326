"""Weights in half precision: the same bytes as autocast makes of float32, and nothing left to convert."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.baselines.ov2seg.network import Ov2SegArchitecture, Ov2SegNetwork
from harness.models.backbones.resnet import ResNetSize
from harness.models.backbones.swin import SwinSize
from harness.models.clipvis.network import ClipVisNetwork
from harness.models.shared.half_weights import with_half_weights

SMALL: dict[str, Any] = {"decoder_layers": 2, "queries": 5, "dim": 32, "heads": 4, "feedforward": 32, "embed_dim": 16}
BACKBONES = {"R50": ResNetSize((1, 1, 1, 1), 8), "Swin": SwinSize(8, (1, 2, 1, 1), (1, 1, 2, 2), 4)}


class Converted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts conversions of the weights of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0
        self._weights = {each.data_ptr() for each in network.parameters() if each.dim() > 1}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func._schema.name == "aten::_to_copy":
            self.count += any(each.data_ptr() in self._weights for each in args if isinstance(each, Tensor))
        return func(*args, **(kwargs or {}))


def parts_of(name: str, tiny: ClipVisNetwork) -> tuple[nn.Module, nn.Module, nn.Module]:
    network: Any = tiny
    if name != "CLIP-VIS":
        torch.manual_seed(0)
        sizes = Ov2SegArchitecture(BACKBONES[name], encoder_layers=1, encoder_feedforward=32, **SMALL)
        network = Ov2SegNetwork(sizes).eval().requires_grad_(False)
    return network.backbone, network.sem_seg_head.pixel_decoder, network.sem_seg_head.predictor


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["CLIP-VIS", *BACKBONES])
@torch.no_grad()
def test_the_same_bytes(name: str, dtype: torch.dtype, tiny: ClipVisNetwork) -> None:
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    whole = backbone, pixel_decoder, predictor = parts_of(name, tiny)
    before = [each.clone() for part in whole for each in part.parameters()]
    half = (with_half_weights(backbone, dtype, "clip_model.visual." if name == "CLIP-VIS" else ""), pixel_decoder,
            with_half_weights(predictor, dtype))  # fmt: skip
    outputs, counts = [], []
    for first, second, third in (whole, half):
        first_counter, third_counter = Converted(first), Converted(third)
        with torch.autocast("cpu", dtype=dtype):
            with first_counter:
                features = first(images)
            pixels = second(features)
            with third_counter:
                outputs.append([*features, *tree_leaves(third(pixels))])
        counts.append((first_counter.count, third_counter.count))
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))
    assert min(counts[0]) > 5
    assert counts[1] == (0, 0)
    after = [each for part in whole for each in part.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_what_is_not_converted_is_shared(tiny: ClipVisNetwork) -> None:
    backbone = tiny.backbone
    half = with_half_weights(backbone, torch.bfloat16, "clip_model.visual.")
    theirs, ours = dict(half.named_parameters()), dict(backbone.named_parameters())
    assert {name for name in ours if theirs[name] is not ours[name]} == {
        name for name in ours if theirs[name].dtype == torch.bfloat16
    }
    assert theirs["clip_model.token_embedding.weight"] is ours["clip_model.token_embedding.weight"]
    assert theirs["clip_model.visual.conv1.weight"].dtype == torch.bfloat16
    assert with_half_weights(backbone, torch.float32) is backbone
