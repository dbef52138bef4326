"""Multi-scale deformable attention in PyTorch: the reference for the kernels, and what runs where there is none.

Deformable DETR, equation 3. The operator is a sparse weighted sum of rows of ``value``: every sampled point reads four
rows, each weighted by attention times bilinear weight. So the rows and weights are worked out first and
``embedding_bag`` sums them, without an image-shaped copy of ``value`` and without a tensor of samples. A loop
of ``grid_sample`` over the levels, the usual reference, is several times slower on CPU (tests/benchmarks/
test_deform_attn_speed.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

CPU_CHUNK, DEVICE_CHUNK = 1 << 15, 1 << 24
"""Points worked out at a time: on CPU, for each thread, so that its temporaries of 128 KiB stay in its cache; on a
device as many as memory lets, since there each step is a launch."""


class Neighbours(NamedTuple):
    """The two pixels next to each position along one axis, all tensors of the positions' shape."""

    near: Tensor
    """int32, the pixel at or before the position, moved into the map."""
    far: Tensor
    """int32, the pixel after that, moved into the map."""
    near_inside: Tensor
    """bool, false where ``near`` had to be moved: nothing is sampled there."""
    far_inside: Tensor
    near_weight: Tensor
    """In [0, 1]; zero outside the map."""
    far_weight: Tensor


class Levels(NamedTuple):
    """Sizes and offset of each level, repeated for its points: tensors ``(levels * points,)``."""

    height: Tensor
    width: Tensor
    start: Tensor
    """Row of the level's first pixel."""


