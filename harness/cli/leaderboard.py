"""``harness leaderboard``: all runs of a folder as a static site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UserError
from harness.paths import Location, location
from harness.plain_text import escaped, utf8


def leaderboard(
    runs_dir: Annotated[
        Location,
        typer.Argument(metavar="RUNS_DIR", parser=location, help="Folder of run folders, at any depth; or its URL."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the site; created if it does not exist.")] = Path("leaderboard"),
) -> None:
    """Write a static site of all runs: tables by dataset with filters, and the history of a metric.

    Links are relative and nothing is loaded from elsewhere, so the folder can be opened from disk or published as it
    is, with GitHub Pages for example.

    A run that cannot be read is left out, and listed on the site and at the end; the exit code is then 1, and 2 if none
    can be read.

    Examples:

        harness leaderboard runs --out site
    """
    from harness.atomic_write import write_atomically
    from harness.cli.output import end_with_faults
    from harness.reports.leaderboard import find_runs, site

    found = find_runs(runs_dir)
    try:
        (out / "assets").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(str(out), f"cannot be made: {error.strerror}", "name another folder with --out") from error
    for name, text in site(found).items():
        write_atomically(out / name, utf8(text))
    print(escaped(str(out / "index.html")))
    end_with_faults(found.faults)
