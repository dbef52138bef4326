"""Checks and times the harness on the first GPU: one JSON file and one Markdown page.

    python scripts/gpu_check.py --out FOLDER                       # under 8 minutes; exit code 1 if a check fails
    python scripts/gpu_check.py --out FOLDER --part kernel-times   # some parts; may be repeated
    python scripts/gpu_check.py --out FOLDER --device cpu          # tests the script itself: tiny sizes, no GPU

Without a GPU it prints an error and ends with exit code 2. On a GPU each part runs in a separate process with a time
limit: if one fails, hangs or breaks the GPU's context, the others run, and their results are kept.

- ``build``: versions, the GPU, how long the first use of the kernel takes.
- ``correctness``: forward and backward against float64 `grid_sample`, per type and shape; the algorithm of 2020; side
  stream, CUDA graph, Inductor, threads, unaligned arguments, wrong sizes.
- ``kernel-times``: both directions against the algorithm of 2020 (``benchmarks/deform_attn_2020.cu``, or ``--official``
  with the same entry points), the PyTorch reference, and the time that copying the arguments and results would take.
- ``networks``: a window per model and precision, without and with CUDA graphs (``--set graphs=on``): difference from
  float32 on the CPU, milliseconds, busy fraction of the GPU (the fraction of time in which a kernel runs), peak memory,
  milliseconds by stage (with graphs the pixel decoder is in ``decoder``).
- ``videos``: frames per second of ``predict`` for 1, 40 and 1,196 words, without objects and with 20 moving ones, with
  and without the timing of stages. Weights are random, so predictions have no meaning; sizes and costs are real.
- ``gpu-tests``: the tests that need a GPU, if pytest is installed.

On a machine without a package index provide these, in addition to Python 3.12 and PyTorch 2.11 with its CUDA
libraries (which include NVRTC and CUPTI). Unpacked, in MB: this checkout without ``tests/data`` 13, llvmlite 180,
pyarrow 162, scipy 143, numpy 71, numba 33, cuda-bindings 31, torchvision 23, pillow 22, cuda-core 17, timm 17,
pydantic with pydantic_core 10, huggingface_hub with httpx and what it needs 12, wcwidth 6, regex 4, pyyaml 3,
open_clip_torch 3, pycocotools 2, safetensors 2, packaging, psutil, msgspec, tqdm, ftfy, cuda-pathfinder 1 each or less.
``pip download`` on another machine of the same kind makes the folder of wheels. pytest is not needed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout that is not installed

OFFICIAL = ROOT / "benchmarks" / "deform_attn_2020.cu"
SHARES = {
    "build": 40.0,
    "correctness": 80.0,
    "kernel-times": 70.0,
    "networks": 90.0,
    "videos": 120.0,
    "gpu-tests": 60.0,
}
"""Seconds of each part. A part may also use what those before it have left; then its process is ended."""
SECONDS = sum(SHARES.values())
SOFT = 0.85
"""Fraction of its time after which a part leaves out the rest of its work."""
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TOLERANCE = {torch.float32: 2e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}
"""Largest norm of an error, as a fraction of the exact result's norm. float32 locations round across pixel borders,
where gradients jump."""
SHAPES = {"480x853": [(15, 27), (30, 54), (60, 108)], "720x1280": [(23, 40), (45, 80), (90, 160)]}
"""Heights and widths of the pixel decoder's levels by frame size, coarse first."""
TINY_SHAPES = {"24x36": [(1, 2), (2, 3), (3, 5)]}
PRECISIONS = ("fp32", "bf16", "fp16")
GRAPHS = ("off", "on")
WORDS = (1, 40, 1196)
OBJECTS = (0, 20)
Sizes = list[tuple[int, int]]


@dataclass
class Setting:
    """The device, and the sizes that depend on it."""

    device: torch.device
    official: Path
    ends: float
    """`time.monotonic` after which parts skip the rest of their work."""
    left_out: list[str] = field(default_factory=list)

    def share(self, parts: int) -> Setting:
        """Return a setting for the next of so many parts that share the time that is left."""
        left = self.ends - time.monotonic()
        return Setting(self.device, self.official, self.ends - left * (1 - 1 / parts), self.left_out)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU; on a CPU the script only tests itself."""
        return self.device.type == "cuda"

    @property
    def shapes(self) -> dict[str, Sizes]:
        """Heights and widths of the levels by frame size."""
        return SHAPES if self.on_gpu else TINY_SHAPES

    @property
    def window(self) -> int:
        """Number of frames in one pass of a network."""
        return 10 if self.on_gpu else 2

    def in_time(self, what: str) -> bool:
        """Whether there is time for ``what``; otherwise the report lists it as left out."""
        if time.monotonic() < self.ends:
            return True
        self.left_out.append(what)
        return False

    def wait(self) -> None:
        """Wait until the device has finished all its work."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)


