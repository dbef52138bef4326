"""``harness table``: runs side by side, with published results beside them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.durable import write_durably
from harness.errors import UserError, near

if TYPE_CHECKING:
    from harness.reports.tables import Row


def table(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders, or their metrics.json.")],
    format: Annotated[str, typer.Option(help="terminal, markdown, latex, csv or html.")] = "terminal",
    published: Annotated[
        bool, typer.Option("--published", help="Add published results on the same dataset and split.")
    ] = False,
    corrected: Annotated[
        bool, typer.Option("--corrected", help="Add columns without the known faults of the official evaluators.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write to this file in place of standard output.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, metrics as fractions.")] = False,
) -> None:
    """Compare runs in one table: the best number of a column is bold, the second underlined.

    Settings in which runs of one model differ become columns.

    Examples:

        harness table runs/oracle-lvvis-val-1a2b3c4d --published

        harness table runs/*-lvvis-val-* --format latex --out table.tex
    """
    from harness.reports import tables
    from harness.reports.published import published as published_results
    from harness.reports.records import read_record

    if format not in tables.FORMATS:
        raise UserError("--format", f'"{format}" is not a format', near(format, tables.FORMATS))
    records = [read_record(run) for run in {run.resolve(): run for run in runs}.values()]
    if published:
        for dataset, split in dict.fromkeys((record["dataset"], record["split"]) for record in records):
            if not published_results(dataset, split):
                print(f"no published results on {dataset} {split} are known", file=sys.stderr)
    if as_json:
        made = tables.rows(records, published=published, corrected=corrected)
        text = json.dumps({"rows": [_row(row) for row in made]}, allow_nan=False) + "\n"
    else:
        color = out is None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        text = tables.table(records, format, published=published, corrected=corrected, color=color)
    if out is None:
        sys.stdout.write(text)
    else:
        _write(out, text)


def _row(row: Row) -> dict[str, Any]:
    metrics = {
        column: None if percent is None else float(percent.scaleb(-2)) for column, percent in row.percents.items()
    }
    return {
        "method": row.method,
        "dataset": row.dataset,
        "split": row.split,
        "settings": row.settings,
        "metrics": metrics,
        "complete": not row.remark,
        "published": row.is_published,
        "sources": row.sources,
    }


def _write(path: Path, text: str) -> None:
    if path.exists() and not path.is_file():  # renaming a file onto a device or a pipe would replace it
        raise UserError(str(path), "is not a file", "name another file with --out")
    write_durably(path, text.encode())
