"""The match table of a run folder: the cached one if it matches the run's numbers, else recomputed from predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UnreadableFileError, UserError
from harness.reports.run_data import dataset_of_run
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.records import found_nothing, has_numbers, no_numbers, numbers_disagree, values_agree
from harness.scoring.jackknife import JACKKNIFE_METRICS, replicate
from harness.scoring.match_table import MATCHES_FILE, MatchTable, write_table
from harness.scoring.protocols import ADD_AP, PROTOCOLS, get_protocol
from harness.scoring.score import score_store


def matches_of_run(run: FinishedRun, data_root: Path, annotations: Path | None = None) -> MatchTable:
    """Return the match table of a scored run.

    If the folder has no table that gives the run's numbers, the predictions are scored again with the dataset below
    ``data_root`` (or the file ``annotations``, for the user's own data), and the table is stored in the folder. Raises
    `UserError` for a run without numbers, or whose predictions do not give them, and for data that is not the run's.
    """
    record = run.record
    if not record["complete"]:
        done, total = record["videos"]["done"], record["videos"]["total"]
        what = f"is incomplete: {done} of {total} videos have predictions"
        raise UserError(str(run.folder), what, "repeat its `harness run` to finish it")
    if not has_numbers(record):
        raise no_numbers(run.folder, record)
    if (own := record["protocol"]["name"]) not in PROTOCOLS:
        raise UserError(str(run.folder), f"was scored by {own}, which keeps no matches to compare", ADD_AP.format(own))
    if run.matches is not None and _fits(run.matches, record, run.content.digest):
        return run.matches
    return _made_again(run, data_root, annotations)


def readable(
    runs: Sequence[FinishedRun], data_root: Path, annotations: Path | None, faults: list[UserError] | None
) -> list[FinishedRun]:
    """The runs whose predictions can be read, if what is matched has to be made again.

    The others' faults are added to ``faults``; without that list all runs are returned, and nothing is read.
    """
    if faults is None:
        return list(runs)
    found = []
    for run in runs:
        try:
            matches_of_run(run, data_root, annotations)
            found.append(run)
        except UnreadableFileError as error:
            faults.append(error)
    return found


def _fits(table: MatchTable, record: Mapping[str, Any], digest: str) -> bool:
    protocol = (record["protocol"]["name"], str(record["protocol"]["version"]))
    if (table.protocol, table.version) != protocol or table.annotations != digest:
        return False
    if found_nothing(record):  # officially without numbers, and without tracks they are 0
        return not len(table.matches.video)
    replicates = replicate(table, np.ones((1, len(table.video_ids)), np.int32))
    for suffix, rows in {"": None, **table.groups}.items():
        for metric in JACKKNIFE_METRICS:
            value = replicates.mean(metric, rows)[0]
            if not values_agree(record["metrics"].get(metric + suffix), None if np.isnan(value) else value):
                return False
    return True


def _made_again(run: FinishedRun, data_root: Path, annotations: Path | None) -> MatchTable:
    record = run.record
    name, version = record["protocol"]["name"], str(record["protocol"]["version"])
    chosen = get_protocol(name)
    if chosen.version != version:
        what = f"was scored by version {version} of the protocol {name}; this harness has version {chosen.version}"
        raise UserError(str(run.folder), what, "repeat its `harness run`, which scores it again")
    dataset = dataset_of_run(run, data_root, annotations)
    videos = None if record["limit"] is None else run.video_ids.run
    table = score_store(chosen, dataset.annotations, run.store, videos=videos).matches
    if table is None or not _fits(table, record, dataset.digest):
        raise numbers_disagree(run.folder)
    with suppress(UserError):  # a folder without permission to write
        write_table(run.folder / MATCHES_FILE, table)
    run.matches = table
    return table
