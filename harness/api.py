"""The Python interface, for notebooks and for the command line.

Every name here is an attribute of the package ``harness``, imported on first use. Paths may be strings; run folders may
also be URLs (``s3://``, ``gs://``). Errors that the user can fix are a `UserError`: one line with the file, the record
and the fix. docs/python.md has examples.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness import plugins
from harness.config import read_config
from harness.engines.choice import choose_engine
from harness.engines.local import InProcess
from harness.engines.model_spec import EngineMaker, loaded
from harness.errors import UserError, near
from harness.events import Event
from harness.notebook import (
    Evaluation,
    LoadedModel,
    Metric,
    OpenedRun,
    Table,
    VideoPrediction,
    Words,
    dataset_of,
    dataset_of_words,
    results_file,
    score_by,
    truth_of,
    vocabulary_of,
)
from harness.paths import Location, ObjectPath, local_copy, location
from harness.plugin_code import convert_plugin_errors
from harness.precision import PRECISIONS
from harness.progress_display import progress as shown_progress
from harness.progress_display import shown_warnings
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.store import store_in
from harness.runner import Run, RunOutcome, Tracker, execute
from harness.scoring import BURST_TASKS
from harness.scoring.dispatch import (
    DEFAULTS,
    Settings,
    check_settings,
    listed_names,
    protocol_name,
    protocols_for,
    track_protocols,
)
from harness.scoring.protocols import BURST
from harness.types import Dataset, LoadContext, ModelPlugin, Track

if TYPE_CHECKING:
    import pandas as pd
    from pydantic import BaseModel

    from harness.reports.comparison import Comparison
    from harness.reports.table_rows import Published
    from harness.scoring.dispatch import Result

__all__ = [
    "Evaluation",
    "LoadedModel",
    "Metric",
    "OpenedRun",
    "Table",
    "VideoPrediction",
    "compare",
    "evaluate",
    "load_dataset",
    "load_model",
    "open_run",
    "predict",
    "run",
    "run_of_results",
    "table",
    "vocabulary_of",
]  # fmt: skip

log = logging.getLogger(__name__)

Runs = FinishedRun | str | Path | Location | Iterable[FinishedRun | str | Path | Location]
"""Runs or their folders, or one of them."""


def load_dataset(
    name: str | None = None,
    *,
    root: str | Path = "data",
    split: str | None = None,
    annotations: str | Path | None = None,
    frames: str | Path | None = None,
    protocol: str | None = None,
) -> Dataset:
    """Open a split of a dataset by name, or data of your own in YouTube-VIS form.

    ``root`` is the folder that holds the datasets; ``split`` is by default the dataset's default split. Data of your
    own needs ``annotations`` (the file), ``frames`` (the folder to which its file names are relative) and ``protocol``.
    With a name, ``protocol`` replaces the dataset's own; ``fixed-ap`` is its Fixed AP. Raises `UserError` if
    something is not found.
    """
    if annotations is None:
        if name is None:
            raise UserError("load_dataset", "needs data", "name a dataset, or annotations with frames and protocol")
        if not isinstance(name, str):
            raise UserError("name", f"is of type {type(name).__name__}", "give the name of a dataset")
        opened = plugins.opened(name, Path(root), split)
        return opened if protocol is None else replace(opened, protocol=protocol_name(protocol, opened.protocol))
    from harness.datasets.own_data import open_own

    chosen = None if protocol is None else protocol_name(protocol)
    return open_own(Path(annotations), None if frames is None else Path(frames), chosen, name)


def load_model(
    name: str | ModelPlugin,
    *,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    precision: str = "fp32",
    seed: int = 0,
    dataset: Dataset | str | None = None,
    config: str | Path | BaseModel | None = None,
    **settings: Any,
) -> LoadedModel:
    """Load a model by name (or a plugin object) with its settings as keywords, as in ``topk=5``.

    ``device`` is by default a GPU if there is one; ``precision`` is fp32, bf16 or fp16; ``config`` is a YAML file with
    settings, or an object of the model's ``Config``. Models that depend on the ``dataset`` need it: the oracle, and
    models with weights for a particular dataset. Raises `UserError` for unknown settings, and if the model does not
    load.
    """
    from harness.engines.devices import default_device

    plugin = _plugin(name)
    chosen = _config(plugin, config, settings)
    known = dataset_of_words(None, ()) if dataset is None else dataset_of(dataset)
    context = LoadContext(
        known, device or default_device(), _precision(precision), _weights(plugin, checkpoint, known), seed
    )
    return LoadedModel(plugin, chosen, context, loaded(plugin, chosen, context))


def _plugin(model: Any) -> ModelPlugin:
    if isinstance(model, str):
        return plugins.model(model)
    if not (hasattr(model, "Config") and hasattr(model, "load")):
        raise UserError("model", f"is of type {type(model).__name__}", "give the name of a model")
    return cast(ModelPlugin, model)


def _config(plugin: ModelPlugin, given: str | Path | BaseModel | None, settings: Mapping[str, Any]) -> BaseModel:
    """The settings of a model: a whole configuration or those of a file, overridden by ``settings``."""
    texts = [f"{key}={_text_of(key, value)}" for key, value in settings.items()]
    if given is None or isinstance(given, (str, Path)):
        return read_config(plugin.Config, None if given is None else Path(given), texts, plugin.name)
    return given if not texts else read_config(plugin.Config, None, texts, plugin.name, defaults=given.model_dump())


def _text_of(key: str, value: Any) -> str:
    """A setting as JSON; paths are text, and numbers of numpy numbers."""

    def plain(one: Any) -> Any:
        if isinstance(one, Path):
            return str(one)
        if hasattr(one, "tolist"):
            return one.tolist()
        raise UserError(
            f"setting {key}", f"is of type {type(one).__name__}", "give a number, a text, a list or a mapping"
        )

    return json.dumps(value, default=plain)


def _precision(name: str) -> str:
    if name not in PRECISIONS:
        raise UserError("precision", f'"{name}" is unknown', f"name one of {', '.join(PRECISIONS)}")
    return name


def _weights(plugin: ModelPlugin, checkpoint: str | Path | None, dataset: Dataset) -> Path | None:
    if checkpoint is not None:
        return Path(checkpoint)
    shipped = getattr(plugin, "shipped_weights", None)
    with convert_plugin_errors(f"model {plugin.name}", "its shipped_weights fails"):
        found = shipped(dataset.name) if shipped is not None else None
    return None if found is None else Path(found)


def predict(
    video: str | Path,
    words: Words,
    *,
    model: str | LoadedModel = "clipvis",
    checkpoint: str | Path | None = None,
    device: str | None = None,
    precision: str = "fp32",
    seed: int = 0,
    config: str | Path | BaseModel | None = None,
    **settings: Any,
) -> VideoPrediction:
    """Find, segment and track the objects of a video by category names.

    For example ``predict("clip.mp4", ["cat", "red umbrella"], checkpoint="clipvis.pth")``.

    ``video`` is a video file, or a folder of frames that are sorted by number. ``model`` is a name with its settings as
    keywords, or a loaded model.
    """
    from harness.video_file import open_video

    vocabulary = vocabulary_of(words)
    opened, rate = open_video(Path(video))
    if isinstance(model, str):
        known = dataset_of_words(opened, vocabulary.categories)
        model = load_model(
            model, checkpoint=checkpoint, device=device, precision=precision, seed=seed, dataset=known, config=config,
            **settings,
        )  # fmt: skip
    return VideoPrediction(opened, vocabulary, model.predict(opened, vocabulary), rate)


def open_run(place: str | Path | Location, dataset: Dataset | None = None) -> OpenedRun:
    """Open the folder of a finished run: a path, ``s3://`` or ``gs://``; its files are read on first use."""
    run = cast(OpenedRun, OpenedRun.open(str(place)))
    run.dataset = dataset
    return run


