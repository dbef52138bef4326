"""Load the compiled kernel onto a device, check it there against the reference, and launch it.

A kernel is checked before its first use on a device: if its results differ from the reference, it raises an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from harness.errors import UserError
from harness.models.ops import build, reference
from harness.models.ops.build import OVERRIDE, Variant

if TYPE_CHECKING:
    from cuda.core import Kernel, ObjectCode

TILE = 128
"""Queries of one head that a block takes, a few at a time, if there are blocks enough: neighbours share cache lines."""
BLOCKS_PER_PROCESSOR = 16
"""Blocks that there should be for each of the device's multiprocessors before one of them takes more queries."""

MOST_ELEMENTS = 1 << 31
"""The kernel indexes the elements of one image's value with 32 bits."""

KERNEL_TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Largest norm of the difference from the reference, as a fraction of the reference's norm."""


class Loaded(NamedTuple):
    """A checked kernel on a device."""

    variant: Variant
    code: ObjectCode
    forward: Kernel
    backward: Kernel


def kernel_variant(value: Tensor, sampling_locations: Tensor, fused: bool = False) -> Variant:
    """The variant for these arguments; if ``fused``, ``locations`` are offsets."""
    _, _, _, levels, points, _ = sampling_locations.shape
    return Variant(value.dtype, sampling_locations.dtype, value.shape[-1], levels, points, fused)


@cache
def device_fault(device: int) -> str | None:
    """Why CUDA device number ``device`` has no kernel, or None."""
    if torch.version.cuda is None:
        return "torch is built for ROCm, the kernel is CUDA"
    fault = build.missing_packages()
    if fault is not None:
        return fault
    architecture = _architecture(device)
    if architecture not in build.architectures():
        version = ".".join(str(part) for part in build.compiler_version())
        return f"NVRTC {version} does not compile for this device, sm_{architecture}"
    return None


@cache
def load(variant: Variant, device: int) -> Loaded:
    """Compile or fetch ``variant`` for CUDA device number ``device``, load and check it; raises ``UserError``."""
    from cuda.core import Device, ObjectCode

    if torch.cuda.is_current_stream_capturing():
        raise UserError(
            "deformable attention", "its kernel is not loaded yet", "call the model once before capturing a CUDA graph"
        )
    binary = build.cubin(variant, _architecture(device))
    with torch.cuda.device(device):
        Device(device).set_current()
        try:
            code = ObjectCode.from_cubin(binary)
            kernels = (code.get_kernel(f"deform_attn_{way}") for way in ("forward", "backward"))
            loaded = Loaded(variant, code, *kernels)
        except Exception as fault:
            if not build.from_cuda(fault):
                raise
            _refuse_too_little_memory(fault)
            hint = f"{build.INSTALL}, or {OVERRIDE}=reference to run without the kernel"
            raise UserError("deformable attention", f"the driver rejected its kernel: {fault}", hint) from fault
        check(loaded, torch.device("cuda", device))
    return loaded


def forward(
    loaded: Loaded,
    value: Tensor,
    spatial_shapes: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    reference_points: Tensor | None = None,
) -> Tensor:
    """Launch the forward kernel on torch's current stream, with the arguments of the operator, all on the device.

    For a fused kernel the third and fourth are offsets and logits; only then there are reference points.
    """
    batch, _, heads, dim = value.shape
    output = sampling_locations.new_empty(batch, sampling_locations.shape[1], heads * dim)
    tensors = _inputs(value, spatial_shapes, reference_points, sampling_locations, attention_weights)
    if output.numel():
        _launch(loaded.variant, loaded.forward, [*tensors, output], value, sampling_locations)
    return output


