"""The numbers of a run: scored from its store, or undefined with a reason; and the files they are written to."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.atomic_write import write_atomically, write_json
from harness.errors import UnreadableFileError, UserError
from harness.paths import Location
from harness.run_folder.checksums import write_sums
from harness.run_folder.store import PredictionStore
from harness.scoring.match_table import FILE as MATCHES
from harness.scoring.match_table import MatchTable, write_table
from harness.scoring.metrics import undefined_note
from harness.scoring.protocols import get_protocol
from harness.scoring.score import check_truth, score_store
from harness.types import Dataset, Video

log = logging.getLogger(__name__)

AP_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""Metrics of every protocol: what is listed as undefined where nothing could be scored."""


@dataclass(frozen=True)
class Scored:
    """``values`` are the keys of ``metrics.json`` that scoring fills; ``refusal`` says why there are no numbers.

    ``note`` says why there is no official AP where nothing is at fault: nothing annotated, or nothing found.
    ``matches`` is what the numbers rest on, ``None`` where there are none.
    """

    values: dict[str, Any]
    per_category: list[dict[str, Any]] = field(default_factory=list)
    refusal: str = ""
    note: str = ""
    matches: MatchTable | None = None


def refuse_unscorable(dataset: Dataset, videos: Iterable[Video] | None) -> None:
    """Raise `UserError` where the truth alone keeps ``videos`` (all if that is ``None``) from being scored."""
    if dataset.truth is not None:
        chosen = None if videos is None else [video.id for video in videos]
        check_truth(dataset.protocol, dataset.annotations, chosen)


def score_predictions(dataset: Dataset, store: PredictionStore, videos: set[int], whole: bool, strict: bool) -> Scored:
    """Score the shards of ``videos`` by the dataset's protocol, over the ``whole`` of it or over these videos only.

    Where there is nothing to score by, or the input is refused, all numbers are ``None`` with that reason. With
    ``strict`` whatever is odd is a refusal. Raises `UnreadableFileError` for a shard that is damaged, cannot be read or
    is not there.
    """
    from harness.scoring.from_store import ShardReader

    if dataset.truth is None:
        submit = f"; submit the predictions to {dataset.server}" if dataset.server else ""
        return Scored(_undefined(dataset.protocol, f"{no_truth(dataset)}{submit}"))
    if not whole and not videos:
        return Scored(_undefined(dataset.protocol, "no video has predictions"))
    try:
        annotations = dataset.annotations
        score = score_store(
            dataset.protocol, annotations, ShardReader(store, videos), strict, None if whole else videos
        )
    except UnreadableFileError:  # no refusal of the tool
        raise
    except UserError as error:
        log.error("not scored: %s", error)
        return Scored(_undefined(dataset.protocol, str(error)), refusal=f"not scored: {error}")
    for warning in score.warnings:
        log.warning("%s: %s, first: %s", warning["kind"], warning["count"], warning["first"])
    note = undefined_note(score.metrics.values, score.metrics.undefined)
    return Scored(score.record(), score.per_category, note=note, matches=score.matches)


def no_truth(dataset: Dataset) -> str:
    """Why a dataset without truth has none."""
    return "the truth is withheld" if dataset.server else "the annotations have no truth"


def _undefined(protocol: str, reason: str) -> dict[str, Any]:
    nothing: dict[str, None] = dict.fromkeys(AP_METRICS)
    reasons = dict.fromkeys(AP_METRICS, reason)
    chosen = get_protocol(protocol)
    return {
        "protocol": {"name": chosen.name, "version": chosen.version},
        "metrics": nothing,
        "corrected": dict(nothing),
        "undefined": {"metrics": reasons, "corrected": dict(reasons)},
        "warnings": [],
        "counts": {},
        "slices": {},
    }


def write_results(folder: Location, record: Mapping[str, Any], scored: Scored) -> None:
    """Write the match table, ``per_category.csv``, ``table.md`` and ``metrics.json``: with it all are there.

    Last come the checksums of what the folder holds then; earlier ones have to be gone by now. What an earlier scoring
    wrote and this one has not is removed.
    """
    from harness.reports.tables import table

    if scored.matches is None:
        (folder / MATCHES).unlink(missing_ok=True)
    else:
        write_table(folder / MATCHES, scored.matches)
    write_atomically(folder / "per_category.csv", _csv(scored.per_category).encode())
    write_atomically(folder / "table.md", table([record], "markdown").encode())
    write_json(folder / "metrics.json", record)
    write_sums(folder)


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
