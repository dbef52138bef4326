"""``harness log``: log finished runs to MLflow afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import RUNS, MlflowExperiment, Tags
from harness.errors import EXIT_BAD_INPUT, EXIT_FAILED, UserError
from harness.paths import Location, location
from harness.standard_output import tell

if TYPE_CHECKING:
    from harness.run_folder.finished_run import FinishedRun

LOG_SECONDS = 300.0
"""Wall-clock limit of logging one run."""


def log(
    runs: Annotated[list[Location], typer.Argument(metavar="RUN...", parser=location, help="Run folders or URLs.")],
    experiment: MlflowExperiment = None,
    tag: Tags = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Log finished runs to MLflow: those that could not be logged when they ran, or to another store.

    The store is that of MLFLOW_TRACKING_URI, else the embedded one next to the run folder. A run that is already there
    is logged to the same MLflow run again.

    Exit code 0: all are logged; 1: some are not, because MLflow does not respond; 2: bad input, which is
    listed; the other runs are logged.

    Examples:

        harness log runs/*
    """
    from harness.cli.output import mlflow_tracker, runs_among
    from harness.run_folder.finished_run import FinishedRun

    outcomes: dict[str, str | None] = {}
    refused = 0
    for one in runs_among(runs):
        try:
            run = FinishedRun.open(one)
            record, categories = run.record, _categories(run)
        except UserError as error:
            tell(f"harness: not logged: {error}")
            outcomes[str(one)], refused = None, refused + 1
            continue
        place = run.folder.parent if isinstance(run.folder, Path) else RUNS
        folder = place if isinstance(place, Path) else Path("runs")
        tracker = mlflow_tracker(folder, "folder", False, experiment, tag)
        assert tracker is not None
        warnings = tracker.log_finished(run.folder, record, categories, LOG_SECONDS)
        for line in warnings:
            tell(f"harness: {run.folder}: {line}")
        outcomes[str(run.folder)] = None if tracker.missing else tracker.uri
        if not as_json and not tracker.missing:
            print(f"{run.folder}: {tracker.uri}")
    if as_json:
        print(json.dumps({"logged": outcomes}))
    if refused:
        raise typer.Exit(EXIT_BAD_INPUT)
    raise typer.Exit(0 if all(outcomes.values()) else EXIT_FAILED)


def _categories(run: FinishedRun) -> list[dict[str, Any]]:
    """The numbers by category as they are logged with a run."""
    import msgspec

    return [msgspec.to_builtins(row) for row in run.categories]
