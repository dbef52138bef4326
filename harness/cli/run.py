"""``harness run``: models over datasets, resumed where they were."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    DATA_ROOT,
    RUNS,
    DataRoot,
    Experiment,
    NoMlflow,
    OwnAnnotations,
    OwnFrames,
    OwnName,
    Tags,
)
from harness.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED, UserError, near
from harness.paths import Location, location

if TYPE_CHECKING:
    from harness.engines.model_spec import EngineMaker
    from harness.reports.layouts import Format
    from harness.runner import Run, RunOutcome, Tracker
    from harness.scoring.dispatch import Settings
    from harness.types import Dataset


class Precision(StrEnum):
    """Number formats of models."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class EngineName(StrEnum):
    """Who runs the model."""

    LOCAL = "local"
    RAY = "ray"


def run(
    model: Annotated[str, typer.Option(help="Models, separated by commas.")],
    dataset: Annotated[str | None, typer.Option(help="Datasets, separated by commas.")] = None,
    split: Annotated[str | None, typer.Option(help="Split; default: the dataset's own.")] = None,
    data_root: DataRoot = DATA_ROOT,
    annotations: OwnAnnotations = None,
    frames: OwnFrames = None,
    dataset_name: OwnName = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Scoring, several separated by commas, or all; default: the dataset's own."),
    ] = None,
    score_threshold: Annotated[
        float | None, typer.Option(help="hota: leave out tracks of a lower score; by default none is left out.")
    ] = None,
    tracks_per_category: Annotated[
        int | None, typer.Option(min=1, help="NAME-fixed: tracks of a category that count; by default 10000.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights of the model.")] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda (every GPU), cuda:1, cuda:0,cuda:1; default: cuda where there is a GPU."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that run the model, with one thread each; default: one per device."),
    ] = None,
    engine: Annotated[
        EngineName, typer.Option(help="Where they run: on this machine, or in a Ray cluster.")
    ] = EngineName.LOCAL,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="With --engine ray: GPUs of each worker, 0.5 for two on one.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="With --engine ray: the cluster; default: start one here.")
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Number format of the model.")] = Precision.FP32,
    limit: Annotated[int | None, typer.Option(min=1, help="Run the first videos only (by id).")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with the model's configuration.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One configuration key; MODEL.KEY=VALUE for one of several."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A,B,...", help="Run every value of a key, and every combination of several sweeps."),
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=A,B,...", help="Run without and with this one change; of several, one at a time."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of every random choice.")] = 0,
    runs_dir: Annotated[
        Location,
        typer.Option(metavar="PATH", parser=location, help="Folder of the run folders: a path, s3://... or gs://..."),
    ] = RUNS,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over: remove the results of earlier starts of this run.")
    ] = False,
    verify_frames: Annotated[
        bool, typer.Option("--verify-frames", help="When resuming, compare all of the frames' content, not samples.")
    ] = False,
    try_: Annotated[
        bool, typer.Option("--try", help="Run the first video only, print a summary of its tracks, and store nothing.")
    ] = False,
    no_mlflow: NoMlflow = False,
    experiment: Experiment = None,
    tag: Tags = None,
    format: Annotated[str, typer.Option(help="Of the table: terminal, markdown, latex, csv or html.")] = "terminal",
    strict: Annotated[bool, typer.Option("--strict", help="Make every warning of scoring an error.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")] = False,
) -> None:
    """Run models over datasets and score them. The same command resumes a run that was cut short.

    Before a long run, --try shows what the model finds in one video.

    With --sweep and --ablate every variation of the configuration is a run, and the table has a column for each change.

    Exit code 0: complete; 1: incomplete, videos failed; 2: bad input, including unreadable frames; 130: interrupted.

    Examples:

        harness run --model oracle --dataset shapes

        harness run --model oracle --dataset lvvis,burst --data-root DIR --set drop_tracks=0.2

        harness run --model clipvis --dataset shapes --device cuda:0,cuda:1

        harness run --model oracle --annotations instances.json --frames DIR --protocol lvvis

        harness run --model clipvis --dataset shapes --ablate object_score=false --ablate matching=previous_frame
    """
    from harness.cli.output import mlflow_tracker
    from harness.engines.choice import choose_engine
    from harness.progress_display import shown_warnings
    from harness.reports.layouts import FORMATS
    from harness.scoring.dispatch import Settings
    from harness.sweeps import variations

    if format not in FORMATS:
        raise UserError("--format", f'"{format}" is not a format', near(format, FORMATS))

    given: dict[str, Any] = {
        "checkpoint": checkpoint,
        "precision": precision.value,
        "seed": seed,
        "limit": limit,
        "runs_dir": runs_dir,
    }
    given["verify_frames"] = verify_frames
    settings = [[*(set_ or []), *variation] for variation in variations(sweep or [], ablate or [])]
    protocols = [] if protocol is None else _names(protocol, "--protocol")
    given["scoring"] = Settings(score_threshold, tracks_per_category)
    with shown_warnings():
        try:
            given["device"], make_engine = choose_engine(engine.value, device, workers, gpus_per_worker, ray_address)
            datasets = list(_datasets(dataset, split, data_root, annotations, frames, protocols, dataset_name))
            given["protocols"] = protocols
            runs = list(_runs(_names(model, "--model"), datasets, config, settings, given))
            if try_:
                _try_all(runs, as_json)
                return
            folder = runs_dir if isinstance(runs_dir, Path) else RUNS
            tracker = mlflow_tracker(folder, "--runs-dir", no_mlflow, experiment, tag)
            outcomes, exit_code = _execute_all(runs, tracker, fresh, strict, make_engine)
        except KeyboardInterrupt:
            print(f"harness: interrupted; what is done is kept, resume with: {_command()}", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from None
    _report(outcomes, format, as_json)
    if tracker is not None and not as_json:
        print(f"MLflow: {tracker.outcome}", file=sys.stdout if format == "terminal" else sys.stderr)
    raise typer.Exit(exit_code)


def _names(text: str, option: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise UserError(option, "names nothing", "`harness models list` and `harness datasets list` show what there is")
    return names


def _datasets(
    dataset: str | None,
    split: str | None,
    data_root: Path,
    annotations: Path | None,
    frames: Path | None,
    protocols: list[str],
    own_name: str | None,
) -> Iterator[Dataset]:
    """Open the named datasets, or the user's own data."""
    from harness import plugins

    if annotations is not None:
        if dataset is not None or split is not None:
            raise UserError("--annotations", "takes the place of --dataset and --split", "leave those out")
        from harness.datasets.own_data import open_own

        yield open_own(annotations, frames, protocols[0] if protocols else None, own_name)
        return
    if frames is not None or own_name is not None:
        raise UserError("--frames and --dataset-name", "go with --annotations", "a dataset has its own")
    if dataset is None:
        raise UserError("harness run", "needs data", "name --dataset, or --annotations with --frames and --protocol")
    for name in _names(dataset, "--dataset"):
        yield plugins.opened(name, data_root, split)


def _runs(
    models: list[str], datasets: list[Dataset], config: Path | None, settings: list[list[str]], given: dict[str, Any]
) -> Iterator[Run]:
    """The matrix of models, settings and datasets: what can be refused is refused before the first one runs.

    Settings that come to the same for a model are one run.
    """
    from harness import plugins
    from harness.config import read_config
    from harness.runner import Run

    for name in models:
        plugin = plugins.model(name)
        chosen = [read_config(plugin.Config, config, variation, name, models) for variation in settings]
        for opened in datasets:
            protocols = _protocols(given["protocols"], opened, given["scoring"])
            runs = [Run(plugin, one, opened, **{**given, "protocols": protocols}) for one in chosen]
            yield from {run.folder: run for run in runs}.values()


def _protocols(names: list[str], opened: Dataset, settings: Settings) -> tuple[str, ...]:
    """The protocols that score a run on a dataset, its own first."""
    from harness.scoring import BURST_TASKS
    from harness.scoring.dispatch import check_settings, expand_names

    if not names:
        return ()
    found = expand_names(names, opened.protocol, opened.annotations.pairs is not None)
    check_settings(found, settings)
    for name in found:
        if name in BURST_TASKS:
            hint = "export the predictions and score them with harness eval"
            raise UserError(f"--protocol {name}", "takes files in BURST's own form", hint)
    own = [opened.protocol] if opened.protocol in found else []
    return tuple(dict.fromkeys([*own, *found]))


def _execute_all(
    runs: list[Run], tracker: Tracker | None, fresh: bool, strict: bool, engine: EngineMaker
) -> tuple[list[RunOutcome], int]:
    """Execute runs one after the other. One that cannot go on does not keep the others from it."""
    from harness.api import execute_run
    from harness.run_folder.identity import other_runs

    outcomes, exit_code = [], 0
    for one in runs:
        title = f"{one.plugin.name} on {one.dataset.name} {one.dataset.split}"
        try:
            if not (one.folder / "config.json").exists():
                others = other_runs(one.folder, one.content, [run.folder for run in runs])
                if others:
                    print(f"harness: a new run; {others}", file=sys.stderr)
            outcome = execute_run(one, tracker, fresh, strict, engine)
        except UserError as error:
            if len(runs) == 1:
                raise
            print(f"harness: {title}: {error}", file=sys.stderr)
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


def _report(outcomes: list[RunOutcome], format: Format, as_json: bool) -> None:
    """Records as JSON or a table to standard output; folders too, unless the table is of a format for files."""
    for message in (m for outcome in outcomes for m in outcome.messages):
        print(f"harness: {message}", file=sys.stderr)
    records = [outcome.record for outcome in outcomes]
    if as_json:
        print(json.dumps({"runs": records}, allow_nan=False))
        return
    from harness.reports.tables import table

    scored = [r for r in records if any(v is not None for side in ("metrics", "corrected") for v in r[side].values())]
    if scored:
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print(table(scored, format, corrected=True, color=color), end="")
    for record in records:
        print(record["folder"], file=sys.stdout if format == "terminal" else sys.stderr)


def _command() -> str:
    return shlex.join(["harness", *(a for a in sys.argv[1:] if a != "--fresh")])