def backward(
    loaded: Loaded,
    grad_output: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    reference_points: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch the backward kernel; returns gradients of value, locations and weights (fused: offsets and logits).

    The gradient of value is summed by float32 atomics, so its last bits change from run to run.
    """
    inputs = [
        _ready(grad_output),
        *_inputs(value, spatial_shapes, reference_points, sampling_locations, attention_weights),
    ]
    grad_value = torch.zeros(value.shape, dtype=torch.float32, device=value.device)
    grad_locations = torch.empty(sampling_locations.shape, dtype=sampling_locations.dtype, device=value.device)
    grad_weights = torch.empty(attention_weights.shape, dtype=attention_weights.dtype, device=value.device)
    if grad_output.numel():
        outputs = [grad_value, grad_locations, grad_weights]
        _launch(loaded.variant, loaded.backward, [*inputs, *outputs], value, sampling_locations)
    return grad_value.to(value.dtype), grad_locations, grad_weights


def alert_not_deterministic() -> None:
    """Raise ``RuntimeError``, or warn, where ``torch.use_deterministic_algorithms`` asks for the same bits each time.

    So do PyTorch's own operators that have no deterministic form. For callers of `backward`.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return
    message = (
        "the backward pass of deformable attention adds by atomics, in no fixed order: set"
        f" {OVERRIDE}=reference for PyTorch's operators, or torch.use_deterministic_algorithms(True, warn_only=True)"
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, UserWarning, stacklevel=2)


def check(loaded: Loaded, device: torch.device) -> None:
    """Compare forward and backward with the reference on a small case; raises ``UserError`` if they differ."""
    arguments = _small_case(loaded.variant)
    value, _, locations, *_ = arguments
    fused = loaded.variant.fused
    plainly = reference.fused_deformable_attention if fused else reference.deformable_attention
    plainly_backward = (
        reference.fused_deformable_attention_backward if fused else reference.deformable_attention_backward
    )
    draw = torch.Generator().manual_seed(1)
    grad = torch.randn(*locations.shape[:2], value.shape[2] * value.shape[3], generator=draw).to(locations.dtype)
    expected = {"output": plainly(*arguments)}
    names = ("gradient of value", "gradient of locations", "gradient of weights")
    expected |= dict(zip(names, plainly_backward(grad, *arguments), strict=True))
    there = [each.to(device) for each in arguments]
    got = {"output": forward(loaded, *there)}
    got |= dict(zip(names, backward(loaded, grad.to(device), *there), strict=True))
    for name, wanted in expected.items():
        difference = relative_difference(got[name].cpu(), wanted)
        if not difference <= KERNEL_TOLERANCE[wanted.dtype]:  # not-a-number is a difference
            raise UserError(
                f"deformable attention on {device}",
                f"the kernel's {name} differs from the reference by {difference:.1e} of its norm ({loaded.variant})",
                f"delete {build.kernel_cache_folder()} and try again; {OVERRIDE}=reference runs without the kernel",
            )


def tiles(variant: Variant, batch: int, queries: int, heads: int, processors: int) -> int:
    """Blocks per image and head, on a device with this many multiprocessors."""
    rounds = -(-queries // variant.queries_per_block)
    each = max(1, min(TILE // variant.queries_per_block, rounds * heads * batch // (BLOCKS_PER_PROCESSOR * processors)))
    return -(-rounds // each)


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference as a fraction of ``expected``'s norm."""
    wide = expected.double()
    return float((actual.double() - wide).norm() / wide.norm().clamp_min(1e-12))


def _small_case(variant: Variant) -> tuple[Tensor, ...]:
    """Arguments on CPU: two images, odd sizes, a level of one pixel, points inside, on the border and outside."""
    draw = torch.Generator().manual_seed(0)
    batch, heads, queries = 2, 3, variant.queries_per_block + 3
    odd = [(5, 7), (1, 1), (9, 4), (1, 6), (3, 1)]
    sizes = torch.tensor([odd[level % len(odd)] for level in range(variant.levels)])
    value = torch.randn(batch, int(sizes.prod(1).sum()), heads, variant.channels, generator=draw)
    samples = (batch, queries, heads, variant.levels, variant.points)
    locations = torch.rand(*samples, 2, generator=draw) * 1.6 - 0.3
    locations[:, 0] = 0.0
    locations[:, 1] = 1.0
    weights = torch.rand(*samples, generator=draw)
    plain = (value.to(variant.value), sizes, locations.to(variant.point), weights.to(variant.point))
    if not variant.fused:
        return plain
    centres = torch.rand(queries, 2, generator=draw)
    pixels = (locations - centres[:, None, None, None]) * sizes.flip(-1)[:, None]
    return *plain[:2], pixels.to(variant.point), (4 * weights).to(variant.point), centres


def _inputs(
    value: Tensor, spatial_shapes: Tensor, reference_points: Tensor | None, locations: Tensor, weights: Tensor
) -> list[Tensor | None]:
    """The arguments of both kernels, in their order."""
    centres = None if reference_points is None else _ready(reference_points.float())
    return [
        _ready(value),
        _ready(_shapes_on(spatial_shapes, value.device)),
        centres,
        _ready(locations),
        _ready(weights),
    ]


def _launch(
    variant: Variant, kernel: Kernel, tensors: Sequence[Tensor | None], value: Tensor, sampling_locations: Tensor
) -> None:
    """One launch for the whole batch, on torch's current stream of ``value``'s device."""
    from cuda.core import Device, LaunchConfig, Stream, launch

    batch, pixels, heads, _ = value.shape
    queries = sampling_locations.shape[1]
    blocks = tiles(variant, batch, queries, heads, _processors(value.device))
    config = LaunchConfig(grid=blocks * heads * batch, block=variant.warps * 32)
    pointers = [0 if each is None else each.data_ptr() for each in tensors]
    with torch.cuda.device(value.device):
        # the driver needs the context on this thread, which may be a new thread of autograd
        Device(value.device.index).set_current()
        stream = Stream.from_handle(torch.cuda.current_stream().cuda_stream)
        try:
            launch(stream, config, kernel, *pointers, pixels, queries, heads, blocks)
        except Exception as fault:
            if not build.from_cuda(fault):
                raise
            _refuse_too_little_memory(fault)
            raise RuntimeError(f"CUDA did not start the kernel of deformable attention: {fault}") from fault


def _refuse_too_little_memory(fault: Exception) -> None:
    """Raise PyTorch's error for an error of the driver that says the same."""
    if "CUDA_ERROR_OUT_OF_MEMORY" in str(fault):
        raise torch.OutOfMemoryError(f"deformable attention: {fault}") from fault


def _shapes_on(spatial_shapes: Tensor, device: torch.device) -> Tensor:
    """``spatial_shapes`` as int64 on ``device``; sizes that are on CPU are copied there once per process."""
    if spatial_shapes.device.type == "cpu":
        return _copied(tuple(spatial_shapes.flatten().tolist()), device).view(spatial_shapes.shape)
    return spatial_shapes.to(device=device, dtype=torch.int64)


@lru_cache(maxsize=256)
def _copied(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    # a copy from pageable memory synchronises and cannot be captured in a CUDA graph
    return torch.tensor(numbers, dtype=torch.int64, device=device)


def _ready(tensor: Tensor) -> Tensor:
    """``tensor``, contiguous and aligned for 16-byte loads."""
    dense = tensor.contiguous()
    return dense if dense.data_ptr() % 16 == 0 else dense.clone()


@lru_cache(maxsize=64)
def _processors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _architecture(device: int) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return major * 10 + minor
