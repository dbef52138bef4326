"""Run: a model over a dataset. The one place that orders the steps: load, predict, store, score, write, track."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from pydantic import BaseModel

from harness.atomic_write import discard_unfinished, write_atomically, write_json
from harness.comparability import comparability, parts_missing
from harness.engines.local import InProcess
from harness.engines.model_spec import Engine, EngineMaker, ModelSpec
from harness.engines.threads import configured_threads
from harness.errors import EXIT_BAD_INPUT, EXIT_FAILED, UserError
from harness.events import Event, StageUse, merge_stage_usage
from harness.export import write_submission
from harness.paths import Location, cache_folder
from harness.plugin_code import convert_plugin_errors
from harness.run_folder.checksums import remove_sums
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.identity import code_of, commit_of, variables
from harness.run_folder.layout import SUBMISSION, content_digest, remove_content, remove_tree
from harness.run_folder.lock import locked
from harness.run_folder.log import held_log, logged_to
from harness.run_folder.progress import RunProgress, write_progress
from harness.run_folder.provenance import environment, weights_digest
from harness.run_folder.results import TableMaker, no_truth, refuse_unscorable, score_predictions, write_results
from harness.run_folder.resume import refuse_other_frames
from harness.run_folder.schemas import FORMAT, Failure, Failures, Times, VideoIds
from harness.run_folder.store import DamagedShardError, PredictionStore
from harness.scoring.dispatch import DEFAULTS, Settings
from harness.standard_output import printed_to_log
from harness.types import Dataset, LoadContext, ModelPlugin, Video
from harness.versions import other_version

log = logging.getLogger(__name__)

RELATIVE_SCORES = (
    "scores are a softmax over the words asked, which is 1 for a phrase asked alone: they do not tell whether it is"
    " there, so that IL_MCC and cgF1 rest on the model's other factors"
)

SCRATCH = "scratch"
"""Folder where a model may keep what must outlive a killed process; see `BatchModel`."""


class Tracker(Protocol):
    """Where runs are logged besides their folders; see `harness.tracking.mlflow`."""

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
    """What is run on what; its folder follows from the content of that, so the same content finds the same folder.

    ``limit`` takes the first videos by id only; a folder that is complete for more of them stays so. ``device`` is no
    part of the content: it says where, not what. With ``verify_frames`` all content of the frames is noted with the
    predictions, and compared when the run resumes. ``protocols`` score them with the settings ``scoring``; none: the
    dataset's own. ``experiment`` is the text of the experiment file that asked for the run, kept in its folder.
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

    @cached_property
    def content(self) -> dict[str, Any]:
        """What ``config.json`` holds, the run's identity: all that its predictions depend on but the frames.

        It is free of place: the same inputs elsewhere are the same run. Frames are compared video by video. Protocols
        and the limit are no part of it: further protocols score the same predictions, and a larger limit goes on.
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
        """What the plugin says that its tracks depend on besides."""
        with convert_plugin_errors(self.name, "its depends_on fails"):
            told = getattr(self.plugin, "depends_on", None)
            found = dict(told(self.config, self.weights)) if told is not None else {}
        try:
            json.dumps(found, allow_nan=False)
        except (TypeError, ValueError) as error:
            what = f"depends_on gives what is no JSON ({error})"
            raise UserError(self.name, what, "let it give texts and numbers") from error
        return found

    @property
    def name(self) -> str:
        """What messages call its model."""
        return f"model {self.plugin.name}"

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return content_digest(self.content)

    @cached_property
    def folder(self) -> Location:
        """Where everything of the run lies."""
        names = (self.plugin.name, self.dataset.name, self.dataset.split, self.digest[:8])
        return self.runs_dir / "-".join(re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII) for name in names)

    @property
    def scratch(self) -> Path:
        """Where its model may keep files of its own while it works: on this machine, whatever the run folder is."""
        if isinstance(self.folder, Path):
            return self.folder / SCRATCH
        return cache_folder(SCRATCH) / re.sub(r"[^\w.+-]", "_", str(self.folder))

    @cached_property
    def weights(self) -> Path | None:
        """The checkpoint that was named; else the one that the model ships for this dataset, if it does."""
        with convert_plugin_errors(self.name, "its shipped_weights fails"):
            shipped = getattr(self.plugin, "shipped_weights", None)
            path = self.checkpoint or (shipped(self.dataset.name) if shipped is not None else None)
            return None if path is None else Path(path)

    @property
    def spec(self) -> ModelSpec:
        """How its model is loaded."""
        context = LoadContext(self.dataset, self.device, self.precision, self.weights, self.seed)
        return ModelSpec(self.plugin, self.config, context, configured_threads(), self.verify_frames)

    @property
    def store(self) -> PredictionStore:
        return PredictionStore(self.folder / "predictions")

    @property
    def scored_by(self) -> tuple[str, ...]:
        """The protocols that score it; the first gives the numbers that stand for the run."""
        return self.protocols or (self.dataset.protocol,)

    @property
    def videos(self) -> tuple[Video, ...]:
        """The videos to run, by ascending id."""
        return tuple(sorted(self.dataset.videos, key=lambda v: v.id)[: self.limit])

    def with_videos_of_folder(self) -> Run:
        """The same run over all videos that its folder is complete for, where those are more than ``limit``."""
        try:
            before = FinishedRun.open(self.folder).record
        except UserError:
            return self
        done = self.limit if self.limit is None or not before["complete"] else before["limit"]
        return self if done == self.limit or (done or math.inf) < (self.limit or 0) else replace(self, limit=done)


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: its record (``metrics.json``), the exit code it deserves, and what to tell the user."""

    record: dict[str, Any]
    exit_code: int
    messages: tuple[str, ...]


