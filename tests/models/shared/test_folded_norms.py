"""Batch norms folded into convolutions: the same function, no less exact, and the network stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.models.backbones.clip import ClipBackbone
from harness.models.backbones.resnet import FrozenBatchNorm, ResNetSize
from harness.models.clipvis.model import TOWER
from harness.models.clipvis.network import ClipVisNetwork
from harness.models.shared.folded_norms import with_folded_norms

NORMS = (nn.BatchNorm2d, FrozenBatchNorm)


def miniature() -> ClipBackbone:
    backbone = ClipBackbone("convnext_shapes")
    backbone.clip_model.transformer = nn.Identity()  # the text tower, which takes no part
    return backbone


LEFT = {"R50": 0, "CLIP's ResNet": 0, "the miniature": 4}
"""Of each network, norms without a convolution before them: the miniature's downsampling, and its head."""


def made(name: str, tiny: ClipVisNetwork) -> tuple[nn.Module, str]:
    """A network in evaluation mode with statistics of its own, and what is folded of it."""
    torch.manual_seed(0)
    made: dict[str, Callable[[], nn.Module]] = {
        "R50": lambda: ResNetSize((1, 2, 1, 1), 8).build().eval(),
        "CLIP's ResNet": lambda: copy.deepcopy(tiny.backbone),
        "the miniature": miniature,
    }
    network = made[name]()
    draw = torch.Generator().manual_seed(1)
    for norm in network.modules():
        if isinstance(norm, NORMS):
            spread = ((norm.weight, 0.5), (norm.running_var, 0.5), (norm.bias, -0.3), (norm.running_mean, -0.3))
            for tensor, low in spread:
                assert tensor is not None
                tensor.data.copy_(torch.rand(tensor.shape, generator=draw) + low)
    return network, "" if name == "R50" else TOWER


@pytest.mark.parametrize("name", LEFT)
@torch.no_grad()
def test_the_same_function(name: str, tiny: ClipVisNetwork) -> None:
    network, within = made(name, tiny)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    folded = with_folded_norms(network, within)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    plain, fused = network(images), folded(images)
    exact = network.double()(images.double())
    for a, b, wanted in zip(plain, fused, exact, strict=True):
        assert difference(b, wanted) < max(2 * difference(a, wanted), 1e-6)
    network.float()
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    visited = folded.get_submodule(within.rstrip(".")) if within else folded
    assert sum(isinstance(each, NORMS) for each in visited.modules()) == LEFT[name]


def difference(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


def test_a_network_without_such_norms_is_returned() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.GELU(), nn.BatchNorm2d(4)).eval()
    assert with_folded_norms(network) is network


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@torch.no_grad()
def test_norms_and_convolutions_of_all_kinds(bias: bool, affine: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2, bias=bias), nn.BatchNorm2d(6, affine=affine))
    for _ in range(3):
        network(torch.randn(4, 4, 9, 9) + 1)  # statistics
    images = torch.randn(2, 4, 9, 9)
    assert with_folded_norms(network) is network, "in training statistics change"
    expected = network.eval()(images)
    folded: Any = with_folded_norms(network)
    assert isinstance(folded[1], nn.Identity)
    assert not folded[0].weight.requires_grad
    torch.testing.assert_close(folded(images), expected)
    assert isinstance(network[1], nn.BatchNorm2d)