def main() -> int:
    """Run the parts that the command line names, and write both files after each; return the exit code."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for gpu_check.json and gpu_check.md")
    asked.add_argument("--part", action="append", choices=list(PARTS), help="only this; may be repeated")
    asked.add_argument("--device", default="cuda", help="cuda, cuda:1, ..., or cpu for a try without a GPU")
    asked.add_argument("--official", type=Path, default=OFFICIAL, help="source with the same entries as the default's")
    asked.add_argument("--seconds", type=float, default=SECONDS, help="for all parts together")
    asked.add_argument("--result", type=Path, help=argparse.SUPPRESS)  # of one part, in its own process
    given = asked.parse_args()
    fault = fault_of_device(given.device)
    if fault is None and not given.official.is_file():
        fault = f"{given.official}: there is no such file; name it with --official"
    if fault is not None:
        print(f"gpu_check: {fault}", file=sys.stderr)
        return 2
    device = torch.device("cuda", 0) if given.device == "cuda" else torch.device(given.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    ends = time.monotonic() + given.seconds
    if given.result is not None:
        done = outcome_of(given.part[0], Setting(device, given.official, time.monotonic() + SOFT * given.seconds))
        given.result.write_text(json.dumps(done), encoding="utf-8")
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    tiny = device.type != "cuda"
    found: dict[str, Any] = {"device": str(device), "tiny": tiny, "parts": {}, "faults": [], "left_out": []}
    names = list(dict.fromkeys(given.part or PARTS))
    for number, name in enumerate(names):
        began = time.monotonic()
        print(f"gpu_check: {name}", flush=True)
        if tiny:
            done = outcome_of(name, Setting(device, given.official, ends))
        else:
            later = sum(SHARES[each] for each in names[number + 1 :]) * min(1.0, given.seconds / SECONDS)
            done = outcome_of_process(part_command(name, given), max(1.0, ends - began - later), given.out)
        if done["found"] is not None:
            found["parts"][name] = done["found"]
        found["faults"] += [f"{name}: {each}" for each in done["faults"]]
        found["left_out"] += done["left_out"]
        found.setdefault("seconds", {})[name] = round(time.monotonic() - began, 1)
        (given.out / "gpu_check.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (given.out / "gpu_check.md").write_text(page(found), encoding="utf-8")
    print("\n".join(f"gpu_check: {fault}" for fault in found["faults"]) or "gpu_check: no fault")
    return 1 if found["faults"] else 0


def fault_of_device(name: str) -> str | None:
    """Why nothing can be run on the device of the command line, or None."""
    kind, _, number = name.partition(":")
    if name == "cpu":
        return None
    if kind != "cuda" or (":" in name and not number.isdecimal()):
        return f"--device {name}: name cuda, one GPU as cuda:0, or cpu"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device; --device cpu tries the script on a CPU"
    if number and int(number) >= torch.cuda.device_count():
        return f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices"
    return None


def outcome_of(name: str, setting: Setting) -> dict[str, Any]:
    """Run a part in this process; return what it found, ``None`` if it failed, its faults, and what it left out."""
    try:
        found: dict[str, Any] | None = PARTS[name](setting)
        assert found is not None
        faults = found.pop("faults", [])
    except Exception as fault:
        traceback.print_exc()
        found, faults = None, [f"{type(fault).__name__}: {first_line(fault)}"]
    return {"found": found, "faults": faults, "left_out": setting.left_out}


def part_command(name: str, given: argparse.Namespace) -> list[str]:
    """The command that runs a part in a separate process; `outcome_of_process` adds its time and its result."""
    script = [sys.executable, str(Path(__file__).resolve()), "--part", name, "--out", str(given.out)]
    return [*script, "--device", given.device, "--official", str(given.official)]


def outcome_of_process(command: list[str], seconds: float, folder: Path) -> dict[str, Any]:
    """Run a part by a command, like `outcome_of`; its processes are ended after ``seconds``."""
    result = folder / f"part-{os.getpid()}.json"
    child = subprocess.Popen([*command, "--seconds", str(seconds), "--result", str(result)], start_new_session=True)
    try:
        code: int | None = child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # what it has started too
        with suppress(subprocess.TimeoutExpired):  # the driver may not let go of it
            child.wait(timeout=5)
    if code == 0 and result.is_file():
        done: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        result.unlink()
        return done
    ended = "did not end" if code is None else f"ended with exit code {code}"
    return {"found": None, "faults": [f"its process {ended} after {seconds:.0f} s at most"], "left_out": []}


def first_line(fault: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(fault).splitlines() or [""])[0]


# Build ------------------------------------------------------------------------------------------------------------


def part_build(setting: Setting) -> dict[str, Any]:
    """Versions, the device, and the first use of the kernel."""
    from harness.models.ops import build, deform_attn

    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cpus": os.cpu_count(),
        **build.versions(),
    }
    if setting.on_gpu:
        properties = torch.cuda.get_device_properties(setting.device)
        found |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "processors": properties.multi_processor_count,
            "memory_gib": round(properties.total_memory / 2**30, 1),
        }
    began = time.monotonic()
    status = deform_attn.kernel_status()
    found |= {"first_use_seconds": round(time.monotonic() - began, 2), "path": status["path"], "why": status["why"]}
    expected = "cuda kernel" if setting.on_gpu else "cpu kernel"
    faults = [] if status["path"] == expected else [f"deformable attention runs by {status['path']}: {status['why']}"]
    return {**found, "faults": faults}


# Correctness ------------------------------------------------------------------------------------------------------


@dataclass
class Sampling:
    """Arguments of the fused operator, in the shapes of `harness.models.ops.fused_deformable_attention`."""

    value: Tensor
    shapes: Tensor
    offsets: Tensor
    logits: Tensor
    centres: Tensor

    def arguments(self) -> tuple[Tensor, ...]:
        """Return the arguments in the operator's order."""
        return self.value, self.shapes, self.offsets, self.logits, self.centres

    def typed(self, value: torch.dtype, points: torch.dtype) -> Sampling:
        """Return the same arguments in other types."""
        return Sampling(
            self.value.to(value), self.shapes, self.offsets.to(points), self.logits.to(points), self.centres
        )

    def plain(self) -> tuple[Tensor, Tensor]:
        """Return locations and weights in float32 or wider, computed by PyTorch."""
        wide = torch.promote_types(self.offsets.dtype, torch.float32)
        pixels = self.offsets.to(wide) / self.shapes.flip(-1).to(wide)[:, None]
        weights = self.logits.to(wide).flatten(3).softmax(-1).view(self.logits.shape)
        return self.centres.to(wide)[:, None, None, None] + pixels, weights