class Finish(NamedTuple):
    """What is done with the predictions of a run: where its numbers go, and how its table is made."""

    tracker: Tracker
    strict: bool
    table: TableMaker | None


def execute(
    run: Run,
    tracker: Tracker | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    fresh: bool = False,
    strict: bool = False,
    engine: EngineMaker = InProcess,
    table: TableMaker | None = None,
) -> RunOutcome:
    """Run what is not done yet, score all of it, and write the run folder.

    ``fresh`` removes what the folder has before; ``strict`` makes warnings of scoring errors; ``engine`` says who runs
    the model; ``table`` makes the text of ``table.md``, which is not written without it. Shards that are damaged are
    computed again. Meanwhile standard output goes to the run's log, so that prints of a plugin and of libraries do not
    come between what the caller prints there.

    Raises `UserError` for annotations that the protocol cannot score, before anything is run, for frames that are not
    those of the predictions that are there, a model that does not load, a folder that another process runs, and a full
    disk.
    """
    tracker, progress = tracker or NullTracker(), RunProgress()
    if not fresh:
        run = _with_all_done(run)
    refuse_unscorable(run.dataset, run.scored_by, run.videos if run.limit is not None else None)
    with printed_to_log() as log_printed, closing(engine(run.spec, run.store, progress)) as made:
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
            else:  # another process may have added some while the model was loaded
                _refuse_other_frames(run, compared)
            discard_unfinished(run.folder)
            discard_unfinished(run.store.folder)
            with logged_to(run.folder / "run.log", of_loading):
                log.info("run %s, content %s, process %s", run.folder.name, run.digest, os.getpid())
                _write_configuration(run)
                tracker.start({**_names(run), "folder": str(run.folder)})
                warnings: list[str] = []
                try:
                    with write_progress(progress, run.folder):
                        outcome = _predict_and_conclude(run, made, progress, notice, Finish(tracker, strict, table))
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
    """Run what is not done yet, and score. What is damaged or has vanished by then is made anew, once."""
    failed: list[Event] = []
    pending = _pending(run)
    _predict(run, engine, progress, on_event, pending, failed)
    try:
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
    """Compare the frames of the videos that are done, ``besides`` some; return the ids of all that are compared."""
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
    """Refuse a folder of other content whose digest begins like the run's.

    Content whose digest is not the one in the folder's name is no content of any run: it is damaged.
    """
    path = run.folder / "config.json"
    try:
        data = path.read_bytes()
        digest = content_digest(json.loads(data))
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}", "run `chmod u+rw` on it") from error
    except (ValueError, RecursionError):
        digest = ""
    if digest == run.digest:
        return
    if digest[:8] == run.digest[:8]:
        raise UserError(str(path), "is of another configuration, whose digest begins alike", "run with --fresh")
    log.warning("%s %s and is written anew", path, other_version(data, (FORMAT,)) or "is damaged")


def _predict(
    run: Run,
    engine: Engine,
    progress: RunProgress,
    on_event: Callable[[Event], None],
    pending: Sequence[Video],
    failed: list[Event],
) -> None:
    """Run videos; those that fail are added to ``failed``."""
    seconds: dict[str, float] = {}
    stages: dict[str, StageUse] = {}
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
            elif event.kind == "failed":
                failed.append(event)
                log.error("video %s failed: %s\n%s", event.video_id, event.error, event.details)
                failed.sort(key=lambda event: event.video_id)
                _write_failures(run, failed)
            on_event(event)
    finally:
        # a full disk has been reported by then; it must not be reported as the timings' fault
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
        raise UserError(str(run.scratch), f"cannot be removed: {error.strerror}", "run `chmod u+rw` on it") from error


