"""Run: a model over a dataset. This module orders the steps: load, predict, store, score, write, track."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
from pydantic import BaseModel

from harness.atomic_write import discard_unfinished, write_atomically, write_json
from harness.comparability import comparability, parts_missing
from harness.compile_ahead import compiling_ahead
from harness.engines.local import InProcess
from harness.engines.model_spec import Engine, EngineMaker, ModelSpec
from harness.engines.threads import configured_threads
from harness.errors import EXIT_BAD_INPUT, EXIT_FAILED, UnreadableFileError, UserError
from harness.events import Event, StageUse, merge_stage_usage
from harness.export import write_submission
from harness.input_files import RECORD_BYTES, decode_json, read_file
from harness.paths import Location, cache_folder
from harness.plugin_code import convert_plugin_errors
from harness.run_folder.checksums import remove_sums
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.identity import code_of, commit_of, variables
from harness.run_folder.layout import SUBMISSION, content_digest, remove_content, remove_tree
from harness.run_folder.lock import locked
from harness.run_folder.log import held_log, logged_to
from harness.run_folder.progress import RunProgress, write_progress
from harness.run_folder.provenance import environment, trained_on_in, weights_digest
from harness.run_folder.results import TableMaker, no_truth_reason, refuse_unscorable, score_predictions, write_results
from harness.run_folder.resume import refuse_other_frames
from harness.run_folder.schemas import FORMAT, Failure, Failures, Times, VideoIds, Weights, WeightsRecord
from harness.run_folder.store import DamagedShardError, PredictionStore
from harness.scoring.dispatch import DEFAULTS, Settings
from harness.standard_output import printed_to_log
from harness.types import Dataset, LoadContext, ModelPlugin, Video
from harness.versions import other_version

if TYPE_CHECKING:
    from harness.scoring.dispatch import Result

log = logging.getLogger(__name__)

RELATIVE_SCORES = (
    "scores are a softmax over the words asked, which is 1 for a phrase asked alone: they do not tell whether it is"
    " there, so that IL_MCC and cgF1 rest on the model's other factors"
)

MOST_TRACEBACKS = 16 << 20
SCRATCH = "scratch"
"""Folder for a model's files that must survive a killed process; see `BatchModel`."""


class Tracker(Protocol):
    """Logs runs in addition to their folders; see `harness.tracking.mlflow`."""

    def start(self, record: Mapping[str, Any], /) -> None: ...

    def log_result(
        self, run_folder: Location, record: Mapping[str, Any], per_category: Sequence[Mapping[str, Any]], /
    ) -> None: ...

    def finish(self) -> list[str]: ...


class NullTracker:
    """Logs nowhere."""

    def start(self, record: Mapping[str, Any], /) -> None:
        pass

    def log_result(
        self, run_folder: Location, record: Mapping[str, Any], per_category: Sequence[Mapping[str, Any]], /
    ) -> None:
        pass

    def finish(self) -> list[str]:
        return []


