"""``harness eval``: score any model's output."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import DATA_ROOT, DataRoot
from harness.comparability import Comparability, comparability
from harness.errors import UserError
from harness.paths import Location, local_copy, location
from harness.scoring import BURST_TASKS, TETA_TASKS, VEVAL

if TYPE_CHECKING:
    from harness.formats.coco_video import CocoVideo
    from harness.formats.youtube_vis import Annotations
    from harness.scoring.from_store import ShardReader
    from harness.scoring.score import Score
    from harness.scoring.teta_score import TetaScore
    from harness.scoring.veval import VevalScore
    from harness.types import DatasetPlugin


def evaluate(
    predictions: Annotated[
        Location,
        typer.Option(
            metavar="PATH",
            parser=location,
            help="results.json (also zipped or gzipped), a run folder or its predictions; or a URL.",
        ),
    ],
    protocol: Annotated[
        str | None,
        typer.Option(
            help="lvvis, ytvis, ovis, burst, each also as NAME-corrected;"
            f" {', '.join((*TETA_TASKS, *BURST_TASKS))}; {VEVAL} (phrases, SA-Co/VEval)."
        ),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Annotation file; for BURST's official tasks the folder of all_classes.json.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="A dataset; with --annotations that file is taken for its split.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the dataset.")] = None,
    data_root: DataRoot = DATA_ROOT,
    strict: Annotated[bool, typer.Option("--strict", help="Make every warning an error.")] = False,
    exhaustive: Annotated[
        bool,
        typer.Option(
            "--exhaustive",
            help="Every category that is not annotated in a video is absent from it: count false alarms.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    per_category: Annotated[
        Path | None,
        typer.Option(
            help="Write the numbers of every category (veval: of every pair of a video and a phrase) to this CSV."
        ),
    ] = None,
) -> None:
    """Score predictions by an official protocol; the corrected numbers stand beside the official ones.

    Says whether the numbers are comparable with published ones, where --dataset names what those are on.

    Examples:

        harness eval --protocol lvvis --annotations val_instances_.json --predictions results.json

        harness eval --dataset lvvis --data-root DIR --predictions results.json --json
    """
    gc.disable()  # scoring makes no cycles, and this process ends with it
    if protocol in BURST_TASKS:
        if annotations is None:
            raise UserError("--annotations", f"is needed by {protocol}", "name the folder that holds all_classes.json")
        if dataset is not None:
            raise UserError("--dataset", f"does not go with {protocol}", "leave it out")
        from harness.scoring.burst_tasks import score_task

        judged = comparability(None)
        with local_copy(predictions) as file:
            record = score_task(protocol, annotations, file, strict=strict).record()
        rows = None
    else:
        shards = _shards(predictions)  # read in the background while the truth is
        protocol, truth, judged = _truth(protocol, annotations, dataset, split, data_root, shards is None)
        if exhaustive:
            truth = _exhaustive(truth)
        score = _score(protocol, truth, shards or predictions, strict)
        record, rows = score.record(), score.per_category
    record = {**judged.record(), **record}
    if per_category is not None:
        if rows is None:
            raise UserError("--per-category", f"is not available for {protocol}", "leave it out")
        _write_csv(per_category, rows)
    if as_json:
        print(json.dumps(record, allow_nan=False))
    else:
        _show(record)


def _exhaustive(truth: Annotations | CocoVideo) -> Annotations:
    """The truth, with every category absent where it is not annotated, unless the file says that it does not know."""
    from harness.formats.absence import Absence
    from harness.formats.coco_video import CocoVideo

    if isinstance(truth, CocoVideo):
        raise UserError("--exhaustive", "goes with masks of tracks", "leave it out")
    absence = truth.absence or Absence(exhaustive=True)
    return replace(truth, absence=replace(absence, exhaustive=True))


def _truth(
    protocol: str | None,
    annotations: Path | None,
    dataset: str | None,
    split: str | None,
    data_root: Path,
    per_frame: bool,
) -> tuple[str, Annotations | CocoVideo, Comparability]:
    """The protocol, the truth, and whether numbers by the one on the other are comparable with published ones.

    ``per_frame``: the predictions are those of a file, which on a dataset in COCO-video form are in that form, too.
    """
    from harness.formats.youtube_vis import read_annotations

    if dataset is None:
        if annotations is None:
            raise UserError("harness eval", "needs a truth", "name --dataset, or --protocol with --annotations")
        if protocol is None:
            raise UserError("--protocol", "is needed with --annotations", "one of lvvis, ytvis, ovis, burst, veval")
        if protocol in TETA_TASKS:
            from harness.scoring.teta_score import read_truth

            return protocol, read_truth(annotations), comparability(None)
        return protocol, read_annotations(annotations), comparability(None)
    from harness import plugins

    if annotations is not None:
        plugin = plugins.dataset(dataset, data_root)
        return _as_split(plugin, split or plugin.default_split, annotations, protocol)
    if hasattr(plugins.dataset(dataset), "frame_truth"):
        if protocol not in (None, *TETA_TASKS):
            hint = f"score it with --protocol {' or '.join(TETA_TASKS)}"
            raise UserError(f"--dataset {dataset}", f"has boxes, which {protocol} does not compare", hint)
        if per_frame:
            return _of_frames(plugins.dataset(dataset), data_root, split, protocol)
    opened = plugins.opened(dataset, data_root, split)
    if opened.truth is None:
        hint = f"submit the predictions to {opened.server}" if opened.server else "score on a split that has it"
        what = f"cannot be scored: {opened.no_truth}" if opened.no_truth else "has no public truth"
        raise UserError(f"{dataset} {opened.split}", what, hint)
    chosen = protocol or opened.protocol
    return chosen, opened.annotations, _judged(opened.differences, chosen, opened.protocol)


def _of_frames(
    plugin: Any, data_root: Path, split: str | None, protocol: str | None
) -> tuple[str, CocoVideo, Comparability]:
    """A split of a dataset in COCO-video form."""
    chosen = split or plugin.default_split
    file, own = plugin.frame_truth(data_root, chosen), plugin.protocol
    return protocol or own, file, _judged(plugin.differences(file, chosen), protocol or own, own)


def _as_split(
    plugin: DatasetPlugin, split: str, annotations: Path, protocol: str | None
) -> tuple[str, Annotations | CocoVideo, Comparability]:
    """A file that the user takes for a split of a dataset, wherever it lies."""
    from harness.formats.coco_video import CocoVideo
    from harness.scoring.teta_score import read_truth

    differences, own = getattr(plugin, "differences", None), getattr(plugin, "protocol", None)
    if differences is None or own is None:
        hint = "leave out --dataset and name --protocol, or leave out --annotations"
        raise UserError(f"--dataset {plugin.name}", "does not say what its files hold", hint)
    read = read_truth(annotations)
    if isinstance(read, CocoVideo) != hasattr(plugin, "frame_truth"):
        form = "COCO-video" if isinstance(read, CocoVideo) else "YouTube-VIS"
        raise UserError(
            read.path, f"is in {form} form, {plugin.name} is not", "leave out --dataset and name --protocol"
        )
    return protocol or own, read, _judged(differences(read, split), protocol or own, own)


def _judged(differences: Sequence[str] | None, protocol: str, own: str) -> Comparability:
    other = [] if protocol == own else [f"scored by {protocol}, published numbers by {own}"]
    return comparability(differences, other)


def _shards(predictions: Location) -> ShardReader | None:
    """The shards of a run folder or a prediction store; ``None`` for a file."""
    if not predictions.is_dir():
        return None
    from harness.run_folder.store import PredictionStore
    from harness.scoring.from_store import ShardReader

    inner = predictions / "predictions"
    return ShardReader(PredictionStore(inner if inner.is_dir() else predictions))


def _score(
    protocol: str, truth: Annotations | CocoVideo, predictions: ShardReader | Location, strict: bool
) -> Score | TetaScore | VevalScore:
    from harness.formats.coco_video import CocoVideo
    from harness.scoring.from_store import ShardReader
    from harness.scoring.score import score_results, score_store

    if protocol in TETA_TASKS:
        from harness.scoring.teta_score import score_teta

        if isinstance(predictions, ShardReader):
            return score_teta(protocol, truth, predictions, strict)
        with local_copy(predictions) as file:
            return score_teta(protocol, truth, file, strict)
    if isinstance(truth, CocoVideo):
        hint = f"score it with --protocol {' or '.join(TETA_TASKS)}"
        raise UserError(truth.path, f"is in COCO-video form, which {protocol} does not read", hint)
    if protocol == VEVAL:
        from harness.scoring.veval import score_veval

        if isinstance(predictions, ShardReader):
            return score_veval(truth, predictions, strict)
        with local_copy(predictions) as file:
            return score_veval(truth, file, strict)
    if isinstance(predictions, ShardReader):
        return score_store(protocol, truth, predictions, strict)
    with local_copy(predictions) as file:
        return score_results(protocol, truth, file, strict)


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["id"])
        writer.writeheader()
        writer.writerows(rows)


def _show(record: dict[str, Any]) -> None:
    """Print the numbers as a table: official and corrected, in percent."""
    from rich.console import Console
    from rich.table import Table

    from harness.reports.styles import DAGGER
    from harness.scoring.metrics import undefined_note

    console = Console()
    name = record["protocol"]["name"]
    dagger = DAGGER if record["comparable"] is False else ""
    table = Table(title=f"{name} (version {record['protocol']['version']}), percent{dagger}")
    table.add_column("metric")
    table.add_column("official", justify="right", style="bold")
    table.add_column("corrected", justify="right")
    tools = ("metrics", "corrected", *(("trackeval",) if "trackeval" in record else ()))
    if "trackeval" in record:
        table.add_column("TrackEval", justify="right")
    for key in record["metrics"]:
        cells = [record[tool].get(key) for tool in tools]
        table.add_row(key, *("–" if c is None else f"{100 * c:.2f}" for c in cells))
    console.print(table)
    presence = record.get("slices", {}).get("presence")
    if presence:
        absent, percent = presence["IL_FP"] + presence["IL_TN"], 100 * presence["IL_FPR"]
        told = f"IL_MCC {presence['IL_MCC']:.3f}; found in {percent:.1f} % of {absent:,} pairs without it"
        print(f"is a word there (score >= 0.5): {told}")
    if dagger:
        print(f"{dagger} not comparable: {'; '.join(record['not_comparable'])}")
    reasons = record["undefined"]["metrics"]
    note = undefined_note(record["metrics"], reasons)  # without AP, why the others are undefined is no news
    for line in [note] if note else [f"undefined: {reason}" for reason in dict.fromkeys(reasons.values())]:
        print(line, file=sys.stderr)
    for reason in dict.fromkeys(record["undefined"].get("trackeval", {}).values()):
        if reason not in reasons.values():
            print(f"undefined (TrackEval): {reason}", file=sys.stderr)
    for warning in record["warnings"]:
        print(f"warning: {warning['kind']}: {warning['count']}, first: {warning['first']}", file=sys.stderr)
