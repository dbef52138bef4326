"""Figures for a paper as vector graphics: precision over recall, gains by category, ablations, speed against accuracy.

The same runs give the same bytes. Text from files is plain text: ``$`` does not start a formula.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from harness.errors import UserError
from harness.plain_text import plain
from harness.reports.comparison import Comparison, Measured, Pair, compare_runs
from harness.reports.matches import matches_of_run, readable
from harness.reports.settings import varying_settings
from harness.reports.styles import dagger_notes
from harness.run_folder.finished_run import FinishedRun
from harness.scoring.match_table import MatchTable, precision_over_recall

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["pdf", "svg"]
FORMATS: tuple[Format, ...] = get_args(Format)

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's colours, which are distinguishable for colour-blind readers."""
NAMED = 12
"""Number of categories with the largest gains, and with the largest losses, that are named."""

_CHARACTERS = 18
"""Characters of a heading in an inch."""
_GROUPS = ("AP", "APb", "APn", "APc", "APu")
STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "harness",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Drawing:
    """A figure, with the name of its file without suffix."""

    name: str
    figure: Figure


@dataclass(frozen=True)
class FigureData:
    """The data of figures: runs on the same data, their match tables and comparison."""

    runs: Sequence[FinishedRun]
    tables: Sequence[MatchTable]
    comparison: Comparison

    @property
    def data(self) -> str:
        return f"{self.comparison.dataset} {self.comparison.split}"

    @property
    def notes(self) -> list[str]:
        """The notes for the daggers after names of runs."""
        return dagger_notes((run.label, run.reasons) for run in self.runs)


def figure_data(
    runs: Sequence[FinishedRun],
    data_root: Path,
    annotations: Path | None = None,
    faults: list[UserError] | None = None,
) -> FigureData:
    """Compare runs for figures; raises `UserError` as `compare_runs` does.

    With a list of ``faults`` runs with unreadable predictions are left out and added there.
    """
    runs = readable(runs, data_root, annotations, faults) or runs
    comparison = compare_runs(runs, data_root, annotations)
    tables = [matches_of_run(run, data_root, annotations) for run in runs]
    return FigureData(runs, tables, comparison)


def figures(subject: FigureData) -> list[Drawing]:
    """Draw all figures that the runs have data for.

    Precision over recall always; gains of each run against the first; a curve over each numeric setting in which runs
    of one model differ; speed against accuracy where at least two runs have times.
    """
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        made = [Drawing("precision_recall", precision_recall(subject))]
        for number, pair in enumerate(subject.comparison.pairs, start=1):
            several = f"_{number}" if len(subject.comparison.pairs) > 1 else ""
            made.append(Drawing(f"category_gains{several}", category_gains(pair, subject.data, subject.notes)))
        for key in numeric_settings(subject.runs):
            safe = "".join(c if c.isalnum() and c.isascii() else "_" for c in key)
            made.append(Drawing(f"ablation_{safe}", ablation(subject, key)))
        if sum(_seconds(run) is not None for run in subject.runs) > 1:
            made.append(Drawing("speed_accuracy", speed_accuracy(subject)))
    return made


def rendered(figure: Figure, format: Format, provenance: Iterable[str] = ()) -> bytes:
    """Return a figure's file, without date; ``provenance`` is kept in its metadata."""
    import matplotlib as mpl

    told = "\n".join(plain(line) for line in provenance)
    metadata: dict[str, Any] = (
        {"CreationDate": None, "Subject": told} if format == "pdf" else {"Date": None, "Description": told}
    )
    data = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(data, format=format, metadata=metadata, bbox_inches="tight")
    return data.getvalue()


