"""From precision and recall arrays to named numbers: by group, area, occlusion, track length and category.

Values are fractions; a number without truth is ``None`` with a reason, never nan or -1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from harness.arrays import Floats, Ints
from harness.errors import OfficialAbortError, OfficialFaultError
from harness.formats.youtube_vis import CategoryRecord
from harness.scoring.average_precision import CAPS, Curves
from harness.scoring.overlap import GroundTruthArrays, Overlaps
from harness.scoring.protocols import LENGTHS, ApProtocol, novel_lists


class Number(NamedTuple):
    """One number's cells: precision or recall, an IoU threshold or all, a range, a cap."""

    name: str
    precision: bool
    threshold: int | None
    range: str
    cap: int


NUMBERS = (
    Number("AP", True, None, "all", 100),
    Number("AP50", True, 0, "all", 100),
    Number("AP75", True, 5, "all", 100),
    Number("APs", True, None, "small", 100),
    Number("APm", True, None, "medium", 100),
    Number("APl", True, None, "large", 100),
    Number("AR1", False, None, "all", 1),
    Number("AR10", False, None, "all", 10),
    Number("AR100", False, None, "all", 100),
    Number("ARs", False, None, "small", 100),
    Number("ARm", False, None, "medium", 100),
    Number("ARl", False, None, "large", 100),
)
OCCLUSION_NUMBERS = tuple(
    Number(f"{kind}{letter}o", kind == "AP", None, f"{name} occlusion", 100)
    for kind in ("AP", "AR")
    for letter, name in (("s", "light"), ("m", "medium"), ("h", "heavy"))
)
GROUP_NAMES = {"b": "base", "n": "novel", "c": "common", "u": "uncommon"}


@dataclass(frozen=True)
class Metrics:
    """The numbers of one protocol; ``undefined`` gives the reason for each value that is ``None``."""

    values: dict[str, float | None]
    undefined: dict[str, str]
    per_category: list[dict[str, Any]]
    slices: dict[str, Any]
    splits: dict[str, Any] = field(default_factory=dict)


def numbers_of(chosen: ApProtocol) -> tuple[Number, ...]:
    """The numbers that a protocol gives. Fixed AP has no cap to put in the names."""
    numbers = NUMBERS + (OCCLUSION_NUMBERS if any(r.quantity == "occlusion" for r in chosen.ranges) else ())
    if chosen.tracks_per_category is None:
        return numbers
    return tuple(number._replace(name="AR") if number.name == "AR100" else number for number in numbers)


def summarise(
    chosen: ApProtocol,
    truths: GroundTruthArrays,
    curves: Curves,
    overlaps: Overlaps,
    groups: dict[str, tuple[int, ...]],
) -> Metrics:
    """Average the cells of ``curves`` into `Metrics`.

    Raises `UserError` where the official tool's summary aborts, see `positions_of`.
    """
    cells = Cells(chosen, truths, curves, overlaps)
    numbers = numbers_of(chosen)
    values: dict[str, float | None] = {}
    undefined: dict[str, str] = {}
    empty = "" if truths.truth.records else ": the videos have no annotations"
    members: dict[str, Ints | None] = {"": None}
    members |= {s: positions_of(chosen, s, ids, truths) for s, ids in groups.items()}
    for suffix, positions in members.items():
        for number in numbers:
            key = number.name + suffix
            values[key] = cells.mean(number, positions)
            if values[key] is None:
                kind = f"{GROUP_NAMES[suffix]} " if suffix else ""
                within = "" if number.range == "all" else f" in the range {number.range}"
                undefined[key] = f"no annotated {kind}track{within}{empty}"
                if suffix and not groups[suffix]:
                    undefined[key] = f"no category is {GROUP_NAMES[suffix]}"
    sliced = {"area": ("small", "medium", "large"), "track_length": tuple(r.name for r in LENGTHS)}
    slices = {kind: _slice(cells, names) for kind, names in sliced.items() if cells.range.keys() >= set(names)}
    splits = _splits(cells, truths.annotations.categories) if chosen.novel_lists else {}
    return Metrics(values, undefined, _per_category(chosen, cells, truths, overlaps, groups), slices, splits)


