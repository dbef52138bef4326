"""The sections of a report as data for its template: tables and charts of runs on the same data."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.reports import svg
from harness.reports.ceilings import perfect_aspects
from harness.reports.comparison import Comparison, Interval, Pair
from harness.reports.comparison_text import written_rank
from harness.reports.curves import Curve
from harness.reports.pages import percent
from harness.reports.table_rows import COLUMNS, PRESENCE_COLUMNS, Row, table_rows
from harness.run_folder.finished_run import FinishedRun
from harness.scoring.analysis import Analysis
from harness.scoring.ceilings import Ceilings
from harness.scoring.errors_breakdown import (
    BACKGROUND,
    BOTH,
    CLASSIFICATION,
    DUPLICATE,
    IDENTITY,
    KINDS,
    LOCALISATION,
    MISSED,
    TEMPORAL,
)
from harness.scoring.jackknife import FEWEST_VIDEOS
from harness.scoring.presence import PRESENCE, RATES, THRESHOLD

KIND_DESCRIPTIONS = {
    CLASSIFICATION: "the right object in the wrong category",
    LOCALISATION: "the right object, its masks fit too badly",
    IDENTITY: "a track that changes from one object to another, or one of several pieces of an object",
    TEMPORAL: "the right object, in the wrong frames",
    BOTH: "the wrong category and badly fitting masks",
    DUPLICATE: "another track of an object that is already found",
    BACKGROUND: "a track where there is no object",
    MISSED: "an object without a track",
}
"""Kinds of errors as text for readers of a report; `harness.scoring.errors_breakdown` defines them."""
METRIC_TITLES = {
    "AP": "AP",
    "APb": "APb (base)",
    "APn": "APn (novel)",
    "APc": "APc (common)",
    "APu": "APu (uncommon)",
    "AP50": "AP50",
    "AP75": "AP75",
    "AR100": "AR",
    f"{PRESENCE}@{THRESHOLD}/IL_MCC": f"IL_MCC@{THRESHOLD}",
    f"{PRESENCE}@{THRESHOLD}/IL_FPR": f"IL_FPR@{THRESHOLD} (lower is better)",
}
"""Metrics of the comparison, in the order shown, with their titles."""
_KEYS = {"AR": "AR100"} | {
    column: f"{PRESENCE}@{THRESHOLD}/{rate}" for column, rate in zip(PRESENCE_COLUMNS, RATES, strict=True)
}
"""Metrics of the comparison by column, where their names differ."""
FEW_TOLD = f", in fewer than {FEWEST_VIDEOS} videos"
_DIGITS = 12
"""Of digests."""


@dataclass(frozen=True)
class TableRow:
    """A row of the results: ``run`` is the number of the run, ``None`` for a published result."""

    row: Row
    run: int | None
    intervals: dict[str, Interval]


def results_table(
    runs: Sequence[FinishedRun], comparison: Comparison | None, columns: Sequence[str] = COLUMNS
) -> list[TableRow]:
    """The runs, then published results on the same dataset and split."""
    made = table_rows([run.record for run in runs], columns, published="all")
    out = []
    for number, row in enumerate(made):
        if number < len(runs):
            row.method, row.backbone, row.training_data = runs[number].label, "", ""
            found = comparison.runs[number].metrics if comparison is not None else {}
            keys = {c: _KEYS.get(c, c) for c in columns if row.percents[c] is not None}
            intervals = {c: found[key] for c, key in keys.items() if key in found}
            out.append(TableRow(row, number, intervals))
        else:
            out.append(TableRow(row, None, {}))
    return out


def difference_rows(comparison: Comparison, pair: Pair) -> list[dict[str, Any]]:
    """One line per metric of a pair: both values, the difference, its interval as a chart."""
    by_label = {run.label: run for run in comparison.runs}
    titles = METRIC_TITLES | {key: key for key in comparison.further}
    keys = [key for key in titles if key in pair.metrics and pair.metrics[key].value is not None]
    reaches = [abs(end) for key in keys for end in (pair.metrics[key].low, pair.metrics[key].high) if end is not None]
    reach = max(reaches, default=0.0)
    lines = []
    for key in keys:
        found = pair.metrics[key]
        known = found.value is not None and found.low is not None and found.high is not None
        ends = (found.value or 0, found.low or 0, found.high or 0)
        chart = svg.whisker(*ends, reach, found.is_significant) if known else Markup("")
        reference, run = by_label[pair.reference].metrics[key], by_label[pair.run].metrics[key]
        lines.append(
            {
                "key": key,
                "title": titles[key],
                "reference": reference,
                "run": run,
                "found": found,
                "chart": chart,
                "axis": svg.whisker_axis(reach),
            }
        )
    return lines


def matrix(comparison: Comparison) -> list[dict[str, Any]]:
    """One line per run: its place by AP, and its difference of AP from every run (``None`` from itself), each with the
    address of the pair's section, which pairs with the first run have."""
    labels, ranks = [run.label for run in comparison.runs], comparison.ranks()
    sections = {frozenset((p.reference, p.run)): f"#difference-{n}" for n, p in enumerate(comparison.pairs, start=1)}
    return [
        {
            "label": row,
            "rank": written_rank(ranks[row]),
            "cells": [
                (None, "")
                if row == column
                else (comparison.between(column, row), sections.get(frozenset((row, column)), ""))
                for column in labels
            ],
        }
        for row in labels
    ]