def sampling(
    sizes: Sizes,
    batch: int,
    device: torch.device,
    heads: int = 8,
    channels: int = 32,
    points: int = 4,
    noise: float = 2.0,
    seed: int = 0,
) -> Sampling:
    """Return arguments like the encoder's: each head samples in one direction, with ``noise`` pixels of deviation."""
    from harness.models.mask2former.pixel_decoder import _offsets_by_head, pixel_centres

    draw = torch.Generator().manual_seed(seed)
    pixels, levels = sum(height * width for height, width in sizes), len(sizes)
    directions = _offsets_by_head(heads, levels, points).view(heads, levels, points, 2)
    offsets = directions + noise * torch.randn(batch, pixels, heads, levels, points, 2, generator=draw)
    # away from pixel centres, where the gradient of a location jumps
    centres = torch.cat([pixel_centres(h, w) for h, w in sizes]) + 0.004 * torch.rand(pixels, 2, generator=draw)
    made = (
        torch.randn(batch, pixels, heads, channels, generator=draw),
        torch.tensor(sizes),
        offsets,
        torch.randn(batch, pixels, heads, levels, points, generator=draw),
        centres,
    )
    return Sampling(*(each.to(device) for each in made))


def exact(case: Sampling) -> Tensor:
    """Compute the operator in float64 with `grid_sample`, independently of the project's code."""
    value = case.value.double()
    locations, weights = Sampling(
        value, case.shapes, case.offsets.double(), case.logits.double(), case.centres.double()
    ).plain()
    batch, _, heads, channels = value.shape
    total, start = torch.zeros((), dtype=torch.float64, device=value.device), 0
    for level, (height, width) in enumerate(case.shapes.tolist()):
        image = value[:, start : start + height * width].permute(0, 2, 3, 1).reshape(-1, channels, height, width)
        start += height * width
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        sampled = functional.grid_sample(image, grid, align_corners=False)
        total = total + (sampled * weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]).sum(-1)
    return total.view(batch, heads * channels, -1).transpose(1, 2)


