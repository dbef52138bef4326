"""``harness reproduce``: published numbers of released weights, run again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DATA_ROOT, RUNS, DataRoot
from harness.cli.run import PrecisionOption
from harness.errors import EXIT_FAILED, EXIT_INTERRUPTED, UserError
from harness.paths import Location, location
from harness.standard_output import tell

if TYPE_CHECKING:
    from harness.engines.model_spec import EngineMaker
    from harness.reports.reproduction import Case, CaseOutcome
    from harness.runner import Run


def reproduce(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="clipvis or ov2seg.")],
    checkpoints: Annotated[
        Path | None, typer.Option(help="Folder of the released weights; files are recognised by their content.")
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(metavar="VARIANT=FILE", help="Weights of one variant (its number in `harness models show`)."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Datasets, separated by commas; default: all.")] = None,
    data_root: DataRoot = DATA_ROOT,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda (every GPU), cuda:1; default: cuda where there is a GPU.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per device.")] = None,
    precision: Annotated[PrecisionOption, typer.Option(help="Number format of the model.")] = PrecisionOption.FP32,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One configuration key of the model.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Run the first videos only (by id), to try it.")] = None,
    runs_dir: Annotated[
        Location, typer.Option(metavar="PATH", parser=location, help="Folder of the run folders: a path or a URL.")
    ] = RUNS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run and what is missing.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write a Markdown page to send to others.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the released weights of a model over every available dataset, and compare with the published numbers.

    What is missing (weights, a dataset, a withheld truth) is listed with the reason and where to get it. The same
    command resumes. Exit code 0: every number that was obtained rounds to the published one; 1: some do not, or a run
    failed; 2: bad input.

    Examples:

        harness reproduce clipvis --checkpoint 1=clipvis.pth --data-root DIR --dry-run

        harness reproduce clipvis --checkpoint 1=clipvis.pth --dataset lvvis --data-root DIR --out reproduction.md
    """
    from harness import plugins
    from harness.cli.output import write
    from harness.config import read_config
    from harness.engines.choice import choose_engine
    from harness.progress_display import shown_warnings
    from harness.reports.reproduction import (
        CaseOutcome,
        find_checkpoints,
        page,
        plan,
        record_of,
        variants_of,
        verdict_counts,
    )

    plugin = plugins.model(model)
    found: dict[int, Path] = {}
    if checkpoints is not None:
        found, others = find_checkpoints(plugin, checkpoints)
        for line in others:
            tell(f"harness: left out: {line}")
    found |= _named(checkpoint or [], len(variants_of(plugin)))
    names = [] if dataset is None else [name.strip() for name in dataset.split(",") if name.strip()]
    cases = plan(plugin, found, data_root, names)
    if dry_run:
        outcomes = [CaseOutcome(case) for case in cases]
    else:
        config = read_config(plugin.Config, None, set_ or [], model)
        devices, engine = choose_engine("local", device, workers)
        from harness.runner import Run

        with shown_warnings():
            outcomes = []
            for case in cases:
                if case.opened is None or case.gaps:
                    outcomes.append(CaseOutcome(case))
                    continue
                weights = case.checkpoint
                one = Run(plugin, config, case.opened, runs_dir, devices, precision.value, weights, 0, limit)
                outcomes.append(_executed(case, one, engine))
    if out is not None:
        write(out, page(model, outcomes))
    if as_json:
        print(json.dumps(record_of(model, outcomes), allow_nan=False))
    else:
        _show(outcomes)
        if out is not None:
            print(out)
    counts = verdict_counts(outcomes)
    if counts["outside"] or counts["failed"]:
        raise typer.Exit(EXIT_FAILED)


def _named(given: Sequence[str], variants: int) -> dict[int, Path]:
    found = {}
    for text in given:
        number, equals, path = text.partition("=")
        if not equals or not number.strip().isdecimal() or not 1 <= int(number) <= variants:
            raise UserError(f"--checkpoint {text}", "is not VARIANT=FILE", f"name a variant from 1 to {variants}")
        if not Path(path).is_file():
            raise UserError(f"--checkpoint {text}", f"{path} does not exist", "name a file of weights")
        found[int(number)] = Path(path)
    return found


def _executed(case: Case, run: Run, engine: EngineMaker) -> CaseOutcome:
    """Run a case; an error ends this case only."""
    import msgspec

    from harness.api import execute_run
    from harness.reports.reproduction import CaseOutcome
    from harness.run_folder.finished_run import FinishedRun

    try:
        done = execute_run(run, engine=engine)
        environment = msgspec.to_builtins(FinishedRun(run.folder).environment)
        return CaseOutcome(case, done.record, environment, run.content["checkpoint"])
    except UserError as error:
        tell(f"harness: variant {case.variant} on {case.dataset} {case.split}: {error}")
        return CaseOutcome(case, error=str(error))
    except KeyboardInterrupt:
        tell("harness: interrupted; finished videos are kept, repeat the command to resume")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _show(outcomes: Sequence[CaseOutcome]) -> None:
    from harness.reports.reproduction import REPRODUCTION_COLUMNS, gaps_of, reproduction_rows, summary_text

    rows, gaps = reproduction_rows(outcomes), gaps_of(outcomes)
    if rows:
        _print("numbers, percent", REPRODUCTION_COLUMNS, rows)
    for one in outcomes:
        for number in one.numbers:
            if number.also:
                print(f"variant {one.case.variant}, {one.case.dataset} {one.case.split}: equals {number.also}")
    if gaps:
        print("missing:")
    for gap in gaps:
        print(f"  {gap.what} {gap.reason}" + (f"; {gap.get}" if gap.get else ""))
        if gap.detail:
            print(f"    {gap.detail}")
    print(summary_text(outcomes))


def _print(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