def precision_recall(subject: FigureData) -> Figure:
    """Precision averaged over the categories at 101 recall points: at IoU 0.50, 0.75 and over all thresholds."""
    figure, axes = axes_of(3, (6.8, 2.3 + 0.14 * len(subject.runs)))
    recall = np.linspace(0, 1, 101)
    curves = [precision_over_recall(table) for table in subject.tables]
    panels = (("IoU 0.50", slice(0, 1)), ("IoU 0.75", slice(5, 6)), ("IoU 0.50 to 0.95", slice(None)))
    for ax, (title, thresholds) in zip(axes, panels, strict=True):
        for number, curve in enumerate(curves):
            ax.plot(100 * recall, 100 * curve[thresholds].mean(0), color=_color(number), linewidth=1.2)
        ax.set(xlabel="Recall (%)", xlim=(0, 100), ylim=(0, 101))
        ax.set_title(title, fontsize=8)
    axes[0].set_ylabel("Precision (%)")
    labels = [
        _label(f"{run.label}, AP {100 * curve.mean():.1f}") for run, curve in zip(subject.runs, curves, strict=True)
    ]
    _legend_below(figure, axes[0].lines, labels)
    head_of(figure, [subject.data], subject.notes)
    return figure


def category_gains(pair: Pair, data: str, notes: Sequence[str] = ()) -> Figure:
    """AP of a run minus the reference's for every category, sorted; the largest are named if there are too many."""
    from matplotlib.patches import Patch

    ranked = sorted(pair.categories, key=lambda one: (one.difference.value or 0.0, one.name, one.id))
    gains = np.array([100 * (one.difference.value or 0.0) for one in ranked])
    shown = list(range(len(ranked)))
    if len(ranked) > 4 * NAMED:
        shown = [*range(NAMED), *range(len(ranked) - NAMED, len(ranked))]
    figure, (ax,) = axes_of(1, (3.4, 0.6 + 0.13 * max(len(shown), 8)))
    colors = [COLORS[0] if "novel" not in one.groups else COLORS[1] for one in ranked]
    ax.barh(range(len(shown)), gains[shown], color=[colors[place] for place in shown], height=0.8)
    ax.set_yticks(range(len(shown)), [_label(ranked[place].name) for place in shown], fontsize=6)
    if len(shown) < len(ranked):
        ax.axhline(NAMED - 0.5, color="#999999", linewidth=0.6, linestyle=":")
    ax.axvline(0, color="#000000", linewidth=0.6)
    ax.set_ylim(-0.6, len(shown) - 0.4)
    ax.set_xlabel("Gain in AP (points)")
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    lines = (
        f"{pair.run} −",
        f"{pair.reference}, {data}",
        f"{better} of {len(ranked)} categories better, {worse} worse",
    )
    head_of(figure, lines, notes, 7)
    if any("novel" in one.groups for one in ranked):
        handles = [Patch(color=color) for color in COLORS[:2]]
        _legend_below(figure, handles, ["other", "novel"])
    return figure


def numeric_settings(runs: Sequence[FinishedRun]) -> list[str]:
    """The numeric settings that differ between runs of one model, except seeds."""
    settings = varying_settings([run.record for run in runs])
    keys = dict.fromkeys(key for found in settings for key in found if key != "seed")
    return [key for key in keys if all(_number(found[key]) is not None for found in settings if key in found)]


def ablation(subject: FigureData, key: str) -> Figure:
    """AP of all, base and novel categories over a setting, with 95 % intervals: a line per group and other settings.

    Raises `UserError` if no numeric setting of that name differs.
    """
    settings = varying_settings([run.record for run in subject.runs])
    measured = {run.label: run for run in subject.comparison.runs}
    series: dict[tuple[Any, ...], list[tuple[float, Measured]]] = {}
    for run, found in zip(subject.runs, settings, strict=True):
        value = _number(found.get(key, ""))
        if value is not None:
            rest = tuple(f"{name}={text}" for name, text in found.items() if name != key)
            series.setdefault((run.record["model"], *rest), []).append((value, measured[run.label]))
    if not series:
        raise UserError(f'setting "{key}"', "is no number that differs between these runs", "name another")
    figure, (ax,) = axes_of(1, (3.4, 2.4))
    groups = [group for group in _GROUPS if group in subject.comparison.runs[0].metrics]
    for number, (names, points) in enumerate(series.items()):
        points.sort(key=lambda point: point[0])
        for group, line in zip(groups, ("-", "--", ":", "-.", "-."), strict=False):
            label = _label(f"{group}, {', '.join(names)}" if len(series) > 1 else group)
            _interval_line(ax, points, group, line, _color(number if len(series) > 1 else groups.index(group)), label)
    ax.set(xlabel=_label(key), ylabel="AP (%)")
    head_of(figure, [f"{next(iter(series))[0]}, {subject.data}" if len(series) == 1 else subject.data], subject.notes)
    _legend_below(figure, *ax.get_legend_handles_labels(), columns=len(groups))
    return figure


