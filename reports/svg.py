"""Small charts as SVG, readable on a phone; colours come from the page's style by class.

Series ``i`` has the class ``s<i>``, modulo `COLOURS`. Units are pixels of a chart 340 wide; values are fractions unless
stated otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

WIDTH, HEIGHT = 340, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 10, 38
COLOURS = 6
_FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


class Dot(NamedTuple):
    """A point of a scatter plot: its name, its position, and its tooltip."""

    key: str
    values: tuple[float, ...]
    title: str


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _x(fraction: float) -> float:
    return _LEFT + fraction * (WIDTH - _LEFT - _RIGHT)


def _y(fraction: float) -> float:
    return HEIGHT - _BOTTOM - fraction * (HEIGHT - _TOP - _BOTTOM)


def _chart(body: str, label: str, more: str = "") -> Markup:
    opening = f'<svg class="chart{more}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
    return Markup(f"{opening}{body}</svg>")


def _axes(x_title: str, y_title: str) -> str:
    """A square of fractions in percent with a grid of fifths."""
    parts = []
    for at in _FIFTHS:
        x, y, text = _number(_x(at)), _number(_y(at)), f"{100 * at:.0f}"
        parts.append(f'<path class="grid" d="M{x} {_number(_y(0))}V{_TOP}M{_LEFT} {y}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{_number(_y(0) + 14)}" text-anchor="middle">{text}</text>')
        parts.append(f'<text class="tick" x="{_LEFT - 5}" y="{y}" dy="4" text-anchor="end">{text}</text>')
    middle = _number((_y(0) + _y(1)) / 2)
    parts.append(
        f'<text class="axis" x="{_number(_x(0.5))}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>'
    )
    turned = f'transform="rotate(-90 11 {middle})"'
    parts.append(f'<text class="axis" x="11" y="{middle}" text-anchor="middle" {turned}>{escape(y_title)}</text>')
    return "".join(parts)


def _line(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_number(_x(x))} {_number(_y(y))}" for x, y in points)


def curves(
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]], x_title: str, y_title: str, label: str
) -> Markup:
    """One line per series of ``(x, y)``; a series without points has no line."""
    lines = "".join(
        f'<path class="line s{i % COLOURS}" d="{_line(points)}"><title>{escape(name)}</title></path>'
        for i, (name, points) in enumerate(series)
        if points
    )
    return _chart(_axes(x_title, y_title) + lines, label)


def reliability(
    series: Sequence[tuple[str, Sequence[tuple[float, float, str]]]], x_title: str, y_title: str, label: str
) -> Markup:
    """Lines with marked points ``(x, y, title)`` over the diagonal of perfect calibration."""
    parts = [_axes(x_title, y_title), f'<path class="diagonal" d="{_line([(0, 0), (1, 1)])}"/>']
    for i, (name, points) in enumerate(series):
        if points:
            parts.append(f'<path class="line thin s{i % COLOURS}" d="{_line([(x, y) for x, y, _ in points])}"/>')
        for x, y, title in points:
            place = f'cx="{_number(_x(x))}" cy="{_number(_y(y))}"'
            text = escape(f"{name}: {title}")
            parts.append(f'<circle class="mark s{i % COLOURS}" {place} r="3.5"><title>{text}</title></circle>')
    return _chart("".join(parts), label)


def scatter(dots: Sequence[Dot], x_title: str, y_title: str, label: str) -> Markup:
    """Dots at the first two of their values over the diagonal; all values are in ``data-v`` for a script."""
    parts = [_axes(x_title, y_title), f'<path class="diagonal" d="{_line([(0, 0), (1, 1)])}"/>']
    for dot in dots:
        x, y = dot.values[:2]
        side = "win" if y > x else "loss" if y < x else "tie"
        values = " ".join(f"{value:.4f}" for value in dot.values)
        parts.append(
            f'<circle class="dot {side}" cx="{_number(_x(x))}" cy="{_number(_y(y))}" r="4" data-key="{escape(dot.key)}"'
            f' data-v="{values}"><title>{escape(dot.title)}</title></circle>'
        )
    frame = f'" data-frame="{_LEFT} {_RIGHT} {_TOP} {_BOTTOM}'
    return _chart("".join(parts), label, f" scatter{frame}")


def bars(values: Sequence[float | None]) -> Markup:
    """Thin horizontal bars from 0 to 1, one per run, for a cell of a table."""
    height = max(6 * len(values) - 1, 5)
    parts = [f'<rect class="back" width="100" height="{height}"/>']
    for i, value in enumerate(values):
        if value is not None:
            size = f'y="{6 * i}" width="{_number(100 * min(value, 1))}" height="5"'
            parts.append(f'<rect class="s{i % COLOURS}" {size}/>')
    opening = f'<svg class="bars" viewBox="0 0 100 {height}" preserveAspectRatio="none" aria-hidden="true">'
    return Markup(opening + "".join(parts) + "</svg>")


def whisker(value: float, low: float, high: float, reach: float, significant: bool) -> Markup:
    """A difference with its interval on a line from ``-reach`` to ``reach``, for a cell of a table.

    It has the class ``win`` or ``loss`` if it is ``significant``, else ``tie``.
    """

    def place(number: float) -> str:
        share = (number / reach + 1) / 2 if reach else 0.5
        return _number(4 + 152 * min(max(share, 0.0), 1.0))

    side = "tie" if not significant else "win" if value > 0 else "loss"
    zero = f'<path class="zero" d="M{place(0)} 1V19"/>'
    span = f'<path class="span {side}" d="M{place(low)} 10H{place(high)}"/>'
    dot = f'<circle class="mark {side}" cx="{place(value)}" cy="10" r="4"/>'
    return Markup(f'<svg class="whisker" viewBox="0 0 160 20" aria-hidden="true">{zero}{span}{dot}</svg>')