def curve_charts(runs: Sequence[FinishedRun], curves: Mapping[int, Sequence[Curve]]) -> dict[str, list[dict[str, Any]]]:
    """Precision over recall by group of categories: one chart per panel, one line per run."""
    out: dict[str, list[dict[str, Any]]] = {}
    for group, panel in dict.fromkeys((curve.group, curve.panel) for known in curves.values() for curve in known):
        series = []
        for number, run in enumerate(runs):
            found = [c.points for c in curves.get(number, ()) if (c.group, c.panel) == (group, panel)]
            series.append((run.label, found[0] if found else ()))
        label = f"Precision over recall, {group} categories, {panel}"
        chart = svg.curve_chart(series, "recall, %", "precision, %", label)
        out.setdefault(group, []).append({"title": panel, "chart": chart})
    return out


def category_rows(
    runs: Sequence[FinishedRun], comparison: Comparison | None, videos: Mapping[int, int]
) -> list[dict[str, Any]]:
    """One line per category with truth: AP of every run, and the second run's difference from the first.

    ``videos`` is the number of videos with truth of each category, as far as it is known. A line is ``few`` if they are
    fewer than `FEWEST_VIDEOS`.
    """
    by_id = [{row.id: row for row in run.categories} for run in runs]
    pairs = comparison.pairs[:1] if comparison is not None else ()
    corrected = {one.id: one.q_value for pair in pairs for one in pair.categories}
    videos = {**videos, **{one.id: one.videos for pair in pairs for one in pair.categories}}
    lines = []
    for key in sorted({key for one in by_id for key in one}):
        here = [one.get(key) for one in by_id]
        first = next(row for row in here if row is not None)
        values = [row.AP if row is not None else None for row in here]
        if all(value is None for value in values):
            continue
        few = videos.get(key, min(first.truths, FEWEST_VIDEOS)) < FEWEST_VIDEOS
        apart = None if len(values) < 2 or values[0] is None or values[1] is None else values[1] - values[0]
        lines.append(
            {
                "id": key,
                "name": first.name,
                "groups": first.groups.split(),
                "truths": first.truths,
                "values": values,
                "few": few,
                "bars": svg.bars(values, not few),
                "difference": apart,
                "q_value": corrected.get(key),
            }
        )
    return lines


def category_scatter(runs: Sequence[FinishedRun], lines: Sequence[Mapping[str, Any]]) -> Markup | None:
    """AP of the first two runs per category; ``None`` for a single run."""
    if len(runs) < 2:
        return None
    dots = [
        svg.Dot(
            str(line["id"]),
            tuple(line["values"]),
            f"{line['name']}: {' and '.join(map(percent, line['values']))}{FEW_TOLD if line['few'] else ''}",
            not line["few"],
        )
        for line in lines
        if all(value is not None for value in line["values"])
    ]
    across, upwards = (f"AP of {run.label}" for run in runs[:2])
    return svg.scatter(dots, across, upwards, f"AP per category, {runs[0].label} across, {runs[1].label} upwards")


