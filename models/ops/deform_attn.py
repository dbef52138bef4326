"""Multi-scale deformable attention, by a CUDA kernel, a compiled CPU kernel or the PyTorch reference.

The operators are ``torch.ops.harness.deformable_attention`` and ``fused_deformable_attention``, with fake kernels and
autograd, so ``torch.compile`` with ``fullgraph`` and training work. On CUDA devices the kernel of ``deform_attn.cu`` is
compiled at first use (build.py), compared with the reference (kernel.py) and launched on the current stream; CUDA
graphs can capture it after that. On a CPU, cpu_kernel.py does the same in one pass, compiled by numba at first use. The
reference (reference.py) is used for float64 on CUDA devices, on other devices, and if the CUDA kernel is not
available, which is warned of once; HARNESS_DEFORM_ATTN=reference selects it everywhere.

The fused operator, which the models use, takes offsets and logits and does softmax and reference points in the kernel.
Outside it they read and write 40 bytes per point in float32 (24 where ``torch.compile`` makes them one pass), while the
operator with all its inputs and outputs moves about 33. That is arithmetic, not a measurement: neither kernel has run
on a GPU yet; their source has, on threads of a CPU, and their PTX in an emulator (docs/clipvis.md).
"""

from __future__ import annotations

import os
import warnings
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.errors import UserError
from harness.models.ops import build, cpu_kernel, kernel, reference
from harness.models.ops.build import Variant


