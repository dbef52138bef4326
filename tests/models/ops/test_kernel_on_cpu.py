"""The CUDA kernel's own source, compiled by g++ and run on threads of the host, equals the reference.

This says nothing of speed, and it is no proof for a GPU's memory model; the arithmetic, the addresses, the alignment of
wide accesses, and the exchange between the threads of a warp are the kernel's own.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from deform_attn_cases import from_offsets, make

from harness.models.ops import build, kernel, reference
from harness.models.ops.build import Variant

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")

LAUNCHERS = """
extern "C" void run_forward(long long grid, const value_t* value, const int64* shapes, const Centre* centres,
    const point_t* locations, const point_t* weights, point_t* output, int64 pixels, int64 queries, int64 heads,
    int64 tiles) {
  run_blocks(grid, WARPS * 32, [=] {
    deform_attn_forward(value, shapes, centres, locations, weights, output, pixels, queries, heads, tiles); });
}
extern "C" void run_backward(long long grid, const point_t* grad_output, const value_t* value, const int64* shapes,
    const Centre* centres, const point_t* locations, const point_t* weights, float* grad_value,
    point_t* grad_locations, point_t* grad_weights, int64 pixels, int64 queries, int64 heads, int64 tiles) {
  run_blocks(grid, WARPS * 32, [=] {
    deform_attn_backward(grad_output, value, shapes, centres, locations, weights, grad_value, grad_locations,
                         grad_weights, pixels, queries, heads, tiles); });
}
"""


class Case(NamedTuple):
    variant: Variant
    sizes: list[tuple[int, int]]
    queries: int
    architecture: int = 90
    spread: float = 0.3


FLOAT, HALF, BFLOAT = torch.float32, torch.float16, torch.bfloat16
CASES = {
    "as the model": Case(Variant(FLOAT, FLOAT, 32, 3, 4, fused=True), [(3, 4), (6, 8), (12, 16)], 45),
    "locations and weights": Case(Variant(FLOAT, FLOAT, 32, 2, 4), [(3, 4), (6, 8)], 37),
    "before sm_90, mostly outside": Case(Variant(FLOAT, FLOAT, 32, 2, 4), [(3, 4), (6, 8)], 9, 80, spread=3.0),
    "float16": Case(Variant(HALF, HALF, 32, 2, 4), [(3, 4), (6, 8)], 70),
    "bfloat16, a line and a column": Case(Variant(BFLOAT, FLOAT, 32, 3, 2), [(1, 1), (1, 9), (9, 1)], 11),
    "odd channels": Case(Variant(FLOAT, FLOAT, 7, 2, 1), [(1, 5), (4, 3)], 5),
    "two lanes": Case(Variant(HALF, FLOAT, 16, 1, 3), [(5, 4)], 20),
    "one lane": Case(Variant(FLOAT, FLOAT, 4, 1, 2, fused=True), [(2, 2)], 40),
    "float16, fewer samples than lanes": Case(Variant(HALF, HALF, 64, 1, 3, fused=True), [(6, 5)], 13),
    "more channels than a warp reads at once": Case(Variant(FLOAT, FLOAT, 264, 1, 2), [(4, 3)], 3),
}


FLAGS = ["-std=c++20", "-O1", "-fno-strict-aliasing", "-w", "-fPIC", "-pthread"]
HEADER = Path(__file__).with_name("cuda_on_threads.h")


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the header precompiled, which takes most of the time; g++ takes it from there if it can."""
    folder = tmp_path_factory.mktemp("headers")
    command = ["g++", *FLAGS, "-x", "c++-header", HEADER, "-o", folder / "cuda_on_threads.h.gch"]
    subprocess.run(command, check=True)
    return folder


def compiled(case: Case, folder: Path, headers: Path) -> ctypes.CDLL:
    """The kernel as a library of the host; its two lines of PTX become calls."""
    source = build.SOURCE.read_text()
    source, halves = re.subn(r'asm\("cvt\.f32\.f16[^;]*;[^;]*;', "y = half_to_float(x.bits);", source)
    source, floats = re.subn(r'asm\("cvt\.rn\.f16\.f32[^;]*;[^;]*;', "y.bits = float_to_half(x);", source)
    assert (halves, floats) == (1, 1)
    macros = [*case.variant.macros(), ("__CUDA_ARCH__", f"{case.architecture}0")]
    defined = "".join(f"#define {name} {text}\n" for name, text in macros)
    (folder / "kernel.cpp").write_text('#include "cuda_on_threads.h"\n' + defined + source + LAUNCHERS)
    command = ["g++", *FLAGS, "-shared", f"-I{headers}", f"-I{HEADER.parent}", "kernel.cpp", "-o", "kernel.so"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "kernel.so"))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_equals_reference(case: Case, tmp_path: Path, headers: Path) -> None:
    variant, (batch, heads) = case.variant, (2, 2)
    made = make(case.sizes, batch, case.queries, heads, variant.channels, variant.points, case.spread)
    centres = None
    if variant.fused:
        made, centres = from_offsets(made)
    value, shapes = made.value.to(variant.value), made.spatial_shapes
    locations, weights = made.sampling_locations.to(variant.point), made.attention_weights.to(variant.point)
    inputs = (value, shapes, centres, locations, weights)
    tiles = -(-case.queries // variant.queries_per_block)
    numbers = [ctypes.c_longlong(n) for n in (value.shape[1], case.queries, heads, tiles)]
    grid = ctypes.c_longlong(tiles * heads * batch)
    library = compiled(case, tmp_path, headers)

    def run(function: str, *tensors: torch.Tensor | None) -> None:
        pointers = (ctypes.c_void_p(None if each is None else each.data_ptr()) for each in tensors)
        getattr(library, function)(grid, *pointers, *numbers)

    output = torch.full((batch, case.queries, heads * variant.channels), 777.0, dtype=variant.point)
    run("run_forward", *inputs, output)
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(variant.point)
    grad_value = torch.zeros(value.shape)
    grad_locations, grad_weights = torch.full_like(locations, 777.0), torch.full_like(weights, 777.0)
    run("run_backward", grad, *inputs, grad_value, grad_locations, grad_weights)

    if centres is None:
        plain = (value, shapes, locations, weights)
        expected = [reference.deformable_attention(*plain), *reference.deformable_attention_backward(grad, *plain)]
    else:
        raw = (value, shapes, locations, weights, centres)
        expected = [
            reference.fused_deformable_attention(*raw),
            *reference.fused_deformable_attention_backward(grad, *raw),
        ]
    actual = [output, grad_value.to(variant.value), grad_locations, grad_weights]
    for got, wanted in zip(actual, expected, strict=True):
        assert kernel.relative_difference(got, wanted) <= kernel.KERNEL_TOLERANCE[wanted.dtype]


def test_sizes_that_do_not_fit_give_no_number(tmp_path: Path, headers: Path) -> None:
    case = Case(Variant(FLOAT, FLOAT, 4, 1, 2), [(2, 2)], 3)
    value, _, locations, weights = make(case.sizes, queries=3, heads=1, dim=4, points=2)
    output, shapes = torch.zeros(1, 3, 4), torch.tensor([[200, 200]])
    tensors = (value, shapes, None, locations, weights, output)
    numbers = [ctypes.c_longlong(n) for n in (4, 3, 1, 1)]
    pointers = [ctypes.c_void_p(None if each is None else each.data_ptr()) for each in tensors]
    compiled(case, tmp_path, headers).run_forward(ctypes.c_longlong(1), *pointers, *numbers)
    assert output.isnan().all()
