"""Confidence intervals of the runs in a table, and significant differences from a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from harness.reports.comparison import GAP, Comparison, compare_runs
from harness.reports.run_files import label_runs
from harness.reports.table_rows import Intervals
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.records import has_numbers

Reference = Literal["first", "best"]
REFERENCES: tuple[Reference, ...] = get_args(Reference)


def intervals_of(
    runs: Sequence[FinishedRun],
    against: Reference | None = None,
    with_intervals: bool = True,
    **sampling: Any,
) -> list[Intervals | None]:
    """Return the confidence intervals of each run's numbers, ``None`` for runs that are incomplete or have none.

    ``against`` selects the reference of runs on the same data: the first of them, or for each metric the one with the
    highest value. ``sampling`` has the options of `compare_runs`; raises `UserError` as it does.
    """
    made: list[Intervals | None] = [None] * len(runs)
    groups: dict[tuple[str, str], list[int]] = {}
    for place, record in enumerate(run.record for run in runs):
        if record["complete"] and record["limit"] is None and has_numbers(record):
            groups.setdefault((record["dataset"], record["split"]), []).append(place)
    for places in groups.values():
        chosen = label_runs([runs[place] for place in places])
        comparison = compare_runs(chosen, **sampling)
        significant = _significant(comparison, {str(run.folder): run for run in chosen}, against, **sampling)
        for run in comparison.runs:
            place = next(p for p in places if str(runs[p].folder) == run.folder)
            halves = {
                key: (found.high - found.low) / 2
                for key, found in run.metrics.items()
                if with_intervals and found.high is not None and found.low is not None
            }
            made[place] = Intervals(halves, significant.get(run.folder, frozenset()))
    return made


def _significant(
    comparison: Comparison, runs: Mapping[str, FinishedRun], against: Reference | None, **sampling: Any
) -> dict[str, frozenset[str]]:
    """The metrics that differ significantly from the reference, by folder."""
    if against is None:
        return {}
    folders = {run.label: run.folder for run in comparison.runs}
    found: dict[str, set[str]] = {}
    for reference, keys in _references(comparison, against).items():
        others = [folder for folder in folders.values() if folder != reference]
        if reference != comparison.runs[0].folder:
            comparison = compare_runs([runs[folder] for folder in (reference, *others)], **sampling)
            folders = {run.label: run.folder for run in comparison.runs}
        for pair in comparison.pairs:
            found.setdefault(folders[pair.run], set()).update(k for k in keys if pair.metrics[k].is_significant)
    return {folder: frozenset(keys) for folder, keys in found.items()}


def _references(comparison: Comparison, against: Reference) -> dict[str, list[str]]:
    """The metrics by folder of their reference run."""
    keys = list(comparison.runs[0].metrics)
    if against == "first":
        return {comparison.runs[0].folder: keys}
    chosen: dict[str, list[str]] = {}
    for key in keys:
        if key == GAP:  # no column, and larger is not better
            continue
        best = max(comparison.runs, key=lambda run: run.metrics[key].value or 0.0)
        chosen.setdefault(best.folder, []).append(key)
    return chosen


def notes_on(against: Reference | None, with_intervals: bool, resamples: int, seed: int) -> list[str]:
    """Footnotes that explain the marks."""
    how = f"bootstrap over videos, {resamples} resamples, seed {seed}"
    notes = [f"±: half the 95 % interval, {how}"] if with_intervals else []
    if against is not None:
        other = "first run" if against == "first" else "best run"
        notes.append(f"*: differs from the {other} on the same data, p < 0.05 (paired {how})")
    return notes
