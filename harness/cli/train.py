"""``harness train``: train a model on a set of annotated images or videos."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DATA_ROOT, DataRoot, MlflowExperiment, NoMlflow, Tags
from harness.cli.output import mlflow_tracker
from harness.cli.run import PrecisionOption
from harness.errors import EXIT_INTERRUPTED, UserError, near
from harness.standard_output import tell

if TYPE_CHECKING:
    from harness.tracking.mlflow import MlflowTracker
    from harness.training.setup import Plan
    from harness.types import Dataset


def train(
    model: Annotated[str, typer.Option(help="The model.")],
    dataset: Annotated[str, typer.Option(help="Dataset to train on: lvis, coco, ytvis2019, shapes, ...")],
    out: Annotated[Path, typer.Option(help="Folder of the training: checkpoints, log, weights.")],
    split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    data_root: DataRoot = DATA_ROOT,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights to start from; default: a new model.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with the settings.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting.")] = None,
    validate: Annotated[str | None, typer.Option(help="Dataset to validate on (its default split).")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default: cuda where there is a GPU.")] = None,
    precision: Annotated[
        PrecisionOption, typer.Option(help="Number format of the forward pass.")
    ] = PrecisionOption.FP32,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of every random choice.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read and augment images.")] = 2,
    fresh: Annotated[bool, typer.Option("--fresh", help="Restart: remove the content of the folder.")] = False,
    no_mlflow: NoMlflow = False,
    experiment: MlflowExperiment = None,
    tag: Tags = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")] = False,
) -> None:
    """Train a model; the same command resumes an interrupted training, with the same result.

    Several GPUs or machines: start it with torchrun. `harness models show MODEL` lists the settings.

    Examples:

        harness train --model clipvis --dataset lvis --data-root DIR --precision fp16 --out trained

        torchrun --nproc-per-node 4 -m harness train --model clipvis --dataset coco --data-root DIR --out trained

        harness train --model clipvis --dataset ytvis2019 --checkpoint trained/model.safetensors --out tuned
    """
    from harness import plugins
    from harness.engines.devices import default_device, refuse_missing_devices
    from harness.plugin_code import convert_plugin_errors
    from harness.training.setup import Plan, read_settings
    from harness.training.types import TrainablePlugin

    place = device or default_device()
    refuse_missing_devices([place])
    plugin = plugins.model(model)
    if not isinstance(plugin, TrainablePlugin):
        raise UserError(f"--model {model}", "cannot be trained here", near(model, _trainable()))
    with convert_plugin_errors(f"model {model}", "its settings cannot be read"):
        settings, schedule = read_settings(plugin, dataset, config, set_ or [])
    source = plugins.dataset(dataset, data_root)
    with convert_plugin_errors(f"dataset {dataset}", "its training set cannot be opened"):
        opener = getattr(source, "training_set", None)
        training_set = None if opener is None else opener(data_root, split)
    if training_set is None:
        raise UserError(f"--dataset {dataset}", "cannot be trained on", "use lvis, coco, ytvis2019 or shapes")
    validation = _validation(validate, data_root)
    plan = Plan(plugin, settings, schedule, training_set, out, checkpoint, precision.value, seed, workers)
    try:
        tracker = mlflow_tracker(out, "--out", no_mlflow, experiment, tag, "repeat the command to log it")
        weights = _train(plan, split, place, validation, fresh, tracker)
    except KeyboardInterrupt as stop:
        command = shlex.join(["harness", *(a for a in sys.argv[1:] if a != "--fresh")])
        with suppress(OSError):  # the terminal is gone
            tell(f"harness: interrupted{stop}; resume from the last checkpoint with: {command}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if weights is None:
        return
    print(json.dumps({"weights": str(weights), "folder": str(out)}) if as_json else weights)
    if tracker is not None:
        tell(f"MLflow: {tracker.outcome}")


def _trainable() -> list[str]:
    from harness import plugins
    from harness.training.types import TrainablePlugin

    return [
        name for name in plugins.names(plugins.MODEL_ENTRY_POINTS) if isinstance(plugins.model(name), TrainablePlugin)
    ]


def _validation(name: str | None, data_root: Path) -> Dataset | None:
    if name is None:
        return None
    from harness import plugins

    return plugins.opened(name, data_root)


def _train(
    plan: Plan, split: str, device: str, validation: Dataset | None, fresh: bool, tracker: MlflowTracker | None
) -> Path | None:
    """Train in this process; the path of the weights, in the first process only."""
    from harness.plugin_code import isolate_plugin
    from harness.run_folder.lock import locked
    from harness.training.loop import remove_training
    from harness.training.loop import train as run_training
    from harness.training.processes import joined
    from harness.training.report import Reporter

    with joined(device) as processes, isolate_plugin(f"model {plan.plugin.name}"):
        if fresh and processes.is_first:
            remove_training(plan.folder)
        processes.wait()
        training = plan.training(processes)
        if not processes.is_first:
            run_training(training, processes)
            return None
        record = {"model": plan.plugin.name, "dataset": plan.training_set.name, "split": split}
        with (
            locked(plan.folder),
            Reporter(plan.folder, record, plan.plugin, processes.device, validation, tracker) as reporter,
        ):
            return run_training(training, processes, reporter.show, reporter.validate)
