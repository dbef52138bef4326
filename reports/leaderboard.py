"""``harness leaderboard``: all runs of a folder as a static site, one page per dataset and split.

The site makes no network requests and its links are relative: it works from disk and on GitHub Pages. The same run
folders give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

from harness import __version__
from harness.errors import UserError
from harness.paths import Location
from harness.reports.history import Point, history
from harness.reports.pages import assets, percent, render_page
from harness.reports.run_files import marked
from harness.reports.settings import called, varying_settings
from harness.reports.table_rows import (
    COLUMNS,
    PRESENCE_COLUMNS,
    Row,
    fraction_of,
    main_columns,
    presence_notes,
    table_rows,
)
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.layout import content_digest
from harness.run_folder.records import no_official_numbers
from harness.scoring.presence import presence_metrics

METRIC_COLUMNS = {"AP": "AP", "APb": "APb", "APn": "APn", "AP50": "AP50", "AP75": "AP75", "AR": "AR100"}
"""Columns and the metrics they show."""
_POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
_ASSETS = ("page.css", "page.js", "tables.js", "history.js")
_COMMIT_DIGITS = 10


@dataclass(frozen=True)
class FoundRuns:
    """The runs of a folder by their path below it, and the reasons why others could not be read."""

    runs: dict[str, FinishedRun]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A line of a page: a run with its path below the runs folder, or a published result (``run`` is ``None``)."""

    row: Row
    path: str
    run: FinishedRun | None
    settings: str


def find_runs(folder: Location) -> FoundRuns:
    """Return every run folder below ``folder``, at any depth: each folder with a ``metrics.json``.

    Hidden folders are skipped, such as MLflow's, which has copies of the runs' files. Unreadable runs are listed with
    their reasons. Raises `UserError` if there is no folder or no run.
    """
    if not folder.is_dir():
        raise UserError(str(folder), "is not a folder", "name the folder that holds run folders")
    runs: dict[str, FinishedRun] = {}
    faults: list[str] = []
    for path in sorted(folder.rglob("metrics.json")):
        inner = path.parent.relative_to(folder)
        if any(part.startswith(".") for part in inner.parts):
            continue
        below = inner.as_posix()
        try:
            run = FinishedRun.open(path.parent)
            runs[below] = run.labelled(marked(called(run.record), run.record)).checked()
        except UserError as error:
            faults.append(f"{below}: {error.what}")
    if not runs:
        what = f"holds no run that can be read; first: {faults[0]}" if faults else "holds no finished run"
        raise UserError(str(folder), what, "run a model first, or name another folder")
    return FoundRuns(runs, tuple(faults))


def site(found: FoundRuns, reports: Mapping[str, str] | None = None, metrics: Sequence[str] = ()) -> dict[str, str]:
    """Return the files of the site: text by relative path.

    ``reports`` are links to the reports of runs, relative to the site, by the path of the run. ``metrics`` are further
    columns, as ``PROTOCOL/METRIC``, on the pages of data where a run has them.
    """
    reports = reports or {}
    by_data: dict[tuple[str, str], dict[str, FinishedRun]] = {}
    for path, run in found.runs.items():
        by_data.setdefault(run.data[:2], {})[path] = run
    names = _file_names(sorted(by_data))
    files = {f"assets/{name}": str(assets(name)) for name in _ASSETS}
    files[".nojekyll"] = ""  # GitHub Pages then serves the files as they are
    summaries = []
    for data, name in names.items():
        lines = _lines(by_data[data], metrics)
        files[name] = _page(data, lines, reports, metrics)
        summaries.append({"data": data, "file": name, "lines": lines, "best": _best(lines)})
    content = {
        "title": "Leaderboard",
        "policy": _POLICY,
        "summaries": summaries,
        "reports": reports,
        "faults": found.faults,
    }
    files["index.html"] = render_page(
        "leaderboard.html.j2", columns=(*COLUMNS, *metrics), version=__version__, **content
    )
    return files


