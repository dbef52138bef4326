"""``harness report``: runs in one HTML file to look at, offline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UserError


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; the first one is the reference.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    data_root: Annotated[Path, typer.Option(envvar="HARNESS_DATA_ROOT", help="Folder that holds the datasets.")] = Path(
        "data"
    ),
    annotations: Annotated[
        Path | None, typer.Option(help="The annotation file of the runs, where it is not below --data-root.")
    ] = None,
    frames: Annotated[Path | None, typer.Option(help="Folder of the frames of --annotations.")] = None,
    videos: Annotated[int, typer.Option(min=0, help="Videos in the viewer.")] = 9,
    max_mb: Annotated[float, typer.Option(min=0.1, help="Megabytes that their frames may take.")] = 3.0,
    resamples: Annotated[int, typer.Option(min=100, help="Resamples of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Put the report into the MLflow run of each RUN as well.")
    ] = False,
) -> None:
    """Write one HTML file about one or several runs on the same data: who is better, where, by how much, and why.

    It needs no network and no other file: tables with intervals, curves, errors, slices, videos, provenance.

    Examples:

        harness report runs/oracle-shapes-val-1a2b3c4d

        harness report runs/ov2seg-* runs/clipvis-* --data-root DIR --out report.html
    """
    from harness.durable import write_durably
    from harness.reports.html import Options
    from harness.reports.html import report as page

    if out.exists() and not out.is_file():  # renaming a file onto a device or a pipe would replace it
        raise UserError(str(out), "is not a file", "name another file with --out")
    options = Options(data_root, annotations, frames, videos, max_mb, resamples, seed)
    write_durably(out, page(runs, options).encode())
    print(out)
    if mlflow:
        from harness.tracking.artifacts import log_files

        for line in log_files(runs, [out]):
            print(f"harness: {line}", file=sys.stderr)
