"""Confidence intervals of the runs in a table, and significant differences from a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from harness.errors import UserError
from harness.reports.comparison import Comparison, Interval, MeasuredRun, compare_runs, corrected
from harness.reports.matches import readable
from harness.reports.run_files import label_runs
from harness.reports.table_rows import Intervals, keys_of_columns
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.records import has_numbers
from harness.run_folder.schemas import protocol_key
from harness.scoring.jackknife import LEVEL
from harness.scoring.presence import is_lower_better

Reference = Literal["first", "best"]
REFERENCES: tuple[Reference, ...] = get_args(Reference)


def intervals_of(
    rows: Sequence[Sequence[FinishedRun]],
    shown: Sequence[str],
    against: Reference | None = None,
    with_intervals: bool = True,
    data_root: Path = Path("data"),
    annotations: Path | None = None,
    faults: list[UserError] | None = None,
) -> list[Intervals | None]:
    """Return the confidence intervals of each row's numbers, ``None`` where a run is incomplete or has none.

    A row is a run, or several that differ in nothing but their seed (`groups_of_seeds`).
    ``against`` selects the reference of runs on the same data: the first of them, or for each metric the one with the
    highest value. What is significant is corrected (Holm) over the runs: AP by itself, the other metrics ``shown``
    together. The rest is as in `compare_runs`, and it raises `UserError` as that does; with a list of ``faults`` the
    unreadable predictions of a run are added there instead, and its row has ``None``.
    """
    made: list[Intervals | None] = [None] * len(rows)
    groups: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        records = [run.record for run in row]
        if all(record["complete"] and record["limit"] is None and has_numbers(record) for record in records):
            groups.setdefault((records[0]["dataset"], records[0]["split"]), []).append(place)
    for found in groups.values():
        places = [p for p in found if len(readable(rows[p], data_root, annotations, faults)) == len(rows[p])]
        if not places:
            continue
        runs = label_runs([run for place in places for run in rows[place]])
        joined = any(len(rows[place]) > 1 for place in places)
        comparison = compare_runs(runs, data_root, annotations, joined, _further(runs, shown))
        significant = {} if against is None else _significant(comparison, _references(comparison, against, shown))
        for place, run in zip(places, comparison.runs, strict=True):
            halves = {key: half for key, one in run.metrics.items() if (half := _half(one)) is not None}
            made[place] = Intervals(halves if with_intervals else {}, significant.get(run.label, frozenset()))
    return made


def _further(runs: Sequence[FinishedRun], shown: Sequence[str]) -> list[str]:
    """The metrics of ``shown`` columns of other protocols than the runs' own, if one has scored all runs in one way."""
    scored = [{protocol_key(one["protocol"]): one for one in run.record["protocols"][1:]} for run in runs]
    keys = [
        f"{name}/{metric}"
        for name, one in scored[0].items()
        if all(name in others and others[name]["protocol"] == one["protocol"] for others in scored)
        for metric in one["metrics"] or {}
    ]
    return list(dict.fromkeys(keys_of_columns(shown, keys).values()))


def _half(found: Interval) -> float | None:
    """Half the interval, or the longer side of one that is cut at the end of the metric's range."""
    if found.value is None or found.low is None or found.high is None:
        return None
    return max(found.value - found.low, found.high - found.value)


def _significant(comparison: Comparison, references: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """The metrics that differ significantly from their reference, by the run's label; ``references`` by metric."""
    asked = {
        (one.run if one.reference == reference else one.reference, key): one.metrics[key].p_value
        for key, reference in references.items()
        for one in comparison.contrasts
        if reference in (one.reference, one.run)
    }
    found: dict[str, set[str]] = {}
    for (label, key), p in corrected(asked).items():
        if p is not None and p < 1 - LEVEL:
            found.setdefault(label, set()).add(key)
    return {label: frozenset(keys) for label, keys in found.items()}


def _references(comparison: Comparison, against: Reference, shown: Sequence[str]) -> dict[str, str]:
    """The label of the reference by metric."""
    known = comparison.runs[0].metrics
    keys = list(keys_of_columns(shown, known).values())
    if against == "first":
        return dict.fromkeys(keys, comparison.runs[0].label)

    def quality(run: MeasuredRun, key: str) -> float:
        value = run.metrics[key].value or 0.0
        return -value if is_lower_better(key) else value

    return {key: max(comparison.runs, key=lambda run: quality(run, key)).label for key in keys}


def notes_on(against: Reference | None, with_intervals: bool) -> list[str]:
    """Footnotes that explain the marks."""
    notes = ["±: half the 95 % interval, jackknife over videos"] if with_intervals else []
    if against is not None:
        other = "first run" if against == "first" else "best run"
        notes.append(
            f"*: differs from the {other} on the same data, p < 0.05 (paired jackknife over videos,"
            " corrected over the runs, and over the metrics other than AP)"
        )
    return notes
