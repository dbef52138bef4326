"""Deformable attention from offsets and logits: softmax and reference points in the operator, or before it.

``pytest tests/benchmarks/test_fused_deform_attn_speed.py --benchmark-enable``, at the pixel decoder's shapes for one
frame of a 480x853 video on a CPU, where both are the same arithmetic, and for ten on a GPU, where fusing saves memory
traffic.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from deform_attn_cases import encoder_like, from_offsets
from torch import Tensor

from harness.models.ops import deformable_attention, fused_deformable_attention

SIZES = [(15, 27), (30, 54), (60, 108)]
SMALL = [(2, 3), (4, 6), (8, 12)]
"""What runs where benchmarks are off."""


def outside(value: Tensor, shapes: Tensor, offsets: Tensor, logits: Tensor, centres: Tensor) -> Tensor:
    """The plain operator behind a softmax and the arithmetic of locations."""
    locations = centres[:, None, None, None] + offsets / shapes.flip(-1).to(offsets)[:, None]
    weights = logits.flatten(3).softmax(-1).view(logits.shape)
    return deformable_attention(value, shapes, locations, weights)


@pytest.mark.parametrize("way", ["fused", "outside"])
def test_forward(benchmark: Any, request: pytest.FixtureRequest, way: str) -> None:
    on_gpu = torch.cuda.is_available()
    full_size = request.config.getoption("benchmark_enable")
    made, centres = from_offsets(encoder_like(SIZES if full_size else SMALL, batch=10 if on_gpu and full_size else 1))
    arguments = [each.to("cuda" if on_gpu else "cpu") for each in (*made, centres)]
    benchmark.group = f"fused deformable attention, {'GPU' if on_gpu else 'CPU'}, {len(made.value)} frames of 480x853"
    operator = fused_deformable_attention if way == "fused" else outside

    def run() -> Tensor:
        output = operator(*arguments)
        if on_gpu:
            torch.cuda.synchronize()
        return output

    with torch.no_grad():
        run()  # compile, load and check
        torch.testing.assert_close(benchmark(run), outside(*arguments), atol=1e-4, rtol=1e-4)
