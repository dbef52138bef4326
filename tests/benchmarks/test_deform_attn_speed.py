"""Deformable attention beside a loop of grid_sample, and on a GPU beside the reference and the memory floor.

``pytest tests/benchmarks/test_deform_attn_speed.py --benchmark-enable``. Shapes are those of the pixel decoder at a
480x853 and a 720x1280 video, padded to multiples of 32. On CPU one frame; on a GPU a window of ten, timed by events
with the inputs changed between runs, so that the cache does not hold the last run's.

The floor is the fewest bytes the operator must move (value, locations, weights and gradients read once, outputs
written once) over the bandwidth of a large copy on the same device; ``extra_info`` of each case has both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from deform_attn_cases import Arguments, encoder_like, grid_sample_loop

from harness.models.ops import deformable_attention, reference

VIDEOS = {"480x853": [(15, 27), (30, 54), (60, 108)], "720x1280": [(23, 40), (45, 80), (90, 160)]}
SMALL = [(2, 3), (4, 6), (8, 12)]
"""What runs where benchmarks are off."""
WINDOW = 10
SETS = 4
"""Sets of inputs to go round."""

WAYS: dict[str, Callable[..., torch.Tensor]] = {
    "harness": deformable_attention,
    "reference": reference.deformable_attention,
    "grid_sample loop": grid_sample_loop,
}
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def sizes_of(request: pytest.FixtureRequest, video: str) -> list[tuple[int, int]]:
    return VIDEOS[video] if request.config.getoption("benchmark_enable") else SMALL


@pytest.mark.parametrize("video", VIDEOS)
@pytest.mark.parametrize("way", ["harness", "grid_sample loop"])
def test_forward_on_cpu(benchmark: Any, request: pytest.FixtureRequest, video: str, way: str) -> None:
    benchmark.group = f"deformable attention, CPU, forward, one frame of {video}"
    arguments = encoder_like(sizes_of(request, video))
    with torch.no_grad():
        output = benchmark(WAYS[way], *arguments)
        torch.testing.assert_close(output, grid_sample_loop(*arguments), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("way", ["harness", "grid_sample loop"])
def test_forward_and_backward_on_cpu(benchmark: Any, request: pytest.FixtureRequest, way: str) -> None:
    benchmark.group = "deformable attention, CPU, forward and backward, one frame of 480x853"
    value, shapes, locations, weights = encoder_like(sizes_of(request, "480x853"))
    leaves = [each.requires_grad_() for each in (value, locations, weights)]

    def step() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(WAYS[way](leaves[0], shapes, leaves[1], leaves[2]).sum(), leaves)

    assert [grad.shape for grad in benchmark(step)] == [each.shape for each in leaves]


@needs_gpu
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("video", VIDEOS)
@pytest.mark.parametrize("way", ["harness", "reference"])
def test_on_gpu(
    benchmark: Any, request: pytest.FixtureRequest, way: str, video: str, precision: str, direction: str
) -> None:
    benchmark.group = f"deformable attention, GPU, {direction}, {WINDOW} frames of {video}, {precision}"
    sizes = sizes_of(request, video)
    arguments = encoder_like(sizes, batch=WINDOW)
    sets = [_placed(arguments, PRECISIONS[precision]) for _ in range(SETS)]
    bandwidth = _copy_bandwidth()
    run = _forward(WAYS[way]) if direction == "forward" else _backward(way)
    grads = [torch.randn(*each.sampling_locations.shape[:2], 256).to(each.value) for each in sets]
    calls = 0

    def one() -> None:
        nonlocal calls
        run(sets[calls % SETS], grads[calls % SETS])
        calls += 1
        torch.cuda.synchronize()

    one()  # compile, load and check
    benchmark(one)
    times = [_time_by_events(run, sets, grads) for _ in range(2)]
    floor = _bytes(sets[0], direction) / bandwidth
    benchmark.extra_info |= {
        "device": torch.cuda.get_device_name(),
        "milliseconds": times,
        "floor_ms": floor * 1e3,
        "times_the_floor": min(times) / (floor * 1e3),
        "copy_bytes_per_second": bandwidth,
    }
    print(f"{benchmark.group}, {way}: {times[0]:.3f} and {times[1]:.3f} ms, floor {floor * 1e3:.3f} ms")


def _placed(arguments: Arguments, dtype: torch.dtype) -> Arguments:
    """A copy on the GPU; locations and weights stay float32, as the pixel decoder has them."""
    value, shapes, locations, weights = (each.cuda() for each in arguments)
    return Arguments(value.to(dtype, copy=True), shapes, locations.clone(), weights.clone())


def _forward(way: Callable[..., torch.Tensor]) -> Callable[[Arguments, torch.Tensor], object]:
    return lambda arguments, _: way(*arguments)


def _backward(way: str) -> Callable[[Arguments, torch.Tensor], object]:
    operator: Callable[..., object] = {
        "harness": torch.ops.harness.deformable_attention_backward,
        "reference": reference.deformable_attention_backward,
    }[way]
    return lambda arguments, grad: operator(grad, *arguments)


def _bytes(arguments: Arguments, direction: str) -> int:
    """Fewest bytes to move; the gradient of value is float32 until it is stored."""
    value, _, locations, weights = arguments
    points = locations.nbytes + weights.nbytes
    output = locations.shape[0] * locations.shape[1] * value.shape[2] * value.shape[3] * value.itemsize
    if direction == "forward":
        return value.nbytes + points + output
    narrow = value.numel() * 4 * 2 if value.itemsize < 4 else value.nbytes  # zeroed, then read to be narrowed
    return value.nbytes + points + output + points + value.nbytes + narrow


def _copy_bandwidth() -> float:
    """Bytes read and written per second by a large copy on the device."""
    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    times = [_elapsed(lambda: target.copy_(source)) for _ in range(10)]
    return 2 * source.nbytes / (sorted(times)[5] / 1e3)


def _time_by_events(
    run: Callable[[Arguments, torch.Tensor], object], sets: list[Arguments], grads: list[torch.Tensor]
) -> float:
    """Median milliseconds of one run, out of runs that are queued one behind the other."""

    def round_of_runs() -> None:
        for _ in range(3):
            for arguments, grad in zip(sets, grads, strict=True):
                run(arguments, grad)

    times = [_elapsed(round_of_runs) / (3 * SETS) for _ in range(7)]
    return sorted(times)[3]


def _elapsed(work: Callable[[], object]) -> float:
    """Milliseconds of ``work`` on the device."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))
