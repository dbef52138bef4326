"""``harness verify``: check the numbers of a record against predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import DATA_ROOT, DataRoot, Predictions
from harness.errors import EXIT_FAILED, UserError
from harness.scoring import BURST_TASKS

if TYPE_CHECKING:
    from harness.formats.youtube_vis import Annotations
    from harness.result_record import Deviation, SignedRecord, Verification


def verify(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="File that `harness record` wrote.")],
    predictions: Predictions,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="Annotation file (for BURST's official tasks the folder of all_classes.json); default: that of the"
            " record's dataset below --data-root."
        ),
    ] = None,
    data_root: DataRoot = DATA_ROOT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Score predictions again, on a CPU, and compare every number with a record.

    Exit code 0: all is equal; 1: something differs, named with the recorded and the obtained value; 2: a file cannot be
    read. Changed records, other data and other predictions are reported.

    Examples:

        harness record runs/oracle-lvvis-val-1a2b3c4d --out record.json

        harness verify record.json --predictions results.json --annotations val_instances_.json

        harness verify record.json --predictions runs/oracle-lvvis-val-1a2b3c4d --data-root DIR
    """
    from harness.cli.eval import in_burst_form
    from harness.paths import local_copy
    from harness.result_record import (
        opened_predictions,
        read_record,
        verify_burst_record,
        verify_record,
    )

    found, own_digest = read_record(record)
    if any(one.protocol.name in BURST_TASKS for one in found.protocols) and in_burst_form(predictions):
        folder = _burst_truth(found, annotations, data_root)
        with local_copy(predictions) as file:
            outcome = verify_burst_record(found, own_digest, file, folder)
    else:
        truth = _truth(record, found, annotations, data_root)
        with opened_predictions(predictions) as place:
            outcome = verify_record(found, own_digest, place, truth)
    if as_json:
        print(json.dumps({"record": record.name, **outcome.record()}, allow_nan=False))
    else:
        _show(record, outcome)
    if not outcome.equal:
        raise typer.Exit(EXIT_FAILED)


def _burst_truth(record: SignedRecord, annotations: Path | None, data_root: Path) -> Path:
    """The folder of BURST's own annotation files."""
    from harness.cli.eval import burst_folder

    dataset = record.dataset.name if annotations is None else None
    return burst_folder(record.protocols[0].protocol.name, annotations, dataset, record.dataset.split, data_root)[0]


def _truth(path: Path, record: SignedRecord, annotations: Path | None, data_root: Path) -> Annotations:
    """The annotations to score by; raises `UserError` if they do not exist or have no truth."""
    if annotations is not None:
        from harness.cli.eval import annotation_file
        from harness.formats.youtube_vis import read_annotations

        read = read_annotations(annotation_file(annotations))
        if read.scored_truth is None:
            raise UserError(str(annotations), "has no annotations", "name the file with the truth")
        return read
    from harness import plugins

    name = record.dataset.name
    if name is None or (
        name not in plugins.names(plugins.DATASET_ENTRY_POINTS) and not (data_root / f"{name}.yaml").is_file()
    ):
        what = "names no dataset" if name is None else f'is on data that is not a dataset here, "{name}"'
        raise UserError(str(path), what, "name the annotation file with --annotations")
    opened = plugins.opened(name, data_root, record.dataset.split)
    if opened.truth is None:
        raise UserError(f"{name} {opened.split}", "has no public truth", "name a file that has it with --annotations")
    return opened.annotations


_MEANING = {
    "record": "the record was changed after it was written: its own digest does not match",
    "annotations": "the annotations differ from those of the record",
    "predictions": "the predictions differ from those of the record",
}


def _show(path: Path, outcome: Verification) -> None:
    if outcome.equal:
        print(f"{path}: equal: {outcome.compared} numbers")
        return
    print(f"{path}: different")
    for one in outcome.inputs:
        meaning = _MEANING.get(one.what, one.what)
        print(f"  {meaning}: recorded {_short(one.recorded)}, obtained {_short(one.obtained)}")
    if not outcome.metrics:
        print(f"  all {outcome.compared} numbers are equal")
        return
    print(f"  {len(outcome.metrics)} of {outcome.compared} numbers differ:")
    _print(outcome.metrics)


def _print(metrics: tuple[Deviation, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("metric", "recorded", "obtained", "difference"):
        table.add_column(column, justify="left" if column == "metric" else "right", overflow="fold")
    for one in metrics:
        difference = "–" if one.difference is None else f"{one.difference:+.3g}"
        table.add_row(one.what, _number(one.recorded), _number(one.obtained), difference)
    Console().print(table)


def _number(value: float | None) -> str:
    return "–" if value is None else repr(value)


def _short(value: Any) -> str:
    return str(value)[:12]
