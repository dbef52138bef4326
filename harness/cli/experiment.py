"""An experiment in one YAML file: the options of `harness run`, and reports on its runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.cli.options import RUNS
from harness.config import read_config
from harness.errors import UserError, near
from harness.paths import Location
from harness.precision import Precision

REPORTS = ("table", "compare", "analyse", "figures", "report", "leaderboard")
"""Commands that an experiment may end with."""
_DATASET = "{dataset}"
_USAGE_ERRORS: tuple[type[Exception], ...] = (typer.BadParameter.__bases__[0],)
"""Typer's exception for a wrong command line: typer includes a copy of click, and exports the subclass only."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelPart(_Part):
    """One entry of ``models``: its key names it in sweeps; ``model`` is by default the key itself."""

    model: str | None = None
    checkpoint: Path | None = None
    config: Path | None = None
    settings: dict[str, Any] = {}
    precision: Precision | None = None


class DatasetPart(_Part):
    """One entry of ``datasets``: a name, or your own data by ``annotations`` and ``frames``."""

    name: str | None = None
    split: str | None = None
    data_root: Path | None = None
    annotations: Path | None = None
    frames: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class TrackingPart(_Part):
    """Where the runs are logged; see docs/mlflow.md."""

    mlflow: bool = True
    experiment: str | None = None
    tags: dict[str, str] = {}


class Experiment(_Part):
    """The keys of the file, with the meaning of the options of `harness run` with these names."""

    models: dict[str, ModelPart] = Field(min_length=1)
    datasets: tuple[DatasetPart, ...] = Field(min_length=1)
    data_root: Path | None = None
    protocols: tuple[str, ...] = ()
    score_threshold: float | None = None
    tracks_per_category: int | None = Field(default=None, ge=1)
    sweep: dict[str, list[Any]] = {}
    ablate: dict[str, list[Any]] = {}
    seed: int = Field(default=0, ge=0, lt=2**32)
    precision: Precision = "fp32"
    limit: int | None = Field(default=None, ge=1)
    device: str | None = None
    workers: int | None = Field(default=None, ge=1)
    engine: Literal["local", "ray"] = "local"
    gpus_per_worker: float | None = Field(default=None, ge=0)
    video_timeout: float | None = Field(default=None, ge=1)
    ray_address: str | None = None
    runs_dir: str = str(RUNS)
    tracking: TrackingPart = TrackingPart()
    reports: dict[str, dict[str, Any]] = {}

    @field_validator("models", "reports", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """Plain names, in a list or as keys without a value, are entries without settings."""
        if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
            return {name: {} for name in value}
        return {k: {} if v is None else v for k, v in value.items()} if isinstance(value, dict) else value

    @property
    def text(self) -> str:
        """The file with the changes of ``--set`` and all defaults, for the run folder."""
        content = self.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def read_experiment(file: Path, settings: Sequence[str]) -> Experiment:
    """Read an experiment with ``settings`` (``key=value``, dotted keys) over it.

    Raises `UserError` for unknown keys, values that do not fit, and unknown reports.
    """
    found = read_config(Experiment, file, settings, explained="docs/experiments.md explains the keys")
    for command in found.reports:
        if command not in REPORTS:
            raise UserError(f"{file}, reports", f'"{command}" is not a report', near(command, REPORTS))
    return found


def setting_list(values: Mapping[str, Any]) -> list[str]:
    """Mappings of the file as ``key=value``."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def value_list(values: Mapping[str, Sequence[Any]]) -> list[str]:
    """``sweep`` and ``ablate`` of the file as ``key=value,value``."""
    return [f"{key}={','.join(map(json.dumps, several))}" for key, several in values.items()]


def check_reports(file: Path, experiment: Experiment) -> None:
    """Raise `UserError` for options of reports that their commands do not take, before anything runs."""
    group = _commands()
    for command, arguments in _report_commands(experiment, [("dataset", Path("run"))], group):
        try:
            group.commands[command].make_context(command, list(arguments))
        except _USAGE_ERRORS as error:
            where, hint = f"{file}, reports, {command}", f"`harness {command} --help` lists the options"
            fault: Any = error
            raise UserError(where, " ".join(fault.format_message().split()), hint) from error


def make_reports(experiment: Experiment, runs: Sequence[tuple[str, Location]]) -> None:
    """Run the commands of ``reports`` on the runs, each with the name of its dataset and its folder.

    A command with ``{dataset}`` in an option is run for each dataset. Raises `UserError` as the commands do.
    """
    group = _commands()
    for command, arguments in _report_commands(experiment, runs, group):
        group.main([command, *arguments], standalone_mode=False)


def _commands() -> Any:
    from harness.cli.main import build

    return typer.main.get_command(build())


def _report_commands(
    experiment: Experiment, runs: Sequence[tuple[str, Location]], group: Any
) -> Iterator[tuple[str, list[str]]]:
    """Each command with its arguments."""
    for command, options in experiment.reports.items():
        chosen = dict(options)
        known = {parameter.name for parameter in group.commands[command].params}
        if experiment.data_root is not None and "data_root" in known:
            chosen.setdefault("data_root", experiment.data_root)
        apart = any(_DATASET in str(value) for value in chosen.values())
        for name in dict.fromkeys(name for name, _ in runs) if apart else [""]:
            folders = [str(folder) for dataset, folder in runs if not apart or dataset == name]
            named = [experiment.runs_dir] if command == "leaderboard" else folders
            yield command, [*_arguments(chosen, name), *named]


def _arguments(options: Mapping[str, Any], dataset: str) -> list[str]:
    arguments = []
    for key, value in options.items():
        option = f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            arguments += [option] if value else []
            continue
        several = value if isinstance(value, list) else [value]
        arguments += [part for one in several for part in (option, str(one).replace(_DATASET, dataset))]
    return arguments
