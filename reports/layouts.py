"""Renders tables of formatted cells as text: for the terminal, Markdown, LaTeX and HTML, with grouped headers."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Literal, get_args

from harness.plain_text import plain
from harness.reports import latex, terminal
from harness.reports.styles import STYLES

if TYPE_CHECKING:
    import pandas as pd

TableFormat = Literal["terminal", "markdown", "latex", "csv", "html"]
TABLE_FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)


@dataclass(frozen=True)
class Column:
    """A column's header, plain text. Neighbours of one ``group`` are under its name; numbers are right-aligned."""

    name: str
    is_number: bool = False
    group: str = ""


@dataclass(frozen=True)
class Sheet:
    """A table ready to be written: cells in the style of the format, headers and the rest as plain text.

    ``provenance`` becomes a comment where the format has such: what the table was made from, and how. ``blocks`` are
    headings, plain text, each above the line of that number (from 0). ``caption`` says what the table shows, ``label``
    is a name for references to it; both are for LaTeX.
    """

    columns: Sequence[Column]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    provenance: Sequence[str] = ()
    blocks: Mapping[int, str] = field(default_factory=dict)
    caption: str = ""
    label: str = ""


def render_table(sheet: Sheet, format: TableFormat) -> str:
    """Return a sheet as text, ending in a newline; not for CSV, whose cells are exact."""
    return _WRITERS[format](sheet)


def _as_terminal(sheet: Sheet) -> str:
    width, text = terminal.terminal_width(), STYLES["terminal"].text
    numbers = [column.is_number for column in sheet.columns]
    blocks = {number: text(heading) for number, heading in sheet.blocks.items()}
    table = terminal.fitted(_headers(sheet, "terminal"), sheet.lines, numbers, width, blocks)
    return table + "\n" + _lines("\n{}", [terminal.folded(line, width) for line in _notes(sheet, "terminal")])


def _as_markdown(sheet: Sheet) -> str:
    from tabulate import tabulate

    aligned = ["right" if column.is_number else "left" for column in sheet.columns]
    lines, headers = _lines_with_headings(sheet, "markdown"), _headers(sheet, "markdown")
    table = tabulate(lines, headers, tablefmt="pipe", disable_numparse=True, colalign=aligned, headersalign=aligned)
    return _comment(sheet) + table + "\n" + _lines("\n{}", [f"- {line}" for line in _notes(sheet, "markdown")])


def _as_latex(sheet: Sheet) -> str:
    columns = latex.TableColumns(
        [column.name for column in sheet.columns],
        [column.group for column in sheet.columns],
        [column.is_number for column in sheet.columns],
    )
    title = latex.Title(sheet.caption, sheet.label)
    return latex.table_environment(
        columns, latex.TableBody(sheet.lines, sheet.blocks), sheet.notes, sheet.provenance, title
    )


def _as_html(sheet: Sheet) -> str:
    import pandas as pd

    text, groups = STYLES["html"].text, _groups(sheet)
    names = [text(column.name) for column in sheet.columns]
    columns: pd.Index[str] = pd.Index(names)
    if any(name for name, _ in groups):
        columns = pd.MultiIndex.from_tuples(
            [(text(column.group), name) for column, name in zip(sheet.columns, names, strict=True)]
        )
    with pd.option_context("display.max_colwidth", None):  # else pandas cuts long names
        frame = pd.DataFrame(_lines_with_headings(sheet, "html"), columns=columns)
        body = frame.to_html(index=False, escape=False, border=0)
    return _comment(sheet) + body + "\n" + _lines("{}", [f"<p>{line}</p>" for line in _notes(sheet, "html")])


_WRITERS: dict[str, Callable[[Sheet], str]] = {
    "terminal": _as_terminal,
    "markdown": _as_markdown,
    "latex": _as_latex,
    "html": _as_html,
}


def _groups(sheet: Sheet) -> list[tuple[str, int]]:
    """Names of the groups of neighbouring columns, and how many columns each has."""
    return [(name, len(list(columns))) for name, columns in groupby(column.group for column in sheet.columns)]


def _headers(sheet: Sheet, style: str) -> list[str]:
    """Headers of formats without header groups: each names its group."""
    return [STYLES[style].text(f"{column.group} {column.name}".strip()) for column in sheet.columns]


def _lines_with_headings(sheet: Sheet, style: str) -> list[Sequence[str]]:
    """The lines; a heading is a separate line whose other cells are empty."""
    lines: list[Sequence[str]] = []
    for number, line in enumerate(sheet.lines):
        if number in sheet.blocks:
            lines.append([STYLES[style].text(sheet.blocks[number]), *[""] * (len(sheet.columns) - 1)])
        lines.append(line)
    return lines


def _notes(sheet: Sheet, style: str) -> list[str]:
    return [STYLES[style].text(line) for line in sheet.notes]


def _comment(sheet: Sheet) -> str:
    """The provenance as an HTML comment, which Markdown has too; nothing in it can end the comment."""
    return _lines("<!--\n{}-->\n", [html.escape(plain(line), quote=False) for line in sheet.provenance])


def _lines(around: str, lines: Sequence[str]) -> str:
    return around.format("\n".join(lines) + "\n") if lines else ""
