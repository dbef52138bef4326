"""``harness eval``: score any model's output."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from harness.cli.options import DATA_ROOT, RUNS, DataRoot, Predictions, ScoreThreshold, TracksPerCategory
from harness.comparability import Comparability, comparability
from harness.errors import EXIT_BAD_INPUT, UserError
from harness.paths import Location, local_copy, location
from harness.plain_text import escaped
from harness.scoring import BURST_TASKS, EVERY, HOTA, TETA_TASKS, VEVAL
from harness.standard_output import tell

if TYPE_CHECKING:
    from harness.formats.coco_video import CocoVideo
    from harness.formats.youtube_vis import Annotations
    from harness.scoring.burst_tasks import BurstScore
    from harness.scoring.ceilings import Ceilings
    from harness.scoring.dispatch import Settings, Source
    from harness.scoring.score import Score
    from harness.scoring.shard_reader import ShardReader
    from harness.scoring.teta_score import TetaScore
    from harness.scoring.veval import VevalScore
    from harness.types import DatasetPlugin

    Outcome = Score | TetaScore | VevalScore | BurstScore | UserError


def evaluate(
    predictions: Predictions,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="lvvis, ytvis, ovis, burst, each also as NAME-fixed (Fixed AP) and NAME-corrected; hota (of masks);"
            f" {', '.join((*TETA_TASKS, VEVAL, *BURST_TASKS))}. Several are separated by commas; fixed-ap is the"
            " dataset's own NAME-fixed, all is every one that the data allow (BURST's tasks on its own files)."
        ),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Annotation file; for BURST's official tasks the folder of all_classes.json.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="A dataset; with --annotations that file is used as its split.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split of the dataset.")] = None,
    data_root: DataRoot = DATA_ROOT,
    score_threshold: ScoreThreshold = None,
    tracks_per_category: TracksPerCategory = None,
    strict: Annotated[bool, typer.Option("--strict", help="Make every warning an error.")] = False,
    exhaustive: Annotated[
        bool,
        typer.Option(
            "--exhaustive",
            help="Treat every category that is not annotated in a video as absent from it, and count false alarms.",
        ),
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the model: write a run folder for compare, report, table and view."),
    ] = None,
    runs_dir: Annotated[
        Location, typer.Option(metavar="DIR", parser=location, help="Folder in which --name writes the run folder.")
    ] = RUNS,
    with_ceilings: Annotated[
        bool,
        typer.Option("--ceilings", help="Also print the numbers with perfect classes, masks, links and presence."),
    ] = False,
    with_all: Annotated[
        bool, typer.Option("--all", help="Show every metric; otherwise those that are compared, and nothing undefined.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    per_category: Annotated[
        Path | None,
        typer.Option(
            help="Write the numbers of every category (veval: of every pair of a video and a phrase) to this CSV."
        ),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Write a record of the numbers for `harness verify` to this file.")
    ] = None,
) -> None:
    """Score predictions by an official protocol; with and without the known faults of the official tool.

    With --dataset it says whether the numbers are comparable with published ones.

    Examples:

        harness eval --protocol lvvis --annotations val_instances_.json --predictions results.json

        harness eval --dataset lvvis --data-root DIR --predictions results.json --json

        harness eval --dataset lvvis --data-root DIR --protocol lvvis,hota,fixed-ap --predictions results.json

        harness eval --name mine --dataset lvvis --data-root DIR --predictions results.json

        harness eval --dataset lvvis --data-root DIR --protocol lvvis,hota --ceilings --predictions results.json
    """
    gc.disable()  # scoring creates no cycles, and this process ends after it
    shards = shards_of(predictions)  # read in the background while this imports what scores, and reads the truth
    _import_numba()
    from harness.scoring.dispatch import Settings, listed_names

    asked = None if protocol is None else listed_names(protocol)

    settings = Settings(score_threshold, tracks_per_category)
    given = Given(annotations, dataset, split, data_root, strict, exhaustive, settings)
    results, best = _results(asked, predictions, given, with_ceilings, shards)
    several = asked is not None and (len(asked) > 1 or asked == [EVERY])
    if not several and isinstance(results[0].outcome, UserError):
        raise results[0].outcome
    if per_category is not None:
        _write_rows(per_category, results)
    if record is not None:
        _write_record(record, results, predictions, given)
    records = [_record(one) for one in results]
    if as_json:
        whole: dict[str, Any] = {"protocols": records} if several else dict(records[0])
        if best is not None:
            whole["ceilings"] = {"error": str(best)} if isinstance(best, UserError) else best.record()
        print(json.dumps(whole, allow_nan=False))
    for one, told in zip(results, records, strict=True):
        if isinstance(one.outcome, UserError):
            tell(f"harness: {one.name}: {one.outcome}")
        elif not as_json:
            _show(told, with_all)
    if name is not None and not all(isinstance(one.outcome, UserError) for one in results):
        folder = _leave_run(name, results, predictions, given, runs_dir)
        print(escaped(str(folder)), file=sys.stderr if as_json else sys.stdout)
    if isinstance(best, UserError):
        tell(f"harness: ceilings: {best}")
        raise typer.Exit(EXIT_BAD_INPUT)
    if best is not None and not as_json:
        from harness.reports.ceilings import NamedCeilings, written_ceilings

        print(written_ceilings([NamedCeilings(str(predictions), str(predictions), dataset or "", split or "", best)],
                               "terminal"), end="")  # fmt: skip
    if any(isinstance(one.outcome, UserError) for one in results):
        raise typer.Exit(EXIT_BAD_INPUT)


def _import_numba() -> None:
    """Import numba without ``scipy.linalg``, which takes longer than the rest together.

    Only numba's covariance checks for it on import; other functions import it on use.
    """
    if {"scipy.linalg", "numba.np.arraymath"} & sys.modules.keys():
        return
    modules: dict[str, Any] = sys.modules
    modules["scipy.linalg"] = None  # importing it now raises an ImportError
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        del modules["scipy.linalg"]


def _leave_run(name: str, results: list[_Result], predictions: Location, given: Given, runs_dir: Location) -> Location:
    """Make a run folder of a results file; return it. Raises `UserError` for predictions that cannot become a run."""
    from harness.api import run_of_results

    if predictions.is_dir():
        raise UserError("--name", f"is for a results file; {predictions} is a run folder already", "leave it out")
    if given.exhaustive:
        raise UserError(
            "--name", "cannot be combined with --exhaustive, which changes the truth", "leave one of them out"
        )
    if any(one.name in BURST_TASKS for one in results) and in_burst_form(predictions):
        hint = "write them with `harness convert --from burst --annotations all_classes.json --to results`"
        raise UserError("--name", "needs predictions in YouTube-VIS form", hint)
    scores = {one.name: one.outcome for one in results if not isinstance(one.outcome, UserError)}
    with local_copy(predictions) as file:
        return run_of_results(
            name,
            file,
            annotations=None if given.annotations is None else annotation_file(given.annotations),
            dataset=given.dataset,
            split=given.split,
            root=given.data_root,
            protocol=list(scores),
            settings=given.settings,
            runs_dir=runs_dir,
            strict=given.strict,
            scores=scores,
        ).folder


class Given(NamedTuple):
    """The options for truth and settings."""

    annotations: Path | None
    dataset: str | None
    split: str | None
    data_root: Path
    strict: bool
    exhaustive: bool
    settings: Settings


class _Result(NamedTuple):
    """The result of a protocol, or why it refuses; and whether its numbers are comparable with published ones."""

    name: str
    outcome: Outcome
    comparability: Comparability


def _record(result: _Result) -> dict[str, Any]:
    if isinstance(result.outcome, UserError):
        return {"protocol": {"name": result.name}, "error": str(result.outcome)}
    return {**result.comparability.record(), **result.outcome.record()}


def _write_rows(path: Path, results: list[_Result]) -> None:
    if len(results) > 1:
        raise UserError("--per-category", "needs a single protocol", "name one with --protocol")
    [result] = results
    if isinstance(result.outcome, UserError):
        raise result.outcome
    rows = getattr(result.outcome, "per_category", None)
    if rows is None:
        raise UserError("--per-category", f"is not available for {result.name}", "leave it out")
    _write_csv(path, rows)


def _write_record(path: Path, results: list[_Result], predictions: Location, given: Given) -> None:
    """Write what `harness verify` compares with: the numbers of every protocol that has some."""
    from harness.formats.coco_video import CocoVideo
    from harness.result_record import opened_predictions, record_of_burst, record_of_scores, write_record

    names = [one.name for one in results]
    tasks = [name for name in names if name in BURST_TASKS]
    tasks = tasks if tasks and in_burst_form(predictions) else []
    if tasks and len(tasks) < len(names):
        what = f"cannot hold {tasks[0]} of predictions in BURST's own form, and other protocols"
        raise UserError("--record", what, "score them one after the other")
    scores = [one.outcome.record() for one in results if not isinstance(one.outcome, UserError)]
    if not scores and isinstance(reason := results[0].outcome, UserError):
        raise reason
    comparable = next(one for one in results if not isinstance(one.outcome, UserError)).comparability.record()
    if tasks:
        folder, _ = burst_folder(tasks[0], given.annotations, given.dataset, given.split, given.data_root)
        with local_copy(predictions) as file:
            told = record_of_burst(scores, folder, file, given.dataset, given.split)
        write_record(path, {**told, **comparable})
        return
    truth = truth_choice(names, given, False).annotations
    if isinstance(truth, CocoVideo):
        raise UserError("--record", "needs masks of tracks", "leave it out")
    with opened_predictions(predictions) as found:
        told = record_of_scores(scores, truth, found, given.dataset, given.split)
    write_record(path, {**told, **comparable})


def _results(
    asked: list[str] | None,
    predictions: Location,
    given: Given,
    with_ceilings: bool,
    shards: ShardReader | None,
) -> tuple[list[_Result], Ceilings | UserError | None]:
    """The result of every protocol, and the ceilings if asked for, or why there are none.

    ``shards`` are those of the predictions, if they have any. Raises `UserError` if none has a result.
    ``all`` is BURST's own tasks where the predictions are in BURST's own form, which no other protocol reads. Those
    tasks also score tracks in YouTube-VIS form, as other protocols do.
    """
    from harness.scoring.dispatch import check_settings

    tasks: list[str] = []
    if asked is not None and {EVERY, *BURST_TASKS} & set(asked) and in_burst_form(predictions):
        asked = list(dict.fromkeys(one for name in asked for one in (BURST_TASKS if name == EVERY else (name,))))
        tasks = [name for name in asked if name in BURST_TASKS]
    others = None if asked is None else [name for name in asked if name not in tasks]
    found: list[_Result] = []
    best: Ceilings | UserError | None = None
    if others != []:
        try:
            found, best = _of_tracks(others, predictions, given, with_ceilings, shards)
        except UserError as error:
            if not tasks:
                raise
            found = [_Result(name, error, comparability(None)) for name in others or ()]
    elif asked is not None:
        check_settings(asked, given.settings)
    if with_ceilings and others == []:
        raise UserError("--ceilings", f"do not exist for {tasks[0]}", "name an AP protocol, hota or veval")
    by_name = {one.name: one for one in (*found, *_burst_tasks(tasks, predictions, given))}
    place = {name: i for i, name in enumerate(asked or ())}
    return (sorted(by_name.values(), key=lambda one: place.get(one.name, -1)) if tasks else found), best


def _of_tracks(
    asked: list[str] | None,
    predictions: Location,
    given: Given,
    with_ceilings: bool,
    shards: ShardReader | None,
) -> tuple[list[_Result], Ceilings | UserError | None]:
    """The results of protocols on predictions in YouTube-VIS or COCO-video form. Returns as `_results`."""
    from harness.scoring.dispatch import check_settings

    names, truth, differences, own = truth_choice(asked, given, shards is None)
    check_settings(names, given.settings)
    if given.exhaustive:
        truth = _exhaustive(truth)
    with ExitStack() as stack:
        file = shards or stack.enter_context(local_copy(predictions))
        outcomes = _score(names, truth, file, predictions, given)
        best: Ceilings | UserError | None = None
        if with_ceilings:
            scored = [name for name in names if not isinstance(outcomes[name], UserError)]
            try:
                best = ceilings_of(scored, truth, lambda: shards_of(predictions) or file, given)
            except UserError as error:  # the protocols still have their numbers
                best = error
    return [_Result(name, outcomes[name], comparability_of_truth(differences, name, own)) for name in names], best


_BURST_FILE = "all_classes.json"


def in_burst_form(predictions: Location) -> bool:
    """Whether predictions are a file in BURST's own form: an object with ``sequences``."""
    from harness.formats.containers import open_json

    if predictions.is_dir():
        return False
    with local_copy(predictions) as file, open_json(file) as opened:
        head = opened.read(1 << 16).lstrip()
    return head.startswith(b"{") and b'"sequences"' in head


