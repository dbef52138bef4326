"""ResNet with bottleneck blocks and frozen norms (He et al., 2016), stride on the 3x3 convolution.

Parameter names are those of the released checkpoint under ``backbone.base``. Feature maps are named by stride: what
the official code calls layer2 to layer5 are strides 4 to 32 (QUIRK, docs/ov2seg.md, *Backbone*).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.mask2former.pixel_decoder import FeatureMaps

EXPANSION = 4


@dataclass(frozen=True)
class ResNetSize:
    """Blocks per stage and channels of the stem. The default is ResNet-50."""

    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    width: int = 64

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels at strides 4, 8, 16, 32."""
        first = self.width * EXPANSION
        return (first, 2 * first, 4 * first, 8 * first)

    def build(self) -> ResNetBackbone:
        """Return an untrained backbone of this size."""
        return ResNetBackbone(self)


class FrozenBatchNorm(nn.Module):
    """Batch normalisation with fixed statistics and factors: an affine map per channel."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, channels, h, w)`` to the same shape."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None].to(x.dtype) + shift[:, None, None].to(x.dtype)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with a shortcut, which is projected if shapes differ."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * EXPANSION
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = FrozenBatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = FrozenBatchNorm(out)
        projected = stride != 1 or channels != out
        projection = (nn.Conv2d(channels, out, 1, stride, bias=False), FrozenBatchNorm(out))
        self.downsample = nn.Sequential(*projection) if projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, channels, h, w)`` to ``(batch, 4 * width, h / stride, w / stride)``."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet(nn.Module):
    """Stem and four stages, as ``conv1``, ``bn1`` and ``layer1`` to ``layer4``."""

    def __init__(self, size: ResNetSize) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, size.width, 7, stride=2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm(size.width)
        channels = size.width
        for i, blocks in enumerate(size.blocks):
            width = size.width << i
            stage = [Bottleneck(channels, width, 1 if i == 0 else 2)]
            channels = width * EXPANSION
            stage += [Bottleneck(channels, width, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> FeatureMaps:
        """Normalised images ``(batch, 3, height, width)`` to the maps of the four stages."""
        x = functional.relu(self.bn1(self.conv1(images)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        maps = []
        for i in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{i}")(x)
            maps.append(x)
        return FeatureMaps(*maps)


class ResNetBackbone(nn.Module):
    """A ResNet, as ``base``."""

    def __init__(self, size: ResNetSize) -> None:
        super().__init__()
        self.base = ResNet(size)

    def forward(self, images: Tensor) -> FeatureMaps:
        """Normalised images ``(batch, 3, height, width)``, sides multiples of 32."""
        features: FeatureMaps = self.base(images)
        return features
