"""Shared by commands that write reports: the command as given, and the output files."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.atomic_write import write_atomically
from harness.errors import EXIT_FAILED, UserError
from harness.paths import Location
from harness.plain_text import utf8
from harness.standard_output import tell

if TYPE_CHECKING:
    from harness.tracking.mlflow import MlflowTracker


def command() -> str:
    """The command line as given, quoted for a shell."""
    return shlex.join(["harness", *sys.argv[1:]])


def runs_among(named: Sequence[Location]) -> list[Location]:
    """The runs among several names, which may come from ``runs/*``: plain files there, such as a report, are left out.

    Each of them gets a line on standard error. ``.json`` files are kept, because they may be records of runs, and so is
    everything else: the reader of runs refuses them. If nothing would be left, all are kept.
    """
    others = [one for one in named if isinstance(one, Path) and one.is_file() and one.suffix != ".json"]
    if len(others) == len(named):
        return list(named)
    for one in others:
        tell(f"harness: left out: {one} is a file, not a run folder")
    return [one for one in named if one not in others]


def end_with_faults(faults: Sequence[UserError | str]) -> None:
    """List the runs that were left out; raises `typer.Exit` with code 1 if there are any."""
    for fault in faults:
        tell(f"harness: left out: {fault}")
    if faults:
        raise typer.Exit(EXIT_FAILED)


def refuse_other_than_file(path: Path) -> None:
    """Raise `UserError` if a path exists and is not a plain file: renaming onto a device or a pipe replaces it."""
    if path.exists() and not path.is_file():
        raise UserError(str(path), "is not a file", "name another file with --out")


def write(path: Path, text: str) -> None:
    """Write a file named on the command line; raises `UserError` if it cannot be written or is not a plain file."""
    refuse_other_than_file(path)
    write_atomically(path, utf8(text))


def show(text: str, out: Path | None) -> None:
    """Write to the file that ``--out`` names, else to standard output."""
    if out is None:
        sys.stdout.write(text)
    else:
        write(out, text)


def mlflow_tracker(
    folder: Path,
    option: str,
    no_mlflow: bool,
    experiment: str | None,
    tags: Sequence[str] | None,
    later: str = "",
) -> MlflowTracker | None:
    """The tracker for the runs of a command; ``None`` with ``--no-mlflow``.

    ``folder``, which ``option`` named, is that of the embedded store; ``later`` as in `MlflowTracker`. Raises
    `UserError` if it cannot be created, and for malformed tags.
    """
    from harness.tracking.fields import read_tags
    from harness.tracking.mlflow import tracker_in

    found = read_tags(tags or [])
    if no_mlflow:
        if found:
            raise UserError("--no-mlflow", "cannot be combined with --tag", "leave out --tag or --no-mlflow")
        return None
    return tracker_in(folder, f"name another {option}", experiment=experiment, tags=found, later=later)


def log_to_mlflow(runs: Iterable[Location], files: Sequence[Path]) -> None:
    """Put files into the MLflow run of each run folder, and report failures."""
    from harness.tracking.artifacts import log_files

    for line in log_files(runs, files):
        tell(f"harness: {line}")