def ceilings_of(names: Sequence[str], truth: Annotations | CocoVideo, source: Source, given: Given) -> Ceilings:
    """The ceilings of predictions by the protocols that have ceilings; the others are named on standard error."""
    from harness.formats.coco_video import CocoVideo
    from harness.scoring.ceilings import ceilings, has_ceilings

    without = [name for name in names if not has_ceilings(name)]
    if isinstance(truth, CocoVideo) or len(without) == len(names):
        raise UserError("--ceilings", f"do not exist for {', '.join(names) or 'protocols without numbers'}",
                        "name an AP protocol, hota or veval")  # fmt: skip
    for name in without:
        tell(f"harness: no ceilings: {name}")
    return ceilings(names, truth, source, settings=given.settings)


def _burst_tasks(tasks: list[str], predictions: Location, given: Given) -> list[_Result]:
    """BURST's own tasks, on predictions in its own form."""
    if not tasks:
        return []
    from harness.scoring.burst_tasks import score_tasks

    try:
        chosen = given.annotations, given.dataset, given.split, given.data_root
        folder, differences = burst_folder(tasks[0], *chosen)
        with local_copy(predictions) as file:
            outcomes = score_tasks(tasks, folder, file, given.strict)
    except UserError as error:
        return [_Result(name, error, comparability(None)) for name in tasks]
    failed = comparability(None)
    return [
        _Result(name, one, failed if isinstance(one, UserError) else comparability(differences))
        for name, one in outcomes.items()
    ]