@dataclass(frozen=True)
class Run:
    """A model, its settings and a dataset. They determine the run's folder: the same content gives the same folder.

    ``limit`` restricts the run to the first videos by id; a folder that is complete for more videos stays so.
    ``device`` is not part of the content. With ``verify_frames`` digests of all content of the frames are stored with
    the predictions and compared when the run resumes. ``protocols`` score them with the settings ``scoring``; none: the
    dataset's own. ``experiment`` is the text of the run's experiment file, stored in its folder. ``title`` is what the
    user calls it.
    """

    plugin: ModelPlugin
    config: BaseModel
    dataset: Dataset
    runs_dir: Location
    device: str = "cpu"
    precision: str = "fp32"
    checkpoint: Path | None = None
    seed: int = 0
    limit: int | None = None
    verify_frames: bool = False
    protocols: tuple[str, ...] = ()
    scoring: Settings = DEFAULTS
    experiment: str = ""
    title: str | None = None

    @cached_property
    def content(self) -> dict[str, Any]:
        """The content of ``config.json``, the run's identity: everything that its predictions depend on except frames.

        It has no paths: the same inputs elsewhere are the same run. Frames are compared video by video. Protocols and
        the limit do not belong to it: other protocols score the same predictions, and a larger limit continues the run.
        """
        return {
            "format": FORMAT,
            "model": self.plugin.name,
            "model_version": self.plugin.version,
            "config": self.config.model_dump(mode="json"),
            "checkpoint": weights_digest(self.weights) if self.weights is not None else None,
            "precision": self.precision,
            "dataset": self.dataset.name,
            "split": self.dataset.split,
            "digest": self.dataset.digest,
            "vocabulary": self.dataset.vocabulary.digest,
            "seed": self.seed,
            "plugin": code_of(self.plugin),
            "depends_on": self._depends_on(),
            "variables": variables(),
        }

    def _depends_on(self) -> dict[str, Any]:
        """Further dependencies of the tracks, from the plugin."""
        with convert_plugin_errors(self.name, "its depends_on fails"):
            depends_on = getattr(self.plugin, "depends_on", None)
            found = dict(depends_on(self.config, self.weights)) if depends_on is not None else {}
        try:
            json.dumps(found, allow_nan=False)
        except (TypeError, ValueError) as error:
            what = f"depends_on returns a value that JSON does not have ({error})"
            raise UserError(self.name, what, "return texts and numbers") from error
        return found

    @property
    def name(self) -> str:
        """The model's name in messages."""
        return f"model {self.plugin.name}"

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return content_digest(self.content)

    @cached_property
    def folder(self) -> Location:
        """The run folder."""
        names = (self.plugin.name, self.dataset.name, self.dataset.split, self.digest[:8])
        return self.runs_dir / "-".join(re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII) for name in names)

    @property
    def scratch(self) -> Path:
        """The folder for the model's own files during the run: on this machine, even if the run folder is not."""
        if isinstance(self.folder, Path):
            return self.folder / SCRATCH
        return cache_folder(SCRATCH) / re.sub(r"[^\w.+-]", "_", str(self.folder))

    @cached_property
    def weights(self) -> Path | None:
        """The checkpoint of the run, or else the one that the model ships for this dataset, if any."""
        with convert_plugin_errors(self.name, "its shipped_weights fails"):
            shipped = getattr(self.plugin, "shipped_weights", None)
            path = self.checkpoint or (shipped(self.dataset.name) if shipped is not None else None)
            return None if path is None else Path(path)

    @property
    def spec(self) -> ModelSpec:
        """The spec that engines load the model from."""
        context = LoadContext(self.dataset, self.device, self.precision, self.weights, self.seed)
        return ModelSpec(self.plugin, self.config, context, configured_threads(), self.verify_frames)

    @property
    def store(self) -> PredictionStore:
        return PredictionStore(self.folder / "predictions")

    @property
    def scored_by(self) -> tuple[str, ...]:
        """The protocols that score the run; the first one gives its main numbers."""
        return self.protocols or (self.dataset.protocol,)

    @cached_property
    def videos(self) -> tuple[Video, ...]:
        """The videos to run, by ascending id."""
        return tuple(sorted(self.dataset.videos, key=lambda v: v.id)[: self.limit])

    def with_videos_of_folder(self) -> Run:
        """Return the run with a larger ``limit`` if its folder is complete for more videos."""
        try:
            before = FinishedRun.open(self.folder).record
        except UserError:
            return self
        if self.limit is None or not before["complete"]:
            return self
        done = before["limit"]
        return replace(self, limit=done) if done is None or done > self.limit else self


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of a run: its record (``metrics.json``), the exit code, and messages for the user."""

    record: dict[str, Any]
    exit_code: int
    messages: tuple[str, ...]


class Finish(NamedTuple):
    """Settings of the last steps of a run: tracking, strictness of scoring, ``table.md``, and scores that are known.

    ``compiled`` waits until scoring is compiled.
    """

    tracker: Tracker
    strict: bool
    table: TableMaker | None
    scores: Mapping[str, Result | UserError] | None
    compiled: Callable[[], None]


def execute(
    run: Run,
    tracker: Tracker | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    fresh: bool = False,
    strict: bool = False,
    engine: EngineMaker = InProcess,
    table: TableMaker | None = None,
    scores: Mapping[str, Result | UserError] | None = None,
) -> RunOutcome:
    """Run the videos that are not done yet, score all of them, and write the run folder.

    ``fresh`` first removes earlier results; ``strict`` makes scoring warnings errors; ``engine`` creates the engine;
    ``table`` returns the text of ``table.md``, which is not written without it. ``scores`` are what the protocols give
    for the predictions, if that is known; they are not computed again then. Videos of damaged shards are computed
    again. Meanwhile standard output goes to the run's log, so that prints of plugins and libraries do not mix with the
    caller's.

    Raises `UserError` for annotations that the protocol cannot score (before anything is run; with ``strict`` also for
    those on which the official tool aborts), for frames that differ from those of stored predictions, a model that does
    not load, a folder that another process runs, and a full disk.
    """
    tracker, progress = tracker or NullTracker(), RunProgress()
    if not fresh:
        run = _with_all_done(run)
    aborts = refuse_unscorable(run.dataset, run.scored_by, run.videos if run.limit is not None else None, strict)
    with (
        printed_to_log() as log_printed,
        closing(engine(run.spec, run.store, progress)) as made,
        compiling_ahead(run.dataset.truth is not None) as compiled,
    ):
        compared = set[int]() if fresh else _refuse_other_frames(run, set())
        with held_log() as of_loading:  # there may be no folder yet
            if fresh or _pending(run):
                made.load()
        with locked(run.folder) as check:

            def notice(event: Event) -> None:
                check()
                log_printed()
                on_event(event)

            if fresh:
                remove_content(run.folder)
                _remove_scratch(run)
            else:  # another process may have added predictions while the model was loaded
                _refuse_other_frames(run, compared)
            discard_unfinished(run.folder)
            discard_unfinished(run.store.folder)
            with logged_to(run.folder / "run.log", of_loading):
                log.info("run %s, content %s, process %s", run.folder.name, run.digest, os.getpid())
                _write_configuration(run)
                for line in aborts if _pending(run) else ():  # corrected annotations are another run
                    log.warning("official numbers will be undefined: %s", line)
                tracker.start({**_names(run), "folder": str(run.folder)})
                warnings: list[str] = []
                try:
                    with write_progress(progress, run.folder):
                        outcome = _predict_and_conclude(
                            run, made, progress, notice, Finish(tracker, strict, table, scores, compiled)
                        )
                finally:
                    warnings = tracker.finish()
                    log_printed()
                for line in warnings:
                    log.warning("%s", line)
    return outcome


def _with_all_done(run: Run) -> Run:
    found = run.with_videos_of_folder()
    if found is not run:
        log.warning("%s is complete for %s videos: its numbers stay over these, not over the first %s",
                    run.folder, len(found.videos), run.limit)  # fmt: skip
    return found


def _predict_and_conclude(
    run: Run, engine: Engine, progress: RunProgress, on_event: Callable[[Event], None], finish: Finish
) -> RunOutcome:
    """Run the videos that are not done yet, and score; recompute damaged or missing shards once."""
    failed: list[Event] = []
    pending = _pending(run)
    _predict(run, engine, progress, on_event, pending, failed)
    try:
        if finish.scores is not None and len(pending) < len(run.videos):
            _check_shards(run)  # as scoring does
        return _conclude(run, failed, finish, [] if pending else _scored_before(run))
    except DamagedShardError as error:
        log.info("%s", error)
    run.store.remove_damaged()
    _write_configuration(run)
    given_up = {event.video_id for event in failed}
    lost = [video for video in _pending(run) if video.id not in given_up]
    log.warning("the predictions of %s of %s videos are computed again", len(lost), len(run.videos))
    for video in lost:
        on_event(Event("lost", video.id, 0.0, len(video.frames)))
    _predict(run, engine, progress, on_event, lost, failed)
    return _conclude(run, failed, finish, [], len(lost))


def _names(run: Run) -> dict[str, str]:
    return {"model": run.plugin.name, "dataset": run.dataset.name, "split": run.dataset.split}


def _pending(run: Run) -> list[Video]:
    done = run.store.done()
    return [v for v in run.videos if v.id not in done]


def _refuse_other_frames(run: Run, besides: set[int]) -> set[int]:
    """Compare the frames of the videos that are done, except ``besides``; return the ids of all compared videos."""
    done = run.store.done() - besides
    refuse_other_frames(run.store, [v for v in run.videos if v.id in done], run.verify_frames)
    return done | besides


def _write_configuration(run: Run) -> None:
    _refuse_other_content(run)
    remove_sums(run.folder)
    write_json(run.folder / "config.json", run.content)
    ids = VideoIds(FORMAT, sorted(v.id for v in run.dataset.videos), [v.id for v in run.videos])
    write_json(run.folder / "videos.json", msgspec.to_builtins(ids))
    inputs = {"annotations": run.dataset.digest}
    if run.content["checkpoint"] is not None:
        inputs["checkpoint"] = run.content["checkpoint"]
    place = {"device": run.device, "threads": configured_threads(), "data": dict(run.dataset.data)}
    if run.experiment:
        write_atomically(run.folder / "experiment.yaml", run.experiment.encode())
    write_json(run.folder / "environment.json", {**environment(inputs), **commit_of(run.plugin), **place})


def _refuse_other_content(run: Run) -> None:
    """Refuse a folder of other content whose digest begins like that of the run.

    If the digest does not match the folder's name, ``config.json`` is damaged, and a warning says that it is rewritten.
    """
    path = run.folder / "config.json"
    try:
        data = read_file(path, RECORD_BYTES, is_text=True)
        digest = content_digest(decode_json(data))
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}", f"run `chmod u+rw {path}`") from error
    except (ValueError, RecursionError):
        digest = ""
    if digest == run.digest:
        return
    if digest[:8] == run.digest[:8]:
        raise UserError(str(path), "is of another configuration, whose digest begins alike", "run it with fresh")
    log.warning("%s %s and is rewritten", path, other_version(data, (FORMAT,)) or "is damaged")


def _predict(
    run: Run,
    engine: Engine,
    progress: RunProgress,
    on_event: Callable[[Event], None],
    pending: Sequence[Video],
    failed: list[Event],
) -> None:
    """Run videos; add those that fail to ``failed``."""
    seconds: dict[str, float] = {}
    stages: dict[str, StageUse] = {}
    is_told = False
    log.info("%s of %s videos are done already", len(run.videos) - len(pending), len(run.videos))
    _write_failures(run, failed)
    progress.expect(pending)
    began = time.perf_counter()
    try:
        for event in engine.run(pending, run.scratch) if pending else ():
            if event.kind == "done":
                log.info("video %s: %s tracks, %.3f s", event.video_id, event.tracks, event.seconds)
                seconds[str(event.video_id)] = round(event.seconds, 6)
                stages = merge_stage_usage([stages, event.stages])
                if event.weights is not None and not is_told:
                    is_told = True
                    weights = Weights(WeightsRecord.of(event.weights))
                    write_json(run.folder / "weights.json", msgspec.to_builtins(weights))
            elif event.kind == "failed":
                failed.append(event)
                log.error("video %s failed: %s\n%s", event.video_id, event.error, event.details)
                failed.sort(key=lambda event: event.video_id)
                _write_failures(run, failed)
            on_event(event)
    finally:
        # a full disk is already reported by then, with the file that matters
        with suppress(UserError):
            _write_timings(run, seconds, stages, time.perf_counter() - began)
    if not failed:
        _remove_scratch(run)
    engine.close()  # scoring needs no workers, and may need their memory
    discard_unfinished(run.store.folder)  # of workers that were killed


def _remove_scratch(run: Run) -> None:
    try:
        remove_tree(run.scratch)
    except OSError as error:
        hint = f"run `chmod -R u+rwX {run.scratch}`"
        raise UserError(str(run.scratch), f"cannot be removed: {error.strerror}", hint) from error


def _write_failures(run: Run, failed: Sequence[Event]) -> None:
    """Write ``failures.json``: tracebacks up to `MOST_TRACEBACKS` characters together; later videos are without."""
    found, room = [], MOST_TRACEBACKS
    for event in failed:
        details = event.details if len(event.details) <= room else ""
        room -= len(details)
        found.append(Failure(event.video_id, event.error, event.bad_input, event.attempts, details))
    write_json(run.folder / "failures.json", msgspec.to_builtins(Failures(found)))


def _write_timings(run: Run, seconds: dict[str, float], stages: Mapping[str, StageUse], wall: float) -> None:
    """Add the times of this session to those of earlier ones: seconds by video id, and one entry in ``sessions``.

    ``stages`` are ``[seconds, bytes]`` by name; see `StageUse`.
    """
    path = run.folder / "timings.json"
    before = Times()
    with suppress(OSError, UnreadableFileError, msgspec.MsgspecError):  # absent or damaged: times are optional
        before = decode_json(read_file(path, RECORD_BYTES, is_text=True), Times)
    sessions = [*before.sessions, {"videos": len(seconds), "seconds": round(wall, 6)}]
    used = {
        n: StageUse(round(use.seconds, 6), use.memory_bytes)
        for n, use in merge_stage_usage([before.stages, stages]).items()
    }
    write_json(path, msgspec.to_builtins(Times(before.videos | seconds, sessions, used)))


def _loaded_weights(run: Run) -> WeightsRecord | None:
    """How the weights were loaded that the predictions are from, maybe in an earlier session; ``None`` if unknown."""
    with suppress(UserError):
        return FinishedRun(run.folder).loaded_weights
    return None


def _scored_before(run: Run) -> list[dict[str, Any]]:
    """The scores of other protocols for the same predictions of the same videos, which are kept."""
    try:
        before = FinishedRun.open(run.folder)
        same = before.record["limit"] == run.limit and before.done == {v.id for v in run.videos}
    except UserError:
        return []
    if not same or before.record["videos"]["done"] != len(run.videos):
        return []
    return [one for one in before.record["protocols"] if one["protocol"]["name"] not in run.scored_by]


def _conclude(
    run: Run, failed: list[Event], finish: Finish, kept: Sequence[dict[str, Any]], renewed: int = 0
) -> RunOutcome:
    """Score, write and log the results, and return the outcome with messages for the user.

    Raises `DamagedShardError`, before anything is written, if a shard is damaged or missing.
    """
    done = run.store.done() & {v.id for v in run.videos}
    lost = len(run.videos) - len(done.union(event.video_id for event in failed))
    if lost or not (run.folder / "config.json").exists():
        what = f"files are missing, among them the predictions of {lost} videos"
        raise DamagedShardError(str(run.folder), what, "repeat the command to compute them again")
    complete = len(done) == len(run.videos)
    videos = {
        "total": len(run.videos),
        "done": len(done),
        "failed": [{"video_id": e.video_id, "error": e.error} for e in failed],
    }
    judged = comparability(run.dataset.differences, parts_missing(len(done), len(run.videos), _cut(run)))
    head: dict[str, Any] = {"format": FORMAT, **judged.record()}
    head |= {**_names(run), "folder": str(run.folder), "complete": complete, "limit": run.limit}
    head |= {key: run.content[key] for key in ("config", "precision", "seed")}
    weights = None if run.checkpoint is None else run.checkpoint.name
    head |= {"name": run.title, "weights": weights, **_variant(run)}
    head["loaded_weights"] = msgspec.to_builtins(_loaded_weights(run))
    whole = complete and run.limit is None
    finish.compiled()
    scored = score_predictions(
        run.dataset, run.scored_by, run.store, done, whole, finish.strict, run.scoring, finish.scores
    )
    relative = _relative_scores(run)
    for one in scored if relative else ():
        one.values["warnings"] = [*one.values["warnings"], {"kind": relative, "count": 1, "first": run.name}]
    protocols = [*(one.values for one in scored), *kept]
    record = {**head, **scored[0].values, "videos": videos, "protocols": protocols}
    refusals = [one.refusal for one in scored if one.refusal]
    notes = [_renewed(renewed, len(run.videos)), _incomplete(videos), *(one.refusal or one.note for one in scored)]
    messages = [*notes, f"{run.name}: {relative}" if relative else "", _submission(run, complete)]
    messages.append(_not_comparable(run.dataset))
    write_results(run.folder, record, scored, finish.table)
    finish.tracker.log_result(run.folder, record, scored[0].per_category)
    exit_code = 0
    if not complete:
        exit_code = EXIT_BAD_INPUT if any(e.bad_input for e in failed) else EXIT_FAILED
    elif refusals:
        exit_code = EXIT_BAD_INPUT
    log.info("%s", _incomplete(videos) or "complete")
    return RunOutcome(record, exit_code, tuple(f"{run.folder}: {text}" for text in messages if text))


def _variant(run: Run) -> dict[str, str | None]:
    """Backbone and training data of a run's weights, as far as they are known; no reason to lose a run.

    The model's card knows files by their SHA-256. Of others the plugin may tell the backbone by the sizes of the
    tensors, and `harness train` writes the training data into the file; sizes say nothing of those.
    """
    unknown: dict[str, str | None] = {"backbone": None, "trained_on": None}
    if run.weights is None:
        return unknown
    with suppress(UserError), convert_plugin_errors(run.name, "its card cannot be read"):
        card = getattr(run.plugin, "card", {})
        variants = card.get("variants") or ()
        known = [*variants, card.get("shipped_miniature") or {}]
        found = next((one for one in known if one.get("sha256") == run.content["checkpoint"]), None)
        if found is not None:
            return unknown | _in_tables(found)
        trained_on = trained_on_in(run.weights)
        number = None
        if any("in_tables" in one for one in variants) and hasattr(run.plugin, "released_variant"):
            number = run.plugin.released_variant(run.weights)
        backbone = None if number is None else _in_tables(variants[number])["backbone"]
        return {"backbone": backbone, "trained_on": trained_on}
    return unknown


def _in_tables(variant: Mapping[str, Any]) -> dict[str, str | None]:
    """What tables call a variant's backbone and training data: ``in_tables``, else the card's own words."""
    names = variant.get("in_tables") or [variant.get("backbone"), variant.get("trained_on")]
    return {
        key: None if name is None else str(name) for key, name in zip(("backbone", "trained_on"), names, strict=True)
    }


def _relative_scores(run: Run) -> str:
    """A warning if the model's scores are relative to the other words of the vocabulary; empty if they are not."""
    scores_are_relative = getattr(run.plugin, "scores_are_relative", None)
    if run.dataset.annotations.pairs is None or scores_are_relative is None:
        return ""
    with convert_plugin_errors(run.name, "its scores_are_relative fails"):
        is_relative = bool(scores_are_relative(run.config))
    return RELATIVE_SCORES if is_relative else ""


