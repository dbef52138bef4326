"""``harness figures``: runs as vector graphics for a paper."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UserError, near


def figures(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; the first is the reference.")],
    out: Annotated[Path, typer.Option(help="Folder to write the figures to.")],
    format: Annotated[str, typer.Option(help="pdf or svg.")] = "pdf",
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Bootstrap resamples of the videos.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    data_root: Annotated[Path, typer.Option(envvar="HARNESS_DATA_ROOT", help="Folder that holds the datasets.")] = Path(
        "data"
    ),
    annotations: Annotated[
        Path | None, typer.Option(help="Annotation file of runs on your own data, where a folder lacks its matches.")
    ] = None,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Put the figures into the MLflow run of each RUN as well.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with the files.")] = False,
) -> None:
    """Draw runs on the same videos: precision over recall, gains by category, ablations, speed against accuracy.

    A gain is of each run against the first. Every numeric setting in which runs of one model differ gives a curve.

    Examples:

        harness figures runs/ov2seg-lvvis-val-1a2b3c4d runs/clipvis-lvvis-val-5e6f7a8b --out figures

        harness figures runs/clipvis-shapes-val-* --out figures --format svg
    """
    from harness.cli.output import command
    from harness.durable import write_durably
    from harness.reports import figures as drawn
    from harness.reports.records import provenance

    if format not in drawn.FORMATS:
        raise UserError("--format", f'"{format}" is not a format', near(format, drawn.FORMATS))
    subject = drawn.read_subject(runs, data_root, annotations, resamples=resamples, seed=seed)
    told = provenance([run.record for run in subject.runs], command())
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(str(out), f"cannot be made: {error.strerror}", "name another --out") from error
    paths = []
    for drawing in drawn.figures(subject):
        paths.append(out / f"{drawing.name}.{format}")
        write_durably(paths[-1], drawn.rendered(drawing.figure, format, told))
    if as_json:
        print(json.dumps({"figures": [str(path) for path in paths]}))
    else:
        for path in paths:
            print(path)
    if mlflow:
        from harness.tracking.artifacts import log_files

        for line in log_files(runs, paths):
            print(f"harness: {line}", file=sys.stderr)
