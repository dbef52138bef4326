"""``harness compare``: is the difference between runs real?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DATA_ROOT, DataRoot, EachSeed, FurtherMetrics, Out
from harness.errors import UserError, near
from harness.paths import Location, location


def compare(
    runs: Annotated[
        list[Location],
        typer.Argument(
            metavar="RUN...",
            parser=location,
            help="Run folders or their URLs, or results files with --annotations or --dataset; the first is the"
            " reference.",
        ),
    ],
    data_root: DataRoot = DATA_ROOT,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="Annotation file of results files, and of runs on your own data that lack their match table."
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset of results files.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of --dataset.")] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Protocol that scores results files: lvvis, ytvis, ovis, burst; default: the dataset's."),
    ] = None,
    metric: FurtherMetrics = None,
    format: Annotated[str, typer.Option(help="terminal, markdown, latex, csv, html or json.")] = "terminal",
    each_seed: EachSeed = False,
    per_category: Annotated[Path | None, typer.Option(help="Write every category's difference to this CSV.")] = None,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json: fractions, all numbers.")] = False,
) -> None:
    """Compare runs by a paired jackknife over videos: intervals, p-values, detectable differences, causes.

    Every run is compared with the first in detail, and every pair by AP; one run alone gets its intervals. Runs that
    differ only in the seed are one row: their mean. All must be scored on the same videos by
    the same version of the same protocol. docs/comparison.md defines every number.

    A results file counts as a run: its truth is that of --annotations and --protocol, or of --dataset.

    Examples:

        harness compare runs/ov2seg-shapes-val-1a2b3c4d runs/clipvis-shapes-val-5e6f7a8b

        harness compare RUN RUN --metric hota/HOTA --metric lvvis-fixed/AP

        harness compare runs/*-lvvis-val-* --format latex --out comparison.tex --per-category categories.csv"""
    from harness.cli.output import command, runs_among, show, write
    from harness.cli.results_files import TruthOfResults, with_results_files
    from harness.reports.comparison import compare_runs
    from harness.reports.comparison_text import categories_csv, written_comparison
    from harness.reports.layouts import TABLE_FORMATS
    from harness.reports.run_files import read_runs

    known = (*TABLE_FORMATS, "json")
    if format not in known:
        raise UserError("--format", f'"{format}" is not a format', near(format, known))
    truth = TruthOfResults(annotations, dataset, split, data_root, protocol)
    with with_results_files(runs, truth) as folders:
        comparison = compare_runs(read_runs(runs_among(folders)), data_root, annotations, not each_seed, metric or ())
    if as_json or format == "json":
        text = json.dumps(comparison.record(), allow_nan=False) + "\n"
    else:
        text = written_comparison(comparison, format, [command()])  # type: ignore[arg-type]
    if per_category is not None:
        write(per_category, categories_csv(comparison))
    show(text, out)
