"""The numbers of a run: scored from its store, or undefined with a reason; and the files they are written to."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.atomic_write import write_atomically, write_json
from harness.errors import UnreadableFileError, UserError
from harness.paths import Location, ObjectPath
from harness.run_folder.checksums import write_sums
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.layout import PER_CATEGORY, PER_PAIR, SCORES, remove_tree
from harness.run_folder.schemas import RunRecord
from harness.run_folder.store import PredictionStore
from harness.scoring import VEVAL
from harness.scoring.dispatch import DEFAULTS, Settings, check_truth_for, note_of, score_all, undefined_record
from harness.scoring.from_store import ShardReader
from harness.scoring.match_table import FILE as MATCHES
from harness.scoring.match_table import MatchTable, write_table
from harness.types import Dataset, Video

if TYPE_CHECKING:
    from harness.scoring.dispatch import Result

log = logging.getLogger(__name__)

TableMaker = Callable[[Mapping[str, Any]], str]
"""Gives the text of ``table.md`` from the record of a run."""


@dataclass(frozen=True)
class Scored:
    """``values`` are the keys of ``metrics.json`` that scoring fills; ``refusal`` says why there are no numbers.

    ``note`` says why there is no official AP where nothing is at fault: nothing annotated, or nothing found.
    ``matches`` is what the numbers rest on, ``None`` where there are none.
    """

    values: dict[str, Any]
    per_category: list[dict[str, Any]] = field(default_factory=list)
    per_pair: list[dict[str, Any]] = field(default_factory=list)
    refusal: str = ""
    note: str = ""
    matches: MatchTable | None = None


def refuse_unscorable(dataset: Dataset, protocols: Sequence[str], videos: Iterable[Video] | None) -> None:
    """Raise `UserError` where the truth alone keeps ``videos`` (all if that is ``None``) from being scored."""
    if dataset.truth is not None:
        check_truth_for(protocols, dataset.annotations, None if videos is None else [video.id for video in videos])


def score_predictions(
    dataset: Dataset,
    protocols: Sequence[str],
    store: PredictionStore,
    videos: set[int],
    whole: bool,
    strict: bool,
    settings: Settings = DEFAULTS,
) -> list[Scored]:
    """Score the shards of ``videos`` by protocols, over the ``whole`` of the dataset or over these videos only.

    Where there is nothing to score by, or a protocol refuses the input, all of its numbers are ``None`` with that
    reason. With ``strict`` whatever is odd is a refusal. Raises `UnreadableFileError` for a shard that is damaged,
    cannot be read or is not there.
    """
    reason = ""
    if dataset.truth is None:
        submit = f"; submit the predictions to {dataset.server}" if dataset.server else ""
        reason = f"{no_truth(dataset)}{submit}"
    elif not whole and not videos:
        reason = "no video has predictions"
    if reason:
        return [Scored(undefined_record(name, reason, settings)) for name in protocols]

    def source() -> ShardReader:
        return ShardReader(store, videos)

    try:
        found = score_all(protocols, dataset.annotations, source, strict, None if whole else videos, settings)
    except UnreadableFileError:  # no refusal of a protocol
        raise
    except UserError as error:
        found = dict.fromkeys(protocols, error)
    return [_scored(name, outcome, settings) for name, outcome in found.items()]


def _scored(name: str, outcome: Result | UserError, settings: Settings) -> Scored:
    if isinstance(outcome, UserError):
        log.error("not scored by %s: %s", name, outcome)
        return Scored(undefined_record(name, str(outcome), settings), refusal=f"not scored: {outcome}")
    _log(outcome.warnings)
    by_category, by_pair = ([], outcome.per_category) if name == VEVAL else (outcome.per_category, [])
    matches = getattr(outcome, "matches", None)
    return Scored(outcome.record(), by_category, by_pair, note=note_of(outcome), matches=matches)


def _log(warnings: list[dict[str, Any]]) -> None:
    for warning in warnings:
        log.warning("%s: %s, first: %s", warning["kind"], warning["count"], warning["first"])


def no_truth(dataset: Dataset) -> str:
    """Why a dataset without truth has none."""
    return dataset.no_truth or ("the truth is withheld" if dataset.server else "the annotations have no truth")


def write_results(
    folder: Location, record: Mapping[str, Any], scored: Sequence[Scored], table: TableMaker | None = None
) -> None:
    """Write what every protocol gave, ``table.md`` as ``table`` makes it, and ``metrics.json``: with it all are there.

    The first of ``scored`` is of the run's own protocol: its match table, ``per_category.csv`` and ``per_pair.csv`` lie
    in the folder itself, those of others in ``scores/PROTOCOL``. Those of protocols that ``record`` does not have are
    removed.

    Last come the checksums of what the folder holds then; earlier ones have to be gone by now.
    """
    known = msgspec.convert(record, RunRecord)
    names = [one.protocol.name for one in known.protocols]
    _make_room(folder, names)
    for place, one in enumerate(scored):
        where = folder if place == 0 else folder / SCORES / one.values["protocol"]["name"]
        if not isinstance(where, ObjectPath):
            where.mkdir(parents=True, exist_ok=True)
        if one.matches is None:
            (where / MATCHES).unlink(missing_ok=True)
        else:
            write_table(where / MATCHES, one.matches)
        write_atomically(where / PER_CATEGORY, _csv(one.per_category).encode())
        if one.per_pair:
            write_atomically(where / PER_PAIR, _csv(one.per_pair).encode())
        else:
            (where / PER_PAIR).unlink(missing_ok=True)
    if table is not None:
        write_atomically(folder / "table.md", table(record).encode())
    write_json(folder / "metrics.json", record)
    write_sums(folder)


def _make_room(folder: Location, names: Sequence[str]) -> None:
    """Move what an earlier run's own protocol gave to its folder, and remove what is of none of the protocols."""
    before = FinishedRun(folder)
    try:
        own = before.record["protocol"]["name"] if before.record["protocol"] else None
    except UserError:
        own = None
    if own is not None and own != names[0] and own in names and isinstance(folder, Path):
        (folder / SCORES / own).mkdir(parents=True, exist_ok=True)
        for name in (MATCHES, PER_CATEGORY, PER_PAIR):
            with suppress(FileNotFoundError):
                (folder / name).replace(folder / SCORES / own / name)
    if (folder / SCORES).is_dir():
        for inner in (folder / SCORES).glob("*"):
            if inner.name not in names[1:]:
                remove_tree(inner)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Fractions in full precision; empty where undefined; groups separated by spaces."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = list(rows[0]) if rows else ["id", "name"]
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple, set, frozenset)):
        return " ".join(sorted(map(str, value)))
    return "" if value is None else value
