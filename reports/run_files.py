"""What lies in a run's folder, read for reports: record, configuration, environment, times, categories, predictions.

Files of a run folder may come from strangers: they are checked, and nothing in them is believed to be safe as HTML.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from harness.comparability import comparability_of
from harness.errors import UserError
from harness.paths import Location
from harness.reports.settings import varying_settings
from harness.reports.styles import DAGGER
from harness.run_folder.checksums import read_checked, read_json
from harness.run_folder.layout import PREDICTIONS, Times, content_digest
from harness.run_folder.records import read_config, read_record
from harness.run_folder.store import PredictionStore

_SETTINGS_IN_LABEL = 2


class Cpu(msgspec.Struct, frozen=True):
    """The processor."""

    model: str | None = None
    count: int | None = None


class RunEnvironment(msgspec.Struct, frozen=True):
    """``environment.json``: what a run was made with; ``time`` is when it was begun, in UTC (ISO 8601)."""

    harness: str | None = None
    python: str | None = None
    platform: str | None = None
    cpu: Cpu = Cpu()
    memory_bytes: int | None = None
    gpus: list[str] = []
    device: str | None = None
    git_commit: str | None = None
    git_changed: bool | None = None
    working_directory_commit: str | None = None
    time: str | None = None
    packages: dict[str, str] = {}
    inputs: dict[str, str | None] = {}


class CategoryRow(msgspec.Struct, frozen=True):
    """One line of ``per_category.csv``; numbers are fractions, ``None`` where the category has no truth."""

    id: int
    name: str
    groups: str = ""
    AP: float | None = None
    AP50: float | None = None
    AP75: float | None = None
    AR100: float | None = None
    truths: int = 0
    tracks: int = 0


@dataclass(frozen=True)
class RunFiles:
    """A run folder's content. ``id``, its name, is what numbers in a report are traced by.

    ``label`` is for people, and ends in a dagger where the run is not comparable with published numbers.
    """

    folder: Location
    label: str
    record: dict[str, Any]
    config: dict[str, Any]
    environment: RunEnvironment
    times: Times
    categories: tuple[CategoryRow, ...]

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def digest(self) -> str:
        """SHA-256 of the content of ``config.json``."""
        return content_digest(self.config)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not comparable; none where it is, or where nothing is known."""
        return comparability_of(self.record).reasons

    @property
    def store(self) -> PredictionStore:
        return PredictionStore(self.folder / PREDICTIONS)

    @property
    def metrics(self) -> dict[str, float | None]:
        """Metrics by name, fractions; empty where there are none."""
        return self.record["metrics"] or {}

    @property
    def data(self) -> tuple[str, str, str | None]:
        """Dataset, split and digest of the annotations: runs with the same can stand side by side."""
        return self.record["dataset"], self.record["split"], self.config.get("digest")


def read_runs(paths: Iterable[Location]) -> list[RunFiles]:
    """Read run folders (or the ``metrics.json`` in them), each once, and name them apart.

    Raises `UserError` for folders that are no finished runs and for damaged files; only ``metrics.json`` must exist.
    """
    folders = list({_folder(path).resolve(): None for path in paths})
    records = [read_record(folder) for folder in folders]
    labels = _labels(records, [folder.name for folder in folders])
    return [read_run(*found) for found in zip(folders, records, labels, strict=True)]


def _folder(path: Location) -> Location:
    return path.parent if path.name == "metrics.json" else path


def read_run(folder: Location, record: dict[str, Any], label: str) -> RunFiles:
    """Read the other files of the folder of ``record``; raises `UserError` for damaged ones."""
    return RunFiles(
        folder,
        label,
        record,
        read_config(folder) if (folder / "config.json").exists() else {},
        read_json(folder, "environment.json", RunEnvironment) or RunEnvironment(),
        read_json(folder, "timings.json", Times) or Times(),
        _categories(folder),
    )


def _categories(folder: Location) -> tuple[CategoryRow, ...]:
    data = read_checked(folder, "per_category.csv")
    if data is None:
        return ()
    try:
        rows = [
            {key: value for key, value in row.items() if key is not None and value}
            for row in csv.DictReader(io.StringIO(data.decode()))
        ]
        return tuple(msgspec.convert(rows, list[CategoryRow], strict=False))
    except (UnicodeDecodeError, csv.Error, msgspec.MsgspecError) as error:
        where = str(folder / "per_category.csv")
        raise UserError(where, f"is damaged: {error}", "repeat its harness run") from error


def _labels(records: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Names for people: the model, then the few settings that differ, else the end of the folder's name."""
    models = [str(record["model"]) for record in records]
    labels = list(models)
    for i, found in enumerate(varying_settings(records)):
        if models.count(models[i]) > 1 and 0 < len(found) <= _SETTINGS_IN_LABEL:
            labels[i] += " " + ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in found.items())
    tails = [name.rpartition("-")[2] for name in names]
    told = [
        f"{label} ({tail})" if labels.count(label) > 1 else label for label, tail in zip(labels, tails, strict=True)
    ]
    apart = [f"{label} ({name})" if told.count(label) > 1 else label for label, name in zip(told, names, strict=True)]
    return [marked(label, record) for label, record in zip(apart, records, strict=True)]


def marked(label: str, record: Mapping[str, Any]) -> str:
    """A run's name with a dagger where it is not comparable."""
    return label + DAGGER if comparability_of(record).comparable is False else label