def deformable_attention(
    value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Sum ``value`` sampled bilinearly at ``sampling_locations``, weighted by ``attention_weights``.

    Deformable DETR, equation 3, without its projections.

    - ``value`` ``(N, S, M, D)``: M heads of D channels for the S pixels of all levels, row-major, level after level.
    - ``spatial_shapes`` ``(L, 2)``, integer: ``(height, width)`` of each level, at least 1; ``S`` is the sum of
      ``height * width``. On any device; on CPU it is checked, elsewhere a sum that is not ``S`` gives not-a-number.
    - ``sampling_locations`` ``(N, Lq, M, L, P, 2)``: ``(x, y)``, where the map spans [0, 1] and pixel k has its centre
      at ``(k + 0.5) / size``. Outside the map everything is zero.
    - ``attention_weights`` ``(N, Lq, M, L, P)``.

    All but the sizes are on one device. Floating arguments are float16, bfloat16, float32 or float64; locations and
    weights are taken in ``value``'s type where both have it and in float32 otherwise (float64 with a float64
    ``value``). Returns ``(N, Lq, M * D)`` in the type in which the locations are taken, so a 16-bit ``value`` at
    float32 locations gives float32; sums are made in float32 or wider. Raises ``ValueError`` for shapes, types and
    devices that do not fit together.
    """
    _check_shapes(value, spatial_shapes, sampling_locations, attention_weights)
    point = _point_type(value, sampling_locations, attention_weights)
    output: Tensor = torch.ops.harness.deformable_attention(
        value, spatial_shapes, sampling_locations.to(point), attention_weights.to(point)
    )
    return output


def fused_deformable_attention(
    value: Tensor, spatial_shapes: Tensor, sampling_offsets: Tensor, attention_logits: Tensor, reference_points: Tensor
) -> Tensor:
    """`deformable_attention` with the outputs of a network's layers: offsets in pixels, and logits.

    - ``value``, ``spatial_shapes``: as there.
    - ``sampling_offsets`` ``(N, Lq, M, L, P, 2)``: ``(x, y)`` in pixels of each level, from the query's own point.
    - ``attention_logits`` ``(N, Lq, M, L, P)``: the weights are their softmax over a query and head.
    - ``reference_points`` ``(Lq, 2)``: ``(x, y)`` in [0, 1], for every image and level; constants, without gradient.

    Types, result and errors are those of `deformable_attention`.
    """
    _check_shapes(
        value, spatial_shapes, sampling_offsets, attention_logits, names=("sampling_offsets", "attention_logits")
    )
    if reference_points.shape != (sampling_offsets.shape[1], 2) or reference_points.requires_grad:
        got = f"{tuple(reference_points.shape)}{', requires grad' if reference_points.requires_grad else ''}"
        raise ValueError(f"reference_points are constants of shape {(sampling_offsets.shape[1], 2)}, got {got}")
    _check_device("reference_points", reference_points, value)
    point = _point_type(value, sampling_offsets, attention_logits)
    output: Tensor = torch.ops.harness.fused_deformable_attention(
        value, spatial_shapes, sampling_offsets.to(point), attention_logits.to(point), reference_points
    )
    return output


class Path(NamedTuple):
    """The implementation that is used for given arguments, and why."""

    name: str
    """``cuda kernel``, ``cpu kernel`` or ``pytorch reference``."""
    why: str


def path_for(device: torch.device, variant: Variant) -> Path:
    """The implementation for arguments of ``variant`` on ``device``."""
    reference_path = "pytorch reference"
    if os.environ.get(build.OVERRIDE) == "reference":
        return Path(reference_path, f"{build.OVERRIDE}=reference")
    if device.type == "cpu":
        return Path("cpu kernel", "tensors are on cpu")
    if device.type != "cuda":
        return Path(reference_path, f"tensors are on {device.type}")
    fault = variant.fault() or kernel.device_fault(_number(device))
    if fault is not None:
        return Path(reference_path, fault)
    return Path("cuda kernel", "compiled by NVRTC, equal to the reference on this device")


FLOAT32 = Variant(torch.float32, torch.float32, channels=32, levels=3, points=4, fused=True)
"""The variant of the released models in float32."""


def kernel_status() -> dict[str, Any]:
    """Which implementation the models use on this machine and why, for ``harness doctor``.

    Keys: ``path`` (that of `Path`, or ``none`` if the CUDA kernel is broken), ``why``, ``device``,
    ``versions`` of cuda-core, cuda-bindings and NVRTC (None if absent), ``cache``, the folder of compiled kernels. On a
    CUDA device the kernel is compiled, loaded and compared with the reference.
    """
    found: dict[str, Any] = {"device": "cpu", "versions": build.versions(), "cache": str(build.kernel_cache_folder())}
    if not torch.cuda.is_available():
        return {**found, "path": path_for(torch.device("cpu"), FLOAT32).name, "why": "torch sees no CUDA device"}
    device = torch.device("cuda", torch.cuda.current_device())
    found["device"] = torch.cuda.get_device_name(device)
    path = path_for(device, FLOAT32)
    if path.name == "cuda kernel":
        try:
            kernel.load(FLOAT32, _number(device))
        except UserError as fault:
            path = Path("none", str(fault))
    return {"path": path.name, "why": path.why, **found}


@torch.library.custom_op("harness::deformable_attention", mutates_args=())
def _operator(value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
    _check_sizes(value, spatial_shapes)
    arguments = (value, spatial_shapes, sampling_locations, attention_weights)
    if _on_cpu(value, sampling_locations):
        return cpu_kernel.forward(*arguments)
    loaded = _kernel_for(value, sampling_locations)
    return kernel.forward(loaded, *arguments) if loaded else reference.deformable_attention(*arguments)


@torch.library.custom_op("harness::deformable_attention_backward", mutates_args=())
def _backward_operator(
    grad_output: Tensor, value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    arguments = (grad_output, value, spatial_shapes, sampling_locations, attention_weights)
    if _on_cpu(value, sampling_locations):
        return cpu_kernel.backward(*arguments)
    loaded = _kernel_for(value, sampling_locations)
    if loaded:
        kernel.alert_not_deterministic()
    return kernel.backward(loaded, *arguments) if loaded else reference.deformable_attention_backward(*arguments)


@_operator.register_fake
def _(value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
    return sampling_locations.new_empty(value.shape[0], sampling_locations.shape[1], value.shape[2] * value.shape[3])


@_backward_operator.register_fake
def _(
    grad_output: Tensor, value: Tensor, spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    value_like, locations_like, weights_like = (
        each.new_empty(each.shape) for each in (value, sampling_locations, attention_weights)
    )
    return value_like, locations_like, weights_like


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
    value, locations, weights = torch.ops.harness.deformable_attention_backward(grad_output, *ctx.saved_tensors)
    return value, None, locations, weights


_operator.register_autograd(_differentiate, setup_context=_remember)


@torch.library.custom_op("harness::fused_deformable_attention", mutates_args=())
def _fused_operator(
    value: Tensor, spatial_shapes: Tensor, sampling_offsets: Tensor, attention_logits: Tensor, reference_points: Tensor
) -> Tensor:
    _check_sizes(value, spatial_shapes)
    arguments = (value, spatial_shapes, sampling_offsets, attention_logits, reference_points)
    if _on_cpu(value, sampling_offsets):
        return cpu_kernel.forward(*arguments)
    loaded = _kernel_for(value, sampling_offsets, fused=True)
    return kernel.forward(loaded, *arguments) if loaded else reference.fused_deformable_attention(*arguments)


@torch.library.custom_op("harness::fused_deformable_attention_backward", mutates_args=())
def _fused_backward_operator(
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    reference_points: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    arguments = (grad_output, value, spatial_shapes, sampling_offsets, attention_logits, reference_points)
    if _on_cpu(value, sampling_offsets):
        return cpu_kernel.backward(*arguments)
    loaded = _kernel_for(value, sampling_offsets, fused=True)
    if loaded:
        kernel.alert_not_deterministic()
    return kernel.backward(loaded, *arguments) if loaded else reference.fused_deformable_attention_backward(*arguments)


@_fused_operator.register_fake
def _(value: Tensor, shapes: Tensor, offsets: Tensor, logits: Tensor, centres: Tensor) -> Tensor:
    return offsets.new_empty(value.shape[0], offsets.shape[1], value.shape[2] * value.shape[3])


@_fused_backward_operator.register_fake
def _(
    grad_output: Tensor, value: Tensor, shapes: Tensor, offsets: Tensor, logits: Tensor, centres: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return value.new_empty(value.shape), offsets.new_empty(offsets.shape), logits.new_empty(logits.shape)


def _remember_fused(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate_fused(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, Tensor, Tensor, None]:
    value, offsets, logits = torch.ops.harness.fused_deformable_attention_backward(grad_output, *ctx.saved_tensors)
    return value, None, offsets, logits, None


_fused_operator.register_autograd(_differentiate_fused, setup_context=_remember_fused)


def _on_cpu(value: Tensor, points: Tensor) -> bool:
    """Whether the CPU kernel takes these arguments; the reference handles empty ones."""
    path = os.environ.get(build.OVERRIDE)
    return value.device.type == "cpu" and path != "reference" and value.numel() > 0 and points.numel() > 0


def _kernel_for(value: Tensor, sampling_locations: Tensor, fused: bool = False) -> kernel.Loaded | None:
    """The loaded kernel for these arguments, or None if the reference is to be used, as for empty ones."""
    if value.device.type != "cuda" or not (value.numel() and sampling_locations.numel()):
        return None
    variant = kernel.kernel_variant(value, sampling_locations, fused)
    path = path_for(value.device, variant)
    if path.name == "cuda kernel" and value[:1].numel() < kernel.MOST_ELEMENTS:
        return kernel.load(variant, _number(value.device))
    _warn_once(path.why if path.name != "cuda kernel" else "one image's value has 2^31 elements or more")
    return None


@cache
def _warn_once(why: str) -> None:
    warnings.warn(f"deformable attention runs without its CUDA kernel: {why}", RuntimeWarning, stacklevel=2)


def _number(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _point_type(value: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> torch.dtype:
    """The type to which locations and weights are converted."""
    if value.dtype == sampling_locations.dtype == attention_weights.dtype:
        return value.dtype
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _check_shapes(
    value: Tensor,
    shapes: Tensor,
    locations: Tensor,
    weights: Tensor,
    names: tuple[str, str] = ("sampling_locations", "attention_weights"),
) -> None:
    """Raise ``ValueError`` with the expected and the given shapes or types, if they differ."""
    if not all(each.is_floating_point() for each in (value, locations, weights)):
        raise ValueError(f"value, {names[0]} and {names[1]} are floating-point tensors")
    if shapes.is_floating_point():
        raise ValueError(f"spatial_shapes are integers, got {shapes.dtype}")
    for name, tensor in zip(names, (locations, weights), strict=True):
        _check_device(name, tensor, value)
    if value.dim() != 4:
        raise ValueError(f"value is (batch, pixels, heads, channels), got {tuple(value.shape)}")
    if locations.dim() != 6:
        raise ValueError(f"{names[0]} is (batch, queries, heads, levels, points, 2), got {tuple(locations.shape)}")
    batch, _, heads, _ = value.shape
    _, queries, _, levels, points, _ = locations.shape
    for name, tensor, expected in (
        ("spatial_shapes", shapes, (levels, 2)),
        (names[0], locations, (batch, queries, heads, levels, points, 2)),
        (names[1], weights, (batch, queries, heads, levels, points)),
    ):
        if tensor.shape != expected:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {expected}")


def _check_device(name: str, tensor: Tensor, value: Tensor) -> None:
    """Raise ``ValueError`` for a tensor on another device than ``value``: the kernel would read wrong memory."""
    if tensor.device != value.device:
        raise ValueError(f"{name} is on {tensor.device}, value on {value.device}")


def _check_sizes(value: Tensor, spatial_shapes: Tensor) -> None:
    """Raise ``ValueError`` if the sizes are on CPU and do not match the number of pixels of ``value``.

    Reading sizes from a device would synchronise it; the kernel itself handles that case.
    """
    if spatial_shapes.device.type == "cpu":
        named, pixels = int(spatial_shapes.prod(1).sum()), value.shape[1]
        if named != pixels or bool((spatial_shapes < 1).any()):
            raise ValueError(f"spatial_shapes {spatial_shapes.tolist()} name {named} pixels, value has {pixels}")
