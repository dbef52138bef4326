"""The cost of a model as text and as a figure: time and memory over words, objects and frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.reports.layouts import Column, Sheet, render_table
from harness.run_folder.bench import FRAMES, conditions
from harness.run_folder.schemas import BenchAxis, BenchRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MIB, _MS = 2**20, 1000


def sweep_table(record: BenchRecord) -> str:
    """A sweep as a table for the terminal, with its conditions, lines and residuals."""
    lines = [
        [axis.axis, str(p.value), f"{p.frames_per_second:.2f}", f"{_MS * p.seconds:.1f}",
         f"{p.memory_bytes / _MIB:.0f}"]
        for axis in record.axes
        for p in axis.points
    ]  # fmt: skip
    head = [Column("Axis"), *(Column(name, True) for name in ("Value", "Frames/s", "ms per video", "Peak MiB"))]
    base = ", ".join(f"{value} {axis}" for axis, value in record.base.items())
    notes = [
        f"{conditions(record)}; fastest of {record.repeats}; other axes: {base}",
        *(line for axis in record.axes for line in _lines(axis)),
        "lines hold between the least and the greatest value measured; nothing is extrapolated",
    ]
    return render_table(Sheet(head, lines, notes), "terminal")


def _lines(axis: BenchAxis) -> list[str]:
    """The fitted lines in words."""
    per = "video" if axis.axis == FRAMES else "frame"
    time, memory = axis.time, axis.memory
    only = "; two points are always on a line" if len(axis.points) == 2 else ""
    return [
        f"ms per {per} = {_MS * time.fixed:.3f} {_MS * time.per_unit:+.5f} x {axis.axis}, largest residual"
        f" {100 * time.residual:.1f} %{_r2(time.r2)}{only}",
        f"peak MiB = {memory.fixed / _MIB:.1f} {memory.per_unit / _MIB:+.4f} x {axis.axis}, largest residual"
        f" {100 * memory.residual:.1f} %{_r2(memory.r2)}{only}",
    ]


def _r2(value: float | None) -> str:
    return "" if value is None else f", R² {value:.3f}"


def cost_figure(record: BenchRecord) -> Figure:
    """A column for each axis: points and line of time above, of peak memory below."""
    import numpy as np

    from harness.reports import figures

    count = len(record.axes)
    figure, panels = figures.axes_of(count, (1.0 + 2.3 * count, 3.6), rows=2)
    for number, axis in enumerate(record.axes):
        values = np.array([point.value for point in axis.points], float)
        per = "video" if axis.axis == FRAMES else "frame"
        seconds = np.array([p.seconds if axis.axis == FRAMES else 1 / p.frames_per_second for p in axis.points])
        memory = np.array([point.memory_bytes for point in axis.points], float)
        parts = ((seconds * _MS, axis.time, _MS, f"ms per {per}"), (memory / _MIB, axis.memory, 1 / _MIB, "Peak MiB"))
        for row, (measured, line, scale, label) in enumerate(parts):
            ax = panels[row * count + number]
            ax.plot(values, measured, "o", markersize=3, color=figures.COLORS[0])
            ax.plot(values, scale * (line.fixed + line.per_unit * values), color=figures.COLORS[1], linewidth=1)
            ax.set(xlabel=axis.axis, ylabel=label, ylim=(0, 1.1 * measured.max()))
            ax.set_title(f"largest residual {100 * line.residual:.1f} %", fontsize=6)
    figures.head_of(figure, [conditions(record)], [], 7)
    return figure


def cost_figure_file(record: BenchRecord, path: Path, provenance: Sequence[str]) -> bytes:
    """The figure in the format that the suffix of ``path`` names. Raises `UserError` for another one."""
    import matplotlib as mpl

    from harness.reports import figures

    with mpl.rc_context(figures.STYLE):
        return figures.figure_bytes(cost_figure(record), figures.figure_format(path), provenance)