def _file_names(data: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """A unique, valid file name for each dataset and split."""
    names: dict[tuple[str, str], str] = {}
    for number, pair in enumerate(data):
        name = re.sub(r"[^A-Za-z0-9-]", "_", "-".join(pair)).strip("_-") or "data"
        taken = {*names.values(), "index.html"}
        names[pair] = f"{name}.html" if f"{name}.html" not in taken else f"{name}-{number}.html"
    return names


def _lines(runs: Mapping[str, FinishedRun], metrics: Sequence[str]) -> list[Line]:
    """Runs and published results by descending AP; what is not comparable, or has no AP, comes last."""
    paths = sorted(runs)
    records = [runs[path].record for path in paths]
    settings = [", ".join(f"{key}={value}" for key, value in one.items()) for one in varying_settings(records)]
    made = table_rows(records, _columns(records, metrics), published="all")
    for row, path in zip(made, paths, strict=False):
        row.method, row.backbone, row.training_data = runs[path].label, "", ""  # the path tells runs apart
    ours = [Line(row, path, runs[path], text) for row, path, text in zip(made, paths, settings, strict=False)]
    lines = ours + [Line(row, "", None, "") for row in made[len(paths) :]]
    return sorted(lines, key=_place)


def _place(line: Line) -> tuple[bool, bool, Decimal, bool]:
    ap = line.row.percents.get("AP")
    return bool(line.row.dagger), ap is None, -(ap or Decimal()), line.run is None


def _columns(records: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> tuple[str, ...]:
    """The columns of a page: with those of presence, and those of ``metrics``, that a run has numbers of."""
    rates = PRESENCE_COLUMNS if any(presence_metrics(record) for record in records) else ()
    further = [key for key in metrics if any(fraction_of(record, key) is not None for record in records)]
    return tuple(dict.fromkeys((*main_columns(records), *rates, *further)))


def _best(lines: Sequence[Line]) -> Line | None:
    """The comparable run with the highest AP."""
    found = [line for line in lines if line.run is not None and not line.row.dagger and line.row.percents.get("AP")]
    return found[0] if found else None


def _page(data: tuple[str, str], lines: Sequence[Line], reports: Mapping[str, str], metrics: Sequence[str]) -> str:
    runs = [line.run for line in lines if line.run is not None]
    columns = _columns([run.record for run in runs], metrics)
    series = _series(lines)
    charts = {
        name: history([(label, _points(members, key)) for label, members in series], f"{name} over time")
        for name, key in {**METRIC_COLUMNS, **{key: key for key in metrics if key in columns}}.items()
    }
    return render_page(
        "leaderboard_data.html.j2",
        title=f"{' '.join(data)}: leaderboard",
        data=" ".join(data),
        policy=_POLICY,
        columns=columns,
        notes=presence_notes(columns),
        lines=lines,
        reports=reports,
        models=sorted({run.record["model"] for run in runs}),
        several_digests=len({run.data[2] for run in runs}) > 1,
        several_protocols=len({json.dumps(run.record["protocol"], sort_keys=True) for run in runs}) > 1,
        charts={name: chart for name, chart in charts.items() if chart is not None},
        series=[label for label, _ in series],
        timeless=sum(time_of(run) is None for run in runs),
        commit=run_commit,
        unofficial=no_official_numbers,
        time=_written,
        version=__version__,
    )


def _series(lines: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """Runs with a time, grouped if they differ only in the code: same model, settings, weights and data."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        if line.run is not None and time_of(line.run) is not None and not line.row.dagger:
            content = {key: value for key, value in line.run.config.items() if key not in ("model_version", "plugin")}
            groups.setdefault(content_digest(content), []).append(line)
    longest = sorted(groups.values(), key=lambda members: (-len(members), members[0].path))
    return [(_series_name(members[0]), members) for members in longest]


def _series_name(line: Line) -> str:
    return f"{line.row.label} {line.settings}" if line.settings else f"{line.row.label} ({_tail(line.path)})"


def _tail(path: str) -> str:
    return PurePosixPath(path).name.rpartition("-")[2]


def _points(members: Sequence[Line], metric: str) -> list[Point]:
    points = []
    for line in members:
        assert line.run is not None
        time, value = time_of(line.run), fraction_of(line.run.record, metric)
        if time is not None and value is not None:
            title = f"{percent(value)}, {time:%Y-%m-%d %H:%M}, {run_commit(line.run) or 'no commit'}, {line.path}"
            points.append(Point(time, value, title))
    return points


def time_of(run: FinishedRun) -> datetime | None:
    """The start time of the run in UTC; ``None`` if its folder does not have it."""
    try:
        time = datetime.fromisoformat(run.environment.time or "")
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _written(run: FinishedRun) -> str | None:
    time = time_of(run)
    return None if time is None else f"{time:%Y-%m-%d %H:%M}"


def run_commit(run: FinishedRun) -> str | None:
    """The git commit of a run: of the folder that it was started in if that is under git, else of the harness."""
    commit: Any = run.environment.working_directory_commit or run.environment.git_commit
    return None if commit is None else str(commit)[:_COMMIT_DIGITS]
