"""The rows of comparison tables: runs and published results, in percent, ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Any, Literal, NamedTuple, get_args

from harness.comparability import comparability_of
from harness.errors import UserError, near
from harness.reports import published as results
from harness.reports.published.vocabulary import FRACTIONS, NOT_STATED, column_name
from harness.reports.settings import variant_of, varying_settings
from harness.reports.styles import DAGGER
from harness.reports.table_layout import Layout
from harness.run_folder.schemas import protocol_key
from harness.scoring import HOTA, VEVAL
from harness.scoring.presence import THRESHOLD, is_lower_better, presence_metrics
from harness.scoring.protocols import PROTOCOLS

COLUMNS = ("AP", "APb", "APn", "AP50", "AP75", "AR")
PHRASE_COLUMNS = ("cgF1", "pmF1", "IL_MCC", "pHOTA", "pAP")
"""Columns where every run is scored over phrases."""
PRESENCE_COLUMNS = (f"IL_MCC@{THRESHOLD}", f"IL_FPR@{THRESHOLD}")
"""Columns of pages on data that says which words are absent from which videos."""
CORRECTED_COLUMNS = ("AP", "APb", "APn", "cgF1", "pHOTA")
"""Columns that are also shown by the corrected protocol, if asked for."""

Published = Literal["", "main", "all"]
"""Which published rows are shown with runs: none, those of `harness.reports.published.MAIN`, all."""
CHOICES: tuple[Published, ...] = get_args(Published)

FPS = "FPS"
"""Frames per second: of published rows as stated, of runs from `harness.run_folder.bench`; records have it as a
key where it is asked for."""
_METRIC = {"AR": "AR100"}
CORRECTED_PREFIX = "corrected."
UNSTATED_SPLIT = "split not stated by the source"
"""The heading of published rows that may be on any split."""


class Intervals(NamedTuple):
    """A run's intervals from the jackknife: half the 95 % interval by key of `harness.reports.comparison` (fractions),
    and the keys that differ significantly from the reference's."""

    halves: Mapping[str, float]
    significant: frozenset[str] = frozenset()


@dataclass
class Row:
    """One line of a table: ``percents`` by column, exact, ``None`` where undefined.

    ``backbone`` and ``training_data`` are empty where they are not known.
    ``sources`` are the citations of a published row, or the folder of a run; ``comparable`` says whether it may stand
    next to published rows (``None``: unknown), and ``reasons`` why not; ``settings`` are those that differ between the
    runs of a table. ``halves`` are half the 95 % intervals, in percent, and ``significant`` the columns that differ
    from the reference's, where they were asked for. Rows are compared with those of the same ``dataset`` and ``split``;
    a published row whose source states no split is never ranked.
    """

    method: str
    dataset: str
    split: str
    percents: dict[str, Decimal | None]
    sources: list[str]
    is_published: bool = False
    backbone: str = ""
    training_data: str = ""
    comparable: bool | None = True
    reasons: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    marks: dict[str, Literal["best", "second"]] = field(default_factory=dict)
    halves: dict[str, Decimal] = field(default_factory=dict)
    significant: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """Method, backbone and training data, for tables that have no columns for these."""
        return ", ".join(filter(None, (self.method, self.backbone, self.training_data)))

    @property
    def data(self) -> str:
        return f"{self.dataset}, {self.block}" if self.block else f"{self.dataset} {self.split}"

    @property
    def block(self) -> str:
        """The heading of its block: `UNSTATED_SPLIT`, or none."""
        return UNSTATED_SPLIT if self.is_published and self.split == NOT_STATED else ""

    @property
    def dagger(self) -> str:
        """The mark after its name: `DAGGER` where it is not comparable."""
        return DAGGER if self.comparable is False else ""

    @property
    def remark(self) -> str:
        """The reasons in one line."""
        return "; ".join(self.reasons)


def ranked(group: Sequence[Row]) -> list[Row]:
    """The rows of a dataset and split that may be marked as best or second: all tables and pages use this rule.

    Rows that are not comparable never are. Rows not known to be comparable are, unless there are published rows.
    """
    published = any(row.is_published for row in group)
    return [row for row in group if row.comparable or (row.comparable is None and not published)]