def deformable_attention(
    value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Sum ``value`` sampled at ``sampling_locations``, weighted by ``attention_weights``.

    Arguments are those of ``harness.models.ops.deformable_attention``. Returns ``(N, Lq, M * D)`` in the locations'
    type; sums are in float32, or in float64 where ``value`` is. Differentiable by autograd.
    """
    batch, rows_per_head, heads, dim = value.shape
    if not (value.numel() and attention_weights.numel()):
        return sampling_locations.new_zeros(batch, sampling_locations.shape[1], heads * dim)
    wide = _wide(value)
    levels = _levels(spatial_shapes, sampling_locations.shape[4], value.device)
    images = []
    for image in range(batch):
        table = value[image].reshape(rows_per_head * heads, dim).to(wide)
        sums = []
        for _, locations, attention in _chunks(sampling_locations[image], attention_weights[image]):
            rows, weights = _rows_and_weights(locations.to(wide), attention.to(wide), levels, heads)
            sums.append(functional.embedding_bag(rows, table, mode="sum", per_sample_weights=weights))
        images.append(torch.cat(sums).view(-1, heads * dim))
    return torch.stack(images).to(sampling_locations.dtype)


def deformable_attention_backward(
    grad_output: Tensor, value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, sampling locations and attention weights, each of its argument's shape and type.

    ``grad_output`` is ``(N, Lq, M * D)``. Written out because a custom operator's body runs below autograd.
    """
    batch, _, heads, dim = value.shape
    # contiguous, as the operator's fake kernel promises
    grad_value, grad_locations, grad_weights = (
        torch.zeros_like(each, memory_format=torch.contiguous_format)
        for each in (value, sampling_locations, attention_weights)
    )
    if not (value.numel() and attention_weights.numel()):
        return grad_value, grad_locations, grad_weights
    wide = _wide(value)
    levels = _levels(spatial_shapes, sampling_locations.shape[4], value.device)
    for image in range(batch):
        table = value[image].reshape(-1, dim).to(wide)
        grads = grad_output[image].reshape(-1, dim).to(wide)
        parts = list(_chunks(sampling_locations[image], attention_weights[image]))
        chunks = [_rows_and_weights(at.to(wide), weights.to(wide), levels, heads) for _, at, weights in parts]
        rows, weights = (torch.cat(part) for part in zip(*chunks, strict=True))
        grad_table, grad_corners = _embedding_bag_backward(grads, table, rows, weights)
        grad_value[image] = grad_table.view_as(value[image])
        pieces = torch.split(grad_corners, [len(chunk_rows) for chunk_rows, _ in chunks])
        for (span, at, attention), grad in zip(parts, pieces, strict=True):
            at_grad, attention_grad = _corner_backward(grad, at.to(wide), attention.to(wide), levels)
            grad_locations[image, span] = at_grad.view_as(at)
            grad_weights[image, span] = attention_grad.view_as(attention)
    return grad_value, grad_locations, grad_weights


def fused_deformable_attention(
    value: Tensor, spatial_shapes: Tensor, sampling_offsets: Tensor, attention_logits: Tensor, reference_points: Tensor
) -> Tensor:
    """`deformable_attention` at ``reference_points`` plus offsets in pixels, weighted by the softmax of logits.

    Arguments are those of ``harness.models.ops.fused_deformable_attention``. Differentiable by autograd.
    """
    locations = _locations(spatial_shapes, sampling_offsets, reference_points)
    output = deformable_attention(value, spatial_shapes, locations, _softmax(attention_logits))
    return output.to(sampling_offsets.dtype)


def fused_deformable_attention_backward(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    reference_points: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, sampling offsets and attention logits, each of its argument's shape and type."""
    locations = _locations(spatial_shapes, sampling_offsets, reference_points)
    weights = _softmax(attention_logits)
    grad_value, grad_locations, grad_weights = deformable_attention_backward(
        grad_output, value, spatial_shapes, locations, weights
    )
    grad_offsets = grad_locations / _size_xy(spatial_shapes, locations)
    # what autograd itself calls: the product and the sum in one pass
    grad_logits: Tensor = torch.ops.aten._softmax_backward_data(
        grad_weights.flatten(3), weights.flatten(3), -1, weights.dtype
    )
    return (
        grad_value,
        grad_offsets.to(sampling_offsets.dtype),
        grad_logits.view(attention_logits.shape).to(attention_logits.dtype),
    )


def _locations(spatial_shapes: Tensor, offsets: Tensor, reference_points: Tensor) -> Tensor:
    """Sampling locations ``(N, Lq, M, L, P, 2)`` in [0, 1], in float32 or wider."""
    wide = offsets.to(_wide(offsets))
    return reference_points.to(wide)[None, :, None, None, None, :] + wide / _size_xy(spatial_shapes, wide)


def _size_xy(spatial_shapes: Tensor, like: Tensor) -> Tensor:
    """Width and height of the levels, to go with ``like`` ``(N, Lq, M, L, P, 2)``."""
    return spatial_shapes.flip(-1).to(like)[None, None, None, :, None, :]


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over all samples of a query and head, ``(N, Lq, M, L, P)``, in float32 or wider."""
    return logits.to(_wide(logits)).flatten(3).softmax(-1).view(logits.shape)


def _wide(value: Tensor) -> torch.dtype:
    """The type sums are made in."""
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _levels(spatial_shapes: Tensor, points: int, device: torch.device) -> Levels:
    """``spatial_shapes`` ``(levels, 2)`` as one row number, height and width for each point."""
    shapes = spatial_shapes.to(device=device, dtype=torch.int32)
    height, width = shapes[:, 0], shapes[:, 1]
    area = height * width
    start = area.cumsum(0, dtype=torch.int32) - area
    return Levels(*(each.repeat_interleave(points) for each in (height, width, start)))


def _chunks(locations: Tensor, weights: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Cut one image's locations and weights ``(Lq, M, L, P, ...)`` into runs of queries."""
    queries = locations.shape[0]
    on_cpu = weights.device.type == "cpu"
    step = max(1, (CPU_CHUNK * torch.get_num_threads() if on_cpu else DEVICE_CHUNK) // weights[0].numel())
    for start in range(0, queries, step):
        span = slice(start, min(start + step, queries))
        yield span, locations[span], weights[span]


def _neighbours(coordinate: Tensor, size: Tensor) -> Neighbours:
    """Pixels next to ``coordinate`` in [0, 1] times ``size``; pixel k has its centre at ``(k + 0.5) / size``."""
    position = coordinate.clamp(-2, 3) * size - 0.5  # still outside, but no infinity, whose fraction is not a number
    low = position.floor()
    fraction = position - low
    # integers are clamped, not positions: a location far away, or one that is not a number, still names a row
    near_wanted = low.to(torch.int32)
    far_wanted = near_wanted + 1
    last = (size - 1).expand_as(near_wanted)
    zero = torch.zeros((), dtype=torch.int32, device=size.device)
    near = torch.minimum(near_wanted, last).maximum(zero)
    far = torch.minimum(far_wanted, last).maximum(zero)
    near_inside, far_inside = near == near_wanted, far == far_wanted
    return Neighbours(near, far, near_inside, far_inside, (1 - fraction) * near_inside, fraction * far_inside)


def _rows_and_weights(locations: Tensor, weights: Tensor, levels: Levels, heads: int) -> tuple[Tensor, Tensor]:
    """Rows of the ``(S * M, D)`` table to sum, and their weights, both ``(queries * M, 4 * L * P)``."""
    queries = weights.shape[0]
    attention, at = weights.flatten(0, 1).flatten(1), locations.flatten(0, 1).flatten(1, 2)  # (queries * M, L * P)
    x, y = _neighbours(at[..., 0], levels.width), _neighbours(at[..., 1], levels.height)
    lines = [line * levels.width + levels.start for line in (y.near, y.far)]
    pixels = torch.cat([line + column for line in lines for column in (x.near, x.far)], dim=1)
    head = torch.arange(heads, dtype=torch.int32, device=weights.device).repeat(queries)
    by_line = [attention * line for line in (y.near_weight, y.far_weight)]
    corner_weights = torch.cat([line * column for line in by_line for column in (x.near_weight, x.far_weight)], dim=1)
    return pixels * heads + head[:, None], corner_weights


def _corner_backward(grad: Tensor, locations: Tensor, weights: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
    """From gradients of the corner weights ``(queries * M, 4 * L * P)`` to those of locations and attention."""
    attention, at = weights.flatten(0, 1).flatten(1), locations.flatten(0, 1).flatten(1, 2)  # (queries * M, L * P)
    x, y = _neighbours(at[..., 0], levels.width), _neighbours(at[..., 1], levels.height)
    near_near, near_far, far_near, far_far = grad.chunk(4, dim=1)  # line, then column
    near_line = near_near * x.near_weight + near_far * x.far_weight
    far_line = far_near * x.near_weight + far_far * x.far_weight
    near_column = near_near * y.near_weight + far_near * y.far_weight
    far_column = near_far * y.near_weight + far_far * y.far_weight
    grad_x = attention * levels.width * (far_column * x.far_inside - near_column * x.near_inside)
    grad_y = attention * levels.height * (far_line * y.far_inside - near_line * y.near_inside)
    return torch.stack((grad_x, grad_y), dim=-1), near_line * y.near_weight + far_line * y.far_weight


def _embedding_bag_backward(grads: Tensor, table: Tensor, rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of ``embedding_bag(rows, table, mode="sum", per_sample_weights=weights)``.

    These are the operators that autograd itself calls; a gather and a scatter in public ones take three times as long.
    """
    bags, size = rows.shape
    flat, sum_mode = rows.reshape(-1), 0
    bag_of_row = torch.arange(bags, dtype=flat.dtype, device=flat.device).repeat_interleave(size)
    offsets = torch.arange(bags, dtype=flat.dtype, device=flat.device) * size
    sizes = torch.full_like(offsets, size)
    unused = torch.empty(0, dtype=flat.dtype, device=flat.device)
    grad_table: Tensor = torch.ops.aten._embedding_bag_dense_backward(
        grads, flat, bag_of_row, sizes, unused, table.shape[0], False, sum_mode, weights.reshape(-1)
    )
    grad_weights: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        grads, table, flat, offsets, bag_of_row, sum_mode
    )
    return grad_table, grad_weights.view_as(weights)