def burst_folder(
    name: str, annotations: Path | None, dataset: str | None, split: str | None, data_root: Path
) -> tuple[Path, Sequence[str] | None]:
    """The folder of BURST's own files for a task, and its known differences from the published data."""
    if annotations is not None:
        if dataset is not None:
            raise UserError("--dataset and --annotations", f"cannot be combined with {name}", "leave out one of them")
        return annotations.parent if annotations.name == _BURST_FILE else annotations, None
    hint = f"name the folder that holds {_BURST_FILE}"
    if dataset is None:
        raise UserError("--annotations", f"is needed by {name}", hint)
    from harness import plugins

    opened = plugins.opened(dataset, data_root, split)
    path = Path(opened.annotations.path)
    if path.name != _BURST_FILE:
        raise UserError(str(path), f"is not a file that {name} reads", f"{hint} with --annotations")
    return path.parent, opened.differences


def _exhaustive(truth: Annotations | CocoVideo) -> Annotations:
    """The truth, with every category absent where it is not annotated, unless the file says that this is unknown."""
    from harness.formats.absence import Absence
    from harness.formats.coco_video import CocoVideo

    if isinstance(truth, CocoVideo):
        raise UserError("--exhaustive", "needs masks of tracks", "leave it out")
    absence = truth.absence or Absence(exhaustive=True)
    return replace(truth, absence=replace(absence, exhaustive=True))


