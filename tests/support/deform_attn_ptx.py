"""The deformable attention kernel's PTX, and its launches in the emulator with torch's tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from ptx_emulator import Emulator, Report, memory_of
from torch import Tensor

from harness.models.ops import build, kernel, reference
from harness.models.ops.build import Variant

ALIGNMENT = 16
"""Bytes at whose multiples the kernel is promised its tensors."""


class Inputs(NamedTuple):
    """What both kernels read, in their order; see `harness.models.ops.deform_attn`."""

    value: Tensor
    spatial_shapes: Tensor
    centres: Tensor | None
    """Reference points of a fused kernel."""
    locations: Tensor
    """Offsets where the kernel is fused."""
    weights: Tensor
    """Logits where the kernel is fused."""


class Gradients(NamedTuple):
    """What the backward kernel writes."""

    value: Tensor
    """float32."""
    locations: Tensor
    weights: Tensor


def ptx(variant: Variant, architecture: int, source: str | None = None) -> str:
    """What NVRTC makes of the kernel, or of another ``source``, on the way to the binary that a GPU gets."""
    from cuda.bindings import nvrtc  # cuda-core asks the driver before it compiles to PTX

    program = _answer(nvrtc.nvrtcCreateProgram((source or build.SOURCE.read_text()).encode(), b"", 0, [], []))
    options = [f"--gpu-architecture=sm_{architecture}", "--std=c++17"]
    options += [f"--define-macro={name}={text}" for name, text in variant.macros()]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [each.encode() for each in options])
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = bytearray(_answer(nvrtc.nvrtcGetProgramLogSize(program)))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise ValueError(log.decode())
    text = bytearray(_answer(nvrtc.nvrtcGetPTXSize(program)))
    nvrtc.nvrtcGetPTX(program, text)
    nvrtc.nvrtcDestroyProgram(program)
    return text.rstrip(b"\0").decode()


def _answer(result: tuple[Any, Any]) -> Any:
    """What an NVRTC function returns beside its status."""
    status, answer = result
    if status.value != 0:
        raise RuntimeError(f"NVRTC: {status.name}")
    return answer


class EmulatedKernel:
    """One variant of the kernel for one architecture."""

    def __init__(self, variant: Variant, architecture: int, folder: Path, source: str | None = None) -> None:
        self.variant = variant
        self._folder = folder
        self._ptx = ptx(variant, architecture, source)

    def forward(self, inputs: Inputs, seed: int = 0, rounds: int = 1) -> tuple[Tensor, Report]:
        """Output, not-a-number where the kernel does not write, and faults.

        A block takes queries ``rounds`` times.
        """
        batch, queries, heads = inputs.locations.shape[:3]
        output = aligned(torch.full((batch, queries, heads * self.variant.channels), torch.nan).to(self.variant.point))
        return output, self._launch("deform_attn_forward", inputs, list(inputs), [output], seed, rounds)

    def backward(self, grad_output: Tensor, inputs: Inputs, seed: int = 0, rounds: int = 1) -> tuple[Gradients, Report]:
        """Gradients, not-a-number where the kernel does not write, and faults."""
        gradients = Gradients(
            aligned(torch.zeros(inputs.value.shape)),
            aligned(torch.full_like(inputs.locations, torch.nan)),
            aligned(torch.full_like(inputs.weights, torch.nan)),
        )
        report = self._launch("deform_attn_backward", inputs, [grad_output, *inputs], list(gradients), seed, rounds)
        return gradients, report

    def _launch(
        self, name: str, inputs: Inputs, read: list[Tensor | None], written: list[Tensor], seed: int, rounds: int
    ) -> Report:
        """As ``kernel._launch``, on the host's memory."""
        batch, pixels = inputs.value.shape[:2]
        queries, heads = inputs.locations.shape[1:3]
        tiles = -(-queries // (rounds * self.variant.queries_per_block))
        pointers = [0 if each is None else each.data_ptr() for each in [*read, *written]]
        memory = [memory_of(each) for each in read if each is not None] + [memory_of(each, True) for each in written]
        parameters = [*pointers, pixels, queries, heads, tiles]
        emulator = Emulator(self._ptx, name, self._folder)
        return emulator.run(tiles * heads * batch, self.variant.warps * 32, parameters, memory, seed)


def aligned(tensor: Tensor) -> Tensor:
    """A dense copy at a multiple of 16 bytes that is none of 32, the least that the kernel is promised."""
    size = tensor.numel() * tensor.element_size()
    room = torch.empty(size + 3 * ALIGNMENT, dtype=torch.uint8)
    start = (ALIGNMENT - room.data_ptr()) % (2 * ALIGNMENT)
    copy = room[start : start + size].view(tensor.dtype).view(tensor.shape)
    return copy.copy_(tensor)


def stored(
    variant: Variant, value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor, *centres: Tensor
) -> Inputs:
    """Arguments of the operator, plain or fused, in the variant's types and the kernel's order."""
    return Inputs(
        aligned(value.to(variant.value)),
        aligned(shapes),
        aligned(centres[0]) if centres else None,
        aligned(locations.to(variant.point)),
        aligned(weights.to(variant.point)),
    )


def expected(inputs: Inputs, grad_output: Tensor) -> tuple[Tensor, Gradients]:
    """Output and gradients of the PyTorch reference."""
    value, shapes, centres, locations, weights = inputs
    if centres is None:
        output = reference.deformable_attention(value, shapes, locations, weights)
        gradients = reference.deformable_attention_backward(grad_output, value, shapes, locations, weights)
    else:
        fused = (value, shapes, locations, weights, centres)
        output = reference.fused_deformable_attention(*fused)
        gradients = reference.fused_deformable_attention_backward(grad_output, *fused)
    return output, Gradients(*gradients)


def within_tolerance(actual: Tensor, wanted: Tensor) -> bool:
    """Whether the kernel's own check on a GPU would pass ``actual``."""
    return kernel.relative_difference(actual, wanted) <= kernel.KERNEL_TOLERANCE[wanted.dtype]
