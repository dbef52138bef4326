"""Figures for a paper as vector graphics: curves, gains by category, errors, ablations, speed, frames side by side.

The same runs give the same bytes. Text from files is plain text: ``$`` does not start a formula.
"""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from PIL import Image as Pillow

from harness.errors import UserError, near
from harness.plain_text import plain
from harness.reports import latex
from harness.reports.comparison import CategoryDifference, Comparison, MeasuredRun, Pair, compare_runs
from harness.reports.curves import video_quality
from harness.reports.matches import matches_of_run, readable
from harness.reports.overlay import colour, draw_tracks
from harness.reports.run_analysis import RunAnalysis, analyse_runs
from harness.reports.run_data import dataset_of_run
from harness.reports.settings import varying_settings
from harness.reports.styles import DAGGER, dagger_notes
from harness.reports.view_video import Drawn, export_video
from harness.run_folder.finished_run import FinishedRun
from harness.scoring.jackknife import FEWEST_VIDEOS
from harness.scoring.match_table import MatchTable, precision_over_recall
from harness.types import Dataset, Track, Video

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FigureFormat = Literal["pdf", "svg"]
FIGURE_FORMATS: tuple[FigureFormat, ...] = get_args(FigureFormat)

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's colours, which are distinguishable for colour-blind readers."""
COLUMN_WIDTH, GUTTER = 3.25, 0.3125
"""Inches of a column of the usual conference styles, and between two."""
_NAMED = 12
"""Number of categories with the largest gains, and with the largest losses, that are named."""

_CHARACTERS = 15
"""Characters of a heading in an inch."""
_SMALL_CHARACTERS = 22
"""Characters of a legend in an inch."""
_LEGEND_LINE = 0.13
"""Inches of a line of a legend."""
_FRAMES, _SHOWN_RUNS, _LOWEST_SCORE = 4, 4, 0.2
"""Of a strip of frames: how many there are, of how many runs, and the scores of tracks that are left out."""
_RATE = 6.0
"""Frames per second of a video."""
_PIXELS = 360
"""Longest edge of a frame in a strip."""
_KINDS = {"": COLORS[0], "base": COLORS[0], "novel": COLORS[1], "other": COLORS[7]}
"""Colours of categories."""
_LONGEST_NAME = 28
"""Characters of a category's name next to an axis."""
_FEW = f"hollow: fewer than {FEWEST_VIDEOS} videos, no interval"
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
class Look:
    """How figures look: the width of a column in inches, and the family of letters (``None``: matplotlib's own)."""

    column_width: float = COLUMN_WIDTH
    font: str | None = None

    @property
    def page_width(self) -> float:
        """Inches of two columns and what is between them."""
        return 2 * self.column_width + GUTTER

    @property
    def style(self) -> dict[Any, Any]:
        """Matplotlib's settings."""
        return STYLE if self.font is None else {**STYLE, "font.family": [self.font]}


def checked_look(column_width: float, font: str | None) -> Look:
    """A look; raises `UserError` for a family of letters that is not installed."""
    from matplotlib import font_manager

    generic = ("serif", "sans-serif", "monospace")
    if font is not None and font not in generic:
        installed = sorted({one.name for one in font_manager.fontManager.ttflist})
        if font not in installed:  # perhaps it is newer than matplotlib's list of fonts, which is kept on disk
            known = {one.fname for one in font_manager.fontManager.ttflist}
            for path in sorted(set(font_manager.findSystemFonts()) - known):
                with suppress(OSError, RuntimeError):  # a damaged font
                    font_manager.fontManager.addfont(path)
            installed = sorted({one.name for one in font_manager.fontManager.ttflist})
        if font not in installed:
            raise UserError("font", f'"{font}" is not installed', near(font, (*generic, *installed)))
    return Look(column_width, font)


@dataclass(frozen=True)
class Drawing:
    """A figure, with the name of its file without suffix, and what it shows."""

    name: str
    figure: Figure
    shows: str