def without_numbers(metrics: Metrics, reason: str) -> Metrics:
    """The same keys, categories and counts of truths, but every number undefined for one ``reason``."""
    names = {number.name for number in NUMBERS} | {"AR"}
    return replace(
        metrics,
        values=dict.fromkeys(metrics.values),
        undefined=dict.fromkeys(metrics.values, reason),
        per_category=[{k: None if k in names else v for k, v in row.items()} for row in metrics.per_category],
        slices={
            kind: {name: {**found, "AP": None, "AR": None} for name, found in slices.items()}
            for kind, slices in metrics.slices.items()
        },
        splits={},
    )


def undefined_note(values: Mapping[str, float | None], undefined: Mapping[str, str]) -> str:
    """Why AP is undefined, in one sentence; empty where it is defined."""
    if "AP" not in undefined:
        return ""
    are_all = all(value is None for value in values.values())
    return f"{'there are no official numbers' if are_all else 'AP is undefined'}: {undefined['AP']}"


class Cells:
    """Means over the cells of `Curves` that are defined."""

    def __init__(self, chosen: ApProtocol, truths: GroundTruthArrays, curves: Curves, overlaps: Overlaps) -> None:
        self.curves = curves
        self.row = np.full(len(truths.category_ids), -1, np.int64)
        self.row[curves.category] = np.arange(len(curves.category))
        self.range = {r.name: i for i, r in enumerate(curves.ranges)}
        predicted = np.bincount(overlaps.category, minlength=len(self.row)) > 0
        self._by_row: dict[Number, Floats] = {}
        self.charged = predicted & (self.row < 0) & (not chosen.quirks.absent_categories_free)
        """Categories without truth that score 0."""

    def defined(self, range_name: str, positions: Ints | None) -> Ints:
        """Rows of the categories among ``positions`` (all: ``None``) that have positives in a range."""
        rows = self.row[self.row >= 0] if positions is None else self.row[positions]
        rows = rows[rows >= 0]
        return np.asarray(rows[self.curves.positives[rows, self.range[range_name]] > 0], np.int64)

    def cells(self, number: Number) -> Floats:
        """The cells of a number, ``(..., rows)``."""
        curves, r = self.curves, self.range[number.range]
        if number.precision:
            cells = curves.precision[:, :, :, r, curves.precision_caps.index(number.cap)]
        else:
            cells = curves.recall[:, :, r, CAPS.index(number.cap)]
        return cells if number.threshold is None else cells[number.threshold]

    def by_row(self, number: Number) -> Floats:
        """A number for each category with truth ``(rows,)``; ignore it where it is not defined."""
        if number not in self._by_row:
            cells = self.cells(number)
            self._by_row[number] = cells.reshape(math.prod(cells.shape[:-1]), cells.shape[-1]).mean(0)
        return self._by_row[number]

    def mean(self, number: Number, positions: Ints | None) -> float | None:
        """The mean over the defined cells, or ``None``; categories weigh equally."""
        rows = self.defined(number.range, positions)
        if not len(rows):
            return None
        mean = float(self.by_row(number)[rows].mean())
        charged = int(self.charged[slice(None) if positions is None else positions].sum())
        if charged and number.precision and number.range == "all":
            mean *= len(rows) / (len(rows) + charged)
        return mean


