"""How time and memory grow: lines through points, and what may be read from them.

Tests of `reports/cost.py`.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.errors import UserError
from harness.reports import figures
from harness.reports.cost import cost_figure, sweep_table
from harness.run_folder.bench import axis_of, fit_line, speed_at, speed_of_run
from harness.run_folder.schemas import BenchPoint, BenchRecord


def point(value: int, seconds: float, frames: int = 10, memory: int = 2**20) -> BenchPoint:
    return BenchPoint(value, seconds, frames / seconds, memory)


def bench(*axes: Any) -> BenchRecord:
    """Words cost 1 ms per frame each, beside 9 ms; ten frames."""
    words = axis_of("words", [point(n, 10 * (0.009 + 0.001 * n), memory=(100 + n) * 2**20) for n in (11, 1, 91)])
    base = {"words": 40, "objects": 0, "frames": 10}
    return BenchRecord(2, "clipvis", "cpu", "a CPU", "fp32", [480, 853], 2, 3, base, [words, *axes])


def record(words: int | None, protocol: str = "lvvis") -> dict[str, Any]:
    return {"protocol": {"name": protocol}, "counts": {} if words is None else {"categories": words}}


def test_a_line_through_points_has_its_residual() -> None:
    fit = fit_line([1, 2, 3], [3, 5, 7])
    assert (fit.fixed, fit.per_unit, fit.r2) == pytest.approx((1, 2, 1))
    assert fit.residual == pytest.approx(0)
    fit = fit_line([0, 1, 2], [1, 4, 1])  # the mean, 2, is the line; the first point lies 1 above 1
    assert (fit.fixed, fit.per_unit, fit.residual, fit.r2) == pytest.approx((2, 0, 1, 0))
    assert fit_line([1, 2], [5, 5]).r2 is None


def test_axes_are_in_order_and_frames_in_seconds_of_the_video() -> None:
    made = bench(axis_of("frames", [point(20, 4.5, 20), point(10, 2.5, 10)]))
    words, frames = made.axes
    assert [p.value for p in words.points] == [1, 11, 91]
    assert (words.time.fixed, words.time.per_unit) == pytest.approx((0.009, 0.001))
    assert (words.memory.fixed, words.memory.per_unit) == pytest.approx((100 * 2**20, 2**20))
    assert (frames.time.fixed, frames.time.per_unit) == pytest.approx((0.5, 0.2))


def test_speed_is_measured_or_between_measurements_and_never_beyond() -> None:
    assert speed_at(bench(), 11) == pytest.approx(50)
    assert speed_at(bench(), 41) == pytest.approx(20)
    with pytest.raises(UserError, match="was measured with 1 to 91 words, not 1196") as caught:
        speed_at(bench(), 1196)
    assert caught.value.hint == "measure with harness bench --sweep words=1,1196"
    none = msgspec.structs.replace(bench(), axes=[])
    with pytest.raises(UserError, match="has no sweep over words"):
        speed_at(none, 40)


def test_a_run_has_the_speed_at_its_own_vocabulary() -> None:
    speed, told = speed_of_run(record(11), bench())
    assert speed == pytest.approx(50)
    assert told == "11 words, measured; clipvis, fp32, 480x853, a CPU (cpu, 2 threads)"
    speed, told = speed_of_run(record(41), bench())
    assert speed == pytest.approx(20)
    assert told.startswith("41 words, from the line through 3 points, largest residual 0 %; ")
    assert speed_of_run(record(None, "veval"), bench())[0] == pytest.approx(100)
    phrases = {**record(11), "protocols": [record(11), record(None, "veval")]}  # asked one by one
    assert speed_of_run(phrases, bench())[0] == pytest.approx(100)
    tasks = {**record(None, "burst-class-guided"), "protocols": [record(None, "burst-class-guided"), record(11)]}
    assert speed_of_run(tasks, bench())[0] == pytest.approx(50)
    for odd, kept in ((record(1196), bench()), (record(None), bench()), (record(11), None)):
        assert speed_of_run(odd, kept)[0] is None
        assert speed_of_run(odd, kept)[1]


def test_text_and_figure_state_the_conditions_and_the_lines() -> None:
    made = bench(axis_of("frames", [point(20, 4.5, 20), point(10, 2.5, 10)]))
    text = " ".join(sweep_table(made).split())
    assert "clipvis, fp32, 480x853, a CPU (cpu, 2 threads); fastest of 3; other axes: 40 words" in text
    assert "ms per frame = 9.000 +1.00000 x words, largest residual 0.0 %, R² 1.000" in text
    assert "ms per video = 500.000 +200.00000 x frames" in text
    assert "two points are always on a line" in text
    drawn = [figures.figure_bytes(cost_figure(made), "svg") for _ in range(2)]
    assert drawn[0] == drawn[1]
