"""Finished runs for reports, without duplicates and with distinct labels."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from harness.comparability import comparability_of
from harness.errors import UserError
from harness.paths import Location
from harness.reports.settings import called, varying_settings
from harness.reports.styles import DAGGER
from harness.run_folder.finished_run import RECORD, FinishedRun
from harness.scoring.presence import PRESENCE

_SETTINGS_IN_LABEL, _MOST_TRIED = 2, 3


def read_runs(
    paths: Iterable[Location], faults: list[UserError] | None = None, files: Sequence[str] = ("record",)
) -> list[FinishedRun]:
    """Open run folders (or the ``metrics.json`` in them), each once, and give them distinct labels.

    Raises `UserError` for folders that are not finished runs. With a list of ``faults`` these are added there and left
    out, as are those with damage in one of ``files`` (properties of `FinishedRun`); it raises for a folder that is not
    there, and if no run is left.
    """
    runs, wrong = [], []
    for path in {_folder(path).resolve(): path for path in paths}.values():
        try:
            runs.append(FinishedRun.open(path).checked(*files))
        except UserError as error:
            if faults is None or not path.exists():  # a name that does not exist is mistyped
                raise
            wrong.append(error)
    if wrong and not runs:
        raise wrong[0]
    if faults is not None:
        faults += wrong
    return label_runs(runs)


def label_runs(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Give runs distinct labels: see `labels_of_records`."""
    labels = labels_of_records([run.record for run in runs])
    return [run.labelled(label) for run, label in zip(runs, labels, strict=True)]


def groups_of_seeds(runs: Sequence[FinishedRun]) -> list[list[FinishedRun]]:
    """The runs in their order; those that differ only in their seed are in one group, by ascending seed.

    Runs with one name (``--name``) may also differ in their checkpoints: several trainings.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(_apart_from_seed(run.record), []).append(run)
    made: list[list[FinishedRun]] = []
    for run in runs:
        group = groups[_apart_from_seed(run.record)]
        seeds = [one.record.get("seed") for one in group]
        if None in seeds or len(set(seeds)) < len(seeds):
            made.append([run])
        elif run is group[0]:
            made.append(sorted(group, key=lambda one: int(one.record["seed"])))
    return made


def mean_record(group: Sequence[FinishedRun]) -> dict[str, Any]:
    """The record of seeds as one row: their mean numbers, named with their number and the spread of AP; else as it is.

    A number that is undefined for a seed is undefined.
    """
    first = group[0].record
    if len(group) == 1:
        return first
    records = [run.record for run in group]
    values = [(record["metrics"] or {}).get("AP") for record in records]
    known = [value for value in values if value is not None]
    spread = f", SD of AP {100 * statistics.stdev(known):.2f}" if len(known) == len(group) else ""
    sides = {side: _means([record[side] for record in records]) for side in ("metrics", "corrected")}
    others = [
        _mean_scores([_scored(record, one) for record in records])
        for one in first["protocols"]
        if all(_scored(record, one) for record in records)
    ]
    name = f"{called(first)} ({len(group)} seeds{spread})"
    return {**first, **sides, "protocols": others, "name": name, "seed": None, "weights": None}


def _mean_scores(several: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean numbers of several runs by one protocol, and of their rates of presence where all have them."""
    first, *others = (one.get("slices", {}).get(PRESENCE, {}).get("by_threshold", {}) for one in several)
    rates = {
        threshold: _means([mine, *(other[threshold] for other in others)])
        for threshold, mine in first.items()
        if all(threshold in other for other in others)
    }
    slices = {key: value for key, value in several[0].get("slices", {}).items() if key != PRESENCE}
    if rates:
        slices[PRESENCE] = {"by_threshold": rates}
    sides = {side: _means([one[side] for one in several]) for side in ("metrics", "corrected")}
    return {**several[0], **sides, "slices": slices}


def _means(several: Sequence[Mapping[str, float | None] | None]) -> dict[str, float | None] | None:
    known = [one for one in several if one is not None]
    if len(known) < len(several):
        return None
    columns = {key: [one.get(key) for one in known] for key in known[0]}
    return {key: None if None in values else statistics.fmean(values) for key, values in columns.items()}  # type: ignore[arg-type]


def _scored(record: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of another record by the same protocol."""
    return next((one for one in record["protocols"] if one["protocol"] == like["protocol"]), {})


def _apart_from_seed(record: Mapping[str, Any]) -> str:
    """Everything recorded about a run except its seed and its results."""
    keys = ("name", "model", "dataset", "split", "limit", "config", "precision", "protocol")
    known = {key: record.get(key) for key in keys}
    if not record.get("name"):
        known["weights"] = record.get("weights")
    return json.dumps(known, sort_keys=True)


def _folder(path: Location) -> Location:
    return path.parent if path.name == RECORD else path


def labels_of_records(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Distinct labels: the name or model, then the settings that tell runs apart, else their number."""
    names = [called(record) for record in records]
    labels = list(names)
    varying = varying_settings(records)
    for name in {name for name in names if names.count(name) > 1}:
        places = [place for place, one in enumerate(names) if one == name]
        keys = _telling([varying[place] for place in places])
        for place in places:
            shown = [f"{key.rpartition('.')[2]}={varying[place][key]}" for key in keys if key in varying[place]]
            labels[place] = " ".join(filter(None, (name, ", ".join(shown))))
    return [marked(label, record) for label, record in zip(numbered(labels), records, strict=True)]


def _telling(settings: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """The smallest set of settings that distinguishes the runs as well as all that differ; all, if they are few."""
    keys = [
        key for key in dict.fromkeys(key for one in settings for key in one) if len({s.get(key) for s in settings}) > 1
    ]
    if len(keys) <= _SETTINGS_IN_LABEL:
        return tuple(keys)
    apart = len({tuple(one.get(key) for key in keys) for one in settings})
    for count in range(1, _MOST_TRIED + 1):
        for chosen in combinations(keys, count):
            if len({tuple(one.get(key) for key in chosen) for one in settings}) == apart:
                return chosen
    return tuple(keys)


def numbered(labels: Sequence[str]) -> list[str]:
    """Labels, numbered in the order given where several are equal."""
    seen = Counter[str]()
    made = []
    for label in labels:
        seen[label] += 1
        made.append(f"{label} ({seen[label]})" if labels.count(label) > 1 else label)
    return made


def marked(label: str, record: Mapping[str, Any]) -> str:
    """A run's label, with a dagger if it is not comparable."""
    return label + DAGGER if comparability_of(record).comparable is False else label
