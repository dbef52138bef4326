"""``harness report``: runs in one offline HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DATA_ROOT, DataRoot, FurtherMetrics, RunAnnotations
from harness.errors import UserError
from harness.paths import Location, location
from harness.plain_text import escaped


def report(
    runs: Annotated[
        list[Location],
        typer.Argument(
            metavar="RUN...", parser=location, help="Run folders or their URLs; the first one is the reference."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    data_root: DataRoot = DATA_ROOT,
    annotations: RunAnnotations = None,
    frames: Annotated[Path | None, typer.Option(help="Folder of the frames of --annotations.")] = None,
    videos: Annotated[int, typer.Option(min=0, help="Videos in the viewer.")] = 9,
    max_mb: Annotated[float, typer.Option(min=0.1, help="Largest total size of their frames in megabytes.")] = 3.0,
    with_ceilings: Annotated[
        bool,
        typer.Option(
            "--ceilings", help="Add the numbers with perfect classes, masks, links and presence; takes longer."
        ),
    ] = False,
    metric: FurtherMetrics = None,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Also log the report to the MLflow run of each RUN.")
    ] = False,
) -> None:
    """Write one HTML file about one or several runs on the same data: which run is better, where, by how much, and why.

    It needs no network and no other file: tables with intervals, curves, errors, slices, videos, provenance.

    A run that cannot be read is left out and listed at the end; the exit code is then 1, and 2 if none is left.

    Examples:

        harness report runs/oracle-shapes-val-1a2b3c4d

        harness report runs/ov2seg-lvvis-* runs/clipvis-lvvis-* --data-root DIR --out report.html
    """
    from harness.cli.output import end_with_faults, log_to_mlflow, refuse_other_than_file, runs_among, write
    from harness.progress_display import steps
    from harness.reports.html import Options
    from harness.reports.html import report as page

    refuse_other_than_file(out)  # before the work, not after it
    options = Options(data_root, annotations, frames, videos, max_mb, with_ceilings, tuple(metric or ()))
    runs = runs_among(runs)
    faults: list[UserError] = []
    with steps() as step:
        written = page(runs, options, faults, step)
    write(out, written)
    print(escaped(str(out)))
    if mlflow:
        log_to_mlflow(runs, [out])
    end_with_faults(faults)
