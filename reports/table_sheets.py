"""Rows of a comparison table as a sheet of cells: below each other, or datasets side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from harness.reports.layouts import Column, Sheet, TableFormat, render_table
from harness.reports.styles import DAGGER, STYLES, UNDEFINED, Style, csv_line, dagger_notes
from harness.reports.table_layout import ColumnLayout, Layout
from harness.reports.table_rows import Row, in_print

_METHOD, _BACKBONE, _TRAINING = "Method", "Backbone", "Training data"
_ANSWERS = {True: "yes", False: "no", None: "unknown"}


@dataclass(frozen=True)
class _Line:
    """One line of the printed table: a method, and its row for each dataset of the table."""

    method: str
    backbone: str
    training_data: str
    data: str
    settings: Mapping[str, str]
    rows: Mapping[str, Row]

    @property
    def dagger(self) -> str:
        return max(row.dagger for row in self.rows.values())


def cell_text(
    made: Sequence[Row],
    columns: Sequence[ColumnLayout],
    layout: Layout,
    format: TableFormat,
    color: bool = False,
    notes: Sequence[str] = (),
    provenance: Sequence[str] = (),
    rules: str = "",
) -> str:
    """Return rows as text in a format other than CSV; ``notes`` are below the table, before the sources.

    ``rules`` names the protocols, for the caption.
    """
    style = STYLES["color" if format == "terminal" and color else format]
    names = {f"{one.dataset} {one.split}": one.header for one in layout.datasets}
    several = not layout.side_by_side and _are_of_several(made)
    lines = _side_by_side(made) if layout.side_by_side else [_line(row) for row in made]
    cited = list(dict.fromkeys(source for row in made if row.is_published for source in row.sources))
    settings = _settings(made, layout)
    head = [Column(_METHOD)]
    variants = [_BACKBONE] * any(line.backbone for line in lines) + [_TRAINING] * any(
        line.training_data for line in lines
    )
    head += [Column(name) for name in variants]
    if several:
        head.append(Column("Dataset"))
    head += [Column(name) for name in settings.values()]
    numbers = _numbers(made, columns, layout)
    head += [Column(one.header, True, names.get(data, data) if layout.side_by_side else "") for data, one in numbers]
    if cited:
        head.append(Column("Source"))
    cells: list[list[str]] = []
    blocks: dict[int, str] = {}
    for line in lines:
        block = "" if layout.side_by_side else line.rows[line.data].block
        if block and not blocks:
            blocks[len(cells)] = block
        row = [style.text(line.method + line.dagger)]
        texts = {_BACKBONE: line.backbone, _TRAINING: line.training_data}
        row += [style.text(texts[name] or UNDEFINED) for name in variants]
        if several:
            data = line.rows[line.data].dataset if block else names.get(line.data, line.data)
            row.append(style.text(data))
        row += [style.text(line.settings.get(key, UNDEFINED)) for key in settings]
        row += [_cell(line.rows.get(group or line.data), one.key, style, layout.decimals) for group, one in numbers]
        if cited:
            row.append(style.text(_source(line, cited)))
        cells.append(row)
    below = [*_footnotes(made, columns), *notes, *(f"[{number}] {note}" for number, note in enumerate(cited, start=1))]
    caption, label = _titled(made, names, rules)
    return render_table(Sheet(head, cells, below, provenance, blocks, caption, label), format)


def _titled(made: Sequence[Row], names: Mapping[str, str], rules: str) -> tuple[str, str]:
    """The caption, which says on what and by which rules the numbers are and what the marks mean, and the label."""
    data = list(dict.fromkeys(row.data for row in made if not row.block))
    caption = f"Results on {', '.join(names.get(one, one) for one in data)} in percent"
    caption += f", by the {rules}." if rules else "."
    marks = {mark for row in made for mark in row.marks.values()}
    caption += " The best is bold, the second underlined." if marks else ""
    if any(row.dagger for row in made):
        caption += f" {DAGGER} is not comparable with the others, for the reasons below."
    return caption, " ".join(data)


def csv_of(made: Sequence[Row], columns: Sequence[ColumnLayout], layout: Layout) -> str:
    """Return rows as CSV, one line per run: percent in full precision, empty where undefined, no marks."""
    import pandas as pd

    settings = _settings(made, layout)
    sure = any(row.halves or row.significant for row in made)
    lines = []
    for row in made:
        line = {_METHOD: row.method, _BACKBONE: row.backbone, _TRAINING: row.training_data}
        line |= {"Dataset": row.dataset, "Split": row.split}
        line |= {name: row.settings.get(key, "") for key, name in settings.items()}
        for one in columns:
            line[one.header] = _exact(row.percents.get(one.key))
            if sure and any(one.key in other.halves for other in made):
                line[f"{one.header} ±"] = _exact(row.halves.get(one.key))
        if any(other.significant for other in made):
            line["Significant"] = " ".join(one.key for one in columns if one.key in row.significant)
        line |= {"Comparable": _ANSWERS[row.comparable], "Not comparable": row.remark}
        lines.append(csv_line(line | {"Source": "; ".join(row.sources)}))
    return str(pd.DataFrame(lines).to_csv(index=False))


def _line(row: Row) -> _Line:
    return _joined({row.data: row})


def _side_by_side(made: Sequence[Row]) -> list[_Line]:
    """Rows of the same method and settings as one line; runs come before published results."""
    lines: dict[tuple[object, ...], dict[str, Row]] = {}
    for row in sorted(made, key=lambda row: row.is_published):
        key = (row.label, row.is_published, tuple(row.settings.items()))
        place = 0
        while row.data in lines.get((*key, place), ()):  # another source of the same method
            place += 1
        lines.setdefault((*key, place), {})[row.data] = row
    return [_joined(rows) for rows in lines.values()]


def _joined(rows: dict[str, Row]) -> _Line:
    first = next(iter(rows.values()))
    return _Line(first.method, first.backbone, first.training_data, first.data, first.settings, rows)


def _numbers(made: Sequence[Row], columns: Sequence[ColumnLayout], layout: Layout) -> list[tuple[str, ColumnLayout]]:
    """The columns of numbers, each with its dataset, or without one if every line has a different dataset."""
    if not layout.side_by_side:
        return [("", one) for one in columns]
    own = {(one.dataset, one.split): one.columns for one in layout.datasets if one.columns is not None}
    of_dataset = {dataset: found for (dataset, _), found in reversed(own.items())}
    chosen = {row.data: of_dataset.get(row.dataset) if row.block else own.get((row.dataset, row.split)) for row in made}
    return [(data, one) for data, found in chosen.items() for one in found or columns]


def _settings(made: Sequence[Row], layout: Layout) -> dict[str, str]:
    """Keys of the settings that are columns, and their headers."""
    if layout.settings is not None:
        return {one.key: one.header for one in layout.settings}
    return {key: key for row in made for key in row.settings}


def _cell(row: Row | None, column: str, style: Style, decimals: int) -> str:
    percent = row.percents.get(column) if row is not None else None
    if row is None or percent is None:
        return style.text(UNDEFINED)
    template = {"best": style.best, "second": style.second}.get(row.marks.get(column, ""), "{}")
    cell = template.format(in_print(percent, decimals))
    if column in row.halves:
        cell += style.half.format(in_print(row.halves[column], decimals))
    return cell + (style.significant if column in row.significant else "")


def _source(line: _Line, cited: Sequence[str]) -> str:
    numbers = [cited.index(source) + 1 for row in line.rows.values() if row.is_published for source in row.sources]
    return f"[{', '.join(map(str, dict.fromkeys(numbers)))}]" if numbers else "this run"


def _footnotes(made: Sequence[Row], columns: Sequence[ColumnLayout]) -> list[str]:
    several = _are_of_several(made)
    lines = dagger_notes((_in_note(row, several), row.reasons) for row in made)
    if any(one.key.startswith("corrected.") for one in columns):
        lines.append("corr.: the same predictions without the known faults of the official tool")
    return lines


def _are_of_several(made: Sequence[Row]) -> bool:
    """Whether rows are of several datasets or splits; those in a separate block are not counted."""
    return len({row.data for row in made if not row.block}) > 1


def _in_note(row: Row, several: bool) -> str:
    """A row's name outside of its line: with its settings, and with its data where there are several."""
    settings = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in row.settings.items())
    return " ".join(filter(None, [row.label, settings, f"on {row.data}" if several else ""]))


def _exact(percent: Decimal | None) -> str:
    return "" if percent is None else f"{percent:f}"