def positions_of(chosen: ApProtocol, suffix: str, ids: tuple[int, ...], truths: GroundTruthArrays) -> Ints:
    """Positions of a group's categories in the sorted category list.

    Raises `OfficialAbortError` where the official tool aborts because the group is empty, and another `UserError` where
    it does because the ids do not fit the positions.
    """
    if not chosen.quirks.groups_by_position:
        return np.searchsorted(truths.category_ids, np.array(ids, np.int64))
    n, name = len(truths.category_ids), GROUP_NAMES[suffix]
    if not ids:
        raise OfficialAbortError(
            truths.annotations.path,
            f"no category is {name}; the official {chosen.tool} tool aborts before its numbers",
            f"use protocol {chosen.name}-corrected, which needs none",
        )
    if truths.annotations.renumbered == "categories":
        raise OfficialFaultError(
            truths.annotations.path,
            "category ids are text or beyond 64 bits; the official"
            f" {chosen.tool} tool reads groups at position id - 1 and aborts",
            f"use protocol {chosen.name}-corrected, which looks groups up by id",
        )
    if max(ids) > n:
        raise OfficialFaultError(
            truths.annotations.path,
            f"category {max(ids)} is {name} but there are {n} categories; the official {chosen.tool} tool reads"
            " groups at position id - 1 and aborts",
            f"use protocol {chosen.name}-corrected, which looks groups up by id",
        )
    return np.array(ids, np.int64) - 1  # id 0 reads the last category, as officially


def _slice(cells: Cells, names: tuple[str, ...]) -> dict[str, Any]:
    out = {}
    for name in names:
        rows = cells.defined(name, None)
        out[name] = {
            "AP": cells.mean(Number("AP", True, None, name, 100), None),
            "AR": cells.mean(Number("AR", False, None, name, 100), None),
            "truths": int(cells.curves.positives[rows, cells.range[name]].sum()),
        }
    return out


def _per_category(
    chosen: ApProtocol,
    cells: Cells,
    truths: GroundTruthArrays,
    overlaps: Overlaps,
    groups: dict[str, tuple[int, ...]],
) -> list[dict[str, Any]]:
    predicted = np.bincount(overlaps.category, minlength=len(cells.row))
    numbers = [n for n in numbers_of(chosen)[: len(NUMBERS)] if n.name not in ("ARs", "ARm", "ARl")]
    rows = []
    means = {number.name: cells.by_row(number).tolist() for number in numbers}
    defined = {n.name: (cells.curves.positives[:, cells.range[n.range]] > 0).tolist() for n in numbers}
    members = {GROUP_NAMES[suffix]: frozenset(ids) for suffix, ids in groups.items()}
    for position, category in enumerate(truths.annotations.categories):
        belongs = [name for name, ids in members.items() if category.id in ids]
        row: dict[str, Any] = {
            "id": truths.annotations.stated_category(category.id),
            "name": category.name,
            "groups": " ".join(belongs),
        }
        mine = int(cells.row[position])
        row |= {name: mean[mine] if mine >= 0 and defined[name][mine] else None for name, mean in means.items()}
        row["truths"] = int(cells.curves.positives[mine, 0]) if mine >= 0 else 0
        row["tracks"] = int(predicted[position])
        rows.append(row)
    return rows


def _splits(cells: Cells, categories: tuple[CategoryRecord, ...]) -> dict[str, Any]:
    """YouTube-VIS base and novel for both lists in use: group means, and what a server gives for a reduced file.

    The server averages over all categories with truth, with 0 for those left out; papers rescale by 40 over the
    group's size, which is exact only where all 40 categories occur.
    """
    out: dict[str, Any] = {}
    everything = len(cells.defined("all", None))
    for name, novel in novel_lists(categories).items():
        sides = {
            "base": [i for i, c in enumerate(categories) if c.id not in novel],
            "novel": [i for i, c in enumerate(categories) if c.id in novel],
        }
        out[name] = {"novel_ids": list(novel)}
        for side, positions in sides.items():
            at = np.array(positions, np.int64)
            server: dict[str, float | None] = {}
            for number in NUMBERS:
                rows, present = cells.defined(number.range, at), cells.defined(number.range, None)
                total = float(cells.by_row(number)[rows].sum())
                server[number.name] = total / len(present) if len(present) else None
            owned = len(cells.defined("all", at))
            value = server["AP"]
            out[name][side] = {
                "categories": len(positions),
                "categories_with_truth": owned,
                "AP": cells.mean(NUMBERS[0], at),
                "server": server,
                "AP_rescaled": None if value is None else value * len(categories) / len(positions),
                "AP_rescaled_by_present": None if value is None or not owned else value * everything / owned,
            }
    return out
