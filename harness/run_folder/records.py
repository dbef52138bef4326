"""The metrics of a run's record (``metrics.json``): whether they are defined, and which ones are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from harness.errors import UserError
from harness.paths import Location

_ROUNDING = 1e-9


def found_nothing(record: Mapping[str, Any]) -> bool:
    """Whether a scored run has no track although objects are annotated."""
    counts = record.get("counts", {})
    return bool(counts.get("tracks") == 0 and counts.get("truths"))


FOUND_NOTHING = "found nothing: official tools abort on an empty list and give no number; it is compared as 0"
"""The note in comparisons on a run for which `found_nothing` is true."""


def effective_metrics(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the official metrics of a record, as they are compared: fractions, ``None`` if undefined.

    A run that found nothing has no official metrics, because the official tools abort on an empty list. Its corrected
    metrics (0) replace them.
    """
    metrics, corrected = record["metrics"] or {}, record["corrected"] or {}
    if found_nothing(record):
        return {key: corrected.get(key) if value is None else value for key, value in metrics.items()}
    return dict(metrics)


def has_numbers(record: Mapping[str, Any]) -> bool:
    """Whether a run was scored and any of its metrics is defined."""
    return record["protocol"] is not None and any(value is not None for value in effective_metrics(record).values())


WITH_NUMBERS = "choose a run whose AP is defined"


def no_numbers(folder: Location, record: Mapping[str, Any]) -> UserError:
    """Return the error for a run without numbers, with the reason from its record."""
    if record["protocol"] is None:
        return UserError(str(folder), "has no numbers", "choose a run on a split whose truth is public")
    reason = record.get("undefined", {}).get("metrics", {}).get("AP", "none is defined")
    repaired = f"{record['protocol']['name']}-corrected"
    is_repaired = (record["corrected"] or {}).get("AP") is not None
    hint = f"score it by {repaired}, or {WITH_NUMBERS}" if is_repaired else WITH_NUMBERS
    return UserError(str(folder), f"has no {'official ' if is_repaired else ''}numbers: {reason}", hint)


def no_official_numbers(record: Mapping[str, Any]) -> str:
    """Why a run has corrected numbers but no official ones; empty for other runs."""
    sides = [record.get(side) or {} for side in ("metrics", "corrected")]
    official, repaired = ([value for value in side.values() if value is not None] for side in sides)
    reasons = record.get("undefined", {}).get("metrics", {})
    if official or not repaired or not reasons:
        return ""
    return f"there are no official numbers: {next(iter(reasons.values()))}"


def values_agree(recorded: float | None, computed: float | None) -> bool:
    """Whether a metric computed from a run's predictions equals the recorded one, up to rounding."""
    if recorded is None or computed is None:
        return recorded is computed
    return abs(recorded - computed) <= _ROUNDING


def numbers_disagree(folder: Location) -> UserError:
    """Return the error for a run whose predictions do not give the numbers of its record."""
    what = "its predictions do not give the numbers of its metrics.json"
    return UserError(str(folder), what, "repeat its `harness run`, which scores it again")


def provenance(records: Sequence[Mapping[str, Any]], command: str) -> list[str]:
    """Return the sources of a table or figure, a line each: the command, and each run with the protocol's version."""
    lines = [command]
    for record in records:
        protocol = record["protocol"]
        scoring = f"protocol {protocol['name']} version {protocol['version']}" if protocol else "not scored"
        lines.append(f"run {PurePath(record['folder']).name}: {scoring}")
    return lines
