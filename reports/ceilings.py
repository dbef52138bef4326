"""Ceilings as text and as a figure: the numbers with perfect classes, masks, links and presence, alone and together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.paths import Location
from harness.plain_text import plain
from harness.reports.layouts import Column, Sheet, TableFormat, render_table
from harness.reports.run_analysis import opened_runs
from harness.reports.styles import DAGGER, STYLES, UNDEFINED, dagger_notes
from harness.reports.table_rows import in_print, percent_of
from harness.run_folder.finished_run import FinishedRun
from harness.scoring import HOTA, VEVAL
from harness.scoring.ceilings import Ceiling, Ceilings, ceilings
from harness.scoring.dispatch import DEFAULTS, Settings, expand_names, further_protocols
from harness.scoring.metrics import GROUP_NAMES
from harness.types import Dataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AS_GIVEN = "nothing"
SHOWN_METRICS = {HOTA: ("HOTA", "DetA", "AssA"), VEVAL: ("cgF1", "pmF1", "IL_MCC", "pHOTA", "pAP")}
"""Numbers in tables and figures; of AP protocols AP, that of their groups, and AP50. JSON and CSV have all."""
NOTE = "no track is added: missed objects stay missed; docs/ceilings.md defines what is perfect and how"


@dataclass(frozen=True)
class NamedCeilings:
    """Ceilings of one set of predictions: of a run, or of a file (``folder`` is its path, ``dataset`` may be empty)."""

    label: str
    folder: str
    dataset: str
    split: str
    found: Ceilings
    not_comparable: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON."""
        head = {"run": self.label, "folder": self.folder, "dataset": self.dataset, "split": self.split}
        return {**head, "ceilings": self.found.record()}


def ceilings_of_runs(
    folders: Sequence[Location],
    data_root: Path,
    annotations: Path | None = None,
    protocols: Sequence[str] | None = None,
    settings: Settings = DEFAULTS,
) -> list[NamedCeilings]:
    """The ceilings of run folders over the videos that their numbers cover.

    ``protocols`` are by default that of the dataset, and ``hota`` for masks with categories; ``settings`` that are not
    given are those by which the run was scored. Raises `UserError` as `harness.reports.run_analysis.analyse_runs` does.
    """
    out = []
    for run, dataset in opened_runs(folders, data_root, annotations):
        found = ceilings_of_run(run, dataset, protocols, settings)
        label = run.label.removesuffix(DAGGER)
        out.append(NamedCeilings(label, str(run.folder), dataset.name, dataset.split, found, tuple(run.reasons)))
    return out


def ceilings_of_run(
    run: FinishedRun, dataset: Dataset, protocols: Sequence[str] | None = None, settings: Settings = DEFAULTS
) -> Ceilings:
    """The ceilings of one run on its data, see `ceilings_of_runs`."""
    from harness.scoring.shard_reader import ShardReader

    own, further = dataset.protocol, further_protocols(dataset.annotations)
    names = expand_names(protocols or ([own] if own == VEVAL else [own, HOTA]), own, further)
    chosen = _with_own_settings(names, settings, run)
    return ceilings(names, dataset.annotations, lambda: ShardReader(run.store), run.scored_videos, chosen)


def _with_own_settings(names: Sequence[str], settings: Settings, run: FinishedRun) -> Settings:
    """The settings, and for the protocols among ``names`` those of the run's own scores where none are given."""
    threshold, most = settings
    for scored in run.record["protocols"]:
        own = scored["protocol"]
        if own["name"] == HOTA and HOTA in names and threshold is None:
            threshold = own.get("score_threshold")
        if own["name"] in names and most is None:
            most = own.get("tracks_per_category")
    return Settings(threshold, most)


def written_ceilings(found: Sequence[NamedCeilings], format: TableFormat, provenance: Sequence[str] = ()) -> str:
    """Return ceilings as text, one table for each run, in percent; CSV has one line per number."""
    if format == "csv":
        return _csv(found)
    sheets = [_sheet(one) for one in found]
    sheets[0] = replace(sheets[0], provenance=provenance)
    return "\n".join(render_table(_styled(sheet, format), format) for sheet in sheets)


def perfect_aspects(row: Ceiling) -> str:
    """What is perfect, in words."""
    return " + ".join(row.perfect) or AS_GIVEN


def shown_numbers(one: Ceilings) -> list[tuple[str, str]]:
    """The numbers for tables and figures: protocol and metric."""
    first = one.rows[0].metrics
    return [(name, key) for name, values in first.items() for key in _keys(name, values)]


def _keys(name: str, values: dict[str, float | None]) -> list[str]:
    ap = ("AP", *(f"AP{suffix}" for suffix in GROUP_NAMES), *(() if name.endswith("-fixed") else ("AP50",)))
    return [key for key in SHOWN_METRICS.get(name, ap) if key in values]


