"""Results files among the runs that a command names: each becomes a temporary run folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError
from harness.paths import Location, local_copy

_SUFFIXES = (".json", ".jsonl", ".zip", ".gz")


class TruthOfResults(NamedTuple):
    """The options for the truth of results files."""

    annotations: Path | None
    dataset: str | None
    split: str | None
    data_root: Path
    protocol: str | None


@contextmanager
def with_results_files(named: Sequence[Location], truth: TruthOfResults) -> Iterator[list[Location]]:
    """Yield the named runs, with a run folder in place of each results file, named after the file.

    The folders are temporary. Raises `UserError` if the truth of results files is not named, or a file is refused.
    """
    files = [one for one in named if _is_results(one)]
    if not files:
        if (truth.dataset or truth.protocol) and all(one.exists() for one in named):
            raise UserError("--dataset and --protocol", "are for results files", "leave them out")
        yield list(named)
        return
    if truth.annotations is None and truth.dataset is None:
        raise UserError(str(files[0]), "is a results file", "name its truth with --annotations or --dataset")
    if truth.dataset is None and truth.protocol is None:
        raise UserError("--protocol", "is needed with --annotations", "name one of lvvis, ytvis, ovis, burst")
    with tempfile.TemporaryDirectory(prefix="harness-results-") as folder:
        names = _names(files)
        made = {one: _run(one, names[one], truth, Path(folder)) for one in files}
        yield [made.get(one, one) for one in named]


def _is_results(place: Location) -> bool:
    """Whether a name is of a file of results, and not of a run's ``metrics.json``, which is an object with a format."""
    if place.suffix not in _SUFFIXES or not place.is_file():
        return False
    return place.suffix != ".json" or not (place.parent / "config.json").exists()


def _names(files: Sequence[Location]) -> dict[Location, str]:
    """The files' names without suffixes; with the folder's name if these are equal."""
    stems = {one: one.name.partition(".")[0] or one.name for one in files}
    alike = len(set(stems.values())) < len(stems)
    return {one: f"{one.parent.name}/{stem}" if alike else stem for one, stem in stems.items()}


def _run(place: Location, name: str, truth: TruthOfResults, folder: Path) -> Location:
    from harness.api import run_of_results

    with local_copy(place) as file:
        return run_of_results(
            name,
            file,
            annotations=truth.annotations,
            dataset=truth.dataset,
            split=truth.split,
            root=truth.data_root,
            protocol=[] if truth.protocol is None else [truth.protocol],
            runs_dir=folder,
        ).folder
