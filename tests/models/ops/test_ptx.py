"""The kernel's PTX, as NVRTC makes it for a GPU, run in an emulator: it equals the reference, and no access is wrong.

No GPU takes part. See ``ptx_emulator`` for what is checked; faults put into the source show that it is.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import ptx_emulator
import pytest
import torch
from deform_attn_cases import from_offsets, make
from deform_attn_ptx import EmulatedKernel, Inputs, aligned, expected, stored, within_tolerance
from torch import Tensor

from harness.models.ops import build, kernel, reference
from harness.models.ops.build import Variant

MISSING = build.missing_packages() or ptx_emulator.missing()
needs_emulator = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

FLOAT, HALF, BFLOAT = torch.float32, torch.float16, torch.bfloat16
MODEL = Variant(FLOAT, FLOAT, channels=32, levels=3, points=4, fused=True)
VARIANTS = {
    "as the models": MODEL,
    "locations and weights": MODEL._replace(fused=False),
    "float16": MODEL._replace(value=HALF, point=HALF),
    "bfloat16": MODEL._replace(value=BFLOAT, point=BFLOAT),
    "bfloat16 at float32 points": MODEL._replace(value=BFLOAT),
    "as the miniatures": MODEL._replace(channels=16),
    "as the miniatures, bfloat16": MODEL._replace(value=BFLOAT, channels=16),
    "two lanes of eight": Variant(HALF, FLOAT, 16, 3, 4, fused=True),
    "two lanes": Variant(FLOAT, FLOAT, 8, 3, 4, fused=True),
    "one lane": Variant(FLOAT, FLOAT, 4, 3, 4, fused=True),
    "one channel": Variant(FLOAT, FLOAT, 1, 1, 1),
    "odd channels": Variant(HALF, HALF, 7, 2, 1, fused=True),
    "channels that leave lanes idle": Variant(FLOAT, FLOAT, 10, 2, 3, fused=True),
    "more channels than a warp reads at once": Variant(FLOAT, FLOAT, 264, 1, 2, fused=True),
}
ARCHITECTURES = [80, 90]
"""Before 90 each element is added on its own; from 90 on four at a time."""
SIZES = [(3, 4), (6, 8), (12, 16)]

Kernels = Callable[[Variant, int], EmulatedKernel]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled C++ is kept."""
    return tmp_path_factory.mktemp("emulated")


@pytest.fixture(scope="module")
def kernels(folder: Path) -> Kernels:
    """The emulated kernel of a variant and an architecture, made once."""
    return cache(lambda variant, architecture: EmulatedKernel(variant, architecture, folder))


def random_inputs(
    variant: Variant,
    sizes: list[tuple[int, int]],
    batch: int = 1,
    queries: int = 7,
    heads: int = 2,
    spread: float = 0.3,
) -> Inputs:
    """Arguments for the kernel; ``spread`` says how far outside the maps samples lie, as in `make`."""
    made = make(sizes, batch, queries, heads, variant.channels, variant.points, spread)
    if not variant.fused:
        return stored(variant, *made)
    offsets, centres = from_offsets(made)
    return stored(variant, *offsets, centres)


def check(emulated: EmulatedKernel, inputs: Inputs, seed: int = 0, rounds: int = 1) -> None:
    """Forward and backward are the reference's, without a fault."""
    output, report = emulated.forward(inputs, seed, rounds)
    assert report.faults == []
    grad = aligned(torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(output.dtype))
    gradients, report = emulated.backward(grad, inputs, seed, rounds)
    assert report.faults == []
    wanted_output, wanted = expected(inputs, grad)
    for got, each in zip((output, *gradients), (wanted_output, *wanted), strict=True):
        assert within_tolerance(got.to(each.dtype), each)


@needs_emulator
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_equals_reference(variant: Variant, architecture: int, kernels: Kernels) -> None:
    emulated = kernels(variant, architecture)
    check(emulated, stored(variant, *kernel._small_case(variant)))
    sizes = {1: [(6, 5)], 2: [(5, 7), (1, 3)], 3: SIZES}[variant.levels]
    for seed, (batch, queries, heads, spread) in enumerate([(2, 45, 2, 0.3), (1, 71, 3, 3.0), (3, 1, 3, 0.3)]):
        check(emulated, random_inputs(variant, sizes, batch, queries, heads, spread), seed)


@needs_emulator
@pytest.mark.parametrize("name", ["as the models", "float16", "bfloat16"])
def test_levels_one_pixel_wide_or_high(name: str, kernels: Kernels) -> None:
    for spread in (0.3, 4.0):
        check(kernels(VARIANTS[name], 90), random_inputs(VARIANTS[name], [(1, 1), (1, 9), (9, 1)], 2, 65, 3, spread))


