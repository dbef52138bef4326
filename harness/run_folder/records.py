"""Reading what a run measured and what it was: ``metrics.json`` and ``config.json``, checked before anything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from harness.errors import UserError
from harness.paths import Location
from harness.run_folder.checksums import read_checked
from harness.versions import other_version

_ROUNDING = 1e-9

# An average of ones may come out one rounding step above 1.
Fraction = Annotated[float, Meta(ge=0, le=1 + 1e-9)]


class ProtocolRecord(Struct, frozen=True):
    """Which scoring protocol gave the numbers."""

    name: str
    version: str | int


class VideosRecord(Struct, frozen=True):
    """How many videos the run was asked for, how many have predictions, and which failed."""

    total: int
    done: int
    failed: list[dict[str, Any]]


class RunRecord(Struct, frozen=True):
    """The part of ``metrics.json`` that reports rely on.

    Metrics are fractions, ``None`` where undefined, and there are none at all where only a server has the truth.
    ``limit`` is the number of first videos that the run was restricted to, ``None`` for the whole split. ``config``,
    ``precision`` and ``seed`` are what it was run with, ``comparable`` and ``not_comparable`` whether it may stand
    beside published numbers (see `harness.comparability`); records of earlier versions have none.
    """

    format: Literal[1]
    model: str
    dataset: str
    split: str
    folder: str
    complete: bool
    protocol: ProtocolRecord | None
    metrics: dict[str, Fraction | None] | None
    corrected: dict[str, Fraction | None] | None
    videos: VideosRecord
    limit: int | None = None
    config: dict[str, Any] = {}
    precision: str | None = None
    seed: int | None = None
    counts: dict[str, int] = {}
    undefined: dict[str, dict[str, str]] = {}
    comparable: bool | None = None
    not_comparable: list[str] = []


class RunContent(Struct, frozen=True):
    """The part of ``config.json`` that says what was run on what, see `harness.runner.Run.content`.

    ``digest`` is of the annotations; ``limit`` is the number of first videos, ``None`` for all.
    """

    model: str
    dataset: str
    split: str
    digest: str
    protocol: str
    limit: int | None = None
    format: Literal[1] = 1


def read_record(run: Location) -> dict[str, Any]:
    """Return the record of ``run``, a run folder or its ``metrics.json``, as it is in the file.

    Raises `UserError` where there is no finished run, or where the file is damaged or of another format.
    """
    return _read(_find(run), RunRecord, "the record of a run")


def read_config(folder: Location) -> dict[str, Any]:
    """Return the ``config.json`` of a run folder as it is in the file.

    Raises `UserError` where it is no run folder, or where the file is damaged.
    """
    return _read(folder / "config.json", RunContent, "the configuration of a run")


def read_content(folder: Location) -> RunContent:
    """What a run folder was run on; raises `UserError` like `read_config`."""
    return msgspec.convert(read_config(folder), RunContent)


def found_nothing(record: Mapping[str, Any]) -> bool:
    """Whether a run was scored without a single track, though there was something to find."""
    counts = record.get("counts", {})
    return bool(counts.get("tracks") == 0 and counts.get("truths"))


FOUND_NOTHING = "found nothing: official tools abort on an empty list and give no number; it is compared as 0"
"""What is said of such a run where it is compared."""


def measured(record: Mapping[str, Any]) -> dict[str, float | None]:
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
    return record["protocol"] is not None and any(value is not None for value in measured(record).values())


WITH_NUMBERS = "take a run whose AP is defined"


def no_numbers(folder: Location, record: Mapping[str, Any]) -> UserError:
    """The refusal of a run without numbers, with the reason that its record gives."""
    if record["protocol"] is None:
        return UserError(str(folder), "has no numbers", "take a run on a split whose truth is public")
    reason = record.get("undefined", {}).get("metrics", {}).get("AP", "none is defined")
    return UserError(str(folder), f"has no numbers: {reason}", WITH_NUMBERS)


def is_given(told: float | None, found: float | None) -> bool:
    """Whether a number found in a run's predictions is the one its record tells, but for rounding."""
    if told is None or found is None:
        return told is found
    return abs(told - found) <= _ROUNDING


def not_given(folder: Location) -> UserError:
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


def _read(path: Location, kind: type[Struct], what: str) -> dict[str, Any]:
    data = read_checked(path.parent, path.name)
    if data is None:
        hint = "name a folder that harness run wrote"
        raise UserError(str(path.parent), f"is not a run folder: it has no {path.name}", hint)
    try:
        found = msgspec.json.decode(data)
        msgspec.convert(found, kind)
    except msgspec.MsgspecError as error:
        wrong = other_version(data) or f"is not {what}: {error}"
        raise UserError(str(path), wrong, "repeat its harness run") from error
    return dict(found)


def _find(run: Location) -> Location:
    if run.is_file() and run.suffix == ".json":
        return run
    hint = "name a run folder, or the metrics.json in it"
    if not run.is_dir():
        raise UserError(str(run), "is not a run folder" if run.exists() else "is not there", hint)
    path = run / "metrics.json"
    if path.is_file():
        return path
    if (run / "config.json").exists():
        raise UserError(
            str(run), "has no metrics.json: the run was not finished", "repeat its harness run to finish it"
        )
    if isinstance(run, Path) and next(run.glob("*/metrics.json"), None) is not None:
        hint = f"name the run folders in it, for example {run / '*'}"
    raise UserError(str(run), "is not a run folder: it has no metrics.json", hint)