@dataclass(frozen=True)
class FigureData:
    """The data of figures: runs on the same data, their match tables and comparison; analyses and data, if available.

    ``left_out`` are the figures that cannot be drawn, each with the reason.
    """

    runs: Sequence[FinishedRun]
    tables: Sequence[MatchTable]
    comparison: Comparison
    analyses: Sequence[RunAnalysis] = ()
    dataset: Dataset | None = None
    look: Look = Look()
    left_out: Sequence[str] = ()

    @property
    def data(self) -> str:
        return f"{self.comparison.dataset} {self.comparison.split}"

    @property
    def notes(self) -> list[str]:
        """The notes for the daggers after names of runs."""
        reasons = {run.reasons for run in self.runs}
        if len(reasons) == 1 and len(self.runs) > 1:
            return [f"{DAGGER} not comparable: {'; '.join(one)}" for one in reasons if one]
        return dagger_notes((run.label, run.reasons) for run in self.runs)


def figure_data(
    runs: Sequence[FinishedRun],
    data_root: Path,
    annotations: Path | None = None,
    look: Look | None = None,
    faults: list[UserError] | None = None,
) -> FigureData:
    """Compare runs for figures; raises `UserError` as `compare_runs` does.

    With a list of ``faults`` runs with unreadable predictions are left out and added there. Without the data itself
    there are neither errors by kind nor frames.
    """
    runs = readable(runs, data_root, annotations, faults) or runs
    comparison = compare_runs(runs, data_root, annotations)
    tables = [matches_of_run(run, data_root, annotations) for run in runs]
    found = FigureData(runs, tables, comparison, look=look or Look())
    try:
        dataset = dataset_of_run(runs[0], data_root, annotations)
        analyses = analyse_runs([run.folder for run in runs], data_root, annotations)
    except UserError as error:
        return replace(found, left_out=[f"errors, frames: {error}"])
    return replace(found, analyses=analyses, dataset=dataset)


def figures(subject: FigureData, video: int | None = None) -> tuple[list[Drawing], list[str]]:
    """Draw all figures that the runs have data for; return them, and which could not be drawn, each with the reason.

    Precision over recall always; gains of each run against the first; errors by kind; frames of ``video`` (by default
    of the one that moves the difference most, of one run a typical one); a curve over each numeric setting in which
    runs of one model differ; speed against accuracy where at least two runs have times.
    """
    import matplotlib as mpl

    left_out = list(subject.left_out)
    with mpl.rc_context(subject.look.style):
        shows = "precision over recall, mean over categories, at IoU 0.50, 0.75 and over ten thresholds"
        made = [Drawing("precision_recall", precision_recall(subject), shows)]
        for number, pair in enumerate(subject.comparison.pairs, start=1):
            several = f"_{number}" if len(subject.comparison.pairs) > 1 else ""
            shows = f"AP by category, {pair.run} minus {pair.reference}, with 95 % intervals and numbers of videos"
            made.append(Drawing(f"category_gains{several}", category_gains(pair, subject), shows))
        if subject.analyses:
            shows = "errors by kind: points of AP50 that repairing them adds, and how many there are"
            made.append(Drawing("errors", errors(subject), shows))
        if subject.dataset is not None:
            try:
                shows = f"frames of one video, tracks with a score of at least {_LOWEST_SCORE}"
                made.append(Drawing("frames", frames(subject, subject.dataset, video), shows))
            except UserError as error:
                if video is not None:
                    raise
                left_out.append(f"frames: {error}")
        for key in numeric_settings(subject.runs):
            safe = "".join(c if c.isalnum() and c.isascii() else "_" for c in key)
            made.append(Drawing(f"ablation_{safe}", ablation(subject, key), f"AP over {key}, with 95 % intervals"))
        if sum(_seconds(run) is not None for run in subject.runs) > 1:
            shows = "AP over seconds per video, with 95 % intervals"
            made.append(Drawing("speed_accuracy", speed_accuracy(subject), shows))
    return made, left_out


def in_latex(subject: FigureData, drawings: Sequence[Drawing], provenance: Sequence[str] = ()) -> str:
    """LaTeX that shows the PDF files of drawings, with labels and captions: what, data, rules, what is partial."""
    found = subject.comparison
    where = f"{subject.data}, {found.videos} videos, {found.protocol} protocol (version {found.protocol_version})"
    parts = ["".join(f"% {plain(line)}\n" for line in provenance) + "% needs \\usepackage{graphicx}\n"]
    for one in drawings:
        caption = ". ".join([f"{one.shows[:1].upper()}{one.shows[1:]}: {where}", *subject.notes]) + "."
        wide = one.figure.get_figwidth() > subject.look.column_width
        parts.append(latex.figure(f"{one.name}.pdf", wide, latex.Title(caption, f"{subject.data} {one.name}")))
    return "\n".join(parts)