def run(
    model: str | ModelPlugin | LoadedModel,
    dataset: Dataset | str,
    *,
    runs_dir: str | Path | Location = "runs",
    checkpoint: str | Path | None = None,
    device: str | None = None,
    precision: str = "fp32",
    seed: int = 0,
    limit: int | None = None,
    protocol: str | Sequence[str] | None = None,
    config: str | Path | BaseModel | None = None,
    engine: str = "local",
    workers: int | None = None,
    video_timeout: float | None = None,
    fresh: bool = False,
    strict: bool = False,
    mlflow: bool = False,
    progress: bool = True,
    on_event: Callable[[Event], None] | None = None,
    **settings: Any,
) -> OpenedRun:
    """Run a model over a dataset, score it and return the run; the same call resumes an interrupted run.

    ``model`` is a name with its settings as keywords, or a loaded model, which keeps its settings. ``dataset`` is a
    `Dataset` or a name. ``protocol`` scores it, by default the dataset's own: one name of ``harness run --protocol``,
    several in a list, or a text with commas. ``video_timeout`` is the limit of a video in seconds, enforced by several
    workers and by Ray. ``mlflow`` logs it as ``harness run`` does; ``progress`` shows a progress bar on standard error;
    ``on_event`` is called for every video. A run with failed videos is returned with a warning:
    ``run.record["complete"]`` is false.
    """
    opened = dataset_of(dataset)
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise UserError("limit", f"is {limit!r}", "give a whole number from 1 on, or None for the whole split")
    place = location(str(runs_dir))
    if isinstance(model, LoadedModel):
        if settings or config is not None or checkpoint is not None:
            raise UserError("run", "a loaded model has its settings and weights", "give them to load_model")
        plugin, chosen, context = model.plugin, model.config, model.context
        device, precision, seed, checkpoint = context.device, context.precision, context.seed, context.checkpoint
    else:
        plugin = _plugin(model)
        chosen = _config(plugin, config, settings)
    devices, make = choose_engine(engine, device, workers, video_timeout=video_timeout)
    if isinstance(model, LoadedModel) and make is InProcess and model.context.dataset is opened:
        make = _reusing(model)
    one = Run(
        plugin, chosen, opened, place, devices, _precision(precision), None if checkpoint is None else Path(checkpoint),
        seed, limit, protocols=protocols_of_run(() if protocol is None else protocol, opened),
    )  # fmt: skip
    with ExitStack() as stack:
        if progress:
            stack.enter_context(shown_warnings())
        tracker = _tracker(place) if mlflow else None
        outcome = execute_run(one, tracker, fresh, strict, make, progress, on_event)
    for message in outcome.messages:
        log.warning("%s", message)
    return open_run(one.folder, opened)


