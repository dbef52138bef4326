"""Analyses of run folders: errors by kind, slices and calibration, over the videos that their numbers cover."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.paths import Location
from harness.reports.run_data import dataset_of_run
from harness.reports.run_files import read_runs
from harness.reports.styles import DAGGER
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.records import found_nothing, numbers_disagree, values_agree
from harness.scoring.analysis import Analysis, analyse
from harness.scoring.protocols import ADD_AP, PROTOCOLS
from harness.types import Dataset


@dataclass(frozen=True)
class RunAnalysis:
    """One run's analysis; ``label`` is unique among the runs analysed together, ``videos`` is the number of videos.

    ``not_comparable`` has the reasons why the run is not comparable with published numbers.
    """

    label: str
    folder: str
    dataset: str
    split: str
    videos: int
    analysis: Analysis
    not_comparable: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON."""
        head = {"run": self.label, "folder": self.folder, "dataset": self.dataset, "split": self.split}
        return {**head, "videos": self.videos, **self.analysis.record()}


def analyse_runs(folders: Sequence[Location], data_root: Path, annotations: Path | None = None) -> list[RunAnalysis]:
    """Analyse run folders by the data below ``data_root``, or by the file ``annotations``.

    Raises `UserError` for a folder that is not a finished run, data that is missing or differs from the run's, a truth
    that is withheld, and predictions that do not give the run's numbers.
    """
    return [_analyse(run, dataset) for run, dataset in opened_runs(folders, data_root, annotations)]


def opened_runs(
    folders: Sequence[Location], data_root: Path, annotations: Path | None = None
) -> Iterator[tuple[FinishedRun, Dataset]]:
    """Runs with their data, which is opened once; raises `UserError` if data or truth are missing."""
    opened: dict[tuple[str, str, str | None], Dataset] = {}
    for run in read_runs(folders):
        if run.data not in opened:
            opened[run.data] = dataset_of_run(run, data_root, annotations)
        if opened[run.data].truth is None:
            hint = "use a split whose truth is public"
            raise UserError(str(run.folder), "cannot be analysed: the truth is withheld", hint)
        yield run, opened[run.data]


def protocol_to_analyse(run: FinishedRun, dataset: Dataset) -> str:
    """The first AP protocol that scored the run, other than Fixed AP; else, or during the run, the dataset's.

    Raises `UserError` if that is not an AP protocol either.
    """
    scored: list[str] = []
    with suppress(UserError):
        scored = [one["protocol"]["name"] for one in run.record["protocols"]]
    chosen = next((name for name in scored if name in PROTOCOLS and not _is_fixed(name)), dataset.protocol)
    if chosen not in PROTOCOLS:
        what = f"was scored by {chosen}, which has no errors by kind"
        raise UserError(str(run.folder), what, ADD_AP.format(chosen))
    return chosen


def _is_fixed(name: str) -> bool:
    return PROTOCOLS[name].tracks_per_category is not None


def _analyse(run: FinishedRun, dataset: Dataset) -> RunAnalysis:
    chosen = protocol_to_analyse(run, dataset)
    analysis = analyse(chosen, dataset.annotations, run.store, run.scored_videos)
    own = (run.record["protocol"] or {}).get("name") == chosen
    scored = [run.record] if own else [one for one in run.record["protocols"] if one["protocol"]["name"] == chosen]
    for one in scored:
        recorded = one["metrics" if analysis.protocol == chosen else "corrected"]
        given = values_agree(recorded.get("AP50"), analysis.errors.ap50)
        if not (given or (found_nothing(one) and not analysis.errors.tracks)):
            raise numbers_disagree(run.folder)
    label = run.label.removesuffix(DAGGER)
    return RunAnalysis(label, str(run.folder), dataset.name, dataset.split, len(run.done), analysis, run.reasons)
