"""The local engine: one process, one video after the other; each is stored before the next one begins."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.engines.first_faults import FirstFaults, fault_of
from harness.engines.model_spec import ModelSpec
from harness.engines.seeding import seed_everything
from harness.engines.stages import time_stages
from harness.engines.threads import set_torch_threads, torch_threads
from harness.errors import UserError
from harness.events import ATTEMPTS, Event
from harness.frame_digests import digests_of
from harness.plugin_code import convert_plugin_errors, describe_error, describe_place, isolate_plugin
from harness.run_folder.progress import RunProgress
from harness.run_folder.store import PredictionStore, tabulate
from harness.types import BatchModel, LoadedWeights, Model, Video

log = logging.getLogger(__name__)

NO_LIMIT = "videos have no time limit, because the model runs in the command's own process, which it cannot end"


class InProcess:
    """The engine that runs in the calling process; see `harness.engines.model_spec.Engine`.

    ``model`` is the model of ``spec`` if it is already loaded.
    """

    def __init__(
        self, spec: ModelSpec, store: PredictionStore, progress: RunProgress, model: Model | None = None
    ) -> None:
        self._spec, self._store, self._progress = spec, store, progress
        self._model = model
        self._threads_before: int | None = None

    def load(self) -> None:
        """Load the model in this process, once."""
        if self._model is None:
            self._progress.worker(0, "loading", self._spec.context.device)
            log.info(NO_LIMIT)
            self._threads_before = torch_threads()
            self._model = self._spec.load()

    def run(self, videos: Sequence[Video], scratch: Path) -> Iterator[Event]:
        """Run the videos in order; a second attempt follows the first immediately.

        An error that the user has to fix is not retried, and ends the run if the first videos all have it; a
        `BatchModel` retries the video alone even then.
        """
        self.load()
        assert self._model is not None
        is_batch, faults = isinstance(self._model, BatchModel), FirstFaults(self._spec.name, videos, self._store)
        with convert_plugin_errors(self._spec.name, "its prepare fails"):
            if isinstance(self._model, BatchModel):
                self._model.prepare(videos, scratch)
        for video in videos:
            for attempt in range(1, ATTEMPTS + 1):
                self._progress.began(0, video)
                event = replace(attempt_video(self._spec, self._model, video, self._store), attempts=attempt)
                if event.kind == "failed" and attempt < ATTEMPTS and (is_batch or not event.bad_input):
                    log.info("video %s failed and is tried once more: %s", video.id, event.error)
                    event = replace(event, kind="retried")
                self._progress.ended(0, event)
                yield event
                if event.kind != "retried":
                    break
            if not is_batch:  # a BatchModel decides by itself when to give up
                faults.refuse_if_all_alike(event)

    def close(self) -> None:
        """Restore PyTorch's number of threads, if PyTorch was in use before."""
        if self._threads_before is not None:
            set_torch_threads(self._threads_before)


def weights_of(model: Model) -> LoadedWeights | None:
    """How the weights of a model were loaded, ``None`` if it does not report it, see `harness.types.Model`."""
    told = getattr(model, "loaded_weights", None)
    return told if isinstance(told, LoadedWeights) else None


def attempt_video(spec: ModelSpec, model: Model, video: Video, store: PredictionStore) -> Event:
    """Run the model of a spec over one video and store its tracks; the event is ``done`` or ``failed``.

    The digests of the frames are stored with the tracks. They are computed before the model reads the frames; with
    ``whole_frames`` they cover all content. Raises `UserError` if the store cannot be written.
    """
    vocabulary, context = spec.context.dataset.vocabulary, spec.context
    began, frames = time.perf_counter(), len(video.frames)
    try:
        digests = digests_of(video.frames, spec.whole_frames)
        seed_everything(context.seed, video.id)
        with isolate_plugin(spec.name), time_stages(model) as stages:
            tracks = [
                track for words in context.dataset.vocabularies(video.id) for track in model.predict(video, words)
            ]
            table = tabulate(video, tracks, vocabulary)
    # A model may raise any exception: it is recorded and reported, and the run continues.
    except Exception as error:
        line, details, is_fault = describe_error(error), describe_place(), isinstance(error, UserError)
        seconds = time.perf_counter() - began
        return Event(
            "failed", video.id, seconds, frames, 0, line, details, is_fault, fault_of(error),
            out_of_memory=isinstance(error, MemoryError),
        )  # fmt: skip
    store.write_table(video, table, digests)
    seconds = time.perf_counter() - began
    return Event("done", video.id, seconds, frames, len(table), stages=stages, weights=weights_of(model))