class TruthChoice(NamedTuple):
    """The protocols to score by, the truth, its known differences from the published data, and the own protocol."""

    names: list[str]
    annotations: Annotations | CocoVideo
    differences: Sequence[str] | None
    own: str | None


def truth_choice(asked: list[str] | None, given: Given, per_frame: bool) -> TruthChoice:
    """The truth, and the protocols to score by.

    ``per_frame``: the predictions are those of a file, which on a dataset in COCO-video form are in that form, too.
    """
    from harness.scoring.dispatch import expand_names

    if given.dataset is None:
        if given.annotations is None:
            raise UserError("harness eval", "needs a truth", "name --dataset, or --protocol with --annotations")
        if asked is None:
            raise UserError(
                "--protocol", "is needed with --annotations", "name one of lvvis, ytvis, ovis, burst, veval, hota"
            )
        read = _read(given.annotations, asked)
        return TruthChoice(expand_names(asked, None, _further(read)), read, None, None)
    from harness import plugins

    plugin = plugins.dataset(given.dataset, given.data_root)
    if given.annotations is not None:
        return _as_split(plugin, given.split or plugin.default_split, given.annotations, asked)
    if hasattr(plugin, "frame_truth"):
        other = [name for name in asked or () if name not in (EVERY, *TETA_TASKS)]
        if other:
            hint = f"score it with --protocol {' or '.join(TETA_TASKS)}"
            raise UserError(f"--dataset {given.dataset}", f"has boxes, which {other[0]} does not compare", hint)
        if per_frame:
            return _of_frames(plugin, given, asked)
    opened = plugins.opened(given.dataset, given.data_root, given.split)
    if opened.truth is None:
        hint = f"submit the predictions to {opened.server}" if opened.server else "score on a split that has it"
        what = f"cannot be scored: {opened.no_truth}" if opened.no_truth else "has no public truth"
        raise UserError(f"{given.dataset} {opened.split}", what, hint)
    own = opened.protocol
    names = expand_names(asked or [own], own, _further(opened.annotations))
    return TruthChoice(names, opened.annotations, opened.differences, own)


