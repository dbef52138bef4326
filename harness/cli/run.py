"""``harness run``: run models over datasets, with resume."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    DATA_ROOT,
    RUNS,
    DataRoot,
    MlflowExperiment,
    NoMlflow,
    OwnAnnotations,
    OwnFrames,
    OwnName,
    ScoreThreshold,
    Tags,
    TracksPerCategory,
    VideoTimeoutOption,
)
from harness.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, UserError, near
from harness.paths import Location, location
from harness.plain_text import escaped
from harness.standard_output import tell

if TYPE_CHECKING:
    from harness.cli.experiment import Experiment as ExperimentFile
    from harness.engines.model_spec import EngineMaker
    from harness.reports.layouts import TableFormat
    from harness.runner import Run, RunOutcome, Tracker
    from harness.types import Dataset


class PrecisionOption(StrEnum):
    """The number formats of `harness.precision`, as choices of an option."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class EngineName(StrEnum):
    """The engines."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True)
class ModelChoice:
    """A model of the matrix; its name is the prefix of its settings among several models. ``given`` are fields of
    its runs only."""

    label: str
    name: str
    config: Path | None = None
    settings: Sequence[str] = ()
    given: Mapping[str, Any] = field(default_factory=dict)


def run(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[EXPERIMENT]", help="A whole experiment as a YAML file.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Models, separated by commas.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Datasets, separated by commas.")] = None,
    name: Annotated[
        str | None, typer.Option(help="The model's name in tables and reports; default: the model's own name.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split; default: the dataset's own.")] = None,
    data_root: DataRoot = DATA_ROOT,
    annotations: OwnAnnotations = None,
    frames: OwnFrames = None,
    dataset_name: OwnName = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Protocols that score the run, separated by commas, or all; default: the dataset's own."),
    ] = None,
    score_threshold: ScoreThreshold = None,
    tracks_per_category: TracksPerCategory = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights of the model.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda (every GPU), cuda:1, cuda:0,cuda:1; default: cuda where there is a GPU."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that run the model, with one thread each; default: one per device."),
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="Run on this machine, or in a Ray cluster.")] = EngineName.LOCAL,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="With --engine ray: GPUs of each worker, 0.5 for two on one.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="With --engine ray: the cluster; default: start one here.")
    ] = None,
    video_timeout: VideoTimeoutOption = None,
    precision: Annotated[PrecisionOption, typer.Option(help="Number format of the model.")] = PrecisionOption.FP32,
    limit: Annotated[int | None, typer.Option(min=1, help="Run the first videos only (by id).")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with the model's configuration.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One configuration key; MODEL.KEY=VALUE for one of several. With EXPERIMENT: a key of that file.",
        ),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A,B,...", help="Run every value of a key, and every combination of several sweeps."),
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=A,B,...", help="Run without and with this change; several changes are made one at a time."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of every random choice.")] = 0,
    runs_dir: Annotated[
        Location,
        typer.Option(metavar="PATH", parser=location, help="Folder of the run folders: a path, s3://... or gs://..."),
    ] = RUNS,
    fresh: Annotated[bool, typer.Option("--fresh", help="Restart: remove this run's earlier results.")] = False,
    verify_frames: Annotated[
        bool, typer.Option("--verify-frames", help="When resuming, compare the whole content of frames, not samples.")
    ] = False,
    try_: Annotated[
        bool, typer.Option("--try", help="Run the first video only, print a summary of its tracks, and store nothing.")
    ] = False,
    no_mlflow: NoMlflow = False,
    experiment: MlflowExperiment = None,
    tag: Tags = None,
    format: Annotated[
        str, typer.Option(help="Format of the table: terminal, markdown, latex, csv or html.")
    ] = "terminal",
    strict: Annotated[bool, typer.Option("--strict", help="Make every warning of scoring an error.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")] = False,
) -> None:
    """Run models over datasets and score them. The same command resumes an interrupted run.

    Before a long run, --try shows what the model finds in one video.

    With --sweep and --ablate every variation of the configuration is a run, and the table shows the differences. A file
    can hold all options, and reports: docs/experiments.md.

    Exit code 0: complete; 1: incomplete, videos failed; 2: bad input, including unreadable frames; 130: interrupted.

    Examples:

        harness run --model oracle --dataset shapes

        harness run experiment.yaml --set limit=2

        harness run --model oracle --dataset lvvis,burst --data-root DIR --set drop_tracks=0.2

        harness run --model clipvis --dataset shapes --device cuda:0,cuda:1

        harness run --model oracle --annotations instances.json --frames DIR --protocol lvvis

        harness run --model clipvis --dataset shapes --ablate object_score=false --ablate matching=previous_frame
    """
    from harness.cli import experiment as experiments
    from harness.cli.output import mlflow_tracker
    from harness.engines.choice import choose_engine
    from harness.progress_display import shown_warnings
    from harness.reports.layouts import TABLE_FORMATS
    from harness.scoring.dispatch import Settings, listed_names
    from harness.sweeps import variations

    if format not in TABLE_FORMATS:
        raise UserError("--format", f'"{format}" is not a format', near(format, TABLE_FORMATS))
    whole = None
    given: dict[str, Any] = {"verify_frames": verify_frames}
    if file is not None:
        _refuse_options(context, file)
        whole = experiments.read_experiment(file, set_ or [])
        experiments.check_reports(file, whole)
        models, data = _models_of(whole), [part.model_dump() for part in whole.datasets]
        protocols = list(whole.protocols)
        varied = variations(experiments.value_list(whole.sweep), experiments.value_list(whole.ablate))
        place = (whole.engine, whole.device, whole.workers, whole.gpus_per_worker, whole.ray_address or ray_address,
                 whole.video_timeout)  # fmt: skip
        runs_dir, data_root = location(whole.runs_dir), whole.data_root or data_root
        given |= {"precision": whole.precision, "seed": whole.seed, "limit": whole.limit, "experiment": whole.text}
        scoring = Settings(whole.score_threshold, whole.tracks_per_category)
        no_mlflow = no_mlflow or not whole.tracking.mlflow
        experiment = whole.tracking.experiment or experiment
        tag = [] if no_mlflow else [f"{key}={value}" for key, value in whole.tracking.tags.items()]
    else:
        if model is None:
            raise UserError("harness run", "needs a model", "name --model, or an experiment file")
        models = [ModelChoice(one, one, config, set_ or ()) for one in _names(model, "--model")]
        if name is not None and (len(models) > 1 or not name.strip()):
            raise UserError("--name", "names one model", "run each model by itself, or name them in an experiment file")
        data = _data_of(dataset, split, annotations, frames, dataset_name)
        protocols = [] if protocol is None else listed_names(protocol)
        varied = variations(sweep or [], ablate or [])
        place = (engine.value, device, workers, gpus_per_worker, ray_address, video_timeout)
        given |= {"precision": precision.value, "seed": seed, "limit": limit, "checkpoint": checkpoint}
        given["title"] = None if name is None else name.strip()
        scoring = Settings(score_threshold, tracks_per_category)
    given |= {"runs_dir": runs_dir, "protocols": protocols, "scoring": scoring}
    with shown_warnings():
        try:
            given["device"], make_engine = choose_engine(*place)
            datasets = [_opened(part, data_root, protocols) for part in data]
            runs = list(_runs(models, datasets, varied, given, file))
            if try_:
                _try_all(runs, as_json)
                return
            folder = runs_dir if isinstance(runs_dir, Path) else RUNS
            tracker = mlflow_tracker(folder, "--runs-dir", no_mlflow, experiment, tag)
            outcomes, exit_code = _execute_all(runs, tracker, fresh, strict, make_engine)
        except KeyboardInterrupt as stop:
            with suppress(OSError):  # the terminal is gone
                tell(f"harness: interrupted{stop}; finished videos are kept, resume with: {_command()}")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    _report(outcomes, format, as_json)
    if whole is not None and outcomes:
        made = [(outcome.record["dataset"], location(outcome.record["folder"])) for outcome in outcomes]
        with nullcontext() if format == "terminal" and not as_json else redirect_stdout(sys.stderr):
            experiments.make_reports(whole, made)
    if tracker is not None and not as_json:
        print(escaped(f"MLflow: {tracker.outcome}"), file=sys.stdout if format == "terminal" else sys.stderr)
    raise typer.Exit(exit_code)


_BESIDES_A_FILE = (
    "file", "set_", "data_root", "fresh", "verify_frames", "try_", "no_mlflow", "format", "strict", "as_json"
)  # fmt: skip
"""Parameters that can be combined with an experiment file; the file has keys for the others."""


def _refuse_options(context: typer.Context, file: Path) -> None:
    """Raise `UserError` for options that the experiment file has keys for."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in _BESIDES_A_FILE:
            what = f"cannot be combined with the experiment {file}"
            raise UserError(parameter.opts[0], what, "write it into the file, or use --set KEY=VALUE")