@contextmanager
def letters_without_font() -> Iterator[set[str]]:
    """Collect the letters that the fonts of figures lack, in place of matplotlib's warnings about them.

    Other warnings are shown, or not, as outside.
    """
    found: set[str] = set()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=r"Glyph \d+ ")
        show = warnings.showwarning

        def collect(message: Warning | str, *about: Any, **more: Any) -> None:
            glyph = re.match(r"Glyph (\d+) ", str(message))
            if glyph is None:
                show(message, *about, **more)
            else:
                found.add(chr(int(glyph[1])))

        warnings.showwarning = collect
        yield found


def figure_bytes(
    figure: Figure, format: FigureFormat, provenance: Iterable[str] = (), look: Look | None = None
) -> bytes:
    """Return a figure's file, as wide as the figure, without date; ``provenance`` is kept in its metadata."""
    import matplotlib as mpl

    text = "\n".join(plain(line) for line in provenance)
    metadata: dict[str, Any] = (
        {"CreationDate": None, "Subject": text} if format == "pdf" else {"Date": None, "Description": text}
    )
    data = io.BytesIO()
    with mpl.rc_context((look or Look()).style):
        figure.savefig(data, format=format, metadata=metadata)
    return data.getvalue()


def precision_recall(subject: FigureData) -> Figure:
    """Precision averaged over the categories at 101 recall points: at IoU 0.50, 0.75 and over all thresholds."""
    figure, axes = axes_of(3, (subject.look.page_width, 2.2))
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


def category_gains(pair: Pair, subject: FigureData) -> Figure:
    """AP of a run minus the reference's for every category with its 95 % interval, sorted; of many the largest.

    Each has the number of its videos; with too few for an interval it is a hollow dot.
    """
    ranked = sorted(pair.categories, key=lambda one: (one.difference.value or 0.0, one.name, one.id))
    places = list(range(len(ranked)))
    if len(ranked) > 4 * _NAMED:
        places = [*range(_NAMED), *range(len(ranked) - _NAMED, len(ranked))]
    shown = [ranked[place] for place in places]
    figure, (ax,) = axes_of(1, (subject.look.column_width, 1.1 + 0.13 * max(len(shown), 8)))
    labels = _kinds_of_categories(ranked)
    for height, one in enumerate(shown):
        color = _KINDS[labels[one.id]]
        value, low, high = one.difference.value or 0.0, one.difference.low, one.difference.high
        if low is None or high is None:
            ax.plot(100 * value, height, "o", markersize=3, markerfacecolor="#ffffff", color=color, alpha=0.6)
        else:
            ax.plot([100 * low, 100 * high], [height, height], color=color, linewidth=0.8)
            ax.plot(100 * value, height, "o", markersize=3, color=color)
    ax.set_yticks(range(len(shown)), [_label(f"{_cut(one.name)} ({one.videos})") for one in shown], fontsize=6)
    if len(shown) < len(ranked):
        ax.axhline(_NAMED - 0.5, color="#999999", linewidth=0.6, linestyle=":")
    ax.axvline(0, color="#000000", linewidth=0.6)
    ax.set_ylim(-0.6, len(shown) - 0.4)
    ax.set_xlabel("Gain in AP, points (number of videos)", fontsize=7, loc="right")
    better = sum((one.difference.value or 0.0) > 0 for one in ranked)
    worse = sum((one.difference.value or 0.0) < 0 for one in ranked)
    lines = (
        f"{pair.run} −",
        f"{pair.reference}, {subject.data}",
        f"{better} of {len(ranked)} categories better, {worse} worse",
    )
    head_of(figure, lines, subject.notes, 7)
    _legend_below(figure, *_legend_of_gains(shown, labels))
    return figure


def _kinds_of_categories(ranked: Sequence[CategoryDifference]) -> dict[int, str]:
    """What the colour of each category says: base or novel where there are such, else nothing."""
    if not any({"base", "novel"} & set(one.groups) for one in ranked):
        return dict.fromkeys((one.id for one in ranked), "")
    return {one.id: next((group for group in ("base", "novel") if group in one.groups), "other") for one in ranked}


