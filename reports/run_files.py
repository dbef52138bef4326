"""Finished runs for reports, without duplicates and with distinct labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.comparability import comparability_of
from harness.paths import Location
from harness.reports.settings import varying_settings
from harness.reports.styles import DAGGER
from harness.run_folder.finished_run import RECORD, FinishedRun

_SETTINGS_IN_LABEL = 2


def read_runs(paths: Iterable[Location]) -> list[FinishedRun]:
    """Open run folders (or the ``metrics.json`` in them), each once, and give them distinct labels.

    Raises `UserError` for folders that are not finished runs.
    """
    folders = {_folder(path).resolve(): path for path in paths}
    return label_runs([FinishedRun.open(path) for path in folders.values()])


def label_runs(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Give runs distinct labels: the model, then the few settings that differ, else the end of the folder's name."""
    labels = _labels([run.record for run in runs], [run.id for run in runs])
    return [run.labelled(label) for run, label in zip(runs, labels, strict=True)]


def _folder(path: Location) -> Location:
    return path.parent if path.name == RECORD else path


def _labels(records: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Labels: the model, then the few settings that differ, else the end of the folder's name."""
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
    """A run's label, with a dagger if it is not comparable."""
    return label + DAGGER if comparability_of(record).comparable is False else label