def _further(truth: Annotations | CocoVideo) -> tuple[str, ...]:
    """The protocols that the truth allows besides those of every dataset."""
    from harness.formats.coco_video import CocoVideo
    from harness.scoring.dispatch import further_protocols

    return () if isinstance(truth, CocoVideo) else further_protocols(truth)


def _read(path: Path, asked: list[str]) -> Annotations | CocoVideo:
    """An annotation file in a form that one of the protocols reads."""
    path = annotation_file(path)
    if not set(asked) & set(TETA_TASKS):
        from harness.formats.youtube_vis import read_annotations

        return read_annotations(path)
    from harness.scoring.teta_score import read_teta_truth

    return read_teta_truth(path)


def annotation_file(path: Path) -> Path:
    """The file of all classes in the folder of BURST's own annotation files; another path as it is."""
    return path / _BURST_FILE if path.is_dir() and (path / _BURST_FILE).is_file() else path


def _of_frames(plugin: Any, given: Given, asked: list[str] | None) -> TruthChoice:
    """A split of a dataset in COCO-video form."""
    chosen = given.split or plugin.default_split
    file, own = plugin.frame_truth(given.data_root, chosen), plugin.protocol
    from harness.scoring.protocols import expand_protocols

    return TruthChoice(expand_protocols(asked or [own], own), file, plugin.differences(file, chosen), own)


def _as_split(plugin: DatasetPlugin, split: str, annotations: Path, asked: list[str] | None) -> TruthChoice:
    """A file that the user names as a split of a dataset."""
    from harness.formats.coco_video import CocoVideo
    from harness.scoring.dispatch import expand_names

    differences, own = getattr(plugin, "differences", None), getattr(plugin, "protocol", None)
    if differences is None or own is None:
        hint = "leave out --dataset and name --protocol, or leave out --annotations"
        raise UserError(f"--dataset {plugin.name}", "does not describe its files", hint)
    read = _read(annotations, asked or [own])
    if isinstance(read, CocoVideo) != hasattr(plugin, "frame_truth"):
        form = "COCO-video" if isinstance(read, CocoVideo) else "YouTube-VIS"
        raise UserError(
            read.path, f"is in {form} form, {plugin.name} is not", "leave out --dataset and name --protocol"
        )
    names = expand_names(asked or [own], own, _further(read))
    return TruthChoice(names, read, differences(read, split), own)


def comparability_of_truth(differences: Sequence[str] | None, protocol: str, own: str | None) -> Comparability:
    """Fixed AP and mask HOTA are published for the data of each protocol, and BURST's tasks for its own."""
    same = own is None or protocol in (own, f"{own}-fixed", HOTA, *BURST_TASKS)
    return comparability(differences, [] if same else [f"scored by {protocol}, published numbers by {own}"])


