"""Analyses of runs as text: tables of errors by kind, of slices and of calibration, runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from harness.reports.layouts import Column, Sheet, TableFormat, render_table
from harness.reports.run_analysis import RunAnalysis
from harness.reports.styles import DAGGER, STYLES, UNDEFINED, csv_line, dagger_notes
from harness.reports.table_rows import in_print, percent_of
from harness.scoring.errors_breakdown import ErrorKind


def written_analyses(found: Sequence[RunAnalysis], format: TableFormat, provenance: Sequence[str] = ()) -> str:
    """Return analyses as text, with runs on the same data side by side.

    Numbers are percent; the gain from repairing an error is in points. CSV has one line per number.
    """
    if format == "csv":
        return _csv(found)
    by_data = {_data(one): [other for other in found if _data(other) == _data(one)] for one in found}
    sheets = [part(runs) for runs in by_data.values() for part in (_errors, _slices, _calibration)]
    sheets[0] = replace(sheets[0], provenance=provenance)
    return "\n".join(render_table(_styled(sheet, format), format) for sheet in sheets)


def _data(one: RunAnalysis) -> tuple[str, str, int]:
    return one.dataset, one.split, one.videos


def _columns(runs: Sequence[RunAnalysis], numbers: Sequence[str]) -> list[Column]:
    return [Column(number, True, _mark(runs, place)) for place in range(len(runs)) for number in numbers]


def _mark(runs: Sequence[RunAnalysis], place: int) -> str:
    """The name of a run in headers if there are several: A, B, ..."""
    return "" if len(runs) == 1 else chr(ord("A") + place) if len(runs) <= 26 else f"({place + 1})"


def _named(runs: Sequence[RunAnalysis]) -> list[str]:
    return [f"{_mark(runs, place)} {one.label}".strip() for place, one in enumerate(runs)]


def _errors(runs: Sequence[RunAnalysis]) -> Sheet:
    first = runs[0].analysis
    lines = [
        [name, *(cell for one in runs for cell in _error_cells(_error(one, name)))]
        for name in (*first.errors.kinds, *first.errors.summaries)
    ]
    data = f"{runs[0].dataset} {runs[0].split}, {runs[0].videos} videos"
    notes = [
        f"{data}, protocol {first.protocol} version {first.protocol_version}",
        *(f"{name}: {_standing(one)}" for name, one in zip(_named(runs), runs, strict=True)),
        *dagger_notes((one.label, one.not_comparable) for one in runs),
        "dAP50: points of AP50 that repairing all errors of a kind gains; dAP: the same over IoU 0.5 to 0.95",
        "Truths: objects not found because of this kind, at IoU 0.5; docs/error-analysis.md defines the kinds",
    ]
    head = [Column("Error"), *_columns(runs, ("dAP50", "dAP", "Errors", "Truths"))]
    return _titled(Sheet(head, lines, notes), runs, "errors by kind, and the points that repairing them adds")


def _titled(sheet: Sheet, runs: Sequence[RunAnalysis], what: str) -> Sheet:
    """A table about runs on the same data with its caption and label."""
    one = runs[0]
    data = f"{one.dataset} {one.split}, {one.videos} videos"
    caption = f"{data}, {one.analysis.protocol} protocol (version {one.analysis.protocol_version}): {what}."
    if any(run.not_comparable for run in runs):
        caption += f" {DAGGER} is not comparable, for the reasons below the first table."
    label = f"{one.dataset} {one.split} {what.partition(' ')[0]}"
    return replace(sheet, caption=caption, label=label)


def _error(one: RunAnalysis, name: str) -> ErrorKind:
    errors = one.analysis.errors
    return errors.kinds[name] if name in errors.kinds else errors.summaries[name]


def _error_cells(kind: ErrorKind) -> list[str]:
    return [_points(kind.dap50), _points(kind.dap), str(kind.count), str(kind.truths)]


def _standing(one: RunAnalysis) -> str:
    errors = one.analysis.errors
    right = f"{errors.found} of {errors.truths} objects found, {errors.hits} of {errors.tracks} tracks right"
    dagger = DAGGER if one.not_comparable else ""
    return f"AP50 {_percent(errors.ap50)}{dagger}, AP {_percent(errors.ap)}{dagger}; {right}"


def _slices(runs: Sequence[RunAnalysis]) -> Sheet:
    """Runs on the same data have the same slices."""
    lines, notes = [], []
    for name, slicing in runs[0].analysis.slices.items():
        for place, part in enumerate(slicing.slices):
            cells = [one.analysis.slices[name].slices[place] for one in runs]
            numbers = [_percent(value) for cell in cells for value in (cell.ap, cell.ap50, cell.recall)]
            lines.append([name, part.name, str(part.truths), *numbers])
        none = f"; {slicing.outside} objects have none" if slicing.outside else ""
        notes.append(f"{name}: {slicing.about}{none}")
    head = [Column("By"), Column("Slice"), Column("Objects", True)]
    head += _columns(runs, ("AP", "AP50", "AR"))
    return _titled(Sheet(head, lines, notes), runs, "slices of the truth, in percent")


def _calibration(runs: Sequence[RunAnalysis]) -> Sheet:
    lines = []
    for place, found in enumerate(runs[0].analysis.calibration["all"].bins):
        bins = [one.analysis.calibration["all"].bins[place] for one in runs]
        numbers = [cell for b in bins for cell in (str(b.tracks), _percent(b.mean_score), _percent(b.hits))]
        lines.append([f"{found.low:.1f} to {found.high:.1f}", *numbers])
    notes = ["Right: share of tracks that are hits at IoU 0.5, which calibrated scores equal"]
    for name, one in zip(_named(runs), runs, strict=True):
        errors = [f"{_percent(c.error)} ({group})" for group, c in one.analysis.calibration.items()]
        notes.append(f"{name}: expected calibration error {', '.join(errors)}")
    head = [Column("Score"), *_columns(runs, ("Tracks", "Mean score", "Right"))]
    return _titled(Sheet(head, lines, notes), runs, "calibration of scores, in percent")


def _styled(sheet: Sheet, format: TableFormat) -> Sheet:
    text = STYLES[format].text
    return replace(sheet, lines=[[text(cell) for cell in line] for line in sheet.lines])


def _csv(found: Sequence[RunAnalysis]) -> str:
    import pandas as pd

    lines = [{"run": one.label, **line} for one in found for line in _numbers(one)]
    return str(pd.DataFrame(map(csv_line, lines)).to_csv(index=False, lineterminator="\n"))


def _numbers(one: RunAnalysis) -> Iterator[dict[str, Any]]:
    """Every number: fractions in percent, counts as they are; empty where undefined."""
    errors = one.analysis.errors
    for kind in (*errors.kinds.values(), *errors.summaries.values()):
        numbers = {"dAP50": _exact(kind.dap50), "dAP": _exact(kind.dap), "errors": kind.count, "truths": kind.truths}
        yield from _lines("errors", kind.kind, numbers)
    for name, slicing in one.analysis.slices.items():
        for part in slicing.slices:
            numbers = {"AP": _exact(part.ap), "AP50": _exact(part.ap50), "AR100": _exact(part.recall)}
            yield from _lines(name, part.name, numbers | {"truths": part.truths})
    for group, calibration in one.analysis.calibration.items():
        for b in calibration.bins:
            numbers = {"tracks": b.tracks, "mean_score": _exact(b.mean_score), "hits": _exact(b.hits)}
            yield from _lines(f"calibration {group}", f"{b.low:.1f} to {b.high:.1f}", numbers)
        yield from _lines(f"calibration {group}", "expected error", {"error": _exact(calibration.error)})


def _lines(table: str, line: str, numbers: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, value in numbers.items():
        yield {"table": table, "line": line, "number": number, "value": value}


def _percent(fraction: float | None) -> str:
    return UNDEFINED if fraction is None else str(in_print(percent_of(fraction)))


def _points(fraction: float | None) -> str:
    return UNDEFINED if fraction is None else f"{in_print(percent_of(fraction), 2):+}"


def _exact(fraction: float | None) -> str:
    return "" if fraction is None else f"{percent_of(fraction):f}"
