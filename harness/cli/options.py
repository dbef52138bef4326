"""Options that several commands share, with the same meaning everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.paths import Location, location

DATA_ROOT = Path("data")
"""The default folder of datasets."""
RUNS = Path("runs")
"""The default folder of runs; also of the MLflow store of runs in an object store."""

DataRoot = Annotated[Path, typer.Option(envvar="HARNESS_DATA_ROOT", help="Folder that holds the datasets.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Out = Annotated[Path | None, typer.Option(help="Write to this file in place of standard output.")]

MatchAnnotations = Annotated[
    Path | None, typer.Option(help="Annotation file of runs on your own data, if a folder lacks its match table.")
]
RunAnnotations = Annotated[
    Path | None, typer.Option(help="The annotation file of the runs, if it is not below --data-root.")
]
OwnAnnotations = Annotated[
    Path | None, typer.Option(help="Annotation file of your own data in YouTube-VIS form, in place of a dataset.")
]
OwnFrames = Annotated[Path | None, typer.Option(help="Folder of the frames of --annotations.")]
OwnProtocol = Annotated[str | None, typer.Option(help="Protocol of --annotations: lvvis, ytvis, ovis or burst.")]
OwnName = Annotated[str | None, typer.Option(help="Name of the --annotations data; default: the file's name.")]

Predictions = Annotated[
    Location,
    typer.Option(
        metavar="PATH",
        parser=location,
        help="results.json (also zipped or gzipped), a run folder or its predictions; or a URL.",
    ),
]
VideoTimeoutOption = Annotated[
    float | None,
    typer.Option(
        min=1,
        metavar="SECONDS",
        help="Stop a worker whose video takes longer; default: 20 times the run's time per pixel, at least"
        " 10 minutes. Needs several workers or Ray.",
    ),
]
EachSeed = Annotated[
    bool,
    typer.Option(
        "--each-seed", help="A row for each seed; default: runs that differ only in the seed are one row, their mean."
    ),
]

FurtherMetrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="PROTOCOL/METRIC",
        help="A further metric, such as hota/HOTA or lvvis-fixed/AP; may be repeated.",
    ),
]

NoMlflow = Annotated[bool, typer.Option("--no-mlflow", help="Do not log to MLflow.")]
MlflowExperiment = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_EXPERIMENT_NAME", help="MLflow experiment; default: the name of the dataset.", show_envvar=True
    ),
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="A tag of the MLflow run; may be repeated.")
]
ScoreThreshold = Annotated[
    float | None, typer.Option(help="hota: leave out tracks with a lower score; default: keep all.")
]
TracksPerCategory = Annotated[
    int | None, typer.Option(min=1, help="NAME-fixed: number of tracks per category that count; default: 10000.")
]