@needs_emulator
def test_each_pixel_is_a_query_as_in_the_encoder(kernels: Kernels) -> None:
    sizes = [(2, 4), (4, 8), (8, 15)]
    check(kernels(MODEL, 90), random_inputs(MODEL, sizes, 1, sum(h * w for h, w in sizes), heads=8))


@needs_emulator
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["as the models", "bfloat16 at float32 points", "locations and weights"])
def test_blocks_that_take_queries_several_times(name: str, architecture: int, kernels: Kernels) -> None:
    """Queries that are the pixels, in strips of eight lines and fewer, and queries that are not."""
    sizes = [(3, 5), (9, 4), (17, 11)]
    pixels = sum(height * width for height, width in sizes)
    for rounds, queries in ((1, pixels), (2, pixels), (4, pixels), (4, pixels + 1), (100, 45)):
        check(kernels(VARIANTS[name], architecture), random_inputs(VARIANTS[name], sizes, 2, queries), rounds, rounds)


@needs_emulator
def test_how_often_a_block_takes_queries_changes_no_bit(kernels: Kernels) -> None:
    sizes = [(3, 5), (9, 4), (17, 11)]
    inputs = random_inputs(MODEL, sizes, queries=sum(height * width for height, width in sizes))
    outputs = [kernels(MODEL, 90).forward(inputs, seed, rounds)[0] for seed, rounds in enumerate((1, 3, 8))]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@needs_emulator
@pytest.mark.parametrize("name", VARIANTS.keys() - {"one channel"})
def test_error_against_float64(name: str, kernels: Kernels) -> None:
    """The kernel adds no more than rounding in float32, and in the output's type, to what its stored inputs give."""
    variant = VARIANTS[name]
    sizes = {1: [(6, 5)], 2: [(5, 7), (1, 3)], 3: SIZES}[variant.levels]
    inputs = random_inputs(variant, sizes, 1, 45)
    output, _ = kernels(variant, 90).forward(inputs)
    value, shapes, centres, locations, weights = (
        each.double() if each is not None and each.is_floating_point() else each for each in inputs
    )
    exactly: Tensor
    if centres is None:
        exactly = reference.deformable_attention(value, shapes, locations, weights)
    else:
        exactly = reference.fused_deformable_attention(value, shapes, locations, weights, centres)
    rounding = {FLOAT: 2.0**-20, HALF: 2.0**-11, BFLOAT: 2.0**-8}[output.dtype]
    assert kernel.relative_difference(output, exactly) < rounding


@needs_emulator
def test_four_sums_are_one_transaction_from_sm_90_on(kernels: Kernels) -> None:
    inputs = random_inputs(MODEL, SIZES)
    grad = aligned(torch.ones(1, 7, 2 * MODEL.channels))
    singly, together = (kernels(MODEL, architecture).backward(grad, inputs)[1].atomics for architecture in (80, 90))
    assert singly == 4 * together


class SourceFault(NamedTuple):
    """A fault to put into the kernel's source, and how the emulator reports it."""

    before: str
    after: str
    report: str
    backward: bool = False
    """Whether the backward kernel shows it, not the forward one."""
    fused: bool = True


def without_barrier(behind: str, report: str, backward: bool = False) -> SourceFault:
    """The source without the first barrier of ``behind``."""
    after = behind.replace("__syncwarp();", "", 1).replace("__syncthreads();", "", 1)
    return SourceFault(behind, after, f"shared {report}", backward)


