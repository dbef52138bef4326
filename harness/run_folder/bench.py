"""Fits of a model's time and memory against the number of words, objects or frames, and speeds read from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.run_folder.schemas import BenchAxis, BenchFit, BenchPoint, BenchRecord
from harness.scoring import VEVAL

WORDS, OBJECTS, FRAMES = "words", "objects", "frames"
AXES = (WORDS, OBJECTS, FRAMES)


def fit_line(values: Sequence[float], measured: Sequence[float]) -> BenchFit:
    """Return the least-squares line through the points; ``values`` must have at least two different values."""
    x, y = np.array(values, float), np.array(measured, float)
    per_unit, fixed = np.polyfit(x, y, 1)
    error = y - (fixed + per_unit * x)
    spread = float(((y - y.mean()) ** 2).sum())
    residual = float(np.max(np.abs(error) / np.maximum(np.abs(y), 1e-12)))
    r2 = 1 - float((error**2).sum()) / spread if spread > 0 else None
    return BenchFit(float(fixed), float(per_unit), residual, r2)


def axis_of(axis: str, points: Sequence[BenchPoint]) -> BenchAxis:
    """Return a swept axis with its fitted lines; at least two points, all with different values."""
    ordered = sorted(points, key=lambda point: point.value)
    values = [point.value for point in ordered]
    seconds = [point.seconds if axis == FRAMES else 1 / point.frames_per_second for point in ordered]
    memory = fit_line(values, [point.memory_bytes for point in ordered])
    return BenchAxis(axis, ordered, fit_line(values, seconds), memory)


def speed_at(record: BenchRecord, words: int) -> float:
    """Return frames per second with a vocabulary of ``words`` words: measured, or interpolated with the fitted line.

    Raises `UserError` if ``words`` is outside the measured range: nothing is extrapolated.
    """
    hint = f"measure with harness bench --sweep words=1,{words}"
    found = next((axis for axis in record.axes if axis.axis == WORDS), None)
    if found is None:
        raise UserError("bench.json", "has no sweep over words", hint)
    for point in found.points:
        if point.value == words:
            return point.frames_per_second
    low, high = found.points[0].value, found.points[-1].value
    if not low < words < high:
        raise UserError("bench.json", f"was measured with {low} to {high} words, not {words}", hint)
    return 1 / (found.time.fixed + found.time.per_unit * words)


def conditions(record: BenchRecord) -> str:
    """Return the conditions of the measurements in one line."""
    height, width = record.size
    threads = f", {record.threads} thread{'s' if record.threads > 1 else ''}" if record.device == "cpu" else ""
    return f"{record.model}, {record.precision}, {height}x{width}, {record.hardware} ({record.device}{threads})"


def _words_of_run(record: Mapping[str, Any]) -> int | None:
    """The number of words that a model is asked at once; ``None`` if no protocol counted the categories."""
    scores = [record, *record.get("protocols", ())]
    if any((one["protocol"] or {}).get("name") == VEVAL for one in scores):
        return 1
    return next((one["counts"]["categories"] for one in scores if "categories" in one.get("counts", {})), None)


def speed_of_run(record: Mapping[str, Any], bench: BenchRecord | None) -> tuple[float | None, str]:
    """Return frames per second with a run's vocabulary and the conditions of the measurement.

    Without a measurement: ``None`` and the reason. ``record`` is the content of the run's ``metrics.json``. A phrase
    protocol counts as one word, because the model processes one phrase at a time.
    """
    if bench is None:
        return None, "not measured: harness bench --run RUN --sweep words=1,10,..."
    words = _words_of_run(record)
    if words is None:
        return None, "the size of the run's vocabulary is not known"
    try:
        speed = speed_at(bench, words)
    except UserError as error:
        return None, str(error)
    how = "measured"
    axis = next(axis for axis in bench.axes if axis.axis == WORDS)
    if all(point.value != words for point in axis.points):
        how = f"from the line through {len(axis.points)} points, largest residual {100 * axis.time.residual:.0f} %"
    return speed, f"{words} words, {how}; {conditions(bench)}"