def _interval_line(
    ax: Axes, points: Sequence[tuple[float, Measured]], group: str, line: str, color: str, label: str
) -> None:
    found = [(value, run.metrics[group]) for value, run in points if run.metrics[group].value is not None]
    at = [value for value, _ in found]
    middle = [100 * (one.value or 0.0) for _, one in found]
    below = [0.0 if one.low is None else 100 * ((one.value or 0.0) - one.low) for _, one in found]
    above = [0.0 if one.high is None else 100 * (one.high - (one.value or 0.0)) for _, one in found]
    ax.errorbar(
        at, middle, [below, above], color=color, linestyle=line, linewidth=1.2, marker="o", markersize=3,
        elinewidth=0.6, capsize=2, label=label,
    )  # fmt: skip


def speed_accuracy(subject: FigureData) -> Figure:
    """AP with its 95 % interval over the mean seconds per video, for runs that have times."""
    figure, (ax,) = axes_of(1, (3.4, 2.4))
    measured = {run.label: run for run in subject.comparison.runs}
    for number, run in enumerate(subject.runs):
        seconds = _seconds(run)
        if seconds is None:
            continue
        device = run.environment.device or "device unknown"
        point = [(seconds, measured[run.label])]
        _interval_line(ax, point, "AP", "none", _color(number), _label(f"{run.label}, {device}"))
    ax.set(xlabel="Seconds per video (mean)", ylabel="AP (%)", xlim=(0, None))
    head_of(figure, [subject.data], subject.notes)
    _legend_below(figure, *ax.get_legend_handles_labels())
    return figure


def _seconds(run: FinishedRun) -> float | None:
    """Mean seconds per video, ``None`` if no time was recorded."""
    times = [seconds for seconds in run.times.videos.values() if seconds > 0]
    return sum(times) / len(times) if times else None


def axes_of(count: int, size: tuple[float, float], rows: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """A new figure of a size in inches, and its axes, ``count`` side by side in each row."""
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(rows, count, squeeze=False).flat)


def figure_format(path: Path) -> Format:
    """The format that the suffix of a file's name is. Raises `UserError` for another one."""
    for format in FORMATS:
        if path.suffix == f".{format}":
            return format
    raise UserError(str(path), "is not the name of a figure", "end it with .pdf or .svg")


def head_of(figure: Figure, lines: Sequence[str], notes: Sequence[str], size: int = 8) -> None:
    """Add the title of a figure, and the notes below it, wrapped to its width."""
    wrapped = [part for note in notes for part in textwrap.wrap(plain(note), int(_CHARACTERS * figure.get_figwidth()))]
    figure.suptitle("\n".join(_label(line) for line in (*lines, *wrapped)), fontsize=size)


def _legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str], columns: int = 1) -> None:
    """Add a legend below the axes, where long labels fit."""
    figure.legend(handles, labels, loc="outside lower center", fontsize=6, ncols=columns)


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]


def _label(text: str) -> str:
    """Text from files for a label: one line, without a leading underscore, which would hide it from a legend."""
    shown = plain(text)
    return f" {shown}" if shown.startswith("_") else shown


def _number(text: str) -> float | None:
    with suppress(ValueError):
        value = float(text)
        return value if np.isfinite(value) else None
    return None
