"""``harness export``: a run's predictions as files that others take."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from harness.paths import Location, location


class Format(StrEnum):
    """What a run is exported to."""

    ZIP = "zip"
    RESULTS = "results"


def export(
    run: Annotated[Location, typer.Argument(metavar="RUN", parser=location, help="Run folder or its URL.")],
    format: Annotated[
        Format, typer.Option(help="zip: what an evaluation server takes; results: the official results.json.")
    ] = Format.ZIP,
    out: Annotated[
        Location | None,
        typer.Option(metavar="PATH", parser=location, help="File to write, or its URL; default: in the run folder."),
    ] = None,
) -> None:
    """Write the predictions of a run as a results file or as the zip for a server; refuses where videos are missing.

    Examples:

        harness export runs/oracle-lvvis-val-1a2b3c4d --out submission.zip

        harness export runs/oracle-lvvis-val-1a2b3c4d --format results --out results.json
    """
    from harness.export import RESULTS, export_results, write_submission
    from harness.run_folder.layout import SUBMISSION

    if format is Format.ZIP:
        path = out or run / SUBMISSION
        tracks = write_submission(run, path)
    else:
        path = out or run / RESULTS
        tracks = export_results(run, path)
    print(f"{path}: {tracks} tracks")
