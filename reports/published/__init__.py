"""Published results as data: every number with its source. ``published_results.md`` rates the sources."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from harness.config import loaded_yaml
from harness.errors import UserError, near
from harness.input_files import NOTE_BYTES, TABLE_BYTES, read_file
from harness.reports.published.vocabulary import (
    DATASET_NAMES,
    NOT_STATED,
    OTHER_DATASETS,
    RANGES,
    SPLITS,
    VEVAL_DOMAINS,
    place_in_table,
)

_FILE = "published_results.csv"
_KINDS = {
    "paper": "",
    "repo": "",
    "rebuttal": "authors' reply to reviewers",
    "issue": "a user's report, context only",
    "secondary": "second-hand, verify before quoting",
}
GIVEN = "given by the user, not a run of this harness"
"""What is said of rows of a user's file, whatever their kind."""
_GLEE = {"GLEE stage-2 image mixture": "GLEE images"}
MAIN: Mapping[str, Mapping[str, str]] = {
    "Detic + SORT": {"images only": "images"},
    "Detic + XMem": {"images only": "images"},
    "STCN tracker": {"images only": "images"},
    "Box tracker": {"images only": "images"},
    "OV2Seg": {"LVIS (no rare)": "LVIS (no rare)", "images only (LVIS)": "LVIS (no rare)"},
    "CLIP-VIS": {"LVIS": "LVIS"},
    "OVFormer": {"LVIS": "LVIS", "LVIS then LV-VIS train (video)": "LVIS, LV-VIS"},
    "OV-DVIS++ online": {"COCO": "COCO"},
    "OV-DVIS++ offline": {"COCO": "COCO"},
    "GLEE-Lite": _GLEE,
    "GLEE-Plus": _GLEE,
    "GLEE-Pro": _GLEE,
    "SAM 3": {"SA-Co and external data": "SA-Co, external"},
}
"""Open-vocabulary methods of the main table of a paper: what they were trained on, and what a table calls that."""
_NEEDED = ("method", "dataset", "split", "metric", "value", "source")
_OPTIONAL = {"backbone": "see paper", "training_data": "see paper", "source_kind": "paper", "year": "0"}
"""Columns that a user's file may leave out, and their defaults."""


class PublishedResult(NamedTuple):
    """One number as its source prints it, in the words and units of `harness.reports.published.vocabulary`.

    ``split`` is what the source states: ``val``, ``test``, ``train``, ``not stated``, or a split with a remark in
    brackets. ``source`` may have remarks on this number behind "; ". ``source_kind`` is one of ``paper``, ``repo``,
    ``rebuttal``, ``issue`` and ``secondary``.
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
        return ", ".join(filter(None, self.parts))

    @property
    def parts(self) -> tuple[str, str, str]:
        """Method, backbone and training data, the latter two empty where the source does not state them."""
        backbone, training_data = ("" if t == "see paper" else t for t in (self.backbone, self.training_data))
        return self.method, backbone, training_data

    @property
    def citation(self) -> str:
        """The source with its remarks: how far to trust it, a split stated with a remark."""
        return _citation(self.cited, self._remarks)

    @property
    def cited(self) -> str:
        """The source without remarks on single numbers, and its year."""
        source = self.source.partition("; ")[0]
        return f"{source}, {self.year}" if self.year else source

    @property
    def _remarks(self) -> list[str]:
        on_split = f"split: {self.split}" if " (" in self.split else ""
        return [text for text in (*self.source.split("; ")[1:], _KINDS[self.source_kind], on_split) if text]


def _citation(cited: str, remarks: Iterable[str]) -> str:
    text = "; ".join(remarks)
    return f"{cited} ({text})" if text else cited


@dataclass
class PublishedRow:
    """The results of one method on one dataset and split: ``values`` by metric, and where they were read.

    ``remarks`` are what has to be known about the numbers, by source. Backbone and training data are empty where they
    are not known here.
    """

    method: str
    backbone: str
    training_data: str
    values: dict[str, float] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, str, str]:
        """Method, backbone and training data."""
        return self.method, self.backbone, self.training_data

    @property
    def label(self) -> str:
        """The parts in one text."""
        return ", ".join(filter(None, self.parts))

    @property
    def citations(self) -> list[str]:
        """The sources, each with its remarks."""
        return [_citation(cited, remarks) for cited, remarks in self.remarks.items()]


@cache
def results() -> tuple[PublishedResult, ...]:
    """Every published result, in the order of the file."""
    return parse_results(files(__name__).joinpath(_FILE).read_text(encoding="utf-8"), _FILE)


def parse_results(text: str, name: str) -> tuple[PublishedResult, ...]:
    """Return the results of a CSV file; raises `UserError` for the first line that breaks the vocabulary.

    That is an unknown metric, dataset, split or kind of source, a value out of the metric's range, or a number that is
    stated twice for one source.
    """
    found: dict[tuple[object, ...], PublishedResult] = {}
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        result = _result(f"{name}, line {number}", row)
        key = (*result[:6], result.source)
        if key in found:
            raise UserError(f"{name}, line {number}", "repeats an earlier line", "delete one of the two")
        found[key] = result
    return tuple(found.values())


def read_given(path: Path) -> tuple[PublishedResult, ...]:
    """Return the rows of a user's CSV or YAML file (a list of mappings), in the columns of the published table.

    Datasets have their names in that table, or in runs. Their sources say that the user gave them. Raises
    `UserError` for a file that cannot be read, unknown or missing columns, and words and values as
    `parse_results` does.
    """
    given: list[Any] = _yaml_rows(path) if path.suffix in (".yaml", ".yml") else _csv_rows(path)
    if not given:
        raise UserError(str(path), "has no rows", f"write rows with {', '.join(_NEEDED)}")
    found = []
    for number, row in enumerate(given, start=1):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise UserError(where, "is not a mapping", f"write {', '.join(_NEEDED)}")
        for key in row:
            if key not in PublishedResult._fields:
                raise UserError(where, f'"{key}" is not a column', near(str(key), PublishedResult._fields))
        missing = [key for key in _NEEDED if row.get(key) in (None, "")]
        if missing:
            raise UserError(where, f"lacks {', '.join(missing)}", "add it")
        texts = {**_OPTIONAL, **{key: str(value) for key, value in row.items() if value not in (None, "")}}
        result = _result(where, texts, any_dataset=True)
        found.append(result._replace(source=f"{result.source}; {GIVEN}"))
    return tuple(found)


def _csv_rows(path: Path) -> list[Any]:
    try:
        text = read_file(path, TABLE_BYTES).decode("utf-8-sig")
        return list(csv.DictReader(io.StringIO(text), strict=True))
    except OSError as error:
        raise UserError(str(path), error.strerror or "cannot be read", "check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(str(path), f"is not a CSV file in UTF-8 ({error})", "write it again") from error


def _yaml_rows(path: Path) -> list[Any]:
    import yaml

    try:
        found = loaded_yaml(read_file(path, NOTE_BYTES))
    except OSError as error:
        raise UserError(str(path), error.strerror or "cannot be read", "check the path") from error
    except (UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise UserError(str(path), f"is not YAML ({' '.join(str(error).split())})", "write it again") from error
    if not isinstance(found, list):
        raise UserError(str(path), "is not a list of rows", "begin each row with a dash")
    return found


def among(given: Iterable[PublishedResult], dataset: str, split: str) -> list[PublishedResult]:
    """Those of a user's rows that are on a dataset and split, by names of this package or of the published table."""
    name, part = place_in_table(dataset, split)
    places = {(dataset, split), (name, part)}
    return [row for row in given if (row.dataset, row.split.partition(" (")[0]) in places]


