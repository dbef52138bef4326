"""``harness figures``: runs as vector graphics for a paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DATA_ROOT, DataRoot, MatchAnnotations
from harness.errors import UserError, near
from harness.paths import Location, location
from harness.plain_text import escaped
from harness.standard_output import tell


def figures(
    runs: Annotated[
        list[Location],
        typer.Argument(
            metavar="RUN...", parser=location, help="Run folders or their URLs; the first is the reference."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the figures to.")],
    format: Annotated[str, typer.Option(help="pdf or svg.")] = "pdf",
    column_width: Annotated[
        float, typer.Option(min=1.5, max=12, metavar="INCHES", help="Width of a column; some figures take two.")
    ] = 3.25,
    font: Annotated[str | None, typer.Option(help="Font family, such as serif or Times New Roman.")] = None,
    video: Annotated[
        int | None,
        typer.Option(
            metavar="ID", help="Video whose frames are shown; default: the one that changes the difference most."
        ),
    ] = None,
    clip: Annotated[
        bool, typer.Option("--clip", help="Also write the whole video of the frames as frames.mp4.")
    ] = False,
    data_root: DataRoot = DATA_ROOT,
    annotations: MatchAnnotations = None,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Also log the figures to the MLflow run of each RUN.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with the files.")] = False,
) -> None:
    """Draw runs on the same videos: curves, gains by category, errors, frames, ablations, speed against accuracy.

    Gains compare each run with the first. Every numeric setting in which runs of one model differ gives a curve.
    Errors by kind and frames need the data.

    A run that cannot be read is left out and listed at the end; the exit code is then 1, and 2 if none is left.

    Examples:

        harness figures runs/ov2seg-lvvis-val-1a2b3c4d runs/clipvis-lvvis-val-5e6f7a8b --out figures

        harness figures runs/clipvis-shapes-val-* --out figures --format svg

        harness figures runs/clipvis-shapes-val-* --out figures --column-width 3.5 --font serif
    """
    from harness.atomic_write import write_atomically
    from harness.cli.output import command, end_with_faults, log_to_mlflow, runs_among
    from harness.reports import figures as drawn
    from harness.reports.run_files import read_runs
    from harness.run_folder.records import provenance

    if format not in drawn.FIGURE_FORMATS:
        raise UserError("--format", f'"{format}" is not a format', near(format, drawn.FIGURE_FORMATS))
    runs = runs_among(runs)
    faults: list[UserError] = []
    read = read_runs(runs, faults, ("record", "config"))
    look = drawn.checked_look(column_width, font)
    data = drawn.figure_data(read, data_root, annotations, look, faults)
    told = provenance([run.record for run in data.runs], command())
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(str(out), f"cannot be created: {error.strerror}", "name another --out") from error
    paths = []
    with drawn.letters_without_font() as lacking:
        drawings, left_out = drawn.figures(data, video)
        for drawing in drawings:
            paths.append(out / f"{drawing.name}.{format}")
            write_atomically(paths[-1], drawn.figure_bytes(drawing.figure, format, told, look))
    if lacking:
        letters = escaped("".join(sorted(lacking)))
        tell(f"harness: the font lacks {letters}: name an installed one that has them with --font")
    if format == "pdf":
        write_atomically(out / "figures.tex", drawn.in_latex(data, drawings, told).encode())
    if clip and data.dataset is not None:
        paths.append(out / "frames.mp4")
        write_atomically(paths[-1], drawn.clip(data, data.dataset, video))
    for line in left_out:
        tell(f"harness: not drawn: {line}")
    if as_json:
        print(json.dumps({"figures": [str(path) for path in paths]}))
    else:
        for path in paths:
            print(escaped(str(path)))
    if mlflow:
        log_to_mlflow([run.folder for run in data.runs], paths)
    end_with_faults(faults)