def error_lines(analyses: Mapping[int, Analysis]) -> list[dict[str, Any]]:
    """One line per kind of error: points of AP50 gained by repairing it, and number of errors at IoU 0.5, by run."""
    if not analyses:
        return []
    kinds = {number: analysis.errors for number, analysis in analyses.items()}
    reach = max((e.kinds[k].dap50 or 0 for e in kinds.values() for k in KINDS), default=0) or 1
    return [
        {
            "kind": kind,
            "about": KIND_DESCRIPTIONS[kind],
            "gains": [(number, errors.kinds[kind]) for number, errors in kinds.items()],
            "bars": svg.bars(_by_number({n: max(e.kinds[kind].dap50 or 0, 0) / reach for n, e in kinds.items()})),
        }
        for kind in KINDS
    ]


def _by_number(values: Mapping[int, float | None]) -> list[float | None]:
    """Values at the positions of their runs, so that each has its run's colour."""
    return [values.get(number) for number in range(max(values, default=-1) + 1)]


def ceiling_tables(found: Mapping[int, Ceilings]) -> list[dict[str, Any]]:
    """One table per protocol: its first number of every run, as it is and with what is perfect."""
    if not found:
        return []
    first = next(iter(found.values()))
    out = []
    for protocol, values in first.rows[0].metrics.items():
        key = next(iter(values))
        lines = []
        for place, row in enumerate(first.rows):
            numbers = {n: one.rows[place].metrics[protocol][key] for n, one in found.items()}
            gains = {
                n: None if value is None or (base := one.rows[0].metrics[protocol][key]) is None else value - base
                for (n, one), value in zip(found.items(), numbers.values(), strict=True)
            }
            cells = [(number, numbers[number], gains[number]) for number in found]
            lines.append({"perfect": perfect_aspects(row), "cells": cells, "bars": svg.bars(_by_number(numbers))})
        out.append({"protocol": protocol, "metric": key, "lines": lines})
    return out


def slice_tables(
    analyses: Mapping[int, Analysis], videos: Mapping[str, Mapping[str, int]] | None = None
) -> list[dict[str, Any]]:
    """One table per slicing: AP of every run in each slice, and the video that shows most of it, if one is in
    ``videos``, by names of slicings and of slices."""
    videos = videos or {}
    if not analyses:
        return []
    first = next(iter(analyses.values()))
    out = []
    for key, slicing in first.slices.items():
        lines = []
        for place, one in enumerate(slicing.slices):
            found = {number: analysis.slices[key].slices[place] for number, analysis in analyses.items()}
            if not one.truths:
                continue
            values = {number: part.ap for number, part in found.items()}
            video = videos.get(key, {}).get(one.name)
            bars = svg.bars(_by_number(values))
            lines.append({"name": one.name, "truths": one.truths, "found": found, "bars": bars, "video": video})
        if lines:
            out.append({"title": key, "about": slicing.about, "outside": slicing.outside, "lines": lines})
    return out


def calibration_charts(
    runs: Sequence[FinishedRun],
    analyses: Mapping[int, Analysis],
    videos: Mapping[tuple[int, str], Sequence[int | None]] | None = None,
) -> list[dict[str, Any]]:
    """Fraction of right tracks over score by group of categories, with the expected calibration error of each run.

    A point is a link to the video with most tracks of its bin, if ``videos``, by run and group, has one.
    """
    videos = videos or {}
    groups = dict.fromkeys(group for analysis in analyses.values() for group in analysis.calibration)
    out = []
    for group in groups:
        series, errors = [], []
        for number, run in enumerate(runs):
            found = analyses[number].calibration.get(group) if number in analyses else None
            bins = found.bins if found is not None else ()
            shown = videos.get((number, group)) or [None] * len(bins)
            points = [
                (
                    bin.mean_score,
                    bin.hits,
                    f"{bin.tracks} tracks, score {bin.mean_score:.2f}, {percent(bin.hits)} % right",
                    "" if video is None else f"#video-{video}",
                )
                for bin, video in zip(bins, shown, strict=True)
                if bin.mean_score is not None and bin.hits is not None and 0 <= bin.mean_score <= 1
            ]
            series.append((run.label, points))
            if found is not None:
                errors.append({"number": number, "run": run, "found": found})
        chart = svg.reliability(series, "score, %", "right tracks, %", f"Calibration of scores, {group} categories")
        out.append({"group": group, "chart": chart, "errors": errors})
    return out


