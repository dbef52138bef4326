"""Peak memory, and ``harness bench --fit``: what fits into the memory of this device, by peaks at small sizes."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.run_folder.bench import FRAMES, WORDS, fit_line
from harness.standard_output import tell

if TYPE_CHECKING:
    from harness.types import Model, Video, Vocabulary

WINDOW = "window"
SHARE = 0.9
"""Of the memory that can be used. The rest is for what a line through two points does not know of."""
LEAST_GROWTH, LEAST_SHARE = 4 << 20, 0.005
"""Peaks that differ by less, in bytes and as a share, are taken as equal: a process's memory varies by itself."""
WINDOWS = 4
"""Windows of a measured video at least: the work on several of them overlaps."""
CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class FitAxis(NamedTuple):
    """How peak memory grows along an axis while the others have their base values."""

    axis: str
    points: list[tuple[int, int]]
    """Value and peak memory in bytes, at two values."""
    fixed_bytes: float
    per_unit_bytes: float
    largest: int | None
    """The largest value that fits; ``None`` if memory does not grow measurably."""


def measure_fit(
    load: Callable[[dict[str, int]], Model],
    video_of: Callable[[int], Video],
    words_of: Callable[[int], Vocabulary],
    base: dict[str, int],
    device: str,
) -> dict[str, Any]:
    """Measure peak memory at ``base`` and with one axis after the other greater or smaller; returns what fits.

    ``base`` has ``words`` and ``frames``, and ``window`` if the model has that setting. ``load`` returns the model with
    such values, ``video_of`` a video of so many frames, ``words_of`` a vocabulary of so many words.
    """
    other = {axis: -(-value // 2) if axis == WINDOW else 2 * value for axis, value in base.items()}
    other[WORDS] = 4 * base[WORDS]

    def peak_at(values: dict[str, int]) -> int:
        model = load(values)
        measured = _peak_of(model, video_of(values[FRAMES]), words_of(values[WORDS]), device)
        point = ", ".join(f"{axis} {value}" for axis, value in values.items())
        tell(f"{point}: {measured / 2**20:.0f} MiB")
        return measured

    # small before large: on a CPU the process keeps some of what it had
    smaller = {axis: peak_at({**base, axis: other[axis]}) for axis in base if other[axis] < base[axis]}
    at_base = peak_at(base)
    larger = {axis: peak_at({**base, axis: other[axis]}) for axis in base if other[axis] > base[axis]}
    usable = usable_bytes(device)
    axes = [
        _axis(axis, {base[axis]: at_base, other[axis]: found}, usable) for axis, found in {**smaller, **larger}.items()
    ]
    return {"base": base, "usable_bytes": usable, "share": SHARE, "axes": [axis._asdict() for axis in axes]}


def _axis(axis: str, peaks: dict[int, int], usable: int) -> FitAxis:
    points = sorted(peaks.items())
    line = fit_line([value for value, _ in points], [peak for _, peak in points])
    (_, low), (high_value, high) = points
    largest = None
    if high - low >= max(LEAST_GROWTH, LEAST_SHARE * high):
        largest = max(int((SHARE * usable - line.fixed) / line.per_unit), high_value)
    return FitAxis(axis, points, line.fixed, line.per_unit, largest)


def _peak_of(model: Model, video: Video, vocabulary: Vocabulary, device: str) -> int:
    """Peak memory in bytes of one pass over a video, after one over its first frame for embeddings and kernels."""
    from dataclasses import replace

    list(model.predict(replace(video, frames=[video.frames[0]]), vocabulary))
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
    else:
        from harness.models.shared.spill_buffer import return_freed_memory

        return_freed_memory()
    forget_peak(device)
    list(model.predict(video, vocabulary))
    return peak(device)


def usable_bytes(device: str) -> int:
    """Memory that this process can have in all: of the GPU, or of the machine or the container."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device))
    import psutil

    own = int(psutil.Process().memory_info().rss)
    limits = [int(psutil.virtual_memory().available) + own]
    for file in CONTAINER_LIMITS:
        if file.is_file() and (text := file.read_text().strip()).isdecimal():
            limits.append(int(text))
    return min(limits)


_PEAK_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def forget_peak(device: str) -> None:
    """Reset the peak memory: of the GPU, or of the process, where Linux can reset it."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        _PEAK_RESET.write_text("5")


def peak(device: str) -> int:
    """Peak memory in bytes since `forget_peak`; of the process since its start, where the peak cannot be reset."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError, StopIteration):
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return peak_of_process()


def peak_of_process() -> int:
    """Peak memory of the process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def table_of_fit(record: dict[str, Any]) -> str:
    """What fits, as a table for the terminal."""
    from harness.reports.layouts import Column, Sheet, render_table

    rows = []
    for axis in record["axes"]:
        (low, low_bytes), (high, high_bytes) = axis["points"]
        largest, per_unit = axis["largest"], axis["per_unit_bytes"] / 2**20
        found = ["", "not limited"] if largest is None else [f"{per_unit:.2f}", str(largest)]
        rows.append([axis["axis"], f"{low}, {high}", f"{low_bytes / 2**20:.0f}, {high_bytes / 2**20:.0f}", *found])
    head = [Column("Axis"), *(Column(name, True) for name in ("Measured at", "Peak MiB", "MiB each", "Largest"))]
    base = ", ".join(f"{axis} {value}" for axis, value in record["base"].items())
    height, width = record["size"]
    notes = [
        f"{record['model']} on {record['device']}, {record['precision']}, {height}x{width}; the other axes: {base}",
        f"largest: what fits into {100 * SHARE:.0f} % of {record['usable_bytes'] / 2**30:.1f} GiB by a line through the"
        " two peaks; a forecast, not a measurement",
    ]
    return render_table(Sheet(head, rows, notes), "terminal")