def protocols_of_run(names: str | Sequence[str], dataset: Dataset, settings: Settings = DEFAULTS) -> tuple[str, ...]:
    """The protocols that score a run on a dataset, its own first, see `track_protocols`; none if none are named.

    Raises `UserError` for unknown names, for settings that none of them has, and for BURST's tasks on other data.
    """
    if not isinstance(names, str) and not names:
        return ()
    found = protocols_for(names, dataset.protocol, dataset.annotations)
    check_settings(found, settings)
    return found


def _reusing(model: LoadedModel) -> EngineMaker:
    def make(spec: Any, store: Any, progress: Any, /) -> InProcess:
        return InProcess(spec, store, progress, model.network)

    return make


def _tracker(place: Location) -> Tracker:
    from harness.tracking.mlflow import tracker_in

    return tracker_in(place if isinstance(place, Path) else Path("runs"), "name another runs_dir")


def execute_run(
    one: Run,
    tracker: Tracker | None = None,
    fresh: bool = False,
    strict: bool = False,
    engine: EngineMaker = InProcess,
    progress: bool = True,
    on_event: Callable[[Event], None] | None = None,
) -> RunOutcome:
    """Execute a run with a progress display and ``table.md``; see `harness.runner.execute`."""
    from harness.reports.tables import table_of_run

    videos = one.videos if fresh else one.with_videos_of_folder().videos
    done = 0 if fresh else len(one.store.done() & {v.id for v in videos})
    title = f"{one.plugin.name} on {one.dataset.name} {one.dataset.split}"
    with ExitStack() as stack:
        shown = stack.enter_context(shown_progress(title, len(videos), done)) if progress else None

        def notice(event: Event) -> None:
            if shown is not None:
                shown.advance(event)
            if on_event is not None:
                on_event(event)

        return execute(one, tracker, notice, fresh, strict, engine, table_of_run)


def evaluate(
    predictions: str | Path | Location | FinishedRun | Iterable[Track] | Iterable[Mapping[str, Any]] | pd.DataFrame,
    dataset: Dataset | str | Path,
    *,
    protocol: str | Sequence[str] | None = None,
    strict: bool = False,
) -> Evaluation:
    """Score predictions by a protocol, by default the dataset's own, or by several in one pass.

    ``predictions`` are a results file, a run folder or its predictions (path or URL), a run, tracks, or records (a list
    of dicts or a DataFrame) with the keys of a results file: video_id, category_id, score, segmentations. ``dataset``
    is a `Dataset`, its name, or an annotation file with ``protocol``. ``protocol`` has the names of ``harness eval``,
    ``fixed-ap`` and ``all`` included: one, a list, or a text with commas. Raises `UserError` for invalid input; with
    ``strict`` also for every warning.
    """
    from harness.scoring.shard_reader import ShardReader

    truth, chosen = truth_of(dataset, protocol)
    if isinstance(predictions, FinishedRun):
        store = predictions.store
        return score_by(chosen, truth, lambda: ShardReader(store), strict)
    if isinstance(predictions, (str, Path, ObjectPath)):
        place = location(str(predictions))
        if place.is_dir():
            found = store_in(place)
            return score_by(chosen, truth, lambda: ShardReader(found), strict)
        with local_copy(place) as file:
            return score_by(chosen, truth, lambda: file, strict)
    with results_file(predictions) as file:
        return score_by(chosen, truth, lambda: file, strict)