def speed_rows(runs: Sequence[FinishedRun], frames: Mapping[int, int]) -> list[dict[str, Any]]:
    """The speed of each run, from its folder; ``frames`` are numbers of frames by video id."""
    lines = []
    for number, run in enumerate(runs):
        timed = run.times.videos
        seconds = sum(timed.values())
        known = [frames[int(v)] for v in timed if v.lstrip("-").isdecimal() and int(v) in frames]
        per_second = sum(known) / seconds if seconds and len(known) == len(timed) else None
        slowest = max(timed.items(), key=lambda item: item[1], default=None)
        wall = sum(session.get("seconds", 0.0) for session in run.times.sessions)
        environment = run.environment
        lines.append(
            {
                "number": number,
                "run": run,
                "videos": len(timed),
                "seconds": seconds,
                "per_video": statistics.median(timed.values()) if timed else None,
                "per_second": per_second,
                "slowest": slowest,
                "wall": wall,
                "sessions": len(run.times.sessions),
                "memory": max((use.memory_bytes for use in run.times.stages.values()), default=0) / 2**30 or None,
                "hardware": ", ".join(environment.gpus) if environment.device != "cpu" else environment.cpu.model,
            }
        )
    return lines


def provenance_rows(runs: Sequence[FinishedRun]) -> list[tuple[str, list[str]]]:
    """The provenance of each run, from its folder; an en dash for values that are not recorded."""
    columns = [_provenance(run) for run in runs]
    return [(key, [column[key] for column in columns]) for key in columns[0]]


def _provenance(run: FinishedRun) -> dict[str, str]:
    config, environment, videos = run.config, run.environment, run.record["videos"]
    protocol = run.record["protocol"] or {}
    commit = _short(environment.git_commit)
    facts = {
        "run id": run.id,
        "model": f"{run.record['model']}, version {config.get('model_version', '–')}",
        "weights (SHA-256)": _short(config.get("checkpoint")),
        "dataset": f"{run.record['dataset']} {run.record['split']}",
        "annotations (SHA-256)": _short(config.get("digest")),
        "vocabulary (SHA-256)": _short(config.get("vocabulary")),
        "protocol": f"{protocol['name']}, version {protocol['version']}" if protocol else None,
        "videos": f"{videos['done']} of {videos['total']}",
        "precision": run.record.get("precision"),
        "seed": run.record.get("seed"),
        "started (UTC)": environment.time,
        "harness": environment.harness,
        "harness commit": commit and commit + (" with changes" if environment.git_changed else ""),
        "working directory's commit": environment.working_directory_commit
        and _short(environment.working_directory_commit),
        "Python": environment.python,
        "platform": environment.platform,
        "device": environment.device,
        "processor": environment.cpu.model and f"{environment.cpu.model}, {environment.cpu.count} cores",
        "GPUs": ", ".join(environment.gpus) or None,
    }
    return {key: "–" if value is None else str(value) for key, value in facts.items()}


def _short(digest: Any) -> str | None:
    return None if digest is None else str(digest)[:_DIGITS]


StageRow = tuple[str, list[dict[str, float] | None]]


def stage_rows(runs: Sequence[FinishedRun], frames: Mapping[int, int]) -> list[StageRow]:
    """Time and memory of each stage of the models: milliseconds per frame and GiB, ``None`` if unknown.

    Stages of which nothing is known are left out.
    """
    names = dict.fromkeys(name for run in runs for name in run.times.stages)
    rows = ((name.replace("_", " "), [_stage(run, name, frames) for run in runs]) for name in names)
    return [(name, uses) for name, uses in rows if any(uses)]


def _stage(run: FinishedRun, name: str, frames: Mapping[int, int]) -> dict[str, float] | None:
    use = run.times.stages.get(name)
    known = sum(frames.get(int(v), 0) for v in run.times.videos if v.lstrip("-").isdecimal())
    return {"ms": 1000 * use.seconds / known, "gib": use.memory_bytes / 2**30} if use and known else None
