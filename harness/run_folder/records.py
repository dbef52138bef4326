"""How the record of a run (``metrics.json``) is judged: whether it has numbers, and which ones stand for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from harness.errors import UserError
from harness.paths import Location

_ROUNDING = 1e-9


def found_nothing(record: Mapping[str, Any]) -> bool:
    """Whether a run was scored without a single track, though there was something to find."""
    counts = record.get("counts", {})
    return bool(counts.get("tracks") == 0 and counts.get("truths"))


FOUND_NOTHING = "found nothing: official tools abort on an empty list and give no number; it is compared as 0"
"""What is said of such a run where it is compared."""


def effective_metrics(record: Mapping[str, Any]) -> dict[str, float | None]:
    """The official metrics of a record as runs are judged by them.

    A run that found nothing has no official numbers, because the tools abort on an empty list; it is judged by 0 where
    the corrected numbers are 0.
    """
    metrics, corrected = record["metrics"] or {}, record["corrected"] or {}
    if found_nothing(record):
        return {key: corrected.get(key) if value is None else value for key, value in metrics.items()}
    return dict(metrics)


def has_numbers(record: Mapping[str, Any]) -> bool:
    """Whether a run can be judged by numbers at all."""
    return record["protocol"] is not None and any(value is not None for value in effective_metrics(record).values())


WITH_NUMBERS = "take a run whose AP is defined"


def no_numbers(folder: Location, record: Mapping[str, Any]) -> UserError:
    """The refusal of a run without numbers, with the reason that its record gives."""
    if record["protocol"] is None:
        return UserError(str(folder), "has no numbers", "take a run on a split whose truth is public")
    reason = record.get("undefined", {}).get("metrics", {}).get("AP", "none is defined")
    return UserError(str(folder), f"has no numbers: {reason}", WITH_NUMBERS)


def values_agree(told: float | None, found: float | None) -> bool:
    """Whether a number found in a run's predictions is the one its record tells, but for rounding."""
    if told is None or found is None:
        return told is found
    return abs(told - found) <= _ROUNDING


def numbers_disagree(folder: Location) -> UserError:
    """The refusal of a run whose predictions do not give its numbers."""
    what = "its predictions do not give the numbers of its metrics.json"
    return UserError(str(folder), what, "repeat its harness run, which scores it anew")


def provenance(records: Sequence[Mapping[str, Any]], command: str) -> list[str]:
    """Lines that say what a table or figure was made from: the command, and each run with the protocol's version."""
    lines = [command]
    for record in records:
        protocol = record["protocol"]
        told = f"protocol {protocol['name']} version {protocol['version']}" if protocol else "not scored"
        lines.append(f"run {PurePath(record['folder']).name}: {told}")
    return lines
