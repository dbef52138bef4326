"""Deformable attention for tests: the loop of grid_sample that everybody has, and inputs of many kinds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Arguments(NamedTuple):
    """What the operator takes, in its order."""

    value: Tensor
    spatial_shapes: Tensor
    sampling_locations: Tensor
    attention_weights: Tensor


def grid_sample_loop(
    value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """The operator as Deformable DETR's own PyTorch fallback computes it: one grid_sample per level."""
    batch, _, heads, dim = value.shape
    queries = sampling_locations.shape[1]
    sizes = [(int(height), int(width)) for height, width in spatial_shapes.tolist()]
    parts = value.split([height * width for height, width in sizes], dim=1)
    sampled = []
    for level, ((height, width), part) in enumerate(zip(sizes, parts, strict=True)):
        image = part.permute(0, 2, 3, 1).reshape(batch * heads, dim, height, width)
        grid = (2 * sampling_locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        sampled.append(functional.grid_sample(image, grid, padding_mode="zeros", align_corners=False))
    weights = attention_weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    summed = (torch.cat(sampled, dim=-1) * weights).sum(-1)
    return summed.view(batch, heads * dim, queries).transpose(1, 2).contiguous()


def make(
    sizes: list[tuple[int, int]],
    batch: int = 1,
    queries: int = 7,
    heads: int = 2,
    dim: int = 8,
    points: int = 4,
    spread: float = 0.3,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Arguments:
    """Random arguments on CPU; locations are uniform in [-spread, 1 + spread], so some lie outside the maps."""
    draw = torch.Generator().manual_seed(seed)
    pixels = sum(height * width for height, width in sizes)
    levels = len(sizes)
    value = torch.randn(batch, pixels, heads, dim, generator=draw)
    locations = torch.rand(batch, queries, heads, levels, points, 2, generator=draw) * (1 + 2 * spread) - spread
    weights = torch.rand(batch, queries, heads, levels * points, generator=draw).softmax(-1)
    return Arguments(
        value.to(dtype),
        torch.tensor(sizes, dtype=torch.int64).view(levels, 2),
        locations.to(dtype),
        weights.view(batch, queries, heads, levels, points).to(dtype),
    )


def from_offsets(arguments: Arguments) -> tuple[Arguments, Tensor]:
    """The same samples for the fused operator: offsets and logits in place of locations and weights; the centres."""
    value, shapes, locations, weights = arguments
    draw = torch.Generator().manual_seed(9)
    centres = torch.rand(locations.shape[1], 2, generator=draw).to(locations.dtype)
    offsets = (locations - centres[:, None, None, None]) * shapes.flip(-1)[:, None]
    return Arguments(value, shapes, offsets, weights.log()), centres


def encoder_like(sizes: list[tuple[int, int]], batch: int = 1, heads: int = 8, dim: int = 32) -> Arguments:
    """The pixel decoder's arguments: each pixel of each level is a query that looks a few pixels around itself."""
    draw = torch.Generator().manual_seed(0)
    levels, points = len(sizes), 4
    centres = [
        torch.stack(torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")[::-1], -1)
        for h, w in sizes
    ]
    reference = torch.cat([centre.reshape(-1, 2) for centre in centres])
    queries = reference.shape[0]
    shapes = torch.tensor(sizes, dtype=torch.int64)
    offsets = torch.randn(batch, queries, heads, levels, points, 2, generator=draw) * 3
    locations = reference[None, :, None, None, None, :] + offsets / shapes.flip(-1)[:, None, :]
    weights = torch.randn(batch, queries, heads, levels * points, generator=draw).softmax(-1)
    value = torch.randn(batch, queries, heads, dim, generator=draw)
    return Arguments(value, shapes, locations, weights.view(batch, queries, heads, levels, points))