def table_rows(
    records: Sequence[Mapping[str, Any]],
    columns: Sequence[str] = COLUMNS,
    *,
    published: Published = "",
    corrected: bool = False,
    layout: Layout | None = None,
    intervals: Sequence[Intervals | None] = (),
    given: Sequence[results.PublishedResult] = (),
) -> list[Row]:
    """Return the rows of the table, marked: per dataset and split the runs in the order given, then published rows.

    ``published`` rows are all, or the ``main`` ones, one for each model. A published row appears if it has a number in
    one of the columns. Those whose source states no split come last.
    ``given`` are results of a user's file, which appear as published rows do.
    """
    layout = layout or Layout()
    if corrected:
        columns = [*columns, *(CORRECTED_PREFIX + key for key in columns if key in CORRECTED_COLUMNS)]
    made: list[Row] = []
    unstated: list[Row] = []
    settings = varying_settings(records)
    sure = list(intervals) or [None] * len(records)
    runs = [_run_row(*each, columns) for each in zip(records, settings, sure, strict=True)]
    for dataset, split in _datasets(layout, runs):
        here = [row for row in runs if (row.dataset, row.split) == (dataset, split)]
        _name_apart(here)
        here += _in_rows(results.among(given, dataset, split), dataset, split, columns)
        if published:
            here += _published_rows(dataset, split, columns, published)
            known = {row.dataset for row in unstated}
            unstated += _published_rows(dataset, NOT_STATED, columns, published) if dataset not in known else []
        made += here
    made += unstated
    _refuse_unknown(columns, records, made)
    made = _chosen_rows(layout, made)
    for data in dict.fromkeys(row.data for row in made):
        _mark([row for row in made if row.data == data], layout.decimals)
    return made


def _datasets(layout: Layout, runs: Sequence[Row]) -> list[tuple[str, str]]:
    found = list(dict.fromkeys((row.dataset, row.split) for row in runs))
    wanted = [(one.dataset, one.split) for one in layout.datasets]
    for dataset, split in wanted:
        if (dataset, split) not in found:
            known = ", ".join(" ".join(one) for one in found)
            raise UserError("layout, datasets", f"no run is on {dataset} {split}", f"runs are on {known}")
    return wanted or found


def _refuse_unknown(columns: Sequence[str], records: Sequence[Mapping[str, Any]], made: Sequence[Row]) -> None:
    """Raise `UserError` for a column that no record, no protocol and no row has, if the records have any numbers."""
    stated = {key for row in made for key, percent in row.percents.items() if percent is not None}
    refuse_unknown_metrics(records, columns, "layout, columns", {*COLUMNS, FPS, *stated})


def refuse_unknown_metrics(
    records: Sequence[Mapping[str, Any]], metrics: Sequence[str], where: str, others: Iterable[str] = ()
) -> None:
    """Raise `UserError` for a metric that no record has and that is not among ``others``; ``where`` it was named."""
    known = {*others, *(CORRECTED_PREFIX + key for key in CORRECTED_COLUMNS)}
    for record in records:
        known |= {*(record["metrics"] or {}), *(CORRECTED_PREFIX + key for key in record["corrected"] or {})}
        known |= {*_of_protocols(record, "metrics")}
    for metric in metrics:
        if metric not in known and metric.removeprefix(CORRECTED_PREFIX) not in known:
            shown = [name for name in known if ("/" in name) == ("/" in metric)]
            raise UserError(where, f'"{metric}" is not a metric of these runs', near(metric, shown))


