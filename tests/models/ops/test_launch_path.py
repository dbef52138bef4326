"""From the call to the driver: the kernel is loaded, checked and launched as a GPU would see it, on a stand-in driver.

No GPU takes part. One process of its own does everything, see ``launch_path``; the tests look at what it tells.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ptx_emulator
import pytest
import torch
from pretended_cuda import compile_driver

from harness.models.ops import build, kernel
from harness.models.ops.build import Variant

MISSING = build.missing_packages() or ptx_emulator.missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

TESTS = Path(__file__).parents[2] / "support"
NUMBERS = [252, 37, 3, 2]
"""Pixels, queries, heads and tiles of the calls below."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("driver")
    compile_driver(folder)
    paths = {"PYTHONPATH": str(TESTS), "LD_LIBRARY_PATH": str(folder)}
    paths = {name: os.pathsep.join([path, *filter(None, [os.environ.get(name)])]) for name, path in paths.items()}
    environment = os.environ | paths | {"XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-m", "launch_path", folder]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "stand-in driver has no" not in finished.stderr
    return json.loads(finished.stdout)


def both(result: Any, **wanted: Any) -> None:
    """Forward and backward were launched once each, as wanted and without a fault."""
    assert [each["name"] for each in result["launches"]] == ["deform_attn_forward", "deform_attn_backward"]
    for launch in result["launches"]:
        assert launch["faults"] == []
        assert {name: launch[name] for name in wanted} == wanted


def test_a_kernel_can_be_made_for_the_device(told: Any) -> None:
    assert told["fault"] is None


def test_loading_compares_forward_and_backward_with_the_reference(told: Any) -> None:
    both(told["load"], stream=0, device=0, block=[256, 1, 1])


def test_arguments_arrive_in_the_kernels_order(told: Any) -> None:
    both(told["stream"], numbers=NUMBERS, grid=[2 * 3 * 2, 1, 1])
    assert told["stream"]["difference"] < 1e-6


def test_blocks_take_more_queries_where_there_are_blocks_enough() -> None:
    variant = Variant(torch.float32, torch.float32, channels=32, levels=3, points=4, fused=True)
    assert variant.queries_per_block == 32
    assert kernel.tiles(variant, batch=10, queries=8505, heads=8, processors=132) == 67  # 128 queries each
    assert kernel.tiles(variant, batch=1, queries=8505, heads=8, processors=132) == 266  # 32 each
    assert kernel.tiles(variant, batch=1, queries=1, heads=1, processors=132) == 1
    wide = variant._replace(value=torch.bfloat16)
    assert kernel.tiles(wide, batch=10, queries=8505, heads=8, processors=132) == 67
    most = variant._replace(channels=1, levels=1)
    assert most.queries_per_block == 256
    assert kernel.tiles(most, batch=10, queries=8505, heads=8, processors=132) == 34  # more than wanted at once


def test_a_launch_goes_to_torchs_current_stream(told: Any) -> None:
    both(told["stream"], stream=0x5EED)
    both(told["views"], stream=0)


def test_arguments_that_are_no_dense_aligned_tensors_are_copied(told: Any) -> None:
    both(told["views"], numbers=NUMBERS)
    assert told["views"]["difference"] < 1e-6


def test_a_thread_without_a_context_gets_one(told: Any) -> None:
    assert (told["thread"]["before"], told["thread"]["after"]) == (-1, 0)
    both(told["thread"], device=0)
    assert told["thread"]["difference"] < 1e-6


def test_a_second_device_is_used_and_the_first_stays_current(told: Any) -> None:
    both(told["devices"], device=1)
    assert told["devices"]["results"] == ["cuda:1"]
    assert told["devices"]["difference"] < 1e-6
    assert told["devices"]["after"] == 0


def test_a_kernel_with_other_results_is_refused(told: Any) -> None:
    assert "the kernel's output differs from the reference" in told["wrong"]


def test_a_binary_that_the_driver_does_not_take_is_one_error(told: Any) -> None:
    assert "the driver rejected its kernel" in told["refused"]
    assert "HARNESS_DEFORM_ATTN=reference" in told["refused"]


def test_an_error_of_the_driver_is_one_of_torchs(told: Any) -> None:
    """So that too little memory halves the window, and others are told with their name."""
    (memory, fewer), (other, text) = told["launch"]
    assert memory == "OutOfMemoryError"
    assert "CUDA_ERROR_OUT_OF_MEMORY" in fewer
    assert other == "RuntimeError"
    assert text == ("CUDA did not start the kernel of deformable attention: CUDA_ERROR_INVALID_VALUE: too many blocks")


def test_a_forked_process_gets_torchs_error_before_the_driver_is_asked(told: Any) -> None:
    assert told["forked"] == {"errors": ["Cannot re-initialize CUDA in forked subprocess"] * 2, "launches": []}


def test_the_algorithm_of_2020_gets_its_arguments(told: Any) -> None:
    result = told["algorithm of 2020"]
    assert [each["name"] for each in result["launches"]] == ["deform_attn_2020_forward", "deform_attn_2020_backward"]
    for launch in result["launches"]:
        assert launch["faults"] == []
        assert launch["numbers"] == [2 * 37 * 3 * 32, 252, 3, 32, 3, 37, 4]
    assert result["difference"] < 1e-5