def difference(actual: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference as a fraction of the norm of ``expected``."""
    wide = expected.detach().double()
    return float((actual.detach().double() - wide).norm() / wide.norm().clamp_min(1e-12))


def part_correctness(setting: Setting) -> dict[str, Any]:
    """Return errors against float64 by case, type and result, and errors of other ways to call the operator."""
    name, sizes = next(iter(setting.shapes.items()))
    cases = {
        f"{name}, 8 heads of 32": sampling(sizes, 2, setting.device),
        "three heads of 10": sampling([(5, 7), (1, 3), (9, 1)], 3, setting.device, 3, 10, 3),
        "264 channels": sampling([(6, 5)], 1, setting.device, 2, 264, 2),
        "one pixel": sampling([(1, 1), (2, 2), (1, 7)], 1, setting.device, 1, 32, 4),
    }
    pairs = [(t, t) for t in TYPES.values()] + [(torch.bfloat16, torch.float32)]
    rows, faults = [], []
    for case_name, case in cases.items():
        for value, points in pairs:
            errors = errors_of(case.typed(value, points))
            row = {"case": case_name, "value": str(value)[6:], "points": str(points)[6:], **errors}
            rows.append(row)
            if not max(errors.values()) <= TOLERANCE[value]:
                faults.append(f"{row}")
    ways = ways_of_calling(setting, cases[f"{name}, 8 heads of 32"])
    faults += [f"{way}: differs by {found}" for way, found in ways.items() if not found <= 1e-4]
    return {"errors": rows, "ways": ways, "faults": faults}


def errors_of(case: Sampling) -> dict[str, float]:
    """Return the relative errors of output and gradients against float64."""
    from harness.models.ops import fused_deformable_attention

    leaves = [each.detach().requires_grad_() for each in (case.value, case.offsets, case.logits)]
    output = fused_deformable_attention(leaves[0], case.shapes, leaves[1], leaves[2], case.centres)
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    got = [output, *torch.autograd.grad(output, leaves, grad)]
    wide = [each.detach().double().requires_grad_() for each in leaves]
    wanted_output = exact(Sampling(wide[0], case.shapes, wide[1], wide[2], case.centres.double()))
    wanted = [wanted_output, *torch.autograd.grad(wanted_output, wide, grad.double())]
    names = ("output", "grad value", "grad offsets", "grad logits")
    return {name: difference(a, b) for name, a, b in zip(names, got, wanted, strict=True)}


def ways_of_calling(setting: Setting, case: Sampling) -> dict[str, float]:
    """Return relative differences from the plain call: threads, unaligned arguments; on a GPU also streams, a CUDA
    graph, Inductor, the algorithm of 2020."""
    from harness.models.ops import fused_deformable_attention as attend

    arguments = case.arguments()
    wanted = attend(*arguments)
    shifted = torch.empty(case.value.numel() + 1, device=setting.device)[1:].view_as(case.value).copy_(case.value)
    found = {"offset by 4 bytes": difference(attend(shifted, *arguments[1:]), wanted)}
    results: list[Tensor] = []
    threads = [threading.Thread(target=lambda: results.append(attend(*arguments))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found["four threads"] = max(difference(each, wanted) for each in results)
    if not setting.on_gpu:
        return found
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        doubled = attend(case.value * 2, *arguments[1:])
    stream.synchronize()
    found["side stream"] = difference(doubled, 2 * wanted)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = attend(*arguments)
    case.value.mul_(3)
    graph.replay()
    found["CUDA graph"] = difference(captured, 3 * wanted)
    case.value.div_(3)
    wrong = case.shapes.clone()
    wrong[0] *= 2
    numbers = int(attend(case.value, wrong, *arguments[2:]).isfinite().sum())
    found["wrong sizes: elements that are numbers"] = float(numbers)
    locations, weights = case.plain()
    official = Algorithm2020(setting.official, setting.device)
    found["the algorithm of 2020"] = difference(official.forward(case.value, case.shapes, locations, weights), wanted)
    if torch.cuda.device_count() > 1:
        other = [each.to("cuda:1") for each in arguments]
        found["second GPU"] = difference(attend(*other).to(setting.device), wanted)
    if not setting.in_time("Inductor"):
        return found
    try:
        compiled = torch.compile(lambda *a: attend(*a).relu(), fullgraph=True)
        found["Inductor"] = difference(compiled(*arguments), wanted.relu())
    except Exception as fault:  # Inductor needs a C compiler, which may be missing
        setting.left_out.append(f"Inductor: {type(fault).__name__}: {first_line(fault)}")
    return found


class Algorithm2020:
    """The algorithm of 2020 as a CUDA kernel, in float32, for channels per head that are a power of two."""

    def __init__(self, source: Path, device: torch.device) -> None:
        from cuda.core import Device, Program, ProgramOptions

        major, minor = torch.cuda.get_device_capability(device)
        Device(device.index or 0).set_current()
        options = ProgramOptions(name=source.name, arch=f"sm_{major}{minor}", std="c++17")
        code = Program(source.read_text(encoding="utf-8"), "c++", options).compile("cubin")
        self._forward = code.get_kernel("deform_attn_2020_forward")
        self._backward = code.get_kernel("deform_attn_2020_backward")

    def forward(self, value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        """Return the output ``(N, Lq, M * D)``."""
        batch, _, heads, channels = value.shape
        output = value.new_empty(batch, locations.shape[1], heads * channels)
        self._launch(self._forward, -(-output.numel() // 1024), 1024, [], [value, shapes, locations, weights], [output])
        return output

    def backward(
        self, grad: Tensor, value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of value, locations and weights."""
        _, queries, heads = locations.shape[:3]
        found = torch.zeros_like(value), torch.empty_like(locations), torch.empty_like(weights)
        blocks = value.shape[0] * queries * heads
        self._launch(self._backward, blocks, value.shape[3], [grad], [value, shapes, locations, weights], list(found))
        return found

    def _launch(
        self, kernel: Any, blocks: int, threads: int, first: list[Tensor], inputs: list[Tensor], outputs: list[Tensor]
    ) -> None:
        from cuda.core import LaunchConfig, Stream, launch

        value, shapes, locations, weights = inputs
        _, pixels, heads, channels = value.shape
        queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
        area = shapes.prod(1)
        tensors = [*first, value, shapes, area.cumsum(0) - area, locations, weights, *outputs]
        count = value.shape[0] * queries * heads * channels
        stream = Stream.from_handle(torch.cuda.current_stream().cuda_stream)
        pointers = [each.data_ptr() for each in tensors]
        numbers = [count, pixels, heads, channels, levels, queries, points]
        launch(stream, LaunchConfig(grid=blocks, block=threads), kernel, *pointers, *numbers)


# Times of the kernel ----------------------------------------------------------------------------------------------


def milliseconds(setting: Setting, call: Callable[..., Any], sets: Sequence[tuple[Any, ...]], rounds: int = 5) -> float:
    """Return the median time of a call over successive sets of arguments, in milliseconds.

    On a GPU it is measured with events, behind a pause that lets the host queue all calls.
    """
    for arguments in sets:
        call(*arguments)
    spent = []
    for _ in range(rounds if setting.on_gpu else 1):
        if setting.on_gpu:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(20_000_000)
            begin.record()
            for arguments in sets:
                call(*arguments)
            end.record()
            end.synchronize()
            spent.append(begin.elapsed_time(end) / len(sets))
        else:
            began = time.perf_counter()
            for arguments in sets:
                call(*arguments)
            spent.append(1e3 * (time.perf_counter() - began) / len(sets))
    return statistics.median(spent)


def copy_speed(setting: Setting, bytes_copied: int) -> float:
    """Return the bytes per second, read and written, of repeated copies of ``bytes_copied`` bytes."""
    source = torch.ones(bytes_copied // 4, device=setting.device)
    target = torch.empty_like(source)
    return 2 * bytes_copied / milliseconds(setting, target.copy_, [(source,)] * 10) * 1e3


def part_kernel_times(setting: Setting) -> dict[str, Any]:
    """Return milliseconds of each implementation by shape, type and direction, and lower bounds from copying."""
    memory = copy_speed(setting, 1 << 30 if setting.on_gpu else 1 << 20)
    cache = copy_speed(setting, 8 << 20 if setting.on_gpu else 1 << 18)
    official = Algorithm2020(setting.official, setting.device) if setting.on_gpu else None
    rows = []
    for name, sizes in setting.shapes.items():
        for noise in (0.5, 3.0):
            if setting.in_time(f"kernel times at {name}, noise {noise}"):
                rows += kernel_rows(setting, f"{name}, offsets within {noise:g} px", sizes, noise, official, memory)
    return {"copy_gb_per_s": round(memory / 1e9), "copy_in_cache_gb_per_s": round(cache / 1e9), "rows": rows}


def kernel_rows(
    setting: Setting, name: str, sizes: Sizes, noise: float, official: Algorithm2020 | None, copied: float
) -> list[dict[str, Any]]:
    """Return the times for one shape, in a row for each implementation and direction."""
    from harness.models.ops import reference

    made = [sampling(sizes, setting.window, setting.device, noise=noise, seed=seed) for seed in range(2)]
    forward = torch.ops.harness.fused_deformable_attention
    backward = torch.ops.harness.fused_deformable_attention_backward
    rows: list[dict[str, Any]] = []

    def row(what: str, way: str, ms: float, floor: float | None = None) -> None:
        rows.append({"shape": name, "implementation": what, "direction": way, "ms": ms, "copy_floor_ms": floor})

    for value, points in [(t, t) for t in TYPES.values()] + [(torch.bfloat16, torch.float32)]:
        cases = [case.typed(value, points) for case in made]
        what = f"ours, {str(value)[6:]}" + ("" if value == points else " value, float32 points")
        sets = [case.arguments() for case in cases]
        first = cases[0]
        output = torch.empty(setting.window, first.value.shape[1], 256, dtype=points, device=setting.device)
        moved = sum(each.nbytes for each in (first.value, first.offsets, first.logits, output))
        row(what, "forward", milliseconds(setting, forward, sets), 1e3 * moved / copied)
        grad = torch.randn(output.shape, device=setting.device).to(points)
        moved += first.value.numel() * 8 + first.offsets.nbytes + first.logits.nbytes
        row(what, "backward", milliseconds(setting, lambda *a, g=grad: backward(g, *a), sets), 1e3 * moved / copied)
    plain = [(case.value, case.shapes, *case.plain()) for case in made]
    grad = torch.randn(setting.window, plain[0][0].shape[1], 256, device=setting.device)
    if official is not None:
        row("algorithm of 2020, float32", "forward", milliseconds(setting, official.forward, plain))
        back = official.backward
        row("algorithm of 2020, float32", "backward", milliseconds(setting, lambda *a: back(grad, *a), plain))
    outside = milliseconds(setting, Sampling.plain, [(case,) for case in made])
    row("softmax and locations, which the 2020 one leaves to others", "forward", outside)
    sets = [case.arguments() for case in made[:1]]
    slow = reference.fused_deformable_attention
    row("reference, float32", "forward", milliseconds(setting, slow, sets, rounds=2))
    slow_back = reference.fused_deformable_attention_backward
    row("reference, float32", "backward", milliseconds(setting, lambda *a: slow_back(grad, *a), sets, rounds=2))
    return rows


# Networks and videos ----------------------------------------------------------------------------------------------


@dataclass
class Networks:
    """Makes networks with random weights by name, and models from them by precision."""

    setting: Setting

    def names(self) -> list[str]:
        """Return the names of the full-size models, or on a CPU of the miniatures in the package."""
        return ["clipvis RN50", "clipvis ConvNeXt-B", "ov2seg R50"] if self.setting.on_gpu else ["clipvis", "ov2seg"]

    def network(self, name: str) -> Any:
        """Return the network, on the CPU."""
        torch.manual_seed(0)
        if not self.setting.on_gpu:
            return self._miniature(name, "cpu", "fp32").network
        if name.startswith("ov2seg"):
            from harness.baselines.ov2seg.network import Ov2SegArchitecture as OfOv2Seg
            from harness.baselines.ov2seg.network import Ov2SegNetwork

            return Ov2SegNetwork(OfOv2Seg()).eval()
        from harness.models.clipvis.network import ClipVisArchitecture, ClipVisNetwork

        clip = "RN50" if name.endswith("RN50") else "convnext_base_w_320"
        return ClipVisNetwork(ClipVisArchitecture(clip_model=clip)).eval()

    def model(self, name: str, network: Any, device: torch.device, precision: str, graphs: str = "off") -> Any:
        """Return the model of a network; it moves the weights to ``device``."""
        if not self.setting.on_gpu:
            return self._miniature(name, str(device), precision, graphs)
        if name.startswith("ov2seg"):
            from harness.baselines.ov2seg.config import Ov2SegConfig
            from harness.baselines.ov2seg.model import Ov2Seg

            settings = Ov2SegConfig.model_validate({"graphs": graphs})
            return Ov2Seg(network, self._words, settings, str(device), precision)
        from harness.models.clipvis.config import ClipVisConfig
        from harness.models.clipvis.model import ClipVis

        return ClipVis(network, ClipVisConfig.model_validate({"graphs": graphs}), str(device), precision)

    def _words(self, vocabulary: Any) -> Any:
        """Return random text embeddings for OV2Seg, whose text encoder is a separate file."""
        from harness.baselines.ov2seg.text_classifier import SourcedClassifier
        from harness.models.shared.text_classifier import TextClassifier

        count = len(vocabulary.categories)
        rows = functional.normalize(torch.randn(count, 512, generator=torch.Generator().manual_seed(count)), dim=-1)
        device = self.setting.device
        return SourcedClassifier(TextClassifier(rows.to(device), torch.arange(count, device=device)), "made up", False)

    def _miniature(self, name: str, device: str, precision: str, graphs: str = "off") -> Any:
        from harness import plugins
        from harness.engines.model_spec import loaded
        from harness.types import LoadContext

        dataset = plugins.dataset("shapes").open(Path(), "val")
        plugin = plugins.model(name)
        weights = plugin.shipped_weights(dataset.name)
        return loaded(plugin, plugin.Config(graphs=graphs), LoadContext(dataset, device, precision, weights))


class Pictures:
    """Frames of random colours with moving squares, held in memory: no time is spent on decoding."""

    def __init__(self, count: int, height: int, width: int, objects: int = 0) -> None:
        draw = np.random.default_rng(0)
        coarse = draw.integers(0, 256, (min(count, 8), 9, 16, 3), np.uint8)
        lines, columns = np.arange(height) * 9 // height, np.arange(width) * 16 // width
        self._pictures = [each[lines][:, columns] for each in coarse]
        self._count = count
        side = max(2, min(height, width) // 8)
        for _ in range(objects):
            top, left = (int(draw.integers(0, n - side)) for n in (height, width))
            for step, picture in enumerate(self._pictures):
                at = min(left + 2 * step, width - side)
                picture[top : top + side, at : at + side] = draw.integers(0, 256, 3, np.uint8)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self._pictures[index % len(self._pictures)]


def part_networks(setting: Setting) -> dict[str, Any]:
    """Return a row for each model and precision, without and with CUDA graphs."""
    from harness.models.shared.cuda_graphs import PLAIN_CALLS

    height, width = (480, 853) if setting.on_gpu else (48, 72)
    networks, rows, faults = Networks(setting), [], []
    names = networks.names()
    for number, name in enumerate(names):
        share = setting.share(len(names) - number)
        if not share.in_time(f"network {name}"):
            continue
        network = networks.network(name)
        frames = Pictures(setting.window, height, width)
        window = [frames[i] for i in range(len(frames))]
        alone = networks.model(name, network, torch.device("cpu"), "fp32")
        sizes = alone.geometry(height, width)
        from harness.models.shared.preprocess import resize

        resized = [resize(frame, sizes.resized) for frame in window]
        with torch.inference_mode():
            expected = output_of(alone.forward(resized[:1], sizes))
        wanted = expected.mask_logits.clone(), expected.embeddings.clone()
        for precision, graphs in product(PRECISIONS, GRAPHS):
            if not share.in_time(f"network {name} {precision}, graphs {graphs}"):
                continue
            model = networks.model(name, network, setting.device, precision, graphs)
            row = {"model": name, "precision": precision, "graphs": graphs}
            with torch.inference_mode(), warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                for _ in range(PLAIN_CALLS + 1):  # with graphs on, the last call replays a graph
                    got = output_of(model.forward(resized[:1], sizes))
                errors = [
                    difference(a.cpu(), b) for a, b in zip((got.mask_logits, got.embeddings), wanted, strict=True)
                ]
                row |= {"mask logits": errors[0], "embeddings": errors[1]}
                rows.append(row | timed_window(setting, model, resized, sizes))
            faults += [f"{name} {precision}: {each.message}" for each in told if "CUDA graphs" in str(each.message)]
            if precision == "fp32" and not max(errors) < 0.05:
                faults.append(f"{name} in float32, graphs {graphs}, differs from the CPU by {max(errors):.1e}")
    return {"frame": f"{height}x{width}", "window": setting.window, "rows": rows, "faults": faults}


def output_of(found: Any) -> Any:
    """Return the decoder's output; CLIP-VIS also returns the features of its backbone."""
    return found if hasattr(found, "mask_logits") else found[0]


def timed_window(setting: Setting, model: Any, frames: list[Any], sizes: Any) -> dict[str, Any]:
    """Return the milliseconds of a window in total, of the host and by stage, peak memory in GiB, busy fraction."""
    from harness.engines.stages import time_stages
    from harness.models.shared.cuda_graphs import PLAIN_CALLS

    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats(setting.device)
    passes = 3
    for _ in range(PLAIN_CALLS + 1):
        model.forward(frames, sizes)
    setting.wait()
    began = time.perf_counter()
    for _ in range(passes):
        model.forward(frames, sizes)
    host = time.perf_counter() - began
    setting.wait()
    whole = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated(setting.device) / 2**30 if setting.on_gpu else None
    with time_stages(model) as stages:
        model.forward(frames, sizes)
        setting.wait()
    return {
        "ms per window": 1e3 * whole / passes,
        "host ms": 1e3 * host / passes,
        "peak GiB": peak,
        "busy": busy_fraction(setting, lambda: model.forward(frames, sizes)),
        "stage ms": {name: 1e3 * use.seconds for name, use in stages.items()},
    }


def busy_fraction(setting: Setting, call: Callable[[], Any]) -> float | None:
    """Return the fraction of time in which a kernel or a copy runs on the GPU; ``None`` without a GPU or CUPTI."""
    if not setting.on_gpu:
        return None
    from torch.profiler import ProfilerActivity, profile, supported_activities

    if ProfilerActivity.CUDA not in supported_activities():
        return None
    setting.wait()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        began = time.perf_counter()
        call()
        setting.wait()
        spent = 1e6 * (time.perf_counter() - began)
    events = [each for each in profiler.events() if each.device_type == torch.autograd.DeviceType.CUDA]
    return covered([(each.time_range.start, each.time_range.end) for each in events]) / spent if events else None


def covered(spans: list[tuple[float, float]]) -> float:
    """Return the length of the union of intervals ``(begin, end)``."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def part_videos(setting: Setting) -> dict[str, Any]:
    """Return frames per second by model, precision, number of words and number of objects."""
    from harness.notebook import vocabulary_of
    from harness.types import Video

    (height, width), count = ((480, 853), 40) if setting.on_gpu else ((48, 72), 3)
    networks, rows = Networks(setting), []
    names = networks.names()
    for number, name in enumerate(names):
        share = setting.share(len(names) - number)
        network = networks.network(name)
        for precision in PRECISIONS if setting.on_gpu else PRECISIONS[:2]:
            model = networks.model(name, network, setting.device, precision)
            for words in WORDS if setting.on_gpu else WORDS[:2]:
                for objects in OBJECTS:
                    if not share.in_time(f"video {name} {precision} {words} words {objects} objects"):
                        continue
                    frames = Pictures(count, height, width, objects)
                    video = Video(1, "made", height, width, frames)
                    vocabulary = vocabulary_of([f"thing {i}" for i in range(words)])
                    speeds = frames_per_second(setting, model, video, vocabulary)
                    rows.append({"model": name, "precision": precision, "words": words, "objects": objects, **speeds})
    return {"frame": f"{height}x{width}", "frames": count, "rows": rows}


def frames_per_second(setting: Setting, model: Any, video: Any, vocabulary: Any) -> dict[str, Any]:
    """Return frames per second of ``predict`` with and without timing stages, busy fraction, peak memory in GiB."""
    from harness.engines.stages import time_stages

    list(model.predict(video, vocabulary))  # warm-up: computes text embeddings, compiles kernels
    found: dict[str, Any] = {}
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats(setting.device)
    for what, clock in (("fps", nullcontext({})), ("fps with the clock", time_stages(model))):
        setting.wait()
        began = time.perf_counter()
        with clock:
            tracks = list(model.predict(video, vocabulary))
            setting.wait()
        found[what] = len(video.frames) / (time.perf_counter() - began)
    found["tracks"] = len(tracks)
    found["peak GiB"] = torch.cuda.max_memory_allocated(setting.device) / 2**30 if setting.on_gpu else None
    found["busy"] = busy_fraction(setting, lambda: list(model.predict(video, vocabulary)))
    return found


# Tests ------------------------------------------------------------------------------------------------------------


def part_gpu_tests(setting: Setting) -> dict[str, Any]:
    """Run the tests that need a GPU; return pytest's last line and the failures."""
    path = "tests/models/ops/test_deform_attn.py"
    if not setting.on_gpu:
        return {"result": "not run: there is no GPU"}
    if not setting.in_time("the GPU tests"):
        return {"result": "not run: out of time"}
    for needed in (path, "tests/data"):
        if not (ROOT / needed).exists():
            return {"result": f"not run: {needed} is not here"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "kernel or gpu", path]
    left = max(1.0, setting.ends - time.monotonic())
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=left, check=False)
    except subprocess.TimeoutExpired:
        setting.left_out.append(f"the GPU tests, which take longer than {left:.0f} s")
        return {"result": "not run: out of time"}
    if "No module named pytest" in done.stderr:
        return {"result": "not run: pytest is not installed"}
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    faults = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    if done.returncode and not faults:
        faults = [(lines or done.stderr.splitlines() or ["no output"])[-1]]
    return {"result": (lines or [""])[-1], "faults": faults}


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "build": part_build,
    "correctness": part_correctness,
    "kernel-times": part_kernel_times,
    "networks": part_networks,
    "videos": part_videos,
    "gpu-tests": part_gpu_tests,
}


# The page ---------------------------------------------------------------------------------------------------------


def page(found: dict[str, Any]) -> str:
    """Return all results as a Markdown page."""
    parts = found["parts"]
    build = parts.get("build", {})
    lines = [f"# {build.get('gpu', 'No GPU: a try of the script on a CPU, whose times say nothing')}", ""]
    lines += [f"- {name}: {value}" for name, value in build.items()]
    lines += ["", "## Faults", "", *(f"- {each}" for each in found["faults"] or ["none"])]
    lines += [f"- left out: {each}" for each in found.get("left_out", [])]
    correct = parts.get("correctness")
    if correct:
        lines += ["", "## Errors against float64, as a fraction of the norm", "", *table(correct["errors"])]
        ways = [{"way": way, "difference from the plain call": value} for way, value in correct["ways"].items()]
        lines += ["", *table(ways)]
    times = parts.get("kernel-times")
    if times:
        lines += ["", "## Times of the kernel", ""]
        lines += [
            f"Copies move {times['copy_gb_per_s']:,} GB/s in memory, {times['copy_in_cache_gb_per_s']:,} in cache."
        ]
        lines += ["", *table(with_ratio(times["rows"]))]
    for name, title in (("networks", "A window through the network"), ("videos", "Videos, end to end")):
        part = parts.get(name)
        if part:
            lines += ["", f"## {title}", "", f"Frames of {part['frame']}.", "", *table(part["rows"])]
    lines += ["", "## Tests that need a GPU", "", str(parts.get("gpu-tests", {}).get("result", "not run"))]
    lines += ["", "Seconds: " + ", ".join(f"{name} {value}" for name, value in found.get("seconds", {}).items())]
    return "\n".join(lines) + "\n"


def with_ratio(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows, each with the time of the algorithm of 2020 with its softmax, divided by the row's time."""
    slow: dict[tuple[str, str], float] = {}
    for row in rows:
        if row["implementation"].startswith(("algorithm of 2020", "softmax")):
            key = row["shape"], row["direction"]
            slow[key] = slow.get(key, 0.0) + row["ms"]
    with_official = {row["shape"] for row in rows if row["implementation"].startswith("algorithm of 2020")}
    found = []
    for row in rows:
        time_then = slow.get((row["shape"], row["direction"])) if row["shape"] in with_official else None
        found.append({**row, "2020 by this": time_then / row["ms"] if time_then else None})
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows as a Markdown table."""
    if not rows:
        return ["(nothing)"]
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return lines + ["| " + " | ".join(cell(row.get(column)) for column in columns) + " |" for row in rows]


def cell(value: Any) -> str:
    """Return a value as text: numbers with three significant digits, dictionaries as lists."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {cell(each)}" for name, each in value.items())
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