NUMBERED = "__syncwarp();  // also: every lane has read the samples"
EARLY, RACE = "memory read before it is written", "race, read after write"
SOURCE_FAULTS = {
    "no barrier behind the sizes": without_barrier("__syncthreads();\n  return sound", EARLY),
    "no barrier behind the softmax": without_barrier(
        "__syncwarp();\n}\n\n// Compute the gradients of the logits", EARLY
    ),
    "no barrier behind the samples": without_barrier(
        "__syncwarp();\n}\n\n// VECTOR channels in the stored type", EARLY
    ),
    "no barrier before the dot products": without_barrier(
        "__syncwarp();  // every lane has read the weights", "race, write after read", backward=True
    ),
    "no barrier behind the dot products": without_barrier(
        "__syncwarp();\n    for (int i = threadIdx.x % 32", RACE, backward=True
    ),
    "no barrier behind the slopes": without_barrier(
        "__syncwarp();\n#if FUSED\n    soften_backward", RACE, backward=True
    ),
    "no barrier between two rounds": without_barrier(NUMBERED, "race, write after read"),
    "no barrier behind the numbers of queries": without_barrier(NUMBERED, EARLY)._replace(fused=False),
    "no barrier before other numbers of queries": without_barrier(
        "__syncwarp();\n#if FUSED\n    soften_backward", "race, write after read", backward=True
    )._replace(fused=False),
    "a mask without a thread": SourceFault(
        "ALL = 0xffffffffu;", "ALL = 0x7fffffffu;", "the mask leaves threads out", backward=True
    ),
    "threads that end before a shuffle": SourceFault(
        "float grad[STEPS][VECTOR];",
        "if (query >= queries) return;\n    float grad[STEPS][VECTOR];",
        "synchronises with threads that have ended",
        backward=True,
    ),
    "threads that end before a barrier": SourceFault(
        "__syncthreads();\n  return sound",
        'if (threadIdx.x >= 32) asm volatile("exit;");\n  __syncthreads();\n  return sound',
        "threads end while others wait at bar.sync",
    ),
    "threads on different ways to a shuffle": SourceFault(
        "largest = largest_of_lanes(largest);",
        "if (lane == 1) __syncwarp();\n  largest = largest_of_lanes(largest);",
        "threads of a warp meet at different synchronisations",
    ),
    "a loop without end": SourceFault(
        "for (int i = threadIdx.x % 32; i < QUERIES * SAMPLES; i += 32) {\n    int64 wanted",
        'for (int k = 0; k < 1;) asm volatile("" : "+r"(k));\n'
        "  for (int i = threadIdx.x % 32; i < QUERIES * SAMPLES; i += 32) {\n    int64 wanted",
        "endless loop",
    ),
    "a corner beyond the map": SourceFault(
        "min(wanted + 1, size - 1)", "min(wanted + 1, size)", "global load out of bounds"
    ),
    "an output beyond the end": SourceFault(
        "query >= queries || channel >= CHANNELS", "channel >= CHANNELS", "global store out of bounds"
    ),
    "an address between two vectors": SourceFault("from = image + channel;", "from = image + 1;", "misaligned"),
    "an output that two threads store": SourceFault("heads) + channel, sum);", "heads), sum);", "global race"),
    "an output where an input lies": SourceFault(
        "write(output + first", "write(const_cast<value_t*>(value) + first", "store to an input"
    ),
    "sums that overwrite each other": SourceFault(
        "atomicAdd(to + c, weight * grad[c]);", "to[c] += weight * grad[c];", "load from an output", backward=True
    ),
    "shared memory that is too small": SourceFault("levels[LEVELS];", "levels[LEVELS - 1];", "access out of bounds"),
}


@needs_emulator
@pytest.mark.parametrize("fault", SOURCE_FAULTS.values(), ids=SOURCE_FAULTS.keys())
def test_a_fault_in_the_source_is_found(fault: SourceFault, folder: Path) -> None:
    source = build.SOURCE.read_text()
    assert fault.before in source
    variant = Variant(FLOAT, FLOAT, channels=16, levels=2, points=3, fused=fault.fused)
    emulated = EmulatedKernel(variant, 80, folder, source.replace(fault.before, fault.after))
    inputs = random_inputs(variant, SIZES[:2], queries=70)
    grad = aligned(torch.randn(1, 70, 2 * variant.channels))
    _, report = emulated.backward(grad, inputs, rounds=2) if fault.backward else emulated.forward(inputs, rounds=2)
    assert any(fault.report in line for line in report.faults), report.faults