def _renewed(videos: int, total: int) -> str:
    return f"the predictions of {videos} of {total} videos were damaged or lost: computed again" if videos else ""


def _cut(run: Run) -> int | None:
    """The limit of a run if it leaves videos out, else ``None``."""
    return run.limit if len(run.videos) < len(run.dataset.videos) else None


def _not_comparable(dataset: Dataset) -> str:
    """How the data differs from that of published numbers, since the run's messages come without a table."""
    found = "; ".join(dataset.differences or ())
    return f"not comparable with published numbers: {found}" if found else ""


def _incomplete(videos: Mapping[str, Any]) -> str:
    """A text on the missing videos, with the first reason; empty for a complete run."""
    total, done, failed = videos["total"], videos["done"], videos["failed"]
    if done == total:
        return ""
    numbers = f"the numbers are over the other {done} only" if done else "there are no numbers"
    first = f"; first: video {failed[0]['video_id']}: {failed[0]['error']}" if failed else ""
    hint = "repeat the command to try them again"
    return f"incomplete: {total - done} of {total} videos failed, {numbers}{first}; {hint}"


def _check_shards(run: Run) -> None:
    """Raise `DamagedShardError` if a shard is damaged."""
    for video in run.store.done():
        run.store.read_table(video)


def _submission(run: Run, complete: bool) -> str:
    """For a split without truth: write the file for its server, and return a text on where to submit it."""
    path = run.folder / SUBMISSION
    if run.dataset.truth is not None:
        return ""
    path.unlink(missing_ok=True)
    head, server = f"{no_truth_reason(run.dataset)}, so there are no numbers", run.dataset.server
    if not complete or run.limit is not None:
        _check_shards(run)  # as scoring does
        return f"{head}; run all videos to get the file to submit{f' to {server}' if server else ''}"
    write_submission(run.folder, path)
    return f"{head}; submit {path} to {server}" if server else f"{head}; the predictions are in {path}"
