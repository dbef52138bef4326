"""Published results as data: every number with the source it was read in. What a source weighs is in the .md beside."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_FILE = "published_results.csv"
_DATASETS = {"lvvis": "LV-VIS", "ytvis2019": "YTVIS19", "ytvis2021": "YTVIS21", "ovis": "OVIS", "burst": "BURST"}
_KINDS = {
    "paper": "",
    "repo": "",
    "rebuttal": "authors' reply to reviewers",
    "issue": "a user's report, context only",
    "secondary": "second-hand, verify before quoting",
}


class PublishedResult(NamedTuple):
    """One number as its source prints it: AP in percent, other metrics in the unit of their name.

    ``split`` is what the source states, which may be ``not stated`` or a split with a remark; ``source_kind`` is one
    of ``paper``, ``repo``, ``rebuttal``, ``issue`` and ``secondary``.
    """

    method: str
    backbone: str
    training_data: str
    dataset: str
    split: str
    metric: str
    value: float
    source: str
    source_kind: str
    year: int

    @property
    def label(self) -> str:
        """Method with backbone and training data, as a table names it."""
        return ", ".join(text for text in (self.method, self.backbone, self.training_data) if text != "see paper")

    @property
    def citation(self) -> str:
        """The source, and what a reader has to know about it: its weight, a split stated with a remark."""
        remarks = [text for text in (_KINDS[self.source_kind], self._split_remark) if text]
        return f"{self.source}, {self.year}" + (f" ({'; '.join(remarks)})" if remarks else "")

    @property
    def _split_remark(self) -> str:
        return "" if self.split in ("val", "test") else f"split: {self.split}"


@dataclass
class PublishedRow:
    """The results of one method on one dataset and split: ``values`` by metric, and where they were read."""

    label: str
    values: dict[str, float] = field(default_factory=dict)
    citations: list[str] = field(default_factory=list)


@cache
def results() -> tuple[PublishedResult, ...]:
    """Every published result, in the order of the file."""
    text = files(__name__).joinpath(_FILE).read_text(encoding="utf-8")
    return tuple(_result(row) for row in csv.DictReader(io.StringIO(text)))


def published(dataset: str, split: str) -> list[PublishedResult]:
    """Return the results on ``dataset`` (our name, such as ``ytvis2019``) whose source states ``split``.

    ``val (with a remark)`` is val and keeps its remark, which `PublishedResult.citation` shows. Results whose source
    states no split, or another, are not among them: they may be of any split. A dataset without results gives none.
    """
    name = _DATASETS.get(dataset)
    return [row for row in results() if row.dataset == name and split in (row.split, row.split.partition(" (")[0])]


def rows(results: Iterable[PublishedResult]) -> list[PublishedRow]:
    """Put results of one dataset and split together into table rows, in the order of their first appearance.

    Two sources of a method share a row where they agree on a metric that both state and differ on none; a source that
    states another number for the same metric keeps a row of its own.
    """
    by_source: dict[tuple[str, str], PublishedRow] = {}
    for result in results:
        row = by_source.setdefault((result.label, result.citation), PublishedRow(result.label))
        row.values[result.metric] = result.value
        if result.citation not in row.citations:
            row.citations.append(result.citation)
    merged: list[PublishedRow] = []
    for row in by_source.values():
        same = next((m for m in merged if m.label == row.label and _agree(m.values, row.values)), None)
        if same is None:
            merged.append(row)
        else:
            same.values |= row.values
            same.citations += row.citations
    return merged


def _agree(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    shared = one.keys() & other.keys()
    return bool(shared) and all(one[metric] == other[metric] for metric in shared)


def _result(row: Mapping[str, str]) -> PublishedResult:
    texts = {key: row[key] for key in PublishedResult._fields if key not in ("value", "year")}
    return PublishedResult(value=float(row["value"]), year=int(row["year"]), **texts)
