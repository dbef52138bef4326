"""The baseline that the CUDA kernel is compared with on a GPU, `benchmarks/deform_attn_2020.cu`, in the emulator."""

from __future__ import annotations

from pathlib import Path

import deform_attn_ptx
import ptx_emulator
import pytest
import torch
from deform_attn_cases import make
from deform_attn_ptx import aligned
from ptx_emulator import Emulator, memory_of
from torch import Tensor

from harness.models.ops import build, kernel, reference
from harness.models.ops.deform_attn import FLOAT32

MISSING = build.missing_packages() or ptx_emulator.missing()
SOURCE = Path(__file__).parents[3] / "benchmarks" / "deform_attn_2020.cu"


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_equals_the_reference(tmp_path: Path) -> None:
    code = deform_attn_ptx.ptx(FLOAT32, 90, SOURCE.read_text())
    made = make([(3, 4), (1, 5), (6, 8)], batch=2, queries=9, heads=2, dim=32, points=2)
    value, shapes, locations, weights = (aligned(each) for each in made)
    starts = aligned(shapes.prod(1).cumsum(0) - shapes.prod(1))
    output = aligned(torch.full((2, 9, 64), torch.nan))
    numbers = [output.numel(), value.shape[1], 2, 32, 3, 9, 2]

    def run(name: str, read: list[Tensor], written: list[Tensor], blocks: int) -> None:
        memory = [memory_of(each) for each in read] + [memory_of(each, True) for each in written]
        pointers = [each.data_ptr() for each in [*read, *written]]
        report = Emulator(code, name, tmp_path).run(blocks, 32, [*pointers, *numbers], memory)
        assert report.faults == []

    inputs = [value, shapes, starts, locations, weights]
    run("deform_attn_2020_forward", inputs, [output], -(-output.numel() // 32))
    assert kernel.relative_difference(output, reference.deformable_attention(*made)) < 1e-6

    grad = aligned(torch.randn(output.shape, generator=torch.Generator().manual_seed(1)))
    gradients = [aligned(torch.zeros_like(value)), *(aligned(torch.full_like(each, torch.nan)) for each in made[2:])]
    run("deform_attn_2020_backward", [grad, *inputs], gradients, 2 * 9 * 2)
    for got, wanted in zip(gradients, reference.deformable_attention_backward(grad, *made), strict=True):
        assert kernel.relative_difference(got, wanted) < 1e-5
