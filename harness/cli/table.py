"""``harness table``: runs side by side, with published results."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import DATA_ROOT, RUNS, DataRoot, EachSeed, MatchAnnotations, Out
from harness.errors import UserError, near
from harness.paths import Location, location
from harness.standard_output import tell

if TYPE_CHECKING:
    from harness.reports.published import PublishedResult
    from harness.reports.table_rows import Row
    from harness.run_folder.finished_run import FinishedRun


def table(
    runs: Annotated[
        list[Location] | None,
        typer.Argument(metavar="RUN...", parser=location, help="Run folders or their URLs, or their metrics.json."),
    ] = None,
    format: Annotated[str, typer.Option(help="terminal, markdown, latex, csv or html.")] = "terminal",
    published: Annotated[
        str, typer.Option(metavar="main|all", help="Add published results on the same dataset and split.")
    ] = "",
    rows: Annotated[
        Path | None,
        typer.Option(help="CSV or YAML file of rows without a run, in the columns of the published table."),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Metrics to show, in this order, as in a layout; AR is AR100."),
    ] = None,
    corrected: Annotated[
        bool, typer.Option("--corrected", help="Add columns without the known faults of the official tools.")
    ] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Datasets side by side, one row per method.")
    ] = False,
    layout: Annotated[
        Path | None, typer.Option(help="YAML file with the table's rows, datasets, columns, settings and names.")
    ] = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Add half the 95 % interval, by a jackknife over videos.")
    ] = False,
    significance: Annotated[
        str | None, typer.Option(help="first or best: mark what differs significantly from this run.")
    ] = None,
    each_seed: EachSeed = False,
    data_root: DataRoot = DATA_ROOT,
    annotations: MatchAnnotations = None,
    from_mlflow: Annotated[
        str | None, typer.Option(metavar="EXPERIMENT", help="Take the runs of this MLflow experiment.")
    ] = None,
    runs_dir: Annotated[
        Path, typer.Option(help="Folder of the runs and their MLflow store, unless MLFLOW_TRACKING_URI names a server.")
    ] = RUNS,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, metrics as fractions.")] = False,
) -> None:
    """Compare runs in one table: the best number of a column is bold, the second underlined.

    A run that is not comparable with published numbers, such as one on part of a dataset, has a dagger and no rank.

    A run that cannot be read is left out and listed at the end; the exit code is then 1, and 2 if none is left.

    Settings in which runs of one model differ become columns. docs/comparison.md shows layouts.

    Examples:

        harness table runs/oracle-lvvis-val-1a2b3c4d --published main

        harness table runs/*-lvvis-val-* runs/*-burst-val-* --side-by-side --intervals --format latex --out table.tex

        harness table runs/*-burst-val-* --published all --columns AP,HOTA,mAP

        harness table runs/*-lvvis-val-* --published all --columns AP,APn,FPS

        harness table --from-mlflow lvvis --format markdown
    """
    from harness.cli.output import command, end_with_faults, runs_among, show
    from harness.reports import confidence_intervals, table_rows, tables
    from harness.reports.layouts import TABLE_FORMATS
    from harness.reports.published import read_given
    from harness.reports.run_files import groups_of_seeds, mean_record, read_runs
    from harness.reports.settings import called
    from harness.reports.table_layout import ColumnLayout, Layout, read_layout
    from harness.run_folder.records import no_official_numbers, provenance

    if format not in TABLE_FORMATS:
        raise UserError("--format", f'"{format}" is not a format', near(format, TABLE_FORMATS))
    if significance is not None and significance not in confidence_intervals.REFERENCES:
        raise UserError(
            "--significance",
            f'"{significance}" is not a reference',
            near(significance, confidence_intervals.REFERENCES),
        )
    if published not in table_rows.CHOICES:
        hint = "write --published main (the methods of a paper's table) or --published all"
        raise UserError("--published", f'"{published}" is neither main nor all', hint)
    chosen = Layout() if layout is None else read_layout(layout)
    if side_by_side:
        chosen = chosen.model_copy(update={"side_by_side": True})
    if columns is not None:
        named = tuple(ColumnLayout(key=name.strip()) for name in columns.split(",") if name.strip())
        if not named:
            raise UserError("--columns", "names no metric", "write for example --columns AP,APn")
        chosen = chosen.model_copy(update={"columns": named})
    faults: list[UserError] = []
    found = read_runs(runs_among(runs or []), faults)
    grouped = [[run] for run in found] if each_seed else groups_of_seeds(found)
    records = [mean_record(group) for group in grouped]
    if from_mlflow is not None:
        if found or intervals or significance:
            raise UserError(
                "--from-mlflow", "cannot be combined with run folders, --intervals and --significance", "leave them out"
            )
        from harness.tracking.experiment import records_of

        records = records_of(from_mlflow, runs_dir)
    if not records:
        raise UserError("harness table", "needs runs", "name run folders, or an experiment with --from-mlflow")
    for record in records:
        if reason := no_official_numbers(record):
            tell(f"harness: {called(record)}: {reason}")
    wanted = {one.key for one in (*chosen.columns, *(c for d in chosen.datasets for c in d.columns or ()))}
    speeds: list[str] = []
    if table_rows.FPS in wanted:
        records, speeds = _with_speeds(grouped, records)
    if published:
        _tell_unpublished(records, [one.key for one in chosen.columns] or table_rows.COLUMNS)
    given = () if rows is None else read_given(rows)
    if rows is not None:
        _tell_unused(rows, given, records)
    sure: list[table_rows.Intervals | None] = []
    notes = speeds
    with_tests = intervals or significance is not None
    shown = [one.key for one in chosen.columns] or tables.default_columns(records, with_tests)
    if with_tests:
        known = len(faults)
        sure = confidence_intervals.intervals_of(
            grouped, shown, significance, intervals, data_root, annotations, faults
        )
        notes = notes + confidence_intervals.notes_on(significance, intervals)
        if len(faults) > known:
            notes = [*notes, "A run whose predictions cannot be read has no interval and no mark"]
    if as_json:
        made = table_rows.table_rows(
            records, shown, published=published, corrected=corrected, layout=chosen, intervals=sure, given=given
        )
        text = json.dumps({"rows": [_row(row) for row in made]}, allow_nan=False) + "\n"
    else:
        color = out is None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        text = tables.comparison_table(
            records, format, published=published, columns=shown, corrected=corrected, color=color, layout=chosen,
            intervals=sure, notes=notes, provenance=provenance(records, command()), given=given,
        )  # fmt: skip
    show(text, out)
    end_with_faults(faults)


def _tell_unused(path: Path, given: Sequence[PublishedResult], records: Sequence[Mapping[str, Any]]) -> None:
    """Print how many of a user's rows are on other data than the runs."""
    from harness.reports.published import among

    data = dict.fromkeys((record["dataset"], record["split"]) for record in records)
    used = {row for dataset, split in data for row in among(given, dataset, split)}
    left = [row for row in given if row not in used]
    if left:
        where = f"{left[0].dataset} {left[0].split}"
        tell(f"{path}: {len(left)} of {len(given)} rows are on other data, first: {where}")


def _with_speeds(
    grouped: Sequence[Sequence[FinishedRun]], records: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The records with frames per second at their own vocabulary, and under which conditions, or why there are none.

    Of runs that differ only in the seed, the first one with a measurement counts.
    """
    from harness.reports.table_rows import FPS
    from harness.run_folder.bench import speed_of_run

    if not grouped:
        return list(records), ["FPS: runs of MLflow have none"]
    found = [next((run for run in group if run.bench is not None), group[0]) for group in grouped]
    speeds = [speed_of_run(run.record, run.bench) for run in found]
    made = [{**record, FPS: speed} for record, (speed, _) in zip(records, speeds, strict=True)]
    return made, [f"FPS of {run.label}: {how}" for run, (_, how) in zip(found, speeds, strict=True)]


def _tell_unpublished(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print the datasets without published results, and the published metrics that no column shows."""
    from harness.reports.published import published
    from harness.reports.published.vocabulary import NOT_STATED, column_name

    shown = {column_name(column) for column in columns}
    for dataset, split in dict.fromkeys((record["dataset"], record["split"]) for record in records):
        known = [*published(dataset, split), *published(dataset, NOT_STATED)]
        others = dict.fromkeys(result.metric for result in known if result.metric not in shown)
        if not known:
            tell(f"no published results on {dataset} {split} are known")
        elif others:
            tell(f"published on {dataset} in columns not shown: {', '.join(others)} (--columns)")


def _row(row: Row) -> dict[str, Any]:
    from harness.reports.published.vocabulary import SPEEDS

    metrics = {
        column: None if percent is None else float(percent if column in SPEEDS else percent.scaleb(-2))
        for column, percent in row.percents.items()
    }
    return {
        "method": row.method,
        "backbone": row.backbone or None,
        "training_data": row.training_data or None,
        "dataset": row.dataset,
        "split": row.split,
        "settings": row.settings,
        "metrics": metrics,
        **({"half_intervals": {key: float(half.scaleb(-2)) for key, half in row.halves.items()}} if row.halves else {}),
        **({"significant": sorted(row.significant)} if row.significant else {}),
        "comparable": row.comparable,
        "not_comparable": list(row.reasons),
        "published": row.is_published,
        "sources": row.sources,
    }