def _legend_of_gains(shown: Sequence[CategoryDifference], labels: dict[int, str]) -> tuple[list[Any], list[str]]:
    """What the colours are, with the number of categories, and what a hollow dot is."""
    from matplotlib.lines import Line2D

    counts = Counter(labels.values())
    made: list[tuple[Any, str]] = [
        (Line2D([], [], marker="o", markersize=3, linewidth=0.8, color=_KINDS[kind]), f"{kind} ({counts[kind]})")
        for kind in _KINDS
        if kind and counts[kind]
    ]
    made.append((Line2D([], [], linewidth=0.8, color="#000000"), "95 % interval"))
    if any(one.difference.low is None for one in shown):
        hollow = Line2D([], [], marker="o", markersize=3, linewidth=0, markerfacecolor="#ffffff", color="#000000")
        made.append((hollow, _FEW))
    return [handle for handle, _ in made], [label for _, label in made]


def errors(subject: FigureData) -> Figure:
    """What repairing all errors of each kind gains in AP50, for each run, with the number of errors."""
    kinds = list(subject.analyses[0].analysis.errors.kinds)
    count = len(subject.analyses)
    figure, (ax,) = axes_of(1, (subject.look.column_width, 1.0 + len(kinds) * (0.14 + 0.12 * count)))
    height = 0.8 / count
    most = 0.0
    for number, one in enumerate(subject.analyses):
        found = [one.analysis.errors.kinds[kind] for kind in kinds]
        places = [place + (number - (count - 1) / 2) * height for place in range(len(kinds))]
        gains = [100 * (kind.dap50 or 0.0) for kind in found]
        most = max(most, *gains)
        ax.barh(places, gains, height=0.9 * height, color=_color(number), label=_label(subject.runs[number].label))
        for place, value, kind in zip(places, gains, found, strict=True):
            text = f"{value:.1f} ({kind.count:,})" if kind.dap50 is not None else f"– ({kind.count:,})"
            ax.annotate(text, (max(value, 0.0), place), (2, 0), textcoords="offset points", va="center", fontsize=5)
    ax.set_yticks(range(len(kinds)), kinds, fontsize=7)
    ax.invert_yaxis()
    ax.set_xlim(min(0.0, *ax.get_xlim()), 1.25 * most or 1.0)
    ax.set_xlabel("AP50 by repair, points (number of errors)", fontsize=7, loc="right")
    head_of(figure, [subject.data], subject.notes)
    _legend_below(figure, *ax.get_legend_handles_labels())
    return figure


def frames(subject: FigureData, dataset: Dataset, video: int | None = None) -> Figure:
    """Frames of one video: the truth in the first row, a run in each further one; a colour for each category.

    Tracks of low scores are left out, and where tracks overlap the one of the higher score is seen. Raises `UserError`
    for a video that is not there, and frames that cannot be read.
    """
    found, rows = _tracks_of_frames(subject, dataset, video)
    columns = np.unique(np.linspace(0, len(found.frames) - 1, _FRAMES).round().astype(int)).tolist()
    named = dict.fromkeys(track.category_id for _, tracks in rows for track in tracks)
    numbers = {category: number for number, category in enumerate(named)}
    width = subject.look.page_width
    cell = width / len(columns) * found.height / found.width
    figure, axes = axes_of(len(columns), (width, len(rows) * cell + 0.35), len(rows))
    names = {category.id: category.name for category in dataset.categories}
    for row, (label, tracks) in enumerate(rows):
        tints = [numbers[track.category_id] for track in tracks]
        for column, index in enumerate(columns):
            ax = axes[row * len(columns) + column]
            picture = Pillow.fromarray(draw_tracks(found.frames[index], tracks, index, tints=tints))
            picture.thumbnail((_PIXELS, _PIXELS))
            ax.imshow(np.asarray(picture), interpolation="none")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
            if column == 0:
                ax.set_ylabel("\n".join(textwrap.wrap(label, 22)), fontsize=6)
            if row == 0:
                ax.set_title(f"frame {index + 1}", fontsize=6, pad=2)
    head_of(figure, [f"{subject.data}, video {found.id}"], subject.notes, 7)
    _legend_below(figure, *_patches([(names[c], _tint(numbers[c])) for c in named]))
    return figure


