"""Category lists: those in the package, their groups, and how a file's list differs from them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources

from harness.errors import UserError
from harness.formats.youtube_vis import CategoryRecord
from harness.scoring import HOTA, TETA_TASKS, VEVAL
from harness.types import Category

LISTS = ("lvvis", "ytvis2019", "ytvis2021", "ovis", "uvo")
"""Lists in which an id means the same name in every file."""


@cache
def packaged(name: str) -> tuple[CategoryRecord, ...]:
    """The category list ``datasets/data/{name}.csv``, ascending by id."""
    text = (resources.files("harness.datasets.data") / f"{name}.csv").read_text(encoding="utf-8")
    return tuple(sorted((_record(row) for row in csv.DictReader(text.splitlines())), key=lambda c: c.id))


def _record(row: Mapping[str, str]) -> CategoryRecord:
    partition = row.get("partition")
    synonyms = tuple(s for s in (row.get("synonyms") or "").split("|") if s and s != row["name"])
    return CategoryRecord(
        int(row["id"]), row["name"], int(partition) if partition else None, row.get("frequency") or None, None, synonyms
    )


def in_groups(records: Iterable[CategoryRecord], protocol: str) -> tuple[Category, ...]:
    """The categories with the groups over which ``protocol`` averages them.

    Raises `UserError` for an unknown protocol, one that needs a field that the records lack, and names that are empty.
    """
    from harness.scoring.metrics import GROUP_NAMES
    from harness.scoring.protocols import get_protocol, groups_by_fields

    records = tuple(records)
    if protocol in (VEVAL, *TETA_TASKS):
        grouped: Mapping[str, tuple[int, ...]] = {}
    else:
        grouped = (groups_by_fields if protocol == HOTA else get_protocol(protocol).groups)(records)
    for record in records:
        if not record.name.strip():
            raise UserError(f"category {record.id}", "has no name that is text", "name it in the annotation file")
    groups: dict[int, list[str]] = {}
    for suffix, ids in grouped.items():
        for category_id in ids:
            groups.setdefault(category_id, []).append(GROUP_NAMES[suffix])
    return tuple(Category(c.id, c.name, c.synonyms, tuple(groups.get(c.id, ()))) for c in records)


def difference(
    found: Iterable[CategoryRecord], known: Iterable[CategoryRecord], spellings: Mapping[str, str] | None = None
) -> str | None:
    """Say how two category lists differ first (ids, names, partitions), or return ``None``.

    Case, spaces and underscores do not matter; ``spellings`` gives other spellings of known names.
    """
    here, there = {c.id: c for c in found}, {c.id: c for c in known}
    for category_id in sorted(here.keys() | there.keys()):
        ours, theirs = there.get(category_id), here.get(category_id)
        if theirs is None or ours is None:
            lacking = f"lacks category {category_id}" if theirs is None else f"has an unknown category {category_id}"
            return f"{lacking} ({len(here)} categories, {len(there)} expected)"
        if _plain(theirs.name) not in {_plain(ours.name), _plain((spellings or {}).get(ours.name, ours.name))}:
            return f'category {category_id} is "{theirs.name}", "{ours.name}" expected'
        if None not in (theirs.partition, ours.partition) and theirs.partition != ours.partition:
            return f"category {category_id} ({ours.name}) has partition {theirs.partition}, {ours.partition} expected"
    return None


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")
