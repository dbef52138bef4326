"""A comparison of runs as text: tables of the runs, of each difference, and of its causes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from harness.reports.comparison import GAP, CategoryDifference, Comparison, Interval, MeasuredRun, Pair
from harness.reports.layouts import Column, Sheet, TableFormat, render_table
from harness.reports.published.vocabulary import column_name
from harness.reports.styles import DAGGER, STYLES, UNDEFINED, csv_line, dagger_notes
from harness.reports.table_rows import in_print, percent_of, presence_notes
from harness.run_folder.records import FOUND_NOTHING
from harness.scoring.jackknife import FEWEST_VIDEOS, LEVEL
from harness.scoring.metrics import GROUP_NAMES
from harness.scoring.presence import PRESENCE, RATES, THRESHOLD, is_lower_better

MOST_SHOWN = 8
"""Number of categories and of videos that are listed as causes of a difference."""

IDENTICAL = "every scored track has the same score, hits and misses"
"""What identical runs have in common; masks may differ by less than any IoU threshold notices."""

_PRESENCE = tuple(f"{PRESENCE}@{THRESHOLD}/{rate}" for rate in RATES)
_RUNS = ("AP", "APb", "APn", "APc", "APu", "AP50", "AP75", "AR100", *_PRESENCE)
_MARK = "*"


def written_comparison(comparison: Comparison, format: TableFormat, provenance: Sequence[str] = ()) -> str:
    """Return a comparison as text; numbers are percent, differences points of percent. CSV has one line per number."""
    if format == "csv":
        return _csv(_numbers(comparison))
    sheets = [_runs(comparison, provenance)]
    if len(comparison.runs) > 2:
        sheets.append(_every_pair(comparison))
    for pair in comparison.pairs:
        sheets += [_differences(comparison, pair), _categories(comparison, pair), _videos(comparison, pair)]
    return "\n".join(render_table(_styled(sheet, format), format) for sheet in sheets)


def categories_csv(comparison: Comparison) -> str:
    """Return every category of every pair as CSV: AP in percent, empty if undefined."""
    rows = [
        {
            "reference": pair.reference,
            "run": pair.run,
            "id": one.id,
            "category": one.name,
            "groups": " ".join(one.groups),
            "videos": one.videos,
            "reference_AP": _exact(one.reference),
            "run_AP": _exact(one.run),
            "difference": _exact(one.difference.value),
            "low": _exact(one.difference.low),
            "high": _exact(one.difference.high),
            "p_value": _plain(one.difference.p_value),
            "q_value": _plain(one.q_value),
            "share": _exact(one.share),
        }
        for pair in comparison.pairs
        for one in pair.categories
    ]
    return _csv(rows)


def _runs(comparison: Comparison, provenance: Sequence[str]) -> Sheet:
    keys = [key for key in (*_RUNS, *comparison.further) if key in comparison.runs[0].metrics]
    head = f"{comparison.dataset} {comparison.split}, {comparison.videos} videos"
    notes = [
        f"{head}, protocol {comparison.protocol} version {comparison.protocol_version}, percent",
        "[95 % interval]: sampling error of the choice of videos, by a jackknife over them",
    ]
    notes += [f"{run.label} {FOUND_NOTHING}" for run in comparison.runs if run.found_nothing]
    notes += dagger_notes((run.label, run.not_comparable) for run in comparison.runs)
    lines = [[run.label, *(_with_interval(run.metrics[key]) for key in keys)] for run in comparison.runs]
    notes += presence_notes(keys)
    columns = [Column("Run"), *(Column(column_name(key), True) for key in keys)]
    if len(comparison.runs) > 1:
        columns.insert(1, Column("Rank", True))
        ranks = comparison.ranks()
        for line, run in zip(lines, comparison.runs, strict=True):
            line.insert(1, written_rank(ranks[run.label]))
        notes.append("Rank: ranks by AP that no significant difference excludes")
    if any(run.seeds for run in comparison.runs):
        columns.insert(1, Column("SD of seeds", True))
        for line, run in zip(lines, comparison.runs, strict=True):
            line.insert(1, _percent(run.metrics["AP"].between_seeds, 2) if run.seeds else "")
        notes.append(
            "Several seeds of a model: their mean; SD of seeds: standard deviation of AP between them; intervals cover"
            " the sampling error of seeds and of videos"
        )
    caption = f"{_on(comparison)}: percent with 95 % intervals in brackets."
    if any(run.not_comparable for run in comparison.runs):
        caption += f" {DAGGER} is not comparable, for the reasons below."
    return Sheet(columns, lines, notes, provenance, caption=caption, label=_label(comparison, "runs"))


def _on(comparison: Comparison) -> str:
    """The data and the rules, as the start of a caption."""
    data = f"{comparison.dataset} {comparison.split}, {comparison.videos} videos"
    return f"{data}, {comparison.protocol} protocol (version {comparison.protocol_version})"


def _label(comparison: Comparison, *what: str) -> str:
    return " ".join([comparison.dataset, comparison.split, *what])


def written_rank(rank: tuple[int, int]) -> str:
    """The places of a run as text: ``2`` or ``1-3``."""
    best, worst = rank
    return str(best) if best == worst else f"{best}-{worst}"


def _every_pair(comparison: Comparison) -> Sheet:
    """The difference of AP of every pair: the row's run minus the column's."""
    labels = [run.label for run in comparison.runs]
    lines = [
        [
            row,
            *(
                ""
                if row == column
                else _points((found := comparison.between(column, row)).value) + (_MARK if found.is_significant else "")
                for column in labels
            ),
        ]
        for row in labels
    ]
    notes = [
        f"AP of the row's run minus that of the column's, points; {_MARK} p < 0.05, corrected (Holm) for"
        f" {len(comparison.contrasts)} pairs",
        *(
            f"{one.reference} and {one.run} are identical: {IDENTICAL}"
            for one in comparison.contrasts
            if one.is_identical
        ),
    ]
    head = [Column("AP"), *(Column(label, True) for label in labels)]
    caption = f"{_on(comparison)}: differences of AP in points, the row's run minus the column's."
    return Sheet(head, lines, notes, caption=caption, label=_label(comparison, "pairs"))


def _with_interval(found: Interval) -> str:
    if found.low is None or found.high is None:
        return _percent(found.value)
    return f"{_percent(found.value)} [{_percent(found.low)}, {_percent(found.high)}]"


def _differences(comparison: Comparison, pair: Pair) -> Sheet:
    sides: dict[str, MeasuredRun] = {run.label: run for run in comparison.runs}
    columns = ["", pair.reference, pair.run, "Difference", "95 % interval", "p", "corrected", "Detectable"]
    lines = [
        [
            column_name(key),
            _percent(sides[pair.reference].metrics[key].value),
            _percent(sides[pair.run].metrics[key].value),
            _points(found.value) + (_MARK if found.is_significant else ""),
            _range(found.low, found.high),
            _probability(found.p_value),
            _probability(found.adjusted_p),
            _percent(found.detectable, 2),
        ]
        for key, found in pair.metrics.items()
    ]
    groups = [f"{key[2:]}: {name}" for suffix, name in GROUP_NAMES.items() if (key := f"AP{suffix}") in pair.metrics]
    lower = [key for key in pair.metrics if is_lower_better(key)]
    notes = [
        f"{_MARK} corrected p < 0.05, paired jackknife over videos; corrected (Holm) for the number of pairs of runs,"
        " and of the metrics other than AP",
        "Detectable: smallest true difference that videos like these would show in four of five cases",
        *([f"groups of categories: {', '.join(groups)}"] if groups else []),
        *([f"{column_name(lower[0])}: a positive difference is a lower rate"] if lower else []),
        *([f"the two runs are identical: {IDENTICAL}"] if pair.is_identical else []),
        *_untested(pair),
        *(f"{column_name(key)}: no interval and no test: {why}" for key, why in comparison.further.items() if why),
    ]
    head = [Column(name, bool(place)) for place, name in enumerate(columns)]
    caption = f"{_on(comparison)}: {pair.run} minus {pair.reference}, in points of percent."
    return Sheet(head, lines, notes, caption=caption, label=_label(comparison, pair.run, pair.reference))


def _untested(pair: Pair) -> list[str]:
    """Notes on the groups of too few videos."""
    found = {
        key: pair.metrics[key] for key in ("AP", *(f"AP{suffix}" for suffix in GROUP_NAMES), GAP) if key in pair.metrics
    }
    return [
        f"{key}: only {one.videos} videos have its truth: no interval and no test below {FEWEST_VIDEOS}"
        for key, one in found.items()
        if one.value is not None and one.videos < FEWEST_VIDEOS
    ]


def _categories(comparison: Comparison, pair: Pair) -> Sheet:
    tested = [one for one in pair.categories if one.q_value is not None]
    found = [one for one in tested if one.q_value is not None and one.q_value < 1 - LEVEL]
    columns = ["Category", "Groups", "Videos", "Reference AP", "AP", "Difference", "95 % interval", "q", "Share"]
    lines = [
        [
            one.name,
            " ".join(one.groups),
            str(one.videos),
            _percent(one.reference),
            _percent(one.run),
            _points(one.difference.value) + (_MARK if one in found else ""),
            _range(one.difference.low, one.difference.high),
            _probability(one.q_value),
            _points(one.share),
        ]
        for one in pair.categories[:MOST_SHOWN]
    ]
    notes = [
        f"{_ahead(pair.categories)} of {len(pair.categories)} categories are better in {pair.run},"
        f" {_ahead(pair.categories, -1)} worse; {_MARK} q < 0.05 after Benjamini and Hochberg's correction:"
        f" {len(found)} of the {len(tested)} that are in at least {FEWEST_VIDEOS} videos",
        "Share: points that the category adds to the difference of AP",
    ]
    head = [Column(name, place > 1) for place, name in enumerate(columns)]
    caption = f"{_on(comparison)}: the categories that move AP of {pair.run} minus {pair.reference} most, in percent."
    label = _label(comparison, pair.run, pair.reference, "categories")
    return Sheet(head, lines, notes, caption=caption, label=label)


def _ahead(categories: Sequence[CategoryDifference], sign: int = 1) -> int:
    return sum((one.difference.value or 0) * sign > 0 for one in categories)


def _videos(comparison: Comparison, pair: Pair) -> Sheet:
    lines = [[str(one.video_id), _points(one.influence)] for one in pair.videos[:MOST_SHOWN]]
    notes = [f"Influence: how far the difference of AP falls when the video is left out; + favours {pair.run}"]
    head = [Column("Video"), Column("Influence", True)]
    caption = f"{_on(comparison)}: the videos that move AP of {pair.run} minus {pair.reference} most, in points."
    label = _label(comparison, pair.run, pair.reference, "videos")
    return Sheet(head, lines, notes, caption=caption, label=label)


def _styled(sheet: Sheet, format: TableFormat) -> Sheet:
    text = STYLES[format].text
    return replace(sheet, lines=[[text(cell) for cell in line] for line in sheet.lines])


def _numbers(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Every number of the runs and pairs; percent and points of percent."""
    for run in comparison.runs:
        for key, found in run.metrics.items():
            yield _line(run.label, "", key, found, {"not_comparable": "; ".join(run.not_comparable)})
    for pair in comparison.pairs:
        for key, difference in pair.metrics.items():
            more = {
                "p_value": _plain(difference.p_value),
                "adjusted_p": _plain(difference.adjusted_p),
                "detectable": _exact(difference.detectable),
            }
            yield _line(pair.run, pair.reference, key, difference, more)


