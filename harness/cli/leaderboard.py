"""``harness leaderboard``: all runs of a folder as a static site."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from harness.cli.options import DATA_ROOT, DataRoot, FurtherMetrics
from harness.errors import UserError
from harness.paths import Location, location
from harness.plain_text import escaped, utf8
from harness.standard_output import tell

if TYPE_CHECKING:
    from harness.reports.leaderboard import FoundRuns


def leaderboard(
    runs_dir: Annotated[
        Location,
        typer.Argument(metavar="RUNS_DIR", parser=location, help="Folder of run folders, at any depth; or its URL."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the site; created if it does not exist.")] = Path("leaderboard"),
    reports: Annotated[
        bool, typer.Option("--reports", help="Write a report of every run into the site, and link to it.")
    ] = False,
    data_root: DataRoot = DATA_ROOT,
    metric: FurtherMetrics = None,
) -> None:
    """Write a static site of all runs: tables by dataset with filters, and the history of a metric.

    Links are relative and nothing is loaded from elsewhere, so the folder can be opened from disk or published as it
    is, with GitHub Pages for example. A run is linked to its report: the report.html in its folder, or with --reports
    one that is written for the site.

    A run that cannot be read is left out, and listed on the site and at the end; the exit code is then 1, and 2 if none
    can be read.

    Examples:

        harness leaderboard runs --out site

        harness leaderboard runs --out site --reports

        harness leaderboard runs --out site --metric hota/HOTA
    """
    from harness.atomic_write import write_atomically
    from harness.cli.output import end_with_faults
    from harness.reports.leaderboard import find_runs, site
    from harness.reports.table_rows import refuse_unknown_metrics

    found = find_runs(runs_dir)
    metrics = metric or []
    refuse_unknown_metrics([run.record for run in found.runs.values()], metrics, "--metric")  # before the work
    try:
        (out / "assets").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(str(out), f"cannot be created: {error.strerror}", "name another folder with --out") from error
    links = _write_reports(found, out, data_root) if reports else _known_reports(found, out)
    for name, text in site(found, links, metrics).items():
        write_atomically(out / name, utf8(text))
    print(escaped(str(out / "index.html")))
    end_with_faults(found.faults)


def _known_reports(found: FoundRuns, out: Path) -> dict[str, str]:
    """Relative links from the site to the ``report.html`` of run folders that have one."""
    links = {}
    for path, run in found.runs.items():
        file = run.folder / "report.html"
        if isinstance(file, Path) and file.is_file():
            links[path] = quote(Path(os.path.relpath(file.resolve(), out.resolve())).as_posix())
    return links


def _write_reports(found: FoundRuns, out: Path, data_root: Path) -> dict[str, str]:
    """Write the report of every run; return relative links. A run without a report gets a line on standard error."""
    from harness.atomic_write import write_atomically
    from harness.reports.html import Options, report

    (out / "reports").mkdir(exist_ok=True)
    links = {}
    for path, run in found.runs.items():
        name = f"reports/{path.replace('/', '--')}.html"
        try:
            write_atomically(out / name, utf8(report([run.folder], Options(data_root))))
        except UserError as error:
            tell(f"harness: no report: {error}")
        else:
            links[path] = quote(name)
    return links
