"""Networks for inference whose batch norms are part of the convolutions before them: fewer passes over feature maps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from harness.models.backbones.resnet import FrozenBatchNorm
from harness.models.shared.half_weights import Network, copy_of_modules


def with_folded_norms(network: Network, within: str = "") -> Network:
    """A copy of a network whose batch norms, where a convolution precedes them, are folded into its weights.

    A convolution and a norm belong together if they follow each other in their module and have the same number of
    channels, as in ResNets and in ConvNeXts with batch norms. The copy is for inference: it computes the same function
    with other rounding, and shares everything else with the network, which remains as it is. Only modules whose names
    begin with ``within`` are folded. Without such norms the network itself is returned.
    """
    if not any(True for _ in _pairs(network, within)):
        return network
    copied = copy_of_modules(network)
    for parent, name, convolution, norm in list(_pairs(copied, within)):
        _fold(convolution, norm)
        setattr(parent, name, nn.Identity())
    return copied


def _pairs(
    network: nn.Module, within: str
) -> Iterator[tuple[nn.Module, str, nn.Conv2d, nn.BatchNorm2d | FrozenBatchNorm]]:
    """Each convolution with the norm after it: the module of both, the norm's name in it, and both."""
    for path, parent in network.named_modules():
        if not f"{path}.".startswith(within):
            continue
        for (_, first), (name, second) in pairwise(parent.named_children()):
            if not isinstance(first, nn.Conv2d) or not isinstance(second, nn.BatchNorm2d | FrozenBatchNorm):
                continue
            mean = second.running_mean
            if mean is not None and not second.training and len(mean) == first.out_channels:
                yield parent, name, first, second


@torch.no_grad()
def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm) -> None:
    """Give a convolution weights and a bias that do the norm's work too; computed in float64."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = (variance.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -mean * scale if convolution.bias is None else (convolution.bias - mean) * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    weight = convolution.weight
    convolution.weight = _fixed(weight * scale[:, None, None, None], weight.dtype)
    convolution.bias = _fixed(shift, weight.dtype)


def _fixed(tensor: Tensor, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(tensor.to(dtype), requires_grad=False)
