"""The history of a metric as a chart: runs of one configuration, connected in order of time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from markupsafe import Markup, escape

from harness.reports.svg import COLOUR_COUNT

_WIDTH, _HEIGHT = 480, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 16, 12, 34
_LINES = 5


class Point(NamedTuple):
    """A run: its start time, its metric as a fraction, and a tooltip."""

    time: datetime
    value: float
    title: str


def history(series: Sequence[tuple[str, Sequence[Point]]], label: str) -> Markup | None:
    """One line per series of two or more points, dots for all; ``None`` without points."""
    everything = [point for _, points in series for point in points]
    if not everything:
        return None
    first, last = (end(point.time for point in everything) for end in (min, max))
    low, high = _bounds([point.value for point in everything])

    def place(point: Point) -> tuple[float, float]:
        span = (last - first).total_seconds()
        across = (point.time - first).total_seconds() / span if span else 0.5
        return (
            round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - (point.value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    parts = [_grid(low, high), _dates(first, last)]
    for i, (name, points) in enumerate(series):
        ordered = sorted(points)
        if len(ordered) > 1:
            way = "L".join("{} {}".format(*place(point)) for point in ordered)
            parts.append(f'<path class="line s{i % COLOUR_COUNT}" d="M{way}"/>')
        for point in ordered:
            x, y = place(point)
            title = escape(f"{name}: {point.title}")
            parts.append(
                f'<circle class="mark s{i % COLOUR_COUNT}" cx="{x}" cy="{y}" r="4"><title>{title}</title></circle>'
            )
    opening = f'<svg class="chart history" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">'
    return Markup(opening + "".join(parts) + "</svg>")


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    """Ends of the axis: with a margin around the values, at least four points wide, within 0 and 1."""
    room = max(0.02, 0.1 * (max(values) - min(values)))
    return max(0.0, min(values) - room), min(1.0, max(values) + room)


def _grid(low: float, high: float) -> str:
    parts = []
    for i in range(_LINES):
        share = i / (_LINES - 1)
        y = round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
        text = f"{100 * (low + share * (high - low)):.1f}"
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end">{text}</text>')
    return "".join(parts)


def _dates(first: datetime, last: datetime) -> str:
    ends = (
        [(_WIDTH / 2, "middle", first)] if first == last else [(_LEFT, "start", first), (_WIDTH - _RIGHT, "end", last)]
    )
    return "".join(
        f'<text class="tick" x="{x}" y="{_HEIGHT - 12}" text-anchor="{anchor}">{time:%Y-%m-%d %H:%M}</text>'
        for x, anchor, time in ends
    )