def published(dataset: str, split: str) -> list[PublishedResult]:
    """Return the results on ``dataset`` (named as in runs: ``ytvis2019``) whose source states ``split``.

    ``val (with a remark)`` is val and keeps its remark, which `PublishedResult.citation` shows. Results whose source
    states no split are those of the split ``not stated``. A dataset without results gives none.
    """
    name, part = place_in_table(dataset, split)
    return [row for row in results() if row.dataset == name and row.split.partition(" (")[0] == part]


def main_results(results: Iterable[PublishedResult]) -> list[PublishedResult]:
    """The results of the methods that a paper compares with (`MAIN`), by their authors' papers and repositories.

    Those of earlier revisions are left out. One model has one name for its training data, so that its rows join.
    """
    found = []
    for result in results:
        trained_on = MAIN.get(result.method, {}).get(result.training_data)
        if trained_on is not None and result.source_kind in ("paper", "repo") and "earlier rev" not in result.source:
            found.append(result._replace(training_data=trained_on))
    return found


def published_rows(results: Iterable[PublishedResult]) -> list[PublishedRow]:
    """Put results of one dataset and split together into table rows, in the order of their first appearance.

    Two sources of a method share a row where they agree on a metric that both state and differ on none; a source that
    states another number for the same metric gets a separate row.
    """
    by_source: dict[tuple[str, str], list[PublishedRow]] = {}
    for result in results:
        of_source = by_source.setdefault((result.label, result.cited), [])
        row = next((r for r in of_source if r.values.get(result.metric, result.value) == result.value), None)
        if row is None:
            row = PublishedRow(*result.parts)
            of_source.append(row)
        row.values[result.metric] = result.value
        _remark(row, result.cited, result._remarks)
    merged: list[PublishedRow] = []
    for row in (row for rows in by_source.values() for row in rows):
        same = next((m for m in merged if m.parts == row.parts and _agree(m.values, row.values)), None)
        if same is None:
            merged.append(row)
        else:
            same.values |= row.values
            for cited, remarks in row.remarks.items():
                _remark(same, cited, remarks)
    return merged


def _remark(row: PublishedRow, cited: str, remarks: Iterable[str]) -> None:
    known = row.remarks.setdefault(cited, [])
    known += [text for text in remarks if text not in known]


def _agree(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    shared = one.keys() & other.keys()
    return bool(shared) and all(one[metric] == other[metric] for metric in shared)


def _result(where: str, row: Mapping[str, str], any_dataset: bool = False) -> PublishedResult:
    known = {
        "metric": tuple(RANGES),
        "dataset": (*DATASET_NAMES.values(), *VEVAL_DOMAINS.values(), *OTHER_DATASETS, NOT_STATED),
        "split": (*SPLITS, NOT_STATED),
        "source_kind": tuple(_KINDS),
    }
    if any_dataset:
        del known["dataset"], known["split"]
    for column, words in known.items():
        word = row[column].partition(" (")[0] if column == "split" else row[column]
        if word not in words:
            raise UserError(where, f'"{row[column]}" is not a known {column}', near(row[column], words))
    try:
        value, year = float(row["value"]), int(row["year"])
    except ValueError as error:
        raise UserError(where, f"value or year is not a number ({error})", "write a number") from error
    low, high = RANGES[row["metric"]]
    if not low <= value <= high:
        raise UserError(where, f"{row['metric']} {value} is not within {low:g} to {high:g}", "read the source again")
    texts = {key: row[key] for key in PublishedResult._fields if key not in ("value", "year")}
    return PublishedResult(value=value, year=year, **texts)
