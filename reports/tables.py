"""Comparison tables of runs, with published results beside them: for the terminal, Markdown, LaTeX, CSV and HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, get_args

from harness.reports import published as results
from harness.reports.settings import differing
from harness.reports.styles import DAGGER, STYLES, UNDEFINED, Style, plain

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["terminal", "markdown", "latex", "csv", "html"]
FORMATS: tuple[Format, ...] = get_args(Format)
COLUMNS = ("AP", "APb", "APn", "AP50", "AP75", "AR")
CORRECTED = ("AP", "APb", "APn")
"""Columns that are shown under the corrected protocol too, where that is asked for."""

_METRIC = {"AR": "AR100"}
_CORRECTED = " corr."


@dataclass
class Row:
    """One line of a table: ``percents`` by column, exact, ``None`` where undefined.

    ``sources`` are the citations of a published row, or the folder of a run; ``remark`` says which part of the
    split an incomplete run covers; ``settings`` are those that differ between the runs of a table. Rows are compared
    with those of the same ``dataset`` and ``split``.
    """

    method: str
    dataset: str
    split: str
    percents: dict[str, Decimal | None]
    sources: list[str]
    is_published: bool = False
    remark: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    marks: dict[str, Literal["best", "second"]] = field(default_factory=dict)

    @property
    def data(self) -> str:
        return f"{self.dataset} {self.split}"


def table(
    records: Sequence[Mapping[str, Any]],
    format: Format = "terminal",
    *,
    published: bool = False,
    columns: Sequence[str] = COLUMNS,
    corrected: bool = False,
    color: bool = False,
) -> str:
    """Return a table of ``records`` (see `harness.reports.records`), in percent, ending in a newline.

    Runs keep the order given, by dataset; settings in which runs of one model differ are columns. ``published`` adds
    the published results on the same dataset and split with their sources. Print has one decimal, the best number of a
    column and dataset bold and the second underlined (ties share the mark, a number alone gets none, incomplete runs
    none), and an en dash where undefined; in the terminal the marks need ``color``. CSV has percent in full precision,
    empty where undefined, and no marks. ``columns`` are metric keys (``AR`` is AR100); ``corrected`` adds those of
    `CORRECTED` once more under the corrected protocol.
    """
    if not records:
        return ""
    made = rows(records, columns, published=published, corrected=corrected)
    shown = [*columns, *(column + _CORRECTED for column in _corrected(columns))] if corrected else list(columns)
    if format == "csv":
        return _csv(made, shown)
    return _print(made, shown, format, STYLES["color" if format == "terminal" and color else format])


def rows(
    records: Sequence[Mapping[str, Any]],
    columns: Sequence[str] = COLUMNS,
    *,
    published: bool = False,
    corrected: bool = False,
) -> list[Row]:
    """Return the rows of the table, marked: per dataset and split the runs in the order given, then published rows.

    A published row appears if it has a number in one of the columns.
    """
    made: list[Row] = []
    runs = [
        _run_row(record, columns, corrected, chosen) for record, chosen in zip(records, differing(records), strict=True)
    ]
    for dataset, split in dict.fromkeys((row.dataset, row.split) for row in runs):
        here = [row for row in runs if (row.dataset, row.split) == (dataset, split)]
        _name_apart(here)
        if published:
            here += _published_rows(dataset, split, columns)
        _mark(here)
        made += here
    return made


def _corrected(columns: Sequence[str]) -> list[str]:
    return [column for column in columns if column in CORRECTED]


def in_print(percent: Decimal) -> Decimal:
    """Return a percentage as print shows it: one decimal, halves away from zero."""
    return percent.quantize(Decimal("0.1"), ROUND_HALF_UP)


def _name_apart(runs: Sequence[Row]) -> None:
    """Add the digest to the names of runs that differ neither in name nor in a setting that is shown."""
    shown = [(row.method, tuple(row.settings.items())) for row in runs]
    count = Counter(shown)
    for row, key in zip(runs, shown, strict=True):
        if count[key] > 1:
            row.method += f" ({PurePath(row.sources[0]).name.rpartition('-')[2]})"


def _run_row(record: Mapping[str, Any], columns: Sequence[str], corrected: bool, chosen: dict[str, str]) -> Row:
    percents = _percents(record["metrics"], columns)
    if corrected:
        percents |= {
            column + _CORRECTED: p for column, p in _percents(record["corrected"], _corrected(columns)).items()
        }
    where = (record["model"], record["dataset"], record["split"])
    return Row(*where, percents, [record["folder"]], remark=_remark(record), settings=chosen)


def _remark(record: Mapping[str, Any]) -> str:
    """Say what part of the split the numbers are of, where it is not all of it."""
    if not record["complete"]:
        return f"{record['videos']['done']} of {record['videos']['total']} videos"
    limit = record.get("limit")
    return "" if limit is None else f"first {limit} videos only"


def _percents(fractions: Mapping[str, float | None] | None, columns: Sequence[str]) -> dict[str, Decimal | None]:
    numbers = {column: (fractions or {}).get(_METRIC.get(column, column)) for column in columns}
    # The shortest text of the number, shifted: what a reader of the JSON would compute, without binary noise.
    return {c: None if value is None else Decimal(repr(float(value))).scaleb(2) for c, value in numbers.items()}


def _published_rows(dataset: str, split: str, columns: Sequence[str]) -> list[Row]:
    found = []
    for row in results.rows(results.published(dataset, split)):
        percents = {
            column: Decimal(repr(row.values[key])) if (key := _METRIC.get(column, column)) in row.values else None
            for column in columns
        }
        if any(percent is not None for percent in percents.values()):
            found.append(Row(row.label, dataset, split, percents, row.citations, is_published=True))
    return found


def _mark(group: Iterable[Row]) -> None:
    """Mark best and second of every column as they are printed, so that equal print gets an equal mark."""
    ranked = [row for row in group if not row.remark]
    for column in {column for row in ranked for column in row.percents}:
        numbers = [(row, in_print(percent)) for row in ranked if (percent := row.percents.get(column)) is not None]
        if len(numbers) < 2:
            continue
        best, *others = sorted({number for _, number in numbers}, reverse=True)
        for row, number in numbers:
            if number == best:
                row.marks[column] = "best"
            elif number == others[0]:
                row.marks[column] = "second"


def _print(made: Sequence[Row], columns: Sequence[str], format: Format, style: Style) -> str:
    import pandas as pd

    notes = list(dict.fromkeys(source for row in made if row.is_published for source in row.sources))
    several = len({row.data for row in made}) > 1
    cells: list[dict[str, str]] = []
    for row in made:
        line = {"Method": style.text(row.method + (DAGGER if row.remark else ""))}
        if several:
            line["Dataset"] = style.text(row.data)
        line |= {style.text(key): style.text(row.settings.get(key, UNDEFINED)) for key in _settings(made)}
        line |= {style.text(column): _cell(row, column, style) for column in columns}
        if notes:
            numbers = [str(notes.index(source) + 1) for source in row.sources if row.is_published]
            line["Source"] = style.text(f"[{', '.join(numbers)}]" if numbers else "this run")
        cells.append(line)
    frame = pd.DataFrame(cells)
    numeric = {style.text(column) for column in columns}
    aligned = ["right" if name in numeric else "left" for name in frame.columns]
    return _LAYOUT[format](frame, aligned, [style.text(line) for line in _footnotes(made, columns, notes)])


def _settings(made: Iterable[Row]) -> list[str]:
    """Keys of the settings that are columns."""
    return list(dict.fromkeys(key for row in made for key in row.settings))


def _cell(row: Row, column: str, style: Style) -> str:
    percent = row.percents.get(column)
    if percent is None:
        return style.text(UNDEFINED)
    template = {"best": style.best, "second": style.second}.get(row.marks.get(column, ""), "{}")
    return template.format(in_print(percent))


def _footnotes(made: Sequence[Row], columns: Sequence[str], notes: Sequence[str]) -> list[str]:
    lines = []
    incomplete = dict.fromkeys(f"{row.method} {row.remark}" for row in made if row.remark)
    if incomplete:
        lines.append(f"{DAGGER} incomplete, not ranked: {', '.join(incomplete)}")
    if any(column.endswith(_CORRECTED) for column in columns):
        lines.append("corr.: the same predictions without the known faults of the official evaluator")
    return lines + [f"[{number}] {note}" for number, note in enumerate(notes, start=1)]


def _as_terminal(frame: pd.DataFrame, aligned: Sequence[str], footnotes: Sequence[str]) -> str:
    return _tabulate(frame, aligned, "simple") + "\n" + _lines("\n{}", footnotes)


def _as_markdown(frame: pd.DataFrame, aligned: Sequence[str], footnotes: Sequence[str]) -> str:
    return _tabulate(frame, aligned, "pipe") + "\n" + _lines("\n{}", [f"- {line}" for line in footnotes])


def _lines(around: str, lines: Sequence[str]) -> str:
    return around.format("\n".join(lines) + "\n") if lines else ""


def _tabulate(frame: pd.DataFrame, aligned: Sequence[str], kind: str) -> str:
    from tabulate import tabulate

    headers, body = list(frame.columns), frame.to_numpy().tolist()
    return tabulate(body, headers, tablefmt=kind, disable_numparse=True, colalign=aligned, headersalign=aligned)


def _as_latex(frame: pd.DataFrame, aligned: Sequence[str], footnotes: Sequence[str]) -> str:
    body = frame.to_latex(index=False, escape=False, column_format="".join(side[0] for side in aligned))
    below = _lines("\n{{\\footnotesize\n{}}}\n", [rf"{line}\par" for line in footnotes])
    return "% needs \\usepackage{booktabs}\n" + body + below


def _as_html(frame: pd.DataFrame, aligned: Sequence[str], footnotes: Sequence[str]) -> str:
    import pandas as pd

    with pd.option_context("display.max_colwidth", None):  # otherwise pandas cuts long names
        body = frame.to_html(index=False, escape=False, border=0)
    return body + "\n" + _lines("{}", [f"<p>{line}</p>" for line in footnotes])


_LAYOUT: dict[str, Callable[[pd.DataFrame, Sequence[str], Sequence[str]], str]] = {
    "terminal": _as_terminal,
    "markdown": _as_markdown,
    "latex": _as_latex,
    "html": _as_html,
}


def _csv(made: Sequence[Row], columns: Sequence[str]) -> str:
    import pandas as pd

    lines = [
        {"Method": plain(row.method), "Dataset": plain(row.dataset), "Split": plain(row.split)}
        | {plain(key): plain(row.settings.get(key, "")) for key in _settings(made)}
        | {column: _exact(row.percents.get(column)) for column in columns}
        | {"Complete": "no" if row.remark else "yes", "Source": plain("; ".join(row.sources))}
        for row in made
    ]
    return str(pd.DataFrame(lines).to_csv(index=False))


def _exact(percent: Decimal | None) -> str:
    return "" if percent is None else f"{percent:f}"
