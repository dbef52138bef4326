"""Scores the stored predictions of a run and writes the files with the results."""

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
from harness.plain_text import csv_text, utf8
from harness.run_folder.checksums import write_sums
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.layout import PER_CATEGORY, PER_PAIR, SCORES, remove_tree
from harness.run_folder.schemas import RunRecord
from harness.run_folder.store import PredictionStore
from harness.scoring import VEVAL
from harness.scoring.contributions import CONTRIBUTIONS_FILE as CONTRIBUTIONS
from harness.scoring.contributions import VideoContributions, write_contributions
from harness.scoring.dispatch import DEFAULTS, Settings, check_truth_for, note_of, score_all, undefined_record
from harness.scoring.match_table import MATCHES_FILE as MATCHES
from harness.scoring.match_table import MatchTable, write_table
from harness.scoring.shard_reader import ShardReader
from harness.types import Dataset, Video

if TYPE_CHECKING:
    from harness.scoring.dispatch import Result

log = logging.getLogger(__name__)

TableMaker = Callable[[Mapping[str, Any]], str]
"""Returns the text of ``table.md`` for the record of a run."""


@dataclass(frozen=True)
class ProtocolScores:
    """The scores by one protocol.

    ``values`` are the keys of ``metrics.json`` that scoring fills. ``refusal`` says why the protocol refused the input.
    ``note`` says why AP is undefined although there was no error: nothing annotated, or nothing found. ``matches`` is
    the match table that the metrics are computed from, ``None`` if there is none; ``contributions`` are those of the
    videos to metrics without one.
    """

    values: dict[str, Any]
    per_category: list[dict[str, Any]] = field(default_factory=list)
    per_pair: list[dict[str, Any]] = field(default_factory=list)
    refusal: str = ""
    note: str = ""
    matches: MatchTable | None = None
    contributions: VideoContributions | None = None


def refuse_unscorable(
    dataset: Dataset, protocols: Sequence[str], videos: Iterable[Video] | None, strict: bool = False
) -> list[str]:
    """Raise `UserError` if a protocol refuses the truth of ``videos`` (``None``: all), whatever is predicted.

    Returns why official tools abort on it, which with ``strict`` is refused, too.
    """
    if dataset.truth is None:
        return []
    ids = None if videos is None else [video.id for video in videos]
    return check_truth_for(protocols, dataset.annotations, ids, strict)


def score_predictions(
    dataset: Dataset,
    protocols: Sequence[str],
    store: PredictionStore,
    videos: set[int],
    whole: bool,
    strict: bool,
    settings: Settings = DEFAULTS,
    known: Mapping[str, Result | UserError] | None = None,
) -> list[ProtocolScores]:
    """Score the shards of ``videos`` by each protocol, over the ``whole`` dataset or over these videos only.

    ``known`` results are used instead of scoring if they cover all protocols. Without truth, or if a protocol refuses
    the input, all metrics of the protocol are ``None``, with the reason. With ``strict`` every warning is a refusal.
    Raises `UnreadableFileError` for a shard that is missing, damaged or unreadable.
    """
    reason = ""
    if dataset.truth is None:
        submit = f"; submit the predictions to {dataset.server}" if dataset.server else ""
        reason = f"{no_truth_reason(dataset)}{submit}"
    elif not whole and not videos:
        reason = "no video has predictions"
    if reason:
        return [ProtocolScores(undefined_record(name, reason, settings)) for name in protocols]
    if known and set(protocols) <= known.keys():
        return [_scored(name, known[name], settings) for name in protocols]

    def source() -> ShardReader:
        return ShardReader(store, videos, whole=True)  # a shard that was damaged meanwhile is computed again

    try:
        found = score_all(protocols, dataset.annotations, source, strict, None if whole else videos, settings)
    except UnreadableFileError:  # not refused by a protocol: the shard could not be read
        raise
    except UserError as error:
        found = dict.fromkeys(protocols, error)
    return [_scored(name, outcome, settings) for name, outcome in found.items()]


def _scored(name: str, outcome: Result | UserError, settings: Settings) -> ProtocolScores:
    if isinstance(outcome, UserError):
        log.error("not scored by %s: %s", name, outcome)
        return ProtocolScores(undefined_record(name, str(outcome), settings), refusal=f"not scored: {outcome}")
    _log(outcome.warnings)
    rows = getattr(outcome, "per_category", [])  # BURST's tasks have none
    by_category, by_pair = ([], rows) if name == VEVAL else (rows, [])
    matches, contributions = getattr(outcome, "matches", None), getattr(outcome, "contributions", None)
    return ProtocolScores(outcome.record(), by_category, by_pair, "", note_of(outcome), matches, contributions)


def _log(warnings: list[dict[str, Any]]) -> None:
    for warning in warnings:
        log.warning("%s: %s, first: %s", warning["kind"], warning["count"], warning["first"])


def no_truth_reason(dataset: Dataset) -> str:
    """Return why a dataset has no truth."""
    return dataset.no_truth or ("the truth is withheld" if dataset.server else "the annotations have no truth")


def write_results(
    folder: Location, record: Mapping[str, Any], scored: Sequence[ProtocolScores], table: TableMaker | None = None
) -> None:
    """Write the scores of every protocol, ``table.md`` with the text from ``table``, then ``metrics.json``.

    The first of ``scored`` is the run's own protocol: its match table, ``per_category.csv`` and ``per_pair.csv`` are in
    the folder itself, those of other protocols in ``scores/PROTOCOL``. Scores of protocols that are not in ``record``
    are removed.

    The checksums are written last; the caller must have removed the earlier ones.
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
        if one.contributions is None:
            (where / CONTRIBUTIONS).unlink(missing_ok=True)
        else:
            write_contributions(where / CONTRIBUTIONS, one.contributions)
        write_atomically(where / PER_CATEGORY, utf8(_csv(one.per_category)))
        if one.per_pair:
            write_atomically(where / PER_PAIR, utf8(_csv(one.per_pair)))
        else:
            (where / PER_PAIR).unlink(missing_ok=True)
    if table is not None:
        write_atomically(folder / "table.md", utf8(table(record)))
    write_json(folder / "metrics.json", record)
    write_sums(folder)


def _make_room(folder: Location, names: Sequence[str]) -> None:
    """Move the scores of an earlier run's own protocol to its folder; remove those of protocols not in ``names``."""
    before = FinishedRun(folder)
    try:
        own = before.record["protocol"]["name"] if before.record["protocol"] else None
    except UserError:
        own = None
    if own is not None and own != names[0] and own in names and isinstance(folder, Path):
        (folder / SCORES / own).mkdir(parents=True, exist_ok=True)
        for name in (MATCHES, CONTRIBUTIONS, PER_CATEGORY, PER_PAIR):
            with suppress(FileNotFoundError):
                (folder / name).replace(folder / SCORES / own / name)
    if (folder / SCORES).is_dir():
        for inner in (folder / SCORES).glob("*"):
            if inner.name not in names[1:]:
                remove_tree(inner)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV: fractions in full precision, empty if undefined; groups separated by spaces."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = list(rows[0]) if rows else ["id", "name"]
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple, set, frozenset)):
        value = " ".join(sorted(map(str, value)))
    return csv_text(value) if isinstance(value, str) else "" if value is None else value