def _line(run: str, reference: str, key: str, found: Any, more: dict[str, str]) -> dict[str, Any]:
    return {
        "run": run,
        "minus": reference,
        "metric": key,
        "value": _exact(found.value),
        "low": _exact(found.low),
        "high": _exact(found.high),
        "standard_error": _exact(found.standard_error),
        "p_value": "",
        "adjusted_p": "",
        "detectable": "",
        "not_comparable": "",
        **more,
    }


def _csv(rows: Any) -> str:
    import pandas as pd

    made = [csv_line(row) for row in rows]
    return str(pd.DataFrame(made).to_csv(index=False, lineterminator="\n")) if made else ""


def _percent(fraction: float | None, decimals: int = 1) -> str:
    return UNDEFINED if fraction is None else str(in_print(percent_of(fraction), decimals))


def _points(fraction: float | None) -> str:
    return UNDEFINED if fraction is None else f"{in_print(percent_of(fraction), 2):+}"


def _range(low: float | None, high: float | None) -> str:
    return UNDEFINED if low is None or high is None else f"{_points(low)} to {_points(high)}"


def _probability(value: float | None) -> str:
    return UNDEFINED if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _exact(fraction: float | None) -> str:
    return "" if fraction is None else f"{percent_of(fraction):f}"


def _plain(value: float | None) -> str:
    return "" if value is None else repr(value)
