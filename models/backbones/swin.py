"""Swin transformer as a backbone of dense features (Liu et al., 2021), with a layer norm on each of the four outputs.

Parameter names are those of Mask2Former's Swin under ``backbone``. It is that form of Swin, for images of any size:
maps are first padded to whole windows and then shifted (timm shifts first, which mixes other pixels at the border), and
every second block is shifted however small the map is. See docs/ov2seg.md, *Backbone*.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.models.mask2former.pixel_decoder import FeatureMaps

PATCH = 4
MLP_RATIO = 4
DROP_PATH = 0.3
"""Rate of the last block in training; the rates of the blocks increase linearly from 0."""
_FORBIDDEN = -100.0
"""Added to attention logits between pixels that are neighbours only because of the cyclic shift."""


@dataclass(frozen=True)
class SwinSize:
    """Channels of the first stage, blocks and heads per stage, side of a window. The default is Swin-B."""

    width: int = 128
    blocks: tuple[int, int, int, int] = (2, 2, 18, 2)
    heads: tuple[int, int, int, int] = (4, 8, 16, 32)
    window: int = 7

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels at strides 4, 8, 16, 32."""
        return (self.width, 2 * self.width, 4 * self.width, 8 * self.width)

    def build(self) -> SwinBackbone:
        """Return an untrained backbone of this size."""
        return SwinBackbone(self)


class PatchEmbedding(nn.Module):
    """One token per patch of 4x4 pixels, as ``proj`` and ``norm``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        """``(batch, 3, height, width)`` to ``(batch, height / 4, width / 4, dim)``."""
        tokens: Tensor = self.norm(self.proj(images).permute(0, 2, 3, 1))
        return tokens


class WindowAttention(nn.Module):
    """Self-attention among the pixels of a window, with a bias for each relative position."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.register_buffer("relative_position_index", relative_position_index(window), persistent=False)
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Windows ``(batch, windows, S, dim)``, S pixels each; ``mask`` ``(windows, S, S)`` is added to attention."""
        batch, windows, pixels, dim = x.shape
        shape = (batch, windows, pixels, 3, self.heads, dim // self.heads)
        q, k, v = self.qkv(x).view(shape).permute(3, 0, 1, 4, 2, 5)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # (heads, S, S)
        if mask is not None:
            bias = bias + mask[:, None]  # (windows, heads, S, S)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        y: Tensor = self.proj(attended.transpose(2, 3).reshape(x.shape))
        return y


class Mlp(nn.Module):
    """Two linear layers with GELU, as ``fc1`` and ``fc2``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., dim)`` to ``(..., dim)``."""
        y: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return y


class SwinBlock(nn.Module):
    """Window attention and a feed-forward network, each after a norm; ``shift`` in pixels."""

    def __init__(self, dim: int, heads: int, window: int, shift: int, drop_path: float) -> None:
        super().__init__()
        self.window, self.shift, self.drop_path = window, shift, drop_path
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, h, w, dim)`` to the same shape."""
        x = x + self._dropped(self._attend(self.norm1(x)))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        side, shift = self.window, self.shift
        padded = functional.pad(x, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        mask = shift_mask(rows, columns, side, shift, x.device) if shift else None
        shifted = padded.roll((-shift, -shift), (1, 2))
        windows = shifted.view(batch, rows, side, columns, side, dim).transpose(2, 3)
        attended: Tensor = self.attn(windows.reshape(batch, rows * columns, side * side, dim), mask)
        joined = attended.view(batch, rows, columns, side, side, dim).transpose(2, 3).reshape(padded.shape)
        return joined.roll((shift, shift), (1, 2))[:, :height, :width]

    def _dropped(self, x: Tensor) -> Tensor:
        """Stochastic depth: in training, leave the branch out for some images and scale it for the others."""
        if not self.training or self.drop_path == 0:
            return x
        kept = 1 - self.drop_path
        dropped: Tensor = x * torch.bernoulli(torch.full((len(x), 1, 1, 1), kept, device=x.device)) / kept
        return dropped


class PatchMerging(nn.Module):
    """Joins 2x2 pixels into one with twice the channels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, h, w, dim)`` to ``(batch, ceil(h / 2), ceil(w / 2), 2 * dim)``."""
        x = functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        y: Tensor = self.reduction(self.norm(torch.cat(corners, -1)))
        return y


class SwinStage(nn.Module):
    """Blocks at one resolution, then the step to the next, as ``blocks.*`` and ``downsample``."""

    def __init__(self, dim: int, heads: int, window: int, drop_paths: list[float], last: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(dim, heads, window, window // 2 if i % 2 else 0, rate) for i, rate in enumerate(drop_paths)
        )
        self.downsample = nn.Identity() if last else PatchMerging(dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(batch, h, w, dim)`` to the same shape, and the input of the next stage."""
        for block in self.blocks:
            x = block(x)
        return x, self.downsample(x)


class SwinBackbone(nn.Module):
    """Patches, four stages, and a norm on the output of each, as ``norm0`` to ``norm3``."""

    def __init__(self, size: SwinSize) -> None:
        super().__init__()
        rates = torch.linspace(0, DROP_PATH, sum(size.blocks), device="cpu").tolist()
        self.patch_embed = PatchEmbedding(size.width)
        stages = []
        for i, (dim, blocks, heads) in enumerate(zip(size.channels, size.blocks, size.heads, strict=True)):
            first = sum(size.blocks[:i])
            stages.append(SwinStage(dim, heads, size.window, rates[first : first + blocks], last=i == 3))
            self.add_module(f"norm{i}", nn.LayerNorm(dim))
        self.layers = nn.ModuleList(stages)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> FeatureMaps:
        """Normalised images ``(batch, 3, height, width)``, sides multiples of 32."""
        x = self.patch_embed(images)
        maps = []
        for i, stage in enumerate(self.layers):
            found, x = stage(x)
            maps.append(self.get_submodule(f"norm{i}")(found).permute(0, 3, 1, 2))
        return FeatureMaps(*maps)


def relative_position_index(side: int) -> Tensor:
    """Row of the bias table for each pair of pixels of a window, ``(side ** 2, side ** 2)``.

    A difference of ``(dy, dx)`` is row ``(dy + side - 1) * (2 * side - 1) + dx + side - 1``.
    """
    place = torch.arange(side * side, device="cpu")
    y, x = place // side, place % side
    dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
    return (dy + side - 1) * (2 * side - 1) + dx + side - 1


def shift_mask(rows: int, columns: int, side: int, shift: int, device: torch.device | str = "cpu") -> Tensor:
    """Additive attention mask of each shifted window, ``(rows * columns, side ** 2, side ** 2)``.

    The last row and column of windows hold pixels from the opposite border: these and the others must not attend to
    each other.
    """
    region_y = _regions(rows * side, side, shift, device)
    region_x = _regions(columns * side, side, shift, device)
    region = 3 * region_y[:, None] + region_x[None, :]
    windows = region.view(rows, side, columns, side).transpose(1, 2).reshape(rows * columns, side * side)
    apart = windows[:, :, None] != windows[:, None, :]
    return torch.zeros(apart.shape, device=device).masked_fill(apart, _FORBIDDEN)


def _regions(size: int, side: int, shift: int, device: torch.device | str) -> Tensor:
    """Along one axis: 0 before the last window, 1 in it before the wrapped pixels, 2 for the wrapped pixels."""
    place = torch.arange(size, device=device)
    return (place >= size - side).long() + (place >= size - shift).long()
