"""Comparison tables of runs and published results: for the terminal, Markdown, LaTeX, CSV and HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.reports.layouts import TableFormat
from harness.reports.published import PublishedResult
from harness.reports.table_layout import ColumnLayout, Layout
from harness.reports.table_rows import (
    COLUMNS,
    CORRECTED_COLUMNS,
    CORRECTED_PREFIX,
    PHRASE_COLUMNS,
    PRESENCE_COLUMNS,
    Intervals,
    Published,
    first_metric,
    main_columns,
    presence_notes,
    table_rows,
)
from harness.reports.table_sheets import cell_text, csv_of
from harness.scoring.presence import presence_metrics


def table_of_run(record: Mapping[str, Any]) -> str:
    """The text of ``table.md`` in a run folder."""
    return comparison_table([record], "markdown")


def comparison_table(
    records: Sequence[Mapping[str, Any]],
    format: TableFormat = "terminal",
    *,
    published: Published = "",
    columns: Sequence[str] = COLUMNS,
    corrected: bool = False,
    color: bool = False,
    layout: Layout | None = None,
    intervals: Sequence[Intervals | None] = (),
    notes: Sequence[str] = (),
    provenance: Sequence[str] = (),
    given: Sequence[PublishedResult] = (),
) -> str:
    """Return a table of ``records`` (see `harness.run_folder.records`), in percent, ending in a newline.

    Runs keep the order given, by dataset; settings in which runs of one model differ are columns. ``published``
    adds the published results on the same dataset and split with their sources, all or the main ones. Numbers have
    one decimal; the best of a column and dataset is bold and the second underlined (of the rows that are `ranked`;
    ties share the mark, a single number gets none). Rows that are not comparable have a dagger, with the reasons
    below; undefined numbers are an en dash. In the terminal the marks need ``color``. CSV has percent in full
    precision, empty if undefined, the reasons as a column, and no marks. ``columns`` are metric keys (``AR`` is
    AR100); ``corrected`` adds those of `CORRECTED_COLUMNS` by the corrected protocol. ``layout`` overrides all of this.
    ``intervals`` of each record adds intervals and marks of significance, which ``notes`` explain; ``provenance``
    becomes a comment. ``given`` are rows of a user's file. Default ``columns`` are those of `default_columns`.
    """
    if not records:
        return ""
    layout = layout or Layout()
    if tuple(columns) == COLUMNS:
        columns = default_columns(records, any(one is not None for one in intervals))
    common = _common_columns(layout, columns, corrected)
    shown = {one.key: one for one in (*common, *_columns_of_datasets(layout))}
    table_notes = presence_notes(list(shown))
    made = table_rows(records, list(shown), published=published, layout=layout, intervals=intervals, given=given)
    if format == "csv":
        return csv_of(made, list(shown.values()), layout)
    return cell_text(made, common, layout, format, color, [*notes, *table_notes], provenance, _rules(records))


def _rules(records: Sequence[Mapping[str, Any]]) -> str:
    """The protocols of the records with their versions, as a text; empty where none is known."""
    known = (record.get("protocol") for record in records)
    found = dict.fromkeys(f"{one['name']} protocol (version {one['version']})" for one in known if one)
    return ", ".join(found)


def default_columns(records: Sequence[Mapping[str, Any]], with_tests: bool = False) -> list[str]:
    """The columns where none are chosen: of average precision or of phrases, and the first one of every other protocol.

    A table ``with_tests`` (intervals, marks of significance) also has the rates of presence that are tested, where a
    run has them.
    """
    main = main_columns(records)
    if main == PHRASE_COLUMNS:
        return list(main)
    has_rates = with_tests and any(presence_metrics(record) for record in records)
    return list(dict.fromkeys([*main, *(PRESENCE_COLUMNS if has_rates else ()), *_headlines(records)]))


def _headlines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The first metric of every further protocol that scored one of the runs, where it has a number."""
    found: dict[str, None] = {}
    for record in records:
        for scored in record.get("protocols", [])[1:]:
            metric = first_metric(scored)
            if metric is not None:
                found[metric] = None
    return list(found)


def _common_columns(layout: Layout, columns: Sequence[str], corrected: bool) -> list[ColumnLayout]:
    """The columns of every dataset: the layout's, or else ``columns``; and corrected ones."""
    chosen = list(layout.columns) or [ColumnLayout(key=key) for key in columns]
    if corrected:
        chosen += [
            ColumnLayout(key=CORRECTED_PREFIX + one.key, name=f"{one.header} corr.")
            for one in chosen
            if one.key in CORRECTED_COLUMNS
        ]
    return list({one.key: one for one in chosen}.values())


def _columns_of_datasets(layout: Layout) -> list[ColumnLayout]:
    return [column for dataset in layout.datasets for column in dataset.columns or () if layout.side_by_side]