def _write_failures(run: Run, failed: Sequence[Event]) -> None:
    found = [Failure(e.video_id, e.error, e.bad_input, e.attempts, e.details) for e in failed]
    write_json(run.folder / "failures.json", msgspec.to_builtins(Failures(found)))


def _write_timings(run: Run, seconds: dict[str, float], stages: Mapping[str, StageUse], wall: float) -> None:
    """Add this session's times to those of earlier ones: ``videos`` in seconds by id, ``sessions`` one each.

    ``stages`` are ``[seconds, bytes]`` by name; see `StageUse`.
    """
    path = run.folder / "timings.json"
    before = Times()
    with suppress(OSError, msgspec.MsgspecError):  # absent or damaged: times are nice to have
        before = msgspec.json.decode(path.read_bytes(), type=Times)
    sessions = [*before.sessions, {"videos": len(seconds), "seconds": round(wall, 6)}]
    used = {
        n: StageUse(round(use.seconds, 6), use.memory_bytes)
        for n, use in merge_stage_usage([before.stages, stages]).items()
    }
    write_json(path, msgspec.to_builtins(Times(before.videos | seconds, sessions, used)))


def _scored_before(run: Run) -> list[dict[str, Any]]:
    """What other protocols gave for the same predictions of the same videos, which stays."""
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
    """Score, write the results, log them, and say what the user should know.

    Raises `DamagedShardError`, before anything is written, where a shard is damaged or has vanished.
    """
    done = run.store.done() & {v.id for v in run.videos}
    lost = len(run.videos) - len(done.union(event.video_id for event in failed))
    if lost or not (run.folder / "config.json").exists():
        what = f"files have vanished, among them the predictions of {lost} videos"
        raise DamagedShardError(str(run.folder), what, "repeat the command to compute them anew")
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
    whole = complete and run.limit is None
    scored = score_predictions(run.dataset, run.scored_by, run.store, done, whole, finish.strict, run.scoring)
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


def _relative_scores(run: Run) -> str:
    """What the scores of a model lack that was asked for each phrase by itself; empty if nothing."""
    told = getattr(run.plugin, "scores_are_relative", None)
    if run.dataset.annotations.pairs is None or told is None:
        return ""
    with convert_plugin_errors(run.name, "its scores_are_relative fails"):
        is_relative = bool(told(run.config))
    return RELATIVE_SCORES if is_relative else ""


def _renewed(videos: int, total: int) -> str:
    return f"the predictions of {videos} of {total} videos were damaged or lost: computed again" if videos else ""


def _cut(run: Run) -> int | None:
    """The limit of a run, where it leaves videos out."""
    return run.limit if len(run.videos) < len(run.dataset.videos) else None


def _not_comparable(dataset: Dataset) -> str:
    """How the data differs from what published numbers are on: no table may be at hand to say it."""
    found = "; ".join(dataset.differences or ())
    return f"not comparable with published numbers: {found}" if found else ""


def _incomplete(videos: Mapping[str, Any]) -> str:
    """What is missing, with the first reason; empty for a complete run."""
    total, done, failed = videos["total"], videos["done"], videos["failed"]
    if done == total:
        return ""
    numbers = f"the numbers are over the other {done} only" if done else "there are no numbers"
    first = f"; first: video {failed[0]['video_id']}: {failed[0]['error']}" if failed else ""
    hint = "repeat the command to try them again"
    return f"incomplete: {total - done} of {total} videos failed, {numbers}{first}; {hint}"


def _submission(run: Run, complete: bool) -> str:
    """For a split without truth: write the file that its server takes, and say where to submit it."""
    path = run.folder / SUBMISSION
    if run.dataset.truth is not None:
        return ""
    path.unlink(missing_ok=True)
    head, server = f"{no_truth(run.dataset)}, so there are no numbers", run.dataset.server
    if not complete or run.limit is not None:
        for video in run.store.done():
            run.store.read_table(video)  # nothing else looks whether it is damaged
        return f"{head}; run all videos to get the file to submit{f' to {server}' if server else ''}"
    write_submission(run.folder, path)
    return f"{head}; submit {path} to {server}" if server else f"{head}; the predictions are in {path}"