def _models_of(whole: ExperimentFile) -> list[ModelChoice]:
    from harness.cli.experiment import setting_list

    found = []
    for label, part in whole.models.items():
        title = label if part.model is not None and part.model != label else None
        own = {"checkpoint": part.checkpoint, "precision": part.precision, "title": title}
        own = {key: value for key, value in own.items() if value is not None}
        found.append(ModelChoice(label, part.model or label, part.config, setting_list(part.settings), own))
    return found


def _names(text: str, option: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UserError(
            option, "names nothing", "`harness models list` and `harness datasets list` show the known names"
        )
    return names


def _data_of(
    dataset: str | None, split: str | None, annotations: Path | None, frames: Path | None, own_name: str | None
) -> list[dict[str, Any]]:
    """The data that the options name: datasets, or the user's own data."""
    if annotations is not None:
        if dataset is not None or split is not None:
            raise UserError("--annotations", "replaces --dataset and --split", "leave those out")
        return [{"annotations": annotations, "frames": frames, "name": own_name}]
    if frames is not None or own_name is not None:
        raise UserError("--frames and --dataset-name", "need --annotations", "a dataset has its own")
    if dataset is None:
        raise UserError("harness run", "needs data", "name --dataset, or --annotations with --frames and --protocol")
    return [{"name": name, "split": split} for name in _names(dataset, "--dataset")]


def _opened(part: Mapping[str, Any], data_root: Path, protocols: Sequence[str]) -> Dataset:
    """Open a dataset by name, or the user's own data."""
    from harness import plugins

    if part.get("annotations") is None:
        if part.get("name") is None:
            raise UserError("datasets", "an entry has neither name nor annotations", "write the name of a dataset")
        return plugins.opened(part["name"], part.get("data_root") or data_root, part.get("split"))
    from harness.datasets.own_data import open_own

    return open_own(part["annotations"], part.get("frames"), protocols[0] if protocols else None, part.get("name"))


def _runs(
    models: Sequence[ModelChoice],
    datasets: Sequence[Dataset],
    varied: list[list[str]],
    given: Mapping[str, Any],
    file: Path | None = None,
) -> Iterator[Run]:
    """The matrix of models, settings and datasets. Errors are raised before the first one runs, where possible.

    Settings that are equal for a model are one run. ``file`` is the experiment that names the settings.
    """
    from harness import plugins
    from harness.api import protocols_of_run
    from harness.config import read_config
    from harness.runner import Run

    labels = [one.label for one in models]
    for one in models:
        plugin = plugins.model(one.name)
        try:
            chosen = [
                read_config(plugin.Config, one.config, [*one.settings, *variation], one.label, labels)
                for variation in varied
            ]
        except UserError as error:
            if file is None or not error.where.startswith("setting "):
                raise
            where = f"{file}, settings of {one.label}, {error.where.removeprefix('setting ')}"
            raise UserError(where, error.what, error.hint) from error
        for opened in datasets:
            scored_by = {"protocols": protocols_of_run(given["protocols"], opened, given["scoring"])}
            runs = [Run(plugin, each, opened, **{**given, **one.given, **scored_by}) for each in chosen]
            yield from {run.folder: run for run in runs}.values()


def _execute_all(
    runs: list[Run], tracker: Tracker | None, fresh: bool, strict: bool, engine: EngineMaker
) -> tuple[list[RunOutcome], int]:
    """Execute runs one after the other. One that fails does not stop the others."""
    from harness.api import execute_run
    from harness.run_folder.identity import other_runs

    outcomes, exit_code = [], 0
    for one in runs:
        title = f"{one.plugin.name} on {one.dataset.name} {one.dataset.split}"
        try:
            if not (one.folder / "config.json").exists():
                others = other_runs(one.folder, one.content, [run.folder for run in runs])
                if others:
                    tell(f"harness: a new run; {others}")
            outcome = execute_run(one, tracker, fresh, strict, engine)
        except UserError as error:
            if len(runs) == 1:
                raise
            tell(f"harness: {title}: {error}")
            exit_code = EXIT_BAD_INPUT
            continue
        outcomes.append(outcome)
        exit_code = max(exit_code, outcome.exit_code)
    return outcomes, exit_code


def _try_all(runs: list[Run], as_json: bool) -> None:
    """One video of each run, in this process."""
    from dataclasses import replace

    from harness.engines.devices import default_device
    from harness.one_video import lines, try_video

    tried = []
    for one in runs:
        device = default_device() if one.device == "ray" else one.device.partition(",")[0]
        tried.append(try_video(replace(one, device=device)))
        if not as_json:
            print("\n".join(lines(tried[-1])))
    if as_json:
        print(json.dumps({"tried": tried}, allow_nan=False))


def _report(outcomes: list[RunOutcome], format: TableFormat, as_json: bool) -> None:
    """Records as JSON or a table to standard output; folders too, unless the table is of a format for files."""
    for message in (m for outcome in outcomes for m in outcome.messages):
        tell(f"harness: {message}")
    records = [outcome.record for outcome in outcomes]
    if as_json:
        print(json.dumps({"runs": records}, allow_nan=False))
        return
    from harness.reports.tables import comparison_table

    scored = [r for r in records if any(v is not None for side in ("metrics", "corrected") for v in r[side].values())]
    if scored:
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print(comparison_table(scored, format, corrected=True, color=color), end="")
    for record in records:
        print(escaped(record["folder"]), file=sys.stdout if format == "terminal" else sys.stderr)


def _command() -> str:
    return shlex.join(["harness", *(a for a in sys.argv[1:] if a != "--fresh")])
