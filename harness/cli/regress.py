"""``harness regress``: the gate on metrics for continuous integration."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.errors import EXIT_FAILED, UserError, near
from harness.paths import Location, location

_FORMATS = ("terminal", "markdown", "json")


def regress(
    run: Annotated[Location, typer.Argument(metavar="RUN", parser=location, help="Run folder or its URL.")],
    baseline: Annotated[Path, typer.Option(help="The stored baseline, a JSON file.")],
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POINTS|METRIC=POINTS", help="How far metrics may fall, in points; default: 0.5; may be repeated."
        ),
    ] = None,
    both_ways: Annotated[bool, typer.Option("--both-ways", help="Fail on rises, too.")] = False,
    format: Annotated[str, typer.Option(help="terminal, markdown (for a pull request) or json.")] = "terminal",
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a run whose settings differ from the baseline's (exit code 2).")
    ] = False,
    update: Annotated[bool, typer.Option("--update", help="Write the run's numbers as the new baseline.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Compare a run with a baseline; exit code 1 when a metric fell beyond its tolerance (or rose, with --both-ways).

    Settings that differ are listed first. Exit code 2 when the two cannot be compared: other data, other protocol or
    version, an incomplete run; with --strict also any other setting.

    Examples:

        harness regress runs/clipvis-shapes-val-1a2b3c4d --baseline gate.json --tolerance 0.3 --tolerance APn=1

        harness regress runs/clipvis-shapes-val-1a2b3c4d --baseline gate.json --update
    """
    from harness.reports import regression

    chosen = "json" if as_json else format
    if chosen not in _FORMATS:
        raise UserError("--format", f'"{format}" is not a format', near(format, _FORMATS))
    everywhere, single = _tolerances(tolerance or [], regression.TOLERANCE)
    current = regression.baseline_of(run)
    if update:
        regression.write_baseline(baseline, current)
        print(json.dumps({"baseline": str(baseline)}) if chosen == "json" else baseline)
        return
    stored = regression.read_baseline(baseline)
    changes = regression.compare_with_baseline(stored, current, everywhere, single)
    if strict:
        regression.refuse_other_settings(stored, current)
    settings = regression.other_settings(stored, current)
    failed = bool(regression.failures(changes, both_ways))
    if chosen == "json":
        rows = [{**change._asdict(), "points": change.points, "verdict": change.verdict} for change in changes]
        named = None if settings is None else [difference._asdict() for difference in settings]
        head = {"passed": not failed, "summary": regression.change_summary(changes, both_ways), "settings": named}
        print(json.dumps({**head, "metrics": rows}))
    else:
        style: Literal["terminal", "markdown"] = "markdown" if chosen == "markdown" else "terminal"
        print(regression.settings_text(settings, style), end="")
        print(regression.changes_text(changes, style, both_ways), end="")
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _tolerances(given: list[str], default: float) -> tuple[float, dict[str, float]]:
    """The tolerance of all metrics and those of single ones, in points."""
    everywhere, single = default, {}
    for text in given:
        metric, equals, points = text.rpartition("=")
        try:
            value = float(points)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0) or (equals and not metric):
            raise UserError(f"--tolerance {text}", "is not POINTS or METRIC=POINTS", "for example --tolerance AP50=0.5")
        if equals:
            single[metric] = value
        else:
            everywhere = value
    return everywhere, single
