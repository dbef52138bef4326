"""``harness export``: predictions as files for servers and other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DATA_ROOT, DataRoot
from harness.errors import UserError
from harness.paths import Location, local_copy, location
from harness.plain_text import escaped
from harness.standard_output import tell

if TYPE_CHECKING:
    from harness.formats.youtube_vis import Annotations


class ExportFormat(StrEnum):
    """The output formats."""

    ZIP = "zip"
    RESULTS = "results"


def export(
    run: Annotated[
        Location | None, typer.Argument(metavar="[RUN]", parser=location, help="Run folder or its URL.")
    ] = None,
    format: Annotated[
        ExportFormat, typer.Option(help="zip: for an evaluation server; results: the official results.json.")
    ] = ExportFormat.ZIP,
    out: Annotated[
        Location | None,
        typer.Option(
            metavar="PATH",
            parser=location,
            help="File to write, or its URL; default: in the run folder, or next to the results file.",
        ),
    ] = None,
    predictions: Annotated[
        Location | None,
        typer.Option(metavar="FILE", parser=location, help="A results file in place of a run; needs --dataset."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset that the results file is for.")] = None,
    split: Annotated[str | None, typer.Option(help="Its split.")] = None,
    data_root: DataRoot = DATA_ROOT,
    annotations: Annotated[
        Path | None, typer.Option(help="The split's annotation file, if it is not below --data-root.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Make every warning about a results file an error.")] = False,
) -> None:
    """Write predictions as a results file or as the zip for a server.

    A run is refused if videos are missing. A results file made elsewhere is checked against the videos and
    categories of a split, whose truth may be withheld: faulty records are refused, and oddities are counted.

    Examples:

        harness export runs/oracle-lvvis-val-1a2b3c4d --out submission.zip

        harness export runs/oracle-lvvis-val-1a2b3c4d --format results --out results.json

        harness export --predictions results.json --dataset lvvis --data-root DIR
    """
    if (run is None) == (predictions is None):
        what = "needs a run, or a results file" if run is None else "takes a run or --predictions, not both"
        raise UserError("harness export", what, "name a run folder, or --predictions FILE with --dataset")
    if run is not None:
        if dataset or split or annotations or strict:
            raise UserError("--dataset, --split, --annotations, --strict", "need --predictions", "leave them out")
        _export_run(run, format, out)
    elif predictions is not None:
        if dataset is None:
            raise UserError("--predictions", "needs the dataset that it is for", "name it with --dataset")
        _export_results(predictions, format, out, dataset, split, data_root, annotations, strict)


def _export_run(run: Location, format: ExportFormat, out: Location | None) -> None:
    from harness.export import RESULTS, export_results, write_submission
    from harness.run_folder.layout import SUBMISSION

    if format is ExportFormat.ZIP:
        path = out or run / SUBMISSION
        tracks = write_submission(run, path)
    else:
        path = out or run / RESULTS
        tracks = export_results(run, path)
    print(escaped(f"{path}: {tracks} tracks"))


def _export_results(
    predictions: Location,
    format: ExportFormat,
    out: Location | None,
    dataset: str,
    split: str | None,
    data_root: Path,
    annotations: Path | None,
    strict: bool,
) -> None:
    from harness.submission import write_checked

    truth, protocol, next_step = _split_of(dataset, split, data_root, annotations)
    suffix = "zip" if format is ExportFormat.ZIP else "json"
    path = out or predictions.parent / f"{predictions.name.partition('.')[0]}-checked.{suffix}"
    with local_copy(predictions) as file:
        written = write_checked(truth, protocol, file, path, zipped=format is ExportFormat.ZIP, strict=strict)
    for warning in written.warnings:
        tell(f"warning: {warning['kind']}: {warning['count']}, first: {warning['first']}")
    print(escaped(f"{path}: {written.tracks} tracks, {written.videos} videos; {next_step}"))


def _split_of(name: str, split: str | None, data_root: Path, annotations: Path | None) -> tuple[Annotations, str, str]:
    """The videos and categories of a split, the name of its protocol, and the next step for results on it."""
    from harness import plugins

    if annotations is None:
        opened = plugins.opened(name, data_root, split)
        return opened.annotations, opened.protocol, _next_step(name, opened.server, opened.no_truth)
    from harness.formats.youtube_vis import read_annotations

    plugin = plugins.dataset(name, data_root)
    protocol = getattr(plugin, "protocol", None)
    if protocol is None:
        raise UserError(f"--dataset {name}", "does not say how it is scored", "leave out --annotations")
    read = read_annotations(annotations)
    if read.truth is not None or not hasattr(plugin, "server_of"):
        return read, str(protocol), _next_step(name, None, "")
    return read, str(protocol), _next_step(name, *plugin.server_of(split or plugin.default_split))


def _next_step(name: str, server: str | None, no_truth: str) -> str:
    if server:
        return f"submit it to {server}"
    return no_truth or f"no server is known for {name}, score it with `harness eval`"