def clip(subject: FigureData, dataset: Dataset, video: int | None = None) -> bytes:
    """The video of `frames` as MP4: all of its frames, the truth and the runs side by side; raises as `frames` does.

    Frames that cannot be read are grey.
    """
    found, rows = _tracks_of_frames(subject, dataset, video)
    names = {category.id: category.name for category in dataset.categories}
    numbers = {c: n for n, c in enumerate(dict.fromkeys(track.category_id for _, tracks in rows for track in tracks))}
    has_truth = dataset.truth is not None
    panes = []
    for row, (label, tracks) in enumerate(rows):
        drawn = []
        for track in tracks:
            score = "" if has_truth and row == 0 else f" {track.score:.2f}"
            text = plain(names.get(track.category_id, "?")) + score
            drawn.append(Drawn(track.masks, numbers[track.category_id], text, True))
        panes.append((label, drawn))
    return export_video(found, panes, range(len(found.frames)), "mp4", _RATE)


def _tracks_of_frames(
    subject: FigureData, dataset: Dataset, video: int | None
) -> tuple[Video, list[tuple[str, Sequence[Track]]]]:
    """The video that is shown, and the truth and each run with its tracks, those of higher scores first."""
    chosen = _typical_video(subject, dataset) if video is None else video
    found = next((one for one in dataset.videos if one.id == chosen), None)
    if found is None:
        raise UserError(f"video {chosen}", f"is not in {subject.data}", "give the id of a video in it")
    runs = subject.runs[:_SHOWN_RUNS]
    rows: list[tuple[str, Sequence[Track]]] = [
        (
            _label(run.label),
            sorted(
                (track for track in run.store.read_video(chosen) if track.score >= _LOWEST_SCORE),
                key=lambda t: -t.score,
            ),
        )
        for run in runs
    ]
    if dataset.truth is not None:
        rows.insert(0, ("truth", [Track(chosen, t.category_id, 1.0, t.masks) for t in dataset.truth.tracks_of(chosen)]))
    return found, rows


def _typical_video(subject: FigureData, dataset: Dataset) -> int:
    """The video that moves the difference of the first pair most; of one run the one of median quality."""
    for pair in subject.comparison.pairs[:1]:
        for one in pair.videos:
            return one.video_id
    run = subject.runs[0]
    quality = video_quality(dataset, run.store, run.scored_videos)
    order = sorted(quality, key=lambda video: (quality[video], video))
    return order[len(order) // 2] if order else dataset.videos[0].id


def _tint(number: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour(number))


def _patches(named: Sequence[tuple[str, str]]) -> tuple[list[Any], list[str]]:
    from matplotlib.patches import Patch

    return [Patch(color=color) for _, color in named], [_label(name) for name, _ in named]


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
    series: dict[tuple[Any, ...], list[tuple[float, MeasuredRun]]] = {}
    for run, found in zip(subject.runs, settings, strict=True):
        value = _number(found.get(key, ""))
        if value is not None:
            rest = tuple(f"{name}={text}" for name, text in found.items() if name != key)
            series.setdefault((run.record["model"], *rest), []).append((value, measured[run.label]))
    if not series:
        raise UserError(f'setting "{key}"', "is no number that differs between these runs", "name another")
    figure, (ax,) = axes_of(1, (subject.look.column_width, 2.1))
    groups = [group for group in _GROUPS if group in subject.comparison.runs[0].metrics]
    lines = ("-", "--", ":", "-.", "-.")
    for number, (_, points) in enumerate(series.items()):
        points.sort(key=lambda point: point[0])
        for group, line in zip(groups, lines, strict=False):
            _interval_line(ax, points, group, line, _color(number if len(series) > 1 else groups.index(group)), "")
    ax.set(xlabel=_label(key), ylabel="AP (%)")
    head_of(figure, [f"{next(iter(series))[0]}, {subject.data}" if len(series) == 1 else subject.data], subject.notes)
    _legend_below(figure, *_legend_of_ablation(ax, groups, lines, list(series)))
    return figure


def _legend_of_ablation(
    ax: Axes, groups: Sequence[str], lines: Sequence[str], series: Sequence[tuple[Any, ...]]
) -> tuple[list[Any], list[str]]:
    """The groups by their lines, and, if there are several, the other settings by their colours."""
    from matplotlib.lines import Line2D

    several = len(series) > 1
    made: list[tuple[Any, str]] = [
        (Line2D([], [], linewidth=1.2, ls=line, color="#000000" if several else _color(number)), group)
        for number, (group, line) in enumerate(zip(groups, lines, strict=False))
    ]
    if several:
        made += [
            (Line2D([], [], linewidth=0, marker="o", markersize=3, color=_color(number)), _label(", ".join(names)))
            for number, names in enumerate(series)
        ]
    few = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True)).get(_FEW)
    if few is not None:
        hollow = Line2D([], [], linewidth=0, marker="o", markersize=3, markerfacecolor="#ffffff", color="#000000")
        made.append((hollow, _FEW))
    return [handle for handle, _ in made], [label for _, label in made]


