"""The PyTorch reference of deformable attention against golden vectors, grid_sample, and finite differences."""

from __future__ import annotations

import pytest
import torch
from clipvis_golden import cases, close, tensors
from deform_attn_cases import Arguments, grid_sample_loop, make

from harness.models.ops.reference import deformable_attention, deformable_attention_backward

SIZES = {
    "one level": [(5, 7)],
    "three levels": [(3, 4), (6, 8), (12, 16)],
    "one pixel": [(1, 1)],
    "a line and a column": [(1, 9), (9, 1)],
}


def autograd(arguments: Arguments, grad_output: torch.Tensor) -> tuple[torch.Tensor, ...]:
    value, shapes, locations, weights = arguments
    leaves = [each.detach().requires_grad_() for each in (value, locations, weights)]
    output = grid_sample_loop(leaves[0], shapes, leaves[1], leaves[2])
    return torch.autograd.grad(output, leaves, grad_output)


@pytest.mark.parametrize("name", cases("a_msda_"))
def test_golden(name: str) -> None:
    case = tensors(name)
    arguments = [case[key] for key in ("value", "spatial_shapes", "sampling_locations", "attention_weights")]
    close(deformable_attention(*arguments), case["output"], atol=1e-5, rtol=1e-4)
    value, locations, weights = deformable_attention_backward(case["grad_output"], *arguments)
    close(value, case["grad_value"], atol=1e-5, rtol=1e-4)
    close(locations, case["grad_sampling_locations"], atol=1e-4, rtol=1e-4)
    close(weights, case["grad_attention_weights"], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("spread", [0.0, 0.3, 5.0])
def test_equals_a_loop_of_grid_sample(sizes: list[tuple[int, int]], spread: float) -> None:
    arguments = make(sizes, batch=2, queries=11, heads=3, dim=5, spread=spread, dtype=torch.float64)
    torch.testing.assert_close(deformable_attention(*arguments), grid_sample_loop(*arguments))


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_gradients_equal_those_of_grid_sample(sizes: list[tuple[int, int]]) -> None:
    arguments = make(sizes, batch=2, queries=11, heads=3, dim=5, dtype=torch.float64)
    grad_output = torch.randn(2, 11, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = autograd(arguments, grad_output)
    for actual, wanted in zip(deformable_attention_backward(grad_output, *arguments), expected, strict=True):
        torch.testing.assert_close(actual, wanted)


def test_gradcheck() -> None:
    value, shapes, locations, weights = make([(3, 4), (2, 2)], queries=3, dim=2, points=2, dtype=torch.float64)
    leaves = [each.requires_grad_() for each in (value, locations, weights)]
    assert torch.autograd.gradcheck(lambda v, at, w: deformable_attention(v, shapes, at, w), leaves)


def test_a_pixel_centre_reads_that_pixel() -> None:
    value = torch.arange(6.0).view(1, 6, 1, 1)
    centre = torch.tensor([2.5 / 3, 1.5 / 2]).view(1, 1, 1, 1, 1, 2)  # last column of the last line
    output = deformable_attention(value, torch.tensor([[2, 3]]), centre, torch.ones(1, 1, 1, 1, 1))
    assert output.item() == pytest.approx(5.0, abs=1e-5)


def test_a_corner_of_the_map_reads_a_quarter() -> None:
    value = torch.full((1, 6, 1, 1), 8.0)
    corner = torch.zeros(1, 1, 1, 1, 1, 2)
    output = deformable_attention(value, torch.tensor([[2, 3]]), corner, torch.ones(1, 1, 1, 1, 1))
    assert output.item() == pytest.approx(2.0)


@pytest.mark.parametrize("far", [3.0, 1e9, -1e9, -1e30, float("inf"), -float("inf")])
def test_far_outside_reads_nothing(far: float) -> None:
    value, shapes, locations, weights = make([(2, 3)])
    arguments = (value, shapes, torch.full_like(locations, far), weights)
    assert not deformable_attention(*arguments).any()
    assert not any(grad.any() for grad in deformable_attention_backward(torch.ones(1, 7, 16), *arguments))


def test_one_bad_location_harms_its_own_query_only() -> None:
    value, shapes, locations, weights = make([(4, 5)], queries=3)
    clean = deformable_attention(value, shapes, locations, weights)
    locations[0, 1] = float("nan")
    output = deformable_attention(value, shapes, locations, weights)
    assert output[0, 1].isnan().all()
    torch.testing.assert_close(output[0, ::2], clean[0, ::2])


@pytest.mark.parametrize(("batch", "queries"), [(0, 3), (2, 0)])
def test_nothing_asked(batch: int, queries: int) -> None:
    arguments = make([(2, 3)], batch=batch, queries=queries)
    assert deformable_attention(*arguments).shape == (batch, queries, 16)
    grads = deformable_attention_backward(torch.zeros(batch, queries, 16), *arguments)
    assert [grad.shape for grad in grads] == [arguments[0].shape, arguments[2].shape, arguments[3].shape]
    assert not grads[0].any()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision_is_stored_not_summed(dtype: torch.dtype, tolerance: float) -> None:
    arguments = make([(6, 8), (12, 16)], queries=50, dtype=dtype)
    wide = Arguments(*(each.double() if each.is_floating_point() else each for each in arguments))
    output, expected = deformable_attention(*arguments), grid_sample_loop(*wide)
    assert output.dtype == dtype
    assert (output.double() - expected).norm() / expected.norm() < tolerance
