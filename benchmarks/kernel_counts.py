"""Counts the CUDA kernel's work without a GPU: instructions of its inner loops, and cache lines of its blocks.

    python benchmarks/kernel_counts.py --nvdisasm FILE --out benchmarks/results/kernel_counts.json

``nvdisasm`` comes with ``pip install nvidia-cuda-nvdisasm`` (``nvidia/cu13/bin/nvdisasm`` in the site-packages). The
kernel is compiled as for a GPU. The script counts the instructions (SASS) of each innermost loop that reads ``value``,
for one sample of one thread: the loop's length divided by the samples of one iteration. For cache lines, it draws
samples around each pixel of the levels, as the pixel decoder makes them, in the order in which blocks process queries,
and counts the distinct pixels that a block reads, as a fraction of its reads. These are counts, not times.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.models.mask2former.pixel_decoder import _offsets_by_head
from harness.models.ops import build
from harness.models.ops.build import Variant
from harness.models.ops.deform_attn import FLOAT32

VARIANTS = {
    "float32": FLOAT32,
    "bfloat16 value, float32 points": FLOAT32._replace(value=torch.bfloat16),
    "bfloat16": FLOAT32._replace(value=torch.bfloat16, point=torch.bfloat16),
    "float16": FLOAT32._replace(value=torch.float16, point=torch.float16),
}
ARCHITECTURES = (80, 90, 100)
SIZES = {
    "480x853": [(15, 27), (30, 54), (60, 108)],
    "720x1280": [(23, 40), (45, 80), (90, 160)],
}
NOISE = (1.0, 3.0)
"""Standard deviations of offsets in pixels, around the offsets at the start of training."""
_BRANCH = re.compile(r"\bBRA(?:\.\w+)*\s.*\((\.L_x_\d+)\)")


def main() -> int:
    """Count, print the counts as JSON and write them to the given file; return the exit code."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--nvdisasm", default="nvdisasm", help="the program, if it is not on the path")
    asked.add_argument("--out", type=Path, help="JSON file")
    given = asked.parse_args()
    found = {
        "nvrtc": build.versions()["nvrtc"],
        "inner_loops": [
            row
            for name, variant in VARIANTS.items()
            for architecture in ARCHITECTURES
            for row in inner_loops(name, variant, architecture, given.nvdisasm)
        ],
        "cache_lines": [cache_lines(name, noise) for name in SIZES for noise in NOISE],
    }
    text = json.dumps(found, indent=1)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n", encoding="utf-8")
    return 0


def inner_loops(name: str, variant: Variant, architecture: int, nvdisasm: str) -> list[dict[str, Any]]:
    """Return a row for each direction: instructions and loads of the innermost loop over samples, for one sample."""
    compiled = build.compile_kernel(variant, architecture)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as binary:
        Path(binary.name).write_bytes(compiled.cubin)
        listing = subprocess.run([nvdisasm, "-c", binary.name], capture_output=True, text=True, check=True).stdout
    registers = dict(re.findall(r"entry function '(\w+)'.*?Used (\d+) registers", compiled.report, re.DOTALL))
    rows = []
    for function, code in functions(listing).items():
        body = max((loop for loop in innermost(code) if loads(loop)), key=loads)
        samples = loads(body) // 4  # one load per corner; an iteration has all channel steps of a sample
        rows.append(
            {
                "variant": name,
                "architecture": architecture,
                "kernel": function,
                "instructions_per_sample": len(body) / samples,
                "loop": len(body),
                "samples_in_loop": samples,
                "predicated_loads": sum("LDG" in line and line.startswith("@") for line in body),
                "registers": int(registers[function]),
            }
        )
    return rows


def functions(listing: str) -> dict[str, list[str]]:
    """Return the instructions and labels of each function in nvdisasm's listing, in order."""
    found: dict[str, list[str]] = {}
    code: list[str] = []
    for line in listing.splitlines():
        if name := re.match(r"\.text\.(\w+):", line):
            code = found.setdefault(name[1], [])
        elif label := re.match(r"(\.L_x_\d+):", line):
            code.append(label[1] + ":")
        elif instruction := re.match(r"\s+/\*[0-9a-f]{4,5}\*/\s+(.*?);", line):
            code.append(instruction[1])
    return found


def innermost(code: list[str]) -> list[list[str]]:
    """Return the instructions of every loop that contains no other loop."""
    spans = []
    for end, line in enumerate(code):
        branch = _BRANCH.search(line)
        if branch and branch[1] + ":" in code[:end]:
            spans.append((code.index(branch[1] + ":"), end))
    inner = [
        (begin, end)
        for begin, end in spans
        if not any(begin <= first and last <= end and (first, last) != (begin, end) for first, last in spans)
    ]
    return [[line for line in code[begin : end + 1] if not line.endswith(":")] for begin, end in inner]


def loads(body: list[str]) -> int:
    """Return the number of loads from global memory."""
    return sum("LDG" in line for line in body)


def cache_lines(size: str, noise: float) -> dict[str, Any]:
    """Return the distinct pixels of one head that a block's queries read, as a fraction of the reads.

    In float32 the channels of one pixel and head are one cache line.
    """
    sizes = SIZES[size]
    read = pixels_read(sizes, noise)
    total = int((read >= 0).sum())
    row: dict[str, Any] = {"frame": size, "noise": noise}
    for order, queries in (("by rows", np.arange(len(read))), ("in strips", strips(sizes))):
        for block in (32, 64, 128):
            distinct = sum(len(np.unique(read[queries[begin : begin + block]])) for begin in range(0, len(read), block))
            row[f"{order}, {block} queries"] = round(distinct / total, 4)
    return row


def pixels_read(sizes: list[tuple[int, int]], noise: float) -> NDArray[np.int64]:
    """Return the pixels of each query's corners, ``(pixels, levels * points * 4)``, for the first head."""
    draw = np.random.default_rng(0)
    starts = np.cumsum([0, *(height * width for height, width in sizes)])
    centre_x = np.concatenate([np.tile((np.arange(w) + 0.5) / w, h) for h, w in sizes])
    centre_y = np.concatenate([np.repeat((np.arange(h) + 0.5) / h, w) for h, w in sizes])
    away = _offsets_by_head(8, len(sizes), 4).view(8, len(sizes), 4, 2)[0].double().numpy()
    found = []
    for level, (height, width) in enumerate(sizes):
        for x, y in away[level]:
            at_x = centre_x * width + x + noise * draw.standard_normal(len(centre_x)) - 0.5
            at_y = centre_y * height + y + noise * draw.standard_normal(len(centre_y)) - 0.5
            for down in (0, 1):
                for right in (0, 1):
                    column = np.clip(np.floor(at_x).astype(np.int64) + right, 0, width - 1)
                    line = np.clip(np.floor(at_y).astype(np.int64) + down, 0, height - 1)
                    found.append(starts[level] + line * width + column)
    return np.stack(found, axis=1)


def strips(sizes: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Return the pixels in the order in which the kernel's blocks process them: `query_at` of the source."""
    order, start = [], 0
    for height, width in sizes:
        numbers = start + np.arange(height * width).reshape(height, width)
        order += [numbers[top : top + build.LINES].T.reshape(-1) for top in range(0, height, build.LINES)]
        start += height * width
    return np.concatenate(order)


if __name__ == "__main__":
    sys.exit(main())
