"""``harness analyse``: why the numbers of runs are what they are."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.cli.options import DATA_ROOT, DataRoot, Out, RunAnnotations
from harness.errors import UserError, near
from harness.paths import Location, location


def analyse(
    runs: Annotated[
        list[Location], typer.Argument(metavar="RUN...", parser=location, help="Run folders or their URLs.")
    ],
    data_root: DataRoot = DATA_ROOT,
    annotations: RunAnnotations = None,
    format: Annotated[str, typer.Option(help="terminal, markdown, latex, csv, html or json.")] = "terminal",
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json: fractions, examples.")] = False,
) -> None:
    """Break the errors of runs down by kind, and show AP by slices of the data and the calibration of scores.

    For each kind, the gain of AP50 if all its errors were repaired: wrong categories, poor masks, switched
    identities, wrong frames, duplicates, tracks on nothing, missed objects.
    docs/error-analysis.md defines every kind and number.

    Examples:

        harness analyse runs/clipvis-shapes-val-1a2b3c4d

        harness analyse runs/*-lvvis-val-* --data-root DIR --format markdown --out errors.md
    """
    from harness.cli.output import command, runs_among, show
    from harness.reports.analysis_text import written_analyses
    from harness.reports.layouts import FORMATS
    from harness.reports.run_analysis import analyse_runs

    known = (*FORMATS, "json")
    if format not in known:
        raise UserError("--format", f'"{format}" is not a format', near(format, known))
    found = analyse_runs(runs_among(runs), data_root, annotations)
    if as_json or format == "json":
        text = json.dumps({"runs": [one.record() for one in found]}, allow_nan=False) + "\n"
    else:
        text = written_analyses(found, format, [command()])  # type: ignore[arg-type]
    show(text, out)