def _chosen_rows(layout: Layout, made: Sequence[Row]) -> list[Row]:
    """The rows that the layout names, by dataset, in its order and under its names."""
    if not layout.rows:
        return list(made)
    chosen: list[Row] = []
    used: set[str] = set()
    for data in dict.fromkeys(row.data for row in made):
        left = [row for row in made if row.data == data]
        for wanted in layout.rows:
            found = [row for row in left if any(fnmatchcase(name, wanted.run) for name in _names(row))]
            left = [row for row in left if row not in found]
            chosen += found
            if found:
                used.add(wanted.run)
            for row in found:
                row.method = row.method if wanted.name is None else wanted.name
                row.backbone = row.backbone if wanted.backbone is None else wanted.backbone
                row.training_data = row.training_data if wanted.training_data is None else wanted.training_data
    for wanted in layout.rows:
        if wanted.run not in used:
            names = [name for row in made for name in _names(row)]
            raise UserError("layout, rows", f'no row is named "{wanted.run}"', near(wanted.run, names))
    return chosen


def _names(row: Row) -> tuple[str, ...]:
    return row.method, row.label, *(() if row.is_published else (PurePath(row.sources[0]).name,))


def presence_notes(columns: Sequence[str]) -> list[str]:
    """The condition of the columns on presence among ``columns``, a sentence; none where there are none."""
    names = [column_name(column) for column in columns]
    shown = [name for name in names if "@" in name and name.startswith(("IL_MCC", "IL_FPR", "IL_recall"))]
    if not shown:
        return []
    found = "a category counts as found in a video if a track of it has at least the score after @"
    return [f"{', '.join(shown)}: over videos and categories known to be present or absent; {found}; IL_FPR is the"
            " share of absent ones that are found (lower is better)"]  # fmt: skip


def percent_of(fraction: float) -> Decimal:
    """Return a fraction in percent: the shortest text of the number, shifted, without binary noise."""
    return Decimal(repr(float(fraction))).scaleb(2)


def in_print(percent: Decimal, decimals: int = 1) -> Decimal:
    """Return a percentage as printed tables show it: with one decimal by default, halves away from zero, 0 without a
    minus sign."""
    return percent.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP) + 0


def _name_apart(runs: Sequence[Row]) -> None:
    """Number the runs, in their order, whose names and shown settings are equal."""
    shown = [(row.label, tuple(row.settings.items())) for row in runs]
    count, seen = Counter(shown), Counter[Any]()
    for row, key in zip(runs, shown, strict=True):
        seen[key] += 1
        if count[key] > 1:
            row.method += f" ({seen[key]})"


def _run_row(record: Mapping[str, Any], chosen: dict[str, str], sure: Intervals | None, columns: Sequence[str]) -> Row:
    numbers = {column: fraction_of(record, column) for column in columns if column != FPS}
    judged = comparability_of(record)
    backbone, trained_on = variant_of(record)
    row = Row(
        str(record.get("name") or record["model"]),
        record["dataset"],
        record["split"],
        {column: _speed(record) if column == FPS else _percent(numbers[column]) for column in columns},
        [record["folder"]],
        backbone=backbone,
        training_data=trained_on,
        comparable=judged.comparable,
        reasons=judged.reasons,
        settings=chosen,
    )
    if sure is not None:
        keys = keys_of_columns(columns, {*sure.halves, *sure.significant})
        row.halves = {column: percent_of(sure.halves[key]) for column, key in keys.items() if key in sure.halves}
        row.significant = frozenset(column for column, key in keys.items() if key in sure.significant)
    return row