@needs_emulator
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e30, -1e30, 3e9, 2.2e9])
@pytest.mark.parametrize("argument", ["value", "locations", "weights"])
def test_numbers_beyond_all_bounds_give_what_the_reference_gives(
    argument: str, number: float, kernels: Kernels
) -> None:
    inputs = random_inputs(MODEL, SIZES, queries=40)
    tensor: Tensor = getattr(inputs, argument)
    tensor.view(-1)[tensor.numel() // 2 + 1] = number
    same_output(kernels(MODEL, 90), inputs)


@needs_emulator
def test_logits_of_minus_infinity_and_of_both_extremes(kernels: Kernels) -> None:
    inputs = random_inputs(MODEL, SIZES, queries=40)
    inputs.weights[0, 4] = -math.inf
    inputs.weights[0, 5] = 1e38
    inputs.weights[0, 5, 0, 0, 0] = -1e38
    same_output(kernels(MODEL, 90), inputs)


def same_output(emulated: EmulatedKernel, inputs: Inputs) -> None:
    """No fault, not-a-number in the same places, and elsewhere the reference's numbers; gradients without a fault."""
    output, report = emulated.forward(inputs)
    assert report.faults == []
    grad = aligned(torch.ones_like(output))
    wanted, _ = expected(inputs, grad)
    assert torch.equal(output.isnan(), wanted.isnan())
    assert within_tolerance(output.nan_to_num(0, 0, 0), wanted.nan_to_num(0, 0, 0))
    assert emulated.backward(grad, inputs)[1].faults == []


@needs_emulator
@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("fused", [True, False])
def test_pixels_at_borders_that_are_no_numbers_show_where_they_do_in_the_reference(
    fused: bool, number: float, kernels: Kernels
) -> None:
    """Corners outside a level are moved to its nearest pixels and weigh zero, which not-a-number outlives."""
    variant = MODEL._replace(fused=fused)
    inputs = random_inputs(variant, SIZES, queries=120, spread=1.5)
    corners = [0, 3, 8, 11, 12, 12 + 7, 12 + 40, 12 + 47, 60, -1]
    inputs.value[:, corners[::2], 0, 3] = number
    inputs.value[:, corners[1::2], 1, 30] = -number
    output, report = kernels(variant, 90).forward(inputs)
    assert report.faults == []
    grad = aligned(torch.randn(output.shape, generator=torch.Generator().manual_seed(3)))
    gradients, report = kernels(variant, 90).backward(grad, inputs)
    assert report.faults == []
    wanted_output, wanted = expected(inputs, grad)
    assert wanted_output.isnan().any()
    assert not wanted_output.isnan().all()
    for got, each in zip((output, *gradients), (wanted_output, *wanted), strict=True):
        assert torch.equal(got.isnan(), each.isnan())
        assert within_tolerance(got.nan_to_num(0, 0, 0), each.nan_to_num(0, 0, 0))


WRONG_SIZES = {
    "larger": [[600, 800], [6, 8], [12, 16]],
    "negative": [[-3, -4], [6, 8], [12, 16]],
    "zero": [[0, 0], [6, 8], [12, 16]],
    "zero at the end, the right sum": [[6, 8], [12, 17], [0, 5]],
    "zero at the beginning, the right sum": [[5, 0], [6, 8], [12, 17]],
    "beyond 64 bits together": [[3, 4], [2**62, 4], [12, 16]],
    "beyond 32 bits": [[2**32 + 3, 4], [6, 8], [12, 16]],
}


@needs_emulator
@pytest.mark.parametrize("sizes", WRONG_SIZES.values(), ids=WRONG_SIZES.keys())
def test_sizes_that_are_not_those_of_value_give_no_number(sizes: list[list[int]], kernels: Kernels) -> None:
    inputs = random_inputs(MODEL, SIZES)._replace(spatial_shapes=aligned(torch.tensor(sizes)))
    output, report = kernels(MODEL, 90).forward(inputs)
    assert report.faults == []
    assert output.isnan().all()
    gradients, report = kernels(MODEL, 90).backward(aligned(torch.ones_like(output)), inputs)
    assert report.faults == []
    assert gradients.locations.isnan().all()
    assert gradients.weights.isnan().all()


@needs_emulator
def test_sizes_in_another_order_stay_within_value(kernels: Kernels) -> None:
    inputs = random_inputs(MODEL, SIZES)._replace(spatial_shapes=aligned(torch.tensor(SIZES[::-1])))
    check(kernels(MODEL, 90), inputs)


@needs_emulator
def test_images_of_almost_2_to_the_31_elements(kernels: Kernels) -> None:
    """The last pixel of the largest image that the kernel takes, and the first of the one behind it."""
    variant = VARIANTS["one channel"]
    batch, heads, height, width = 2, 8, 16384, 16383
    pixels = height * width
    assert 2**31 - 2**18 < pixels * heads < kernel.MOST_ELEMENTS
    untouched = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    try:
        memory = mmap.mmap(-1, batch * pixels * heads * 4, flags=untouched)
    except OSError as fault:
        pytest.skip(f"16 GiB of addresses are not to be had: {fault}")
    value = torch.frombuffer(memory, dtype=FLOAT).view(batch, pixels, heads, 1)
    value[0, -1, 7], value[1, -1, 7], value[1, 0, 0] = 3.0, 5.0, 2.0
    locations = torch.empty(batch, 2, heads, 1, 1, 2)
    locations[:, 0] = torch.tensor([(width - 0.5) / width, (height - 0.5) / height])
    locations[:, 1] = torch.tensor([0.5 / width, 0.5 / height])
    weights = torch.ones(batch, 2, heads, 1, 1)
    inputs = Inputs(value, torch.tensor([[height, width]]), None, aligned(locations), aligned(weights))
    output, report = kernels(variant, 90).forward(inputs)
    assert report.faults == []
    assert (output[0, 0, 7], output[1, 0, 7], output[1, 1, 0]) == (3.0, 5.0, 2.0)