def shards_of(predictions: Location) -> ShardReader | None:
    """The shards of a run folder or a prediction store; ``None`` for a file."""
    if not predictions.is_dir():
        return None
    # Arrow's own allocator keeps a hundred megabytes that are no longer used
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from harness.run_folder.store import store_in
    from harness.scoring.shard_reader import ShardReader

    return ShardReader(store_in(predictions))


def _score(
    names: list[str], truth: Annotations | CocoVideo, first: ShardReader | Path, predictions: Location, given: Given
) -> dict[str, Outcome]:
    """The result of every protocol; the first reader of predictions uses ``first``."""
    from harness.scoring.dispatch import score_all

    waiting = [first]

    def source() -> ShardReader | Path:
        if isinstance(first, Path):
            return first
        return waiting.pop() if waiting else shards_of(predictions) or first  # a reader is read once

    return {**score_all(names, truth, source, given.strict, settings=given.settings)}


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    import csv

    from harness.plain_text import csv_text

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["id"])
        writer.writeheader()
        writer.writerows({k: csv_text(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows)


_MAIN = ("AP", "APb", "APn", "APc", "APu", "AP50", "AP75", "AR100", "HOTA", "DetA", "AssA", "IDF1", "MOTA",
         "TETA", "LocA", "AssocA", "ClsA", "OWTA")  # fmt: skip
_MAIN_PHRASES = ("cgF1", "pmF1", "IL_MCC", "pHOTA", "pAP")
_MOST_SHORT = 10
"""Metrics of a protocol that needs no choice of them."""


def _chosen(metrics: Sequence[str]) -> list[str]:
    """The metrics that are compared: all of a protocol that has few, and of one where none is known to be."""
    main = [key for key in metrics if key.removesuffix("_all") in (*_MAIN, *_MAIN_PHRASES)]
    return main if main and len(metrics) > _MOST_SHORT else list(metrics)


def _show(record: dict[str, Any], with_all: bool) -> None:
    """Print the numbers as a table: official and corrected, in percent."""
    from rich.console import Console
    from rich.table import Table

    from harness.reports.styles import DAGGER
    from harness.reports.terminal import folded, terminal_width
    from harness.scoring.metrics import undefined_note

    console = Console()
    settings = {k: v for k, v in record["protocol"].items() if k not in ("name", "version")}
    told = "".join(f", {k.replace('_', ' ')} {'none' if v is None else v}" for k, v in settings.items())
    name = record["protocol"]["name"]
    dagger = DAGGER if record["comparable"] is False else ""
    table = Table(title=f"{name} (version {record['protocol']['version']}{told}), percent{dagger}")
    table.add_column("metric")
    table.add_column("official", justify="right", style="bold")
    table.add_column("corrected", justify="right")
    tools = ("metrics", "corrected", *(("trackeval",) if "trackeval" in record else ()))
    if "trackeval" in record:
        table.add_column("TrackEval", justify="right")
    shown = list(record["metrics"]) if with_all else _chosen(list(record["metrics"]))
    for key in shown:
        cells = [record[tool].get(key) for tool in tools]
        table.add_row(key, *("–" if c is None else f"{100 * c:.2f}" for c in cells))
    console.print(table)
    more = len(record["metrics"]) - len(shown)
    if more:
        print(f"{more} more with --all")
    presence = record.get("slices", {}).get("presence")
    if presence:
        absent, percent = presence["IL_FP"] + presence["IL_TN"], 100 * presence["IL_FPR"]
        told = f"IL_MCC {presence['IL_MCC']:.3f}; found in {percent:.1f} % of {absent:,} pairs without it"
        print(folded(f"is a word there (score >= 0.5): {told}", terminal_width()))
    if dagger:
        print(f"{dagger} not comparable: {'; '.join(record['not_comparable'])}")
    reasons = record["undefined"]["metrics"]
    note = undefined_note(record["metrics"], reasons)  # without AP, the reasons of the other metrics are the same
    for line in [note] if note else [f"undefined: {reason}" for reason in dict.fromkeys(reasons.values())]:
        tell(line)
    for reason in dict.fromkeys(record["undefined"].get("trackeval", {}).values()):
        if reason not in reasons.values():
            tell(f"undefined (TrackEval): {reason}")
    for warning in record["warnings"]:
        tell(f"warning: {warning['kind']}: {warning['count']}, first: {warning['first']}")
