"""The local engine: one process, one video after the other; each is stored before the next one begins."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

from harness.engines.devices import choose_gpu, put_gpu_back
from harness.engines.first_faults import FirstFaults, fault_of
from harness.engines.model_spec import ModelSpec
from harness.engines.seeding import seed_everything
from harness.engines.stages import StageClock, clock_of, time_video
from harness.engines.threads import set_torch_threads, torch_threads
from harness.errors import UserError
from harness.events import ATTEMPTS, Event
from harness.frame_digests import FrameDigests, digests_of
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
        self._gpu_before: int | None = None

    def load(self) -> None:
        """Load the model in this process, once."""
        if self._model is None:
            self._progress.worker(0, "loading", self._spec.context.device)
            log.info(NO_LIMIT)
            self._threads_before = torch_threads()
            self._gpu_before = choose_gpu(self._spec.context.device)
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
        with closing(VideoRunner(self._spec, self._model)) as runner:
            for video, then in zip_longest(videos, videos[1:]):
                for attempt in range(1, ATTEMPTS + 1):
                    self._progress.began(0, video)
                    event = replace(runner.attempt(video, self._store, then), attempts=attempt)
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
        """Restore PyTorch's number of threads, if PyTorch was in use before, and its current GPU."""
        if self._threads_before is not None:
            set_torch_threads(self._threads_before)
        put_gpu_back(self._gpu_before)


def weights_of(model: Model) -> LoadedWeights | None:
    """How the weights of a model were loaded, ``None`` if it does not report it, see `harness.types.Model`."""
    weights = getattr(model, "loaded_weights", None)
    return weights if isinstance(weights, LoadedWeights) else None


class VideoRunner:
    """Runs the model of a spec over videos, one at a time. Close it after the last one."""

    def __init__(self, spec: ModelSpec, model: Model) -> None:
        self._spec, self._model = spec, model
        self._expect: Callable[[Sequence[Video]], object] = getattr(model, "expect", _expect_nothing)
        self._digests: dict[int, FrameDigests] = {}  # of videos whose frames the model may have read already

    def attempt(self, video: Video, store: PredictionStore, then: Video | None = None) -> Event:
        """Run the model over a video and store its tracks; the event is ``done`` or ``failed``.

        The digests of the frames are stored with the tracks. They are computed before the model reads the frames; with
        ``whole_frames`` they cover all content. ``then`` is the video that probably follows: the model may decode
        frames of it and begin to process them in the meantime, and its errors count when its turn comes. Raises
        `UserError` if the store cannot be written.
        """
        spec, vocabulary, context = self._spec, self._spec.context.dataset.vocabulary, self._spec.context
        began, frames = time.perf_counter(), len(video.frames)
        try:
            digests = self._digests.get(video.id) or digests_of(video.frames, spec.whole_frames)
            self._tell_what_comes(video, then)
            seed_everything(context.seed, video.id)
            with isolate_plugin(spec.name), time_video(self._model, self._clock, wait=then is None) as stages:
                tracks = [
                    track
                    for words in context.dataset.vocabularies(video.id)
                    for track in self._model.predict(video, words)
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
        return Event("done", video.id, seconds, frames, len(table), stages=stages, weights=weights_of(self._model))

    @cached_property
    def _clock(self) -> StageClock | None:
        return clock_of(self._model)

    def close(self) -> None:
        """Have the model drop what it has made of a video that does not follow."""
        with self._isolated():
            self._expect(())

    def _tell_what_comes(self, video: Video, then: Video | None) -> None:
        """Call the model's ``expect``, if it has one."""
        before, self._digests = self._digests, {}
        if self._expect is _expect_nothing:
            return
        coming = [video]
        with self._isolated():
            if then is not None:
                self._digests[then.id] = before.get(then.id) or digests_of(then.frames, self._spec.whole_frames)
                coming.append(then)
        with self._isolated():
            self._expect(coming)

    @contextmanager
    def _isolated(self) -> Iterator[None]:
        """Run code for videos that are not due yet: an error is no error of the present one."""
        try:
            with isolate_plugin(self._spec.name):
                yield
        except Exception as error:
            log.warning("%s cannot prepare the next video: %s", self._spec.name, describe_error(error))


def _expect_nothing(videos: Sequence[Video]) -> None:
    """For models that do not ask what comes next."""
