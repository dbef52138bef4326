"""Reading the record of a finished run: ``metrics.json`` of a run folder, checked before anything believes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from harness.errors import UserError

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
    ``precision`` and ``seed`` are what it was run with; records of earlier versions have none.
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


def read_record(run: Path) -> dict[str, Any]:
    """Return the record of ``run``, a run folder or its ``metrics.json``, as it is in the file.

    Raises `UserError` where there is no finished run, or where the file is damaged or of another format.
    """
    path = _find(run)
    try:
        record = msgspec.json.decode(path.read_bytes())
        msgspec.convert(record, RunRecord)
    except msgspec.MsgspecError as error:
        raise UserError(str(path), f"is not the record of a run: {error}", "make it again with harness run") from error
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}", "mend its permissions") from error
    return dict(record)


def provenance(records: Sequence[Mapping[str, Any]], command: str) -> list[str]:
    """Lines that say what a table or figure was made from: the command, and each run with the protocol's version."""
    lines = [command]
    for record in records:
        protocol = record["protocol"]
        told = f"protocol {protocol['name']} version {protocol['version']}" if protocol else "not scored"
        lines.append(f"run {PurePath(record['folder']).name}: {told}")
    return lines


def _find(run: Path) -> Path:
    if run.is_file() and run.suffix == ".json":
        return run
    mend = "name a run folder, or the metrics.json in it"
    if not run.is_dir():
        raise UserError(str(run), "is not a run folder" if run.exists() else "is not there", mend)
    path = run / "metrics.json"
    if path.is_file():
        return path
    if (run / "config.json").exists():
        raise UserError(
            str(run), "has no metrics.json: the run was not finished", "repeat its harness run to finish it"
        )
    raise UserError(str(run), "is not a run folder: it has no metrics.json", mend)