def run_of_results(
    name: str,
    predictions: str | Path,
    *,
    annotations: str | Path | None = None,
    dataset: str | None = None,
    split: str | None = None,
    root: str | Path = "data",
    protocol: str | Sequence[str] | None = None,
    settings: Settings = DEFAULTS,
    runs_dir: str | Path | Location = "runs",
    strict: bool = False,
    scores: Mapping[str, Result | UserError] | None = None,
) -> OpenedRun:
    """Make a run folder of a results file, which tables call ``name``, and open it; no frame is read.

    The truth is a ``dataset`` by name, or an annotation file with ``protocol``; with both the file is used as the
    dataset's split. The same file gives the same folder. ``scores`` are the results of the protocols where they are
    known. Raises `UserError` for records that are refused, and for truths that are not in YouTube-VIS form.
    """
    from harness.reports.tables import table_of_run
    from harness.results_run import make_results_run

    names = listed_names(protocol) if protocol else []
    opened = _truth_alone(annotations, dataset, split, Path(root), names)
    place = location(runs_dir) if isinstance(runs_dir, str) else runs_dir
    chosen = protocols_of_run(names, opened, settings)
    run, _ = make_results_run(name, Path(predictions), opened, place, chosen, settings, strict, table_of_run, scores)
    return open_run(run.folder, opened)


def _truth_alone(
    annotations: str | Path | None, dataset: str | None, split: str | None, root: Path, protocols: Sequence[str]
) -> Dataset:
    if annotations is None:
        if dataset is None:
            raise UserError("a results file", "needs a truth", "name annotations or a dataset")
        return plugins.opened(dataset, root, split)
    if dataset is None:
        if not protocols:
            raise UserError("a results file", "needs a protocol", "name one, as lvvis, or a dataset")
        named = [name for name in track_protocols(protocols, None) if name not in BURST_TASKS]
        return plugins.own_data(Path(annotations), None, named[0] if named else BURST.name)
    plugin = plugins.dataset(dataset, root)
    own, differences = getattr(plugin, "protocol", None), getattr(plugin, "differences", None)
    if own is None or differences is None:
        raise UserError(f"dataset {dataset}", "does not describe its files", "leave out the dataset")
    chosen = split or plugin.default_split
    opened = plugins.own_data(Path(annotations), None, own)
    return replace(opened, name=plugin.name, split=chosen, differences=differences(opened.annotations, chosen))


def compare(
    *runs: FinishedRun | str | Path | Location,
    root: str | Path = "data",
    annotations: str | Path | None = None,
    join_seeds: bool = False,
    metrics: Sequence[str] = (),
) -> Comparison:
    """Compare runs by a paired jackknife over videos: every pair; ``difference["AP"]`` of two runs.

    With ``join_seeds`` runs that differ in nothing but the seed are one: their mean. ``metrics`` are further ones, as
    ``PROTOCOL/METRIC``. Raises `UserError` for runs that were not scored on the same videos by the same protocol.
    ``root`` and ``annotations`` are read only if a run folder lacks its match table.
    """
    from harness.reports.comparison import compare_runs

    found = None if annotations is None else Path(annotations)
    return compare_runs(_labelled(runs), Path(root), found, join_seeds, metrics)


def _labelled(runs: Runs) -> list[FinishedRun]:
    from harness.reports.run_files import label_runs

    one = (str, Path, ObjectPath, FinishedRun)
    given: list[Any] = [runs] if isinstance(runs, one) else list(cast("Iterable[Any]", runs))
    if len(given) == 1 and isinstance(given[0], (list, tuple)):
        given = list(given[0])
    if not given:
        raise UserError("runs", "is empty", "name at least one run")
    for other in given:
        if not isinstance(other, one):
            raise UserError("runs", f"has one of type {type(other).__name__}", "give runs or their folders")
    opened = [run if isinstance(run, FinishedRun) else open_run(run) for run in given]
    return label_runs(list({str(run.folder): run for run in opened}.values()))


def table(runs: Runs, *, published: Published | bool = "", **options: Any) -> Table:
    """A table of runs, with ``published`` results on the same data: ``main`` ones, or ``all`` (also ``True``).

    ``options`` are those of `harness.reports.tables.comparison_table`: ``columns``, ``corrected``, ``layout``, ...
    """
    from harness.reports.table_rows import CHOICES

    chosen = ("all" if published else "") if isinstance(published, bool) else published
    if chosen not in CHOICES:
        raise UserError("published", f'"{chosen}" is unknown', near(str(chosen), filter(None, CHOICES)))
    return Table([run.record for run in _labelled(runs)], published=chosen, **options)
