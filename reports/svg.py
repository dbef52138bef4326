"""Small charts as SVG, readable on a phone; colours come from the page's style by class.

Series ``i`` has the class ``s<i>``, modulo `COLOUR_COUNT`. Units are pixels of a chart 340 wide; values are fractions
unless stated otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

CHART_WIDTH, CHART_HEIGHT = 340, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 10, 38
COLOUR_COUNT = 6
_LONGEST = 30
"""Characters of the title of a vertical axis; more would leave the chart."""
_FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class Dot(NamedTuple):
    """A point of a scatter plot: its name, its position, and its tooltip."""

    key: str
    values: tuple[float, ...]
    title: str
    is_sure: bool = True
    """Whether it is of enough videos; others are hollow."""


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _x(fraction: float) -> float:
    return _LEFT + fraction * (CHART_WIDTH - _LEFT - _RIGHT)


def _y(fraction: float) -> float:
    return CHART_HEIGHT - _BOTTOM - fraction * (CHART_HEIGHT - _TOP - _BOTTOM)


def _chart(body: str, label: str, more: str = "", role: str = "img") -> Markup:
    box = f'viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}"'
    opening = f'<svg class="chart{more}" {box} role="{role}" aria-label="{escape(label)}">'
    return Markup(f"{opening}{body}</svg>")


def _axes(x_title: str, y_title: str) -> str:
    """A square of fractions in percent with a grid of fifths."""
    parts = []
    for at in _FIFTHS:
        x, y, text = _number(_x(at)), _number(_y(at)), f"{100 * at:.0f}"
        parts.append(f'<path class="grid" d="M{x} {_number(_y(0))}V{_TOP}M{_LEFT} {y}H{CHART_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{_number(_y(0) + 14)}" text-anchor="middle">{text}</text>')
        parts.append(f'<text class="tick" x="{_LEFT - 5}" y="{y}" dy="4" text-anchor="end">{text}</text>')
    middle = _number((_y(0) + _y(1)) / 2)
    below = f'x="{_number(_x(0.5))}" y="{CHART_HEIGHT - 6}"'
    parts.append(f'<text class="axis" {below} text-anchor="middle">{escape(x_title)}</text>')
    turned = f'transform="rotate(-90 11 {middle})"'
    y_title = y_title if len(y_title) <= _LONGEST else y_title[: _LONGEST - 1] + "…"
    parts.append(f'<text class="axis" x="11" y="{middle}" text-anchor="middle" {turned}>{escape(y_title)}</text>')
    return "".join(parts)


def _line(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_number(_x(x))} {_number(_y(y))}" for x, y in points)


def curve_chart(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]], x_title: str, y_title: str, label: str
) -> Markup:
    """One line per series of ``(x, y)``; a series without points has no line."""
    lines = "".join(
        f'<path class="line s{i % COLOUR_COUNT}" d="{_line(points)}"><title>{escape(name)}</title></path>'
        for i, (name, points) in enumerate(series)
        if points
    )
    return _chart(_axes(x_title, y_title) + lines, label)


def reliability(
    series: Sequence[tuple[str, Sequence[tuple[float, float, str, str]]]], x_title: str, y_title: str, label: str
) -> Markup:
    """Lines with marked points ``(x, y, title, target)`` over the diagonal of perfect calibration.

    A point is a link to its ``target``, an address in the page, if it has one.
    """
    parts = [_axes(x_title, y_title), f'<path class="diagonal" d="{_line([(0, 0), (1, 1)])}"/>']
    for i, (name, points) in enumerate(series):
        if points:
            parts.append(f'<path class="line thin s{i % COLOUR_COUNT}" d="{_line([(x, y) for x, y, *_ in points])}"/>')
        for x, y, title, target in points:
            place = f'cx="{_number(_x(x))}" cy="{_number(_y(y))}"'
            text = escape(f"{name}: {title}")
            dot = f'<circle class="mark s{i % COLOUR_COUNT}" {place} r="3.5"><title>{text}</title></circle>'
            parts.append(f'<a href="{escape(target)}" aria-label="{text}">{dot}</a>' if target else dot)
    # an image has no parts that a screen reader reaches
    return _chart("".join(parts), label, role="group" if any(p[3] for _, ps in series for p in ps) else "img")


def scatter(dots: Sequence[Dot], x_title: str, y_title: str, label: str) -> Markup:
    """Dots at the first two of their values over the diagonal; all values are in ``data-v`` for a script."""
    parts = [_axes(x_title, y_title), f'<path class="diagonal" d="{_line([(0, 0), (1, 1)])}"/>']
    for dot in dots:
        x, y = dot.values[:2]
        side = "win" if y > x else "loss" if y < x else "tie"
        side += "" if dot.is_sure else " few"
        values = " ".join(f"{value:.4f}" for value in dot.values)
        parts.append(
            f'<circle class="dot {side}" cx="{_number(_x(x))}" cy="{_number(_y(y))}" r="4" data-key="{escape(dot.key)}"'
            f' data-v="{values}"><title>{escape(dot.title)}</title></circle>'
        )
    frame = f'" data-frame="{_LEFT} {_RIGHT} {_TOP} {_BOTTOM}'
    return _chart("".join(parts), label, f" scatter{frame}")


def bars(values: Sequence[float | None], is_sure: bool = True) -> Markup:
    """Thin horizontal bars from 0 to 1, one per run, for a cell of a table; pale ones if they are not ``is_sure``."""
    height = max(6 * len(values) - 1, 5)
    parts = [f'<rect class="back" width="100" height="{height}"/>']
    for i, value in enumerate(values):
        if value is not None:
            size = f'y="{6 * i}" width="{_number(100 * min(value, 1))}" height="5"'
            parts.append(f'<rect class="s{i % COLOUR_COUNT}" {size}/>')
    more = "" if is_sure else " few"
    opening = f'<svg class="bars{more}" viewBox="0 0 100 {height}" preserveAspectRatio="none" aria-hidden="true">'
    return Markup(opening + "".join(parts) + "</svg>")


def whisker(value: float, low: float, high: float, reach: float, significant: bool) -> Markup:
    """A difference with its interval on a line from ``-reach`` to ``reach``, for a cell of a table.

    It has the class ``win`` or ``loss`` if it is ``significant``, else ``tie``. `whisker_axis` draws its numbers.
    """
    side = "tie" if not significant else "win" if value > 0 else "loss"
    ticks = "".join(f"M{_along(at, reach)} 1V19" for at in _ticks(reach) if at)
    grid = f'<path class="grid" d="{ticks}"/>' if ticks else ""
    zero = f'<path class="zero" d="M{_along(0, reach)} 1V19"/>'
    span = f'<path class="span {side}" d="M{_along(low, reach)} 10H{_along(high, reach)}"/>'
    dot = f'<circle class="mark {side}" cx="{_along(value, reach)}" cy="10" r="4"/>'
    return Markup(f'<svg class="whisker" viewBox="0 0 160 20" aria-hidden="true">{grid}{zero}{span}{dot}</svg>')


def whisker_axis(reach: float) -> Markup:
    """The axis of whiskers with the same ``reach``, with numbers in percent, for the head of their column."""
    marks = "".join(
        f'<path class="grid" d="M{_along(at, reach)} 15V20"/>'
        f'<text class="tick" x="{_along(at, reach)}" y="11" text-anchor="middle">{_signed(100 * at)}</text>'
        for at in _ticks(reach)
    )
    label = f"axis from {_signed(-100 * reach)} to {_signed(100 * reach)} points"
    return Markup(f'<svg class="whisker axis" viewBox="0 0 160 20" role="img" aria-label="{label}">{marks}</svg>')


def _along(number: float, reach: float) -> str:
    share = (number / reach + 1) / 2 if reach else 0.5
    return _number(4 + 152 * min(max(share, 0.0), 1.0))


def _ticks(reach: float) -> list[float]:
    """0, and on either side a round number between a third and nine tenths of the reach."""
    if reach <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(0.9 * reach))
    at = max(step * power for step in (1, 2, 5) if step * power <= 0.9 * reach)
    return [-at, 0.0, at]


def _signed(percent: float) -> str:
    """A number of an axis, with a minus sign."""
    return f"{percent:.3g}".replace("-", "−")
