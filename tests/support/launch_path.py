"""Load and launch the kernel on pretended devices and print what happened, as one line of JSON.

``python -m launch_path FOLDER`` with tests/support on the path and the stand-in driver in ``LD_LIBRARY_PATH``;
``FOLDER`` keeps compiled C++.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import deform_attn_ptx
import torch
from deform_attn_cases import from_offsets, make
from pretended_cuda import CAPABILITY, Machine
from project_scripts import load_script
from ptx_emulator import Emulator
from torch import Tensor

from harness.errors import UserError
from harness.models.ops import build, kernel, reference
from harness.models.ops.build import Variant

VARIANT = Variant(torch.float32, torch.float32, channels=32, levels=3, points=4, fused=True)
STREAM = 0x5EED
ROOT = Path(__file__).parents[2]
SOURCE_2020 = ROOT / "benchmarks" / "deform_attn_2020.cu"


def main(folder: Path) -> None:
    """Run all scenarios; each result is what its test looks at."""
    capability = CAPABILITY[0] * 10 + CAPABILITY[1]
    ours, of_2020 = (deform_attn_ptx.ptx(VARIANT, capability, each.read_text()) for each in (build.SOURCE, SOURCE_2020))
    machine = Machine(cache(lambda name: Emulator(of_2020 if "2020" in name else ours, name, folder)))
    found = {
        "fault": kernel.device_fault(0),
        "load": load(machine),
        "stream": stream(machine),
        "views": views(machine),
        "thread": thread(machine),
        "devices": devices(machine),
        "wrong": refusal(machine),
        "refused": refused_by_the_driver(machine),
        "launch": launch_errors(machine),
        "forked": forked(machine),
        "algorithm of 2020": algorithm_of_2020(machine),
    }
    print(json.dumps(found))


def load(machine: Machine) -> dict[str, Any]:
    """Load and check on device 0; launches."""
    with machine:
        kernel.load(VARIANT, 0)
    return {"launches": taken(machine), "current": machine.current_device()}


def stream(machine: Machine) -> dict[str, Any]:
    """The same launch while another stream is torch's current one."""
    machine.stream = STREAM
    result = run(machine, "cuda:0")
    machine.stream = 0
    return result


def views(machine: Machine) -> dict[str, Any]:
    """A value that is not dense, and offsets at an address that 16-byte loads cannot use."""

    def awkward(there: list[Tensor]) -> list[Tensor]:
        value, shapes, offsets, *others = there
        spread = torch.empty(*value.shape[:3], 2 * value.shape[3], device=value.device)[..., ::2].copy_(value)
        shifted = torch.empty(offsets.numel() + 1, device=value.device)[1:].view(offsets.shape).copy_(offsets)
        assert not spread.is_contiguous()
        assert shifted.data_ptr() % 16
        return [spread, shapes, shifted, *others]

    return run(machine, "cuda:0", awkward)


def thread(machine: Machine) -> dict[str, Any]:
    """Forward and backward on a thread that has no context, as autograd's are."""
    results: list[dict[str, Any]] = []

    def work() -> None:
        before = machine.current_device()
        results.append(run(machine, "cuda:0") | {"before": before, "after": machine.current_device()})

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    return results[0]


def devices(machine: Machine) -> dict[str, Any]:
    """Tensors of device 1 while device 0 is the current one."""
    with machine:
        kernel.load(VARIANT, 1)
    taken(machine)
    return run(machine, "cuda:1") | {"after": machine.current_device()}


def refusal(machine: Machine) -> str:
    """What is said of a kernel that gives zeros."""
    machine.computes = False
    try:
        return error_of(machine)
    finally:
        machine.computes = True


def refused_by_the_driver(machine: Machine) -> str:
    """What is said of a binary that the driver does not take."""
    original = build.cubin
    build.cubin = lambda *_: b"no binary"
    try:
        return error_of(machine)
    finally:
        build.cubin = original


