"""The CPU kernel of deformable attention against the PyTorch reference, golden vectors and finite differences."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import deform_attn_cases
import pytest
import torch
from clipvis_golden import cases, close, tensors
from deform_attn_cases import from_offsets, make

from harness.models.ops import cpu_kernel, deformable_attention, reference
from harness.models.ops.deform_attn import fused_deformable_attention

SIZES = {
    "one level": [(5, 7)],
    "three levels": [(3, 4), (6, 8), (12, 16)],
    "one pixel": [(1, 1)],
    "a line and a column": [(1, 9), (9, 1)],
}
DIMS = [5, 16, 32, 56]
"""Channels of a head: none in vector registers, narrow ones, wide ones, wide and narrow ones and a rest."""


@pytest.mark.parametrize("name", cases("a_msda_"))
def test_golden(name: str) -> None:
    case = tensors(name)
    arguments = [case[key] for key in ("value", "spatial_shapes", "sampling_locations", "attention_weights")]
    close(cpu_kernel.forward(*arguments), case["output"], atol=1e-5, rtol=1e-4)
    value, locations, weights = cpu_kernel.backward(case["grad_output"], *arguments)
    close(value, case["grad_value"], atol=1e-5, rtol=1e-4)
    close(locations, case["grad_sampling_locations"], atol=1e-4, rtol=1e-4)
    close(weights, case["grad_attention_weights"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_equals_the_reference(sizes: list[tuple[int, int]], dim: int, dtype: torch.dtype) -> None:
    plain = make(sizes, batch=2, queries=11, heads=3, dim=dim, dtype=dtype)
    raw, centres = from_offsets(plain)
    grad = torch.randn(2, 11, 3 * dim, dtype=dtype, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(cpu_kernel.forward(*plain), reference.deformable_attention(*plain))
    torch.testing.assert_close(cpu_kernel.forward(*raw, centres), reference.fused_deformable_attention(*raw, centres))
    torch.testing.assert_close(
        cpu_kernel.backward(grad, *plain), reference.deformable_attention_backward(grad, *plain), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(
        cpu_kernel.backward(grad, *raw, centres),
        reference.fused_deformable_attention_backward(grad, *raw, centres),
        atol=1e-5,
        rtol=1e-4,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_types_are_stored_not_summed(dtype: torch.dtype) -> None:
    arguments = make([(6, 8), (12, 16)], queries=50, dim=16, dtype=dtype)
    grad = torch.ones(1, 50, 32, dtype=dtype)
    assert torch.equal(cpu_kernel.forward(*arguments), reference.deformable_attention(*arguments))
    found = cpu_kernel.backward(grad, *arguments)
    assert [each.dtype for each in found] == [dtype] * 3
    torch.testing.assert_close(found, reference.deformable_attention_backward(grad, *arguments))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_reference_points_of_another_type(dtype: torch.dtype) -> None:
    raw, centres = from_offsets(make([(6, 8), (3, 4)], batch=2, queries=9, dim=16))
    stored = centres.to(dtype)
    torch.testing.assert_close(
        fused_deformable_attention(*raw, stored), reference.fused_deformable_attention(*raw, stored)
    )


def test_views_give_the_bytes_of_dense_tensors() -> None:
    """Transposed, spread out, and one image for all of a batch."""
    value, shapes, locations, weights = make([(6, 8), (3, 4)], queries=9, dim=16)
    transposed = value.transpose(1, 2).contiguous().transpose(1, 2).expand(3, *value.shape[1:])
    spread = torch.stack([locations, locations], -1)[..., 1].expand(3, *locations.shape[1:])
    repeated = weights.expand(3, *weights.shape[1:])
    grad = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(1))
    dense = (value, shapes, locations, weights)
    views = (transposed, shapes, spread, repeated)
    for found in cpu_kernel.forward(*views):
        assert torch.equal(found, cpu_kernel.forward(*dense)[0])
    gradients = zip(cpu_kernel.backward(grad.expand(3, -1, -1), *views), cpu_kernel.backward(grad, *dense), strict=True)
    assert all(torch.equal(each, one) for views_of, (one,) in gradients for each in views_of)


AFTER_A_FORK = """
import os, signal, torch
from deform_attn_cases import from_offsets, make
from harness.models.ops import cpu_kernel

torch.set_num_threads(3)
cpu_kernel.SAMPLES_PER_THREAD = 16
raw, centres = from_offsets(make([(6, 8), (3, 4)], batch=2, queries=50, heads=4, dim=16))
grad = torch.ones(2, 50, 64)

def results():
    return [cpu_kernel.forward(*raw, centres), *cpu_kernel.backward(grad, *raw, centres)]

before = results()
if os.fork() == 0:
    signal.alarm(120)
    os._exit(0 if all(map(torch.equal, before, results())) else 1)
assert os.wait()[1] == 0
assert all(map(torch.equal, before, results()))
"""


def test_a_forked_process_gets_the_same_bytes_from_its_threads() -> None:
    """As in a DataLoader: the kernel keeps no threads, which a fork would lose."""
    support = Path(deform_attn_cases.__file__).parent
    path = os.pathsep.join([str(support), *filter(None, [os.environ.get("PYTHONPATH")])])
    finished = subprocess.run(
        [sys.executable, "-c", AFTER_A_FORK], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("far", [3.0, 1e9, -1e9, -1e30, float("inf"), -float("inf")])
def test_far_outside_reads_nothing(far: float) -> None:
    value, shapes, locations, weights = make([(2, 3)])
    arguments = (value, shapes, torch.full_like(locations, far), weights)
    assert not cpu_kernel.forward(*arguments).any()
    assert not any(grad.any() for grad in cpu_kernel.backward(torch.ones(1, 7, 16), *arguments))


def test_one_bad_location_harms_its_own_query_only() -> None:
    value, shapes, locations, weights = make([(4, 5)], queries=3)
    clean = cpu_kernel.forward(value, shapes, locations, weights)
    locations[0, 1] = float("nan")
    output = cpu_kernel.forward(value, shapes, locations, weights)
    assert output[0, 1].isnan().all()
    torch.testing.assert_close(output[0, ::2], clean[0, ::2])


def test_logits_far_apart_do_not_overflow() -> None:
    raw, centres = from_offsets(make([(4, 5)], dim=16))
    raw = raw._replace(attention_weights=raw.attention_weights * 1e4)
    torch.testing.assert_close(cpu_kernel.forward(*raw, centres), reference.fused_deformable_attention(*raw, centres))


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_kernel, "SAMPLES_PER_THREAD", 16)
    raw, centres = from_offsets(make([(6, 8), (3, 4)], batch=2, queries=50, heads=4, dim=16))
    grad = torch.randn(2, 50, 64, generator=torch.Generator().manual_seed(1))
    found = []
    for threads in (1, 2, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append((cpu_kernel.forward(*raw, centres), *cpu_kernel.backward(grad, *raw, centres)))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_the_environment_chooses_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        cpu_kernel, "forward", lambda *arguments: calls.append(1) or reference.deformable_attention(*arguments)
    )
    arguments = make([(4, 5)])
    deformable_attention(*arguments)
    monkeypatch.setenv("HARNESS_DEFORM_ATTN", "reference")
    deformable_attention(*arguments)
    assert len(calls) == 1