def keys_of_columns(columns: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """The ``known`` keys of metrics that columns show, by column, which has the key or its name in tables as its own:
    ``IL_MCC@0.5`` is ``presence@0.5/IL_MCC``."""
    named = {column_name(key): key for key in known}
    wanted = {column: column_name(_METRIC.get(column, column)) for column in columns}
    return {column: named[name] for column, name in wanted.items() if name in named}


def _percent(fraction: float | None) -> Decimal | None:
    return None if fraction is None else percent_of(fraction)


def _speed(record: Mapping[str, Any]) -> Decimal | None:
    """Frames per second, if the record has them."""
    value = record.get(FPS)
    return None if value is None else Decimal(repr(float(value)))


def main_columns(records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The columns of runs by the protocols that they were scored by first.

    They are those of average precision where it is one of these; else those of phrases, or each protocol's first metric
    that a run has a number of.
    """
    own = [(record.get("protocol") or {}).get("name") for record in records]
    if all(name == VEVAL for name in own):
        return PHRASE_COLUMNS
    if any(name is None or name in PROTOCOLS for name in own):
        return COLUMNS
    firsts = [first_metric(record["protocols"][0]) for record in records if record.get("protocols")]
    return tuple(dict.fromkeys(key for key in firsts if key is not None)) or COLUMNS


def first_metric(scored: Mapping[str, Any]) -> str | None:
    """The first metric of a protocol that has a number, as ``PROTOCOL/METRIC``; ``None`` if there is none."""
    metric = next((name for name, value in scored["metrics"].items() if value is not None), None)
    return None if metric is None else f"{protocol_key(scored['protocol'])}/{metric}"


def fraction_of(record: Mapping[str, Any], column: str) -> float | None:
    """A metric of a run's record by the name of a column, see `ColumnLayout`; ``None`` if undefined or unknown."""
    side = "corrected" if column.startswith(CORRECTED_PREFIX) else "metrics"
    key = column.removeprefix(CORRECTED_PREFIX)
    name = _METRIC.get(key, key)
    found = record[side] or {}
    value: float | None = found[name] if name in found else _of_protocols(record, side).get(key)
    return value


def _of_protocols(record: Mapping[str, Any], side: str) -> dict[str, float | None]:
    """The metrics of all protocols that scored the run, and rates of presence: as ``hota@0.5/HOTA``, and those besides
    its own protocol's as published tables name them, ``HOTA@0.5``. The threshold may be left out where it is not the
    user's choice (``teta/TETA``)."""
    found: dict[str, float | None] = {}
    for place, scored in enumerate(record.get("protocols", ())):
        protocol = scored["protocol"]
        for metric, value in (scored.get(side) or {}).items():
            key = f"{protocol_key(protocol)}/{metric}"
            found[key] = value
            if protocol["name"] != HOTA:
                found[f"{protocol['name']}/{metric}"] = value
            if place:
                found.setdefault(column_name(key), value)
    for key, rate in (presence_metrics(record) if side == "metrics" else {}).items():
        found[key] = found[column_name(key)] = rate
    return found


def _published_rows(dataset: str, split: str, columns: Sequence[str], which: Published) -> list[Row]:
    stated = results.published(dataset, split)
    if which != "main":
        return _in_rows(stated, dataset, split, columns)
    made = _in_rows(results.main_results(stated), dataset, split, columns)
    return list({row.label: row for row in reversed(made)}.values())[::-1]  # one row of each, that of the first source


def _in_rows(stated: Sequence[results.PublishedResult], dataset: str, split: str, columns: Sequence[str]) -> list[Row]:
    found = []
    for row in results.published_rows(stated):
        names = {column: column_name(_METRIC.get(column, column)) for column in columns}
        percents = {
            column: _in_percent(name, row.values[name]) if name in row.values else None
            for column, name in names.items()
        }
        if any(percent is not None for percent in percents.values()):
            comparable = None if split == NOT_STATED else True
            method, backbone, training_data = row.parts
            found.append(
                Row(method, dataset, split, percents, row.citations, True, backbone, training_data, comparable)
            )
    return found


def _in_percent(name: str, value: float) -> Decimal:
    return percent_of(value) if name in FRACTIONS else Decimal(repr(value))


def _mark(group: Sequence[Row], decimals: int) -> None:
    """Mark best and second of every column by their printed numbers, so that equal numbers get equal marks."""
    chosen = ranked(group)
    for column in {column for row in chosen for column in row.percents}:
        numbers = [
            (row, in_print(percent, decimals)) for row in chosen if (percent := row.percents.get(column)) is not None
        ]
        if len(numbers) < 2:
            continue
        best, *others = sorted({number for _, number in numbers}, reverse=not is_lower_better(column))
        for row, number in numbers:
            if number == best:
                row.marks[column] = "best"
            elif number == others[0]:
                row.marks[column] = "second"