def _interval_line(
    ax: Axes, points: Sequence[tuple[float, MeasuredRun]], group: str, line: str, color: str, label: str
) -> None:
    found = [(value, run.metrics[group]) for value, run in points if run.metrics[group].value is not None]
    at = [value for value, _ in found]
    middle = [100 * (one.value or 0.0) for _, one in found]
    ax.plot(at, middle, color=color, linestyle=line, linewidth=1.2)
    sure = [(value, one) for value, one in found if one.low is not None and one.high is not None]
    middle = [100 * (one.value or 0.0) for _, one in sure]
    below = [100 * ((one.value or 0.0) - (one.low or 0.0)) for _, one in sure]
    above = [100 * ((one.high or 0.0) - (one.value or 0.0)) for _, one in sure]
    ax.errorbar(
        [value for value, _ in sure], middle, [below, above], color=color, linestyle=line if line != "none" else "none",
        linewidth=0 if line != "none" else 1, marker="o", markersize=3, elinewidth=0.6, capsize=2, label=label,
    )  # fmt: skip
    few = [(value, 100 * (one.value or 0.0)) for value, one in found if one.low is None or one.high is None]
    if few:
        x, y = zip(*few, strict=True)
        ax.plot(x, y, "o", markersize=3, markerfacecolor="#ffffff", color=color, label=_FEW)


def _with_few(ax: Axes) -> tuple[list[Any], list[str]]:
    """The handles and labels of a legend, what a hollow dot is once."""
    named = {label: handle for handle, label in reversed(list(zip(*ax.get_legend_handles_labels(), strict=True)))}
    few = named.pop(_FEW, None)
    labels = list(named)[::-1] + ([_FEW] if few is not None else [])
    return [named.get(label, few) for label in labels], labels


def speed_accuracy(subject: FigureData) -> Figure:
    """AP with its 95 % interval over the mean seconds per video, for runs that have times."""
    figure, (ax,) = axes_of(1, (subject.look.column_width, 2.1))
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
    _legend_below(figure, *_with_few(ax))
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


def figure_format(path: Path) -> FigureFormat:
    """The format that the suffix of a file's name is. Raises `UserError` for another one."""
    for format in FIGURE_FORMATS:
        if path.suffix == f".{format}":
            return format
    raise UserError(str(path), "is not the name of a figure", "end it with .pdf or .svg")


def head_of(figure: Figure, lines: Sequence[str], notes: Sequence[str], size: int = 8) -> None:
    """Add the title of a figure, and the notes below it, wrapped to its width; it becomes higher by their lines."""
    characters = int(_CHARACTERS * figure.get_figwidth() * 8 / size)
    wrapped = [part for text in (*lines, *map(plain, notes)) for part in textwrap.wrap(_label(text), characters)]
    figure.suptitle("\n".join(map(_label, wrapped)), fontsize=size)
    figure.set_figheight(figure.get_figheight() + (len(wrapped) - 1) * 1.25 * size / 72)


def _legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Add a legend below the axes, in as many columns as fit; the figure becomes higher by its lines."""
    if not labels:
        return
    characters = int(_SMALL_CHARACTERS * figure.get_figwidth())
    wrapped = ["\n".join(textwrap.wrap(label, characters - 6)) for label in labels]
    widest = max(len(line) for label in wrapped for line in label.split("\n")) + 6
    columns = max(1, min(len(labels), characters // widest))
    lines = sum(
        max(label.count("\n") + 1 for label in wrapped[first : first + columns])
        for first in range(0, len(wrapped), columns)
    )
    figure.set_figheight(figure.get_figheight() + _LEGEND_LINE * lines)
    figure.legend(handles, wrapped, loc="outside lower center", fontsize=6, ncols=columns, columnspacing=1.0)


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


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
