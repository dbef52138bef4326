"""``harness analyse``: errors of runs by kind, slices, calibration, and ceilings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DATA_ROOT, DataRoot, Out, ScoreThreshold, TracksPerCategory
from harness.errors import UserError, near
from harness.paths import Location, local_copy, location

if TYPE_CHECKING:
    from harness.reports.ceilings import NamedCeilings
    from harness.scoring.dispatch import Settings
    from harness.scoring.shard_reader import ShardReader


def analyse(
    runs: Annotated[
        list[Location] | None,
        typer.Argument(metavar="[RUN...]", parser=location, help="Run folders or their URLs."),
    ] = None,
    data_root: DataRoot = DATA_ROOT,
    annotations: Annotated[
        Path | None,
        typer.Option(help="The annotation file of the runs, where it is not below --data-root, or of --predictions."),
    ] = None,
    with_ceilings: Annotated[
        bool,
        typer.Option("--ceilings", help="Show the numbers that perfect classes, masks, links and presence would give."),
    ] = False,
    predictions: Annotated[
        Location | None,
        typer.Option(parser=location, help="--ceilings: a results file in place of runs, or a folder of predictions."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="--predictions: their dataset.")] = None,
    split: Annotated[str | None, typer.Option(help="--predictions: the split of the dataset.")] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="--ceilings: protocols, separated by commas; by default that of the dataset, and hota."),
    ] = None,
    score_threshold: ScoreThreshold = None,
    tracks_per_category: TracksPerCategory = None,
    figure: Annotated[
        Path | None, typer.Option(help="--ceilings: draw them to this .pdf or .svg file; for one run.")
    ] = None,
    format: Annotated[str, typer.Option(help="terminal, markdown, latex, csv, html or json.")] = "terminal",
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json: fractions, examples.")] = False,
) -> None:
    """Break the errors of runs down by kind, and show AP by slices of the data and the calibration of scores.

    For each kind, the gain of AP50 if all its errors were corrected: wrong categories, poor masks, switched
    identities, wrong frames, duplicates, tracks on background, missed objects.
    docs/error-analysis.md defines every kind and number.

    With --ceilings: AP, HOTA or cgF1 with perfect classes, masks, links and presence, alone and together, from the
    predictions themselves; docs/ceilings.md defines them.

    Examples:

        harness analyse runs/clipvis-shapes-val-1a2b3c4d

        harness analyse runs/*-lvvis-val-* --data-root DIR --format markdown --out errors.md

        harness analyse runs/clipvis-shapes-val-1a2b3c4d --ceilings --figure ceilings.pdf

        harness analyse --ceilings --predictions results.json --annotations val_instances_.json --protocol lvvis
    """
    from harness.atomic_write import write_atomically
    from harness.cli.output import command, refuse_other_than_file, runs_among, show
    from harness.reports.layouts import TABLE_FORMATS

    known = (*TABLE_FORMATS, "json")
    if format not in known:
        raise UserError("--format", f'"{format}" is not a format', near(format, known))
    if not with_ceilings:
        only = {
            "--predictions": predictions, "--dataset": dataset, "--split": split, "--protocol": protocol,
            "--figure": figure, "--score-threshold": score_threshold, "--tracks-per-category": tracks_per_category,
        }  # fmt: skip
        for option, value in only.items():
            if value is not None:
                raise UserError(option, "needs --ceilings", "add --ceilings, or leave it out")
    if bool(runs) == (predictions is not None):
        hint = "name one of them" if predictions is not None else "name run folders"
        what = "cannot be combined with run folders" if predictions is not None else "is missing"
        raise UserError("--predictions" if predictions is not None else "RUN", what, hint)
    to_json = as_json or format == "json"
    if with_ceilings:
        from harness.reports.ceilings import ceilings_figure_file, ceilings_of_runs, written_ceilings
        from harness.reports.figures import figure_format
        from harness.scoring.ceilings import has_ceilings
        from harness.scoring.dispatch import Settings

        if figure is not None:
            figure_format(figure)
        settings = Settings(score_threshold, tracks_per_category)
        names = None if protocol is None else [name.strip() for name in protocol.split(",") if name.strip()]
        for name in names or ():
            if not has_ceilings(name):
                raise UserError(f"--protocol {name}", "has no ceilings", "name AP protocols, hota or veval")
        if predictions is not None:
            found = [_of_predictions(predictions, names, annotations, dataset, split, data_root, settings)]
        else:
            if dataset is not None or split is not None:
                raise UserError("--dataset" if dataset else "--split", "comes from each run", "leave it out")
            found = ceilings_of_runs(runs_among(runs or []), data_root, annotations, names, settings)
        if figure is not None:
            if len(found) > 1:
                raise UserError("--figure", f"shows one run, not {len(found)}", "name one run")
            refuse_other_than_file(figure)
            write_atomically(figure, ceilings_figure_file(found[0], figure, [command()]))
        text = json.dumps({"runs": [one.record() for one in found]}, allow_nan=False) + "\n" if to_json else ""
        show(text or written_ceilings(found, format, [command()]), out)  # type: ignore[arg-type]
        return
    from harness.reports.analysis_text import written_analyses
    from harness.reports.run_analysis import analyse_runs

    analysed = analyse_runs(runs_among(runs or []), data_root, annotations)
    text = json.dumps({"runs": [one.record() for one in analysed]}, allow_nan=False) + "\n" if to_json else ""
    show(text or written_analyses(analysed, format, [command()]), out)  # type: ignore[arg-type]


def _of_predictions(
    predictions: Location,
    names: Sequence[str] | None,
    annotations: Path | None,
    dataset: str | None,
    split: str | None,
    data_root: Path,
    settings: Settings,
) -> NamedCeilings:
    """The ceilings of a results file or a folder of predictions, on the truth that `harness eval` would take."""
    from harness.cli.eval import Given, ceilings_of, shards_of, truth_choice
    from harness.reports.ceilings import NamedCeilings
    from harness.scoring import HOTA, VEVAL
    from harness.scoring.dispatch import check_settings, score_all

    given = Given(annotations, dataset, split, data_root, False, False, settings)
    chosen = truth_choice(None if names is None else list(names), given, not predictions.is_dir())
    asked = chosen.names
    if names is None and HOTA not in asked and VEVAL not in asked:
        asked = [*asked, HOTA]
    check_settings(asked, settings)
    with ExitStack() as stack:
        file = None if predictions.is_dir() else stack.enter_context(local_copy(predictions))

        def source() -> ShardReader | Path:
            read = file or shards_of(predictions)
            assert read is not None
            return read

        for outcome in score_all(asked, chosen.annotations, source, settings=settings).values():
            if isinstance(outcome, UserError):  # the error names the record
                raise outcome
        found = ceilings_of(asked, chosen.annotations, source, given)
    return NamedCeilings(str(predictions), str(predictions), dataset or "", split or "", found)