def _sheet(one: NamedCeilings) -> Sheet:
    numbers = shown_numbers(one.found)
    lines = [
        [perfect_aspects(row), *(_percent(row.metrics[name][key]) for name, key in numbers)] for row in one.found.rows
    ]
    data = f", {one.dataset} {one.split}" if one.dataset else ""
    notes = [
        f"{one.label}{DAGGER if one.not_comparable else ''}{data}; {_protocol_texts(one.found)}",
        *dagger_notes([(one.label, one.not_comparable)]),
        NOTE,
    ]
    head = [Column("Perfect"), *(Column(key, True, name) for name, key in numbers)]
    caption = (
        f"What {one.label} would reach if its predictions were perfect in one respect or in several, percent{data}."
    )
    if one.not_comparable:
        caption += f" {DAGGER} is not comparable, for the reason below."
    return Sheet(head, lines, notes, caption=caption, label=f"{one.dataset} {one.split} ceilings {one.label}")


def _protocol_texts(found: Ceilings) -> str:
    """The protocols with their versions and settings."""
    lines = []
    for record in found.protocols.values():
        settings = [
            f"{k.replace('_', ' ')} {'none' if v is None else v}"
            for k, v in record.items()
            if k not in ("name", "version")
        ]
        lines.append(", ".join([f"{record['name']} version {record['version']}", *settings]))
    return "; ".join(lines)


def _styled(sheet: Sheet, format: TableFormat) -> Sheet:
    text = STYLES[format].text
    return replace(sheet, lines=[[text(cell) for cell in line] for line in sheet.lines])


def _csv(found: Sequence[NamedCeilings]) -> str:
    import pandas as pd

    rows = [{"run": plain(one.label), **line} for one in found for line in _numbers(one.found)]
    return str(pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def _numbers(found: Ceilings) -> Iterator[dict[str, Any]]:
    """Every number in percent; empty where undefined."""
    for row in found.rows:
        for name, values in row.metrics.items():
            for key, value in values.items():
                exact = "" if value is None else f"{percent_of(value):f}"
                yield {"perfect": perfect_aspects(row), "protocol": name, "metric": key, "value": exact}


def _percent(fraction: float | None) -> str:
    return UNDEFINED if fraction is None else str(in_print(percent_of(fraction)))


def ceilings_figure(one: NamedCeilings) -> Figure:
    """A panel for the first number of each protocol: each ceiling alone above the line, combinations below it.

    The dark part of each bar is the number itself, the light part is what the ceiling adds. Raises `UserError` where
    no number is defined.
    """
    from harness.reports import figures

    firsts = [_keys(name, values)[0] for name, values in one.found.rows[0].metrics.items()]
    panels = [
        (name, key)
        for (name, values), key in zip(one.found.rows[0].metrics.items(), firsts, strict=True)
        if values[key] is not None
    ]
    if not panels:
        raise UserError(one.folder, "has no defined number to draw", "leave out --figure")
    rows = one.found.rows[1:]
    figure, axes = figures.axes_of(len(panels), (1.6 + 1.9 * len(panels), 2.6))
    for number, (ax, (name, key)) in enumerate(zip(axes, panels, strict=True)):
        base = 100 * (one.found.rows[0].metrics[name][key] or 0.0)
        for place, row in enumerate(rows):
            value = row.metrics[name][key]
            gain = 0.0 if value is None else 100 * value - base
            ax.barh(place, base + min(gain, 0.0), color=figures.COLORS[0], height=0.7)
            ax.barh(place, max(gain, 0.0), left=base, color=figures.COLORS[5], height=0.7)
            text = UNDEFINED if value is None else f"{100 * value:.1f}"
            ax.text(base + gain + 1, place, text, va="center", fontsize=6)
        ax.axhline(3.5, color="#999999", linewidth=0.6, linestyle=":")
        ax.axvline(base, color="#000000", linewidth=0.6)
        ax.set_yticks(
            range(len(rows)), [perfect_aspects(row) for row in rows] if number == 0 else [""] * len(rows), fontsize=6
        )
        ax.set(xlim=(0, 112), ylim=(len(rows) - 0.4, -0.6), xlabel=f"{key} (%)")
        ax.set_title(f"{name}: {base:.1f}", fontsize=8)
    data = f"{one.dataset} {one.split}".strip()
    lines = [f"With perfect ...: {one.label}{DAGGER if one.not_comparable else ''}", *([data] if data else [])]
    figures.head_of(figure, lines, dagger_notes([(one.label, one.not_comparable)]))
    return figure


def ceilings_figure_file(one: NamedCeilings, path: Path, provenance: Sequence[str]) -> bytes:
    """The figure in the format that the suffix of ``path`` names. Raises `UserError` for another one."""
    import matplotlib as mpl

    from harness.reports import figures

    with mpl.rc_context(figures.STYLE):
        return figures.figure_bytes(ceilings_figure(one), figures.figure_format(path), provenance)