def launch_errors(machine: Machine) -> list[list[str]]:
    """The class and text of the error for each that the driver may give instead of a launch."""
    from cuda import core

    class RefusedError(Exception):
        """Like the errors of cuda-core, which has no public class for them."""

        __module__ = "cuda.core"

    original, found = core.launch, []
    for text in ("CUDA_ERROR_OUT_OF_MEMORY: no memory", "CUDA_ERROR_INVALID_VALUE: too many blocks"):

        def launch(*_: Any, told: str = text) -> None:
            raise RefusedError(told)

        core.launch = launch
        try:
            run(machine, "cuda:0")
        except Exception as fault:
            found.append([type(fault).__name__, str(fault)])
        finally:
            core.launch = original
    return found


def forked(machine: Machine) -> dict[str, Any]:
    """The error in a process that was forked after CUDA was used: there torch refuses to select a device."""

    class Refusing:
        def __init__(self, device: object) -> None:
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    original, found = torch.cuda.device, []
    taken(machine)
    given = arguments()
    with machine:
        loaded = kernel.load(VARIANT, 0)
        there = [each.to(torch.device("cuda", 0)) for each in given]
        grad = torch.randn(*given[2].shape[:2], given[0].shape[2] * given[0].shape[3]).to(torch.device("cuda", 0))
        torch.cuda.device = Refusing  # type: ignore[assignment,misc]
        for call in (lambda: kernel.forward(loaded, *there), lambda: kernel.backward(loaded, grad, *there)):
            try:
                call()
            except RuntimeError as fault:
                found.append(str(fault))
        torch.cuda.device = original  # type: ignore[misc]
    return {"errors": found, "launches": taken(machine)}


def algorithm_of_2020(machine: Machine) -> dict[str, Any]:
    """Forward and backward of what ``scripts/gpu_check.py`` compares with, as the script calls it."""
    script = load_script("gpu_check")
    taken(machine)
    given = make([(3, 4), (6, 8), (12, 16)], 2, 37, 3, VARIANT.channels, VARIANT.points)
    grad = torch.randn(2, 37, 3 * VARIANT.channels)
    expected = [reference.deformable_attention(*given), *reference.deformable_attention_backward(grad, *given)]
    with machine:
        algorithm = script.Algorithm2020(SOURCE_2020, torch.device("cuda", 0))
        there = [each.to(torch.device("cuda", 0)) for each in given]
        got = [algorithm.forward(*there), *algorithm.backward(grad.to(torch.device("cuda", 0)), *there)]
        got = [each.cpu() for each in got]
    difference = max(kernel.relative_difference(each, wanted) for each, wanted in zip(got, expected, strict=True))
    return {"launches": taken(machine), "difference": difference}


def error_of(machine: Machine) -> str:
    """The error of loading anew."""
    try:
        with machine:
            kernel.load.__wrapped__(VARIANT, 0)
    except UserError as fault:
        return str(fault)
    return ""


def run(
    machine: Machine, device: str, laid_out: Callable[[list[Tensor]], list[Tensor]] = lambda there: there
) -> dict[str, Any]:
    """Forward and backward on a device; launches, where results are, and the largest difference from the reference."""
    given = arguments()
    grad = torch.randn(*given[2].shape[:2], given[0].shape[2] * given[0].shape[3])
    expected = [
        reference.fused_deformable_attention(*given),
        *reference.fused_deformable_attention_backward(grad, *given),
    ]
    with machine:
        target = torch.device(device)
        loaded = kernel.load(VARIANT, target.index)
        there = laid_out([each.to(target) for each in given])
        got = [kernel.forward(loaded, *there), *kernel.backward(loaded, grad.to(target), *there)]
        at = {str(each.device) for each in got}
        got = [each.cpu() for each in got]
    difference = max(kernel.relative_difference(each, wanted) for each, wanted in zip(got, expected, strict=True))
    return {"launches": taken(machine), "difference": difference, "results": sorted(at)}


def arguments() -> tuple[Tensor, ...]:
    """Arguments whose sizes are all different: 2 images, 37 queries, 3 heads, 252 pixels."""
    made, centres = from_offsets(make([(3, 4), (6, 8), (12, 16)], 2, 37, 3, VARIANT.channels, VARIANT.points))
    return *made, centres


def taken(machine: Machine) -> list[dict[str, Any]]:
    """The launches since the last call."""
    launches = [each._asdict() for each in machine.launches]
    machine.launches.clear()
    return launches


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # at the interpreter's end cuda-core 1.0 releases what the stand-in driver no longer has
