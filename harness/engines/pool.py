"""A pool of workers over the videos of a run: who gets which video, and what happens when a worker is lost.

The rules are the same for processes of this machine and for a cluster: they are here. A `WorkerBackend` does the rest.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from harness.engines.first_faults import FirstFaults
from harness.engines.local import InProcess
from harness.engines.model_spec import ModelSpec
from harness.errors import UserError
from harness.events import ATTEMPTS, Event
from harness.run_folder.progress import Doing, RunProgress, expected_cost
from harness.run_folder.store import PredictionStore
from harness.types import Video

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker has loaded the model. ``alone``: the model works on several videos itself (`BatchModel`)."""

    host: str
    pid: int
    alone: bool = False


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A worker cannot load the model."""

    error: UserError


@dataclass(frozen=True, slots=True)
class WriteFailed:
    """A worker cannot write to the store."""

    error: UserError


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker's process has ended without having been told to; ``reason`` goes on after the worker's name."""

    reason: str
    details: str = ""


Message = WorkerReady | LoadFailed | Event | WriteFailed | WorkerDied


class WorkerBackend(Protocol):
    """Workers that have numbers from 0 on: each loads the model and then runs one video after the other."""

    @property
    def devices(self) -> Sequence[str]:
        """One per worker, in words; known once it is open."""
        ...

    def open(self) -> None:
        """Called once, before anything else; raises `UserError` where there can be no workers."""
        ...

    def start(self, worker: int) -> None:
        """Start a worker, or the one that follows a lost one."""
        ...

    def give(self, worker: int, video: Video) -> None:
        """Let a worker that is ready run a video."""
        ...

    def messages(self) -> Iterable[tuple[int, Message]]:
        """Wait until a worker says something, or is lost, and return that with its number.

        Its event for a video is ``done`` once the shard is stored, else ``failed``.
        """
        ...

    def close(self) -> None:
        """End all workers, whatever they do."""
        ...


class Queue:
    """Videos by expected cost, the largest first, so that no large one is left for the end; failed ones come last."""

    def __init__(self, videos: Iterable[Video]) -> None:
        self._waiting = deque(sorted(videos, key=lambda v: (-expected_cost(v), v.id)))
        self._given: dict[int, Video] = {}
        self._failures = Counter[int]()

    def __bool__(self) -> bool:
        """Whether a video waits or is being run."""
        return bool(self._waiting or self._given)

    def take(self) -> Video | None:
        """The next video, unless none waits."""
        if not self._waiting:
            return None
        video = self._waiting.popleft()
        self._given[video.id] = video
        return video

    def done(self, video_id: int) -> None:
        """A video that was taken is done."""
        del self._given[video_id]

    def attempts(self, video_id: int) -> int:
        """How often a video that was taken has been tried."""
        return self._failures[video_id] + 1

    def failed(self, video_id: int, bad_input: bool = False) -> bool:
        """A video that was taken has failed; whether it will be tried once more, which is of no use for bad input."""
        video = self._given.pop(video_id)
        self._failures[video_id] += 1
        if bad_input or self._failures[video_id] >= ATTEMPTS:
            return False
        self._waiting.append(video)
        return True


class Pool:
    """The engine that runs a backend; see `harness.engines.model_spec.Engine`.

    The video of a lost worker is run once more, by another process; a video that fails or loses its worker twice, or
    fails for something that the user has to fix, is given up. A worker that is lost twice in a row without a video is
    not replaced; without any worker the run ends with `UserError`. A model that works on several videos itself is run
    in the calling process, without the backend.
    """

    def __init__(self, spec: ModelSpec, store: PredictionStore, progress: RunProgress, backend: WorkerBackend) -> None:
        self._spec, self._store, self._progress, self._backend = spec, store, progress, backend
        self._doing: dict[int, Doing] = {}
        self._work: dict[int, tuple[Video, float]] = {}  # by worker: its video, and when it began
        self._false_starts = Counter[int]()
        self._refusal: UserError | None = None
        self._alone = False
        self._in_process: InProcess | None = None

    def load(self) -> None:
        """Start the workers and wait until the first one is ready, or none can be."""
        if self._doing or self._in_process is not None:
            return
        self._backend.open()
        for worker in range(len(self._backend.devices)):
            self._start(worker)
        while "idle" not in self._doing.values():
            for worker, message in self._backend.messages():
                self._handle_message(worker, message)
            self._refuse_if_all_are_lost()
        if self._alone:
            self._run_in_process()

    def run(self, videos: Sequence[Video], scratch: Path) -> Iterator[Event]:
        """Keep every worker at a video until all have ended."""
        self.load()
        if self._in_process is not None:
            yield from self._in_process.run(videos, scratch)
            return
        queue, faults = Queue(videos), FirstFaults(self._spec.name, videos, self._store)
        while queue:
            self._hand_out(queue)
            for worker, message in self._backend.messages():
                event = self._handle_message(worker, message)
                if event is not None:
                    event = self._finish(worker, event, queue)
                    yield event
                    faults.refuse_if_all_alike(event)
            self._refuse_if_all_are_lost()

    def close(self) -> None:
        """End all workers."""
        if self._in_process is not None:
            self._in_process.close()
        self._doing.clear()
        self._backend.close()

    def _hand_out(self, queue: Queue) -> None:
        for worker in [w for w, doing in self._doing.items() if doing == "idle"]:
            video = queue.take()
            if video is None:
                return
            self._doing[worker], self._work[worker] = "working", (video, time.perf_counter())
            self._progress.began(worker, video)
            self._backend.give(worker, video)

    def _handle_message(self, worker: int, message: Message) -> Event | None:
        """Take note of a message; return what became of the worker's video, if it says so."""
        if isinstance(message, WorkerReady):
            self._set(worker, "idle", message)
            log.info("worker %s is ready on %s, process %s of %s", worker, self._backend.devices[worker], message.pid,
                     message.host)  # fmt: skip
            self._alone = message.alone
        elif isinstance(message, LoadFailed):
            self._give_up(worker, message.error)
        elif isinstance(message, WriteFailed):
            raise message.error
        elif isinstance(message, WorkerDied):
            return self._replace(worker, message)
        else:
            self._doing[worker] = "idle"
            self._false_starts[worker] = 0
            return message
        return None

    def _replace(self, worker: int, lost: WorkerDied) -> Event | None:
        """Start another process in place of a lost one; return what became of the video that it worked on."""
        log.warning("worker %s on %s %s", worker, self._backend.devices[worker], lost.reason)
        video, began = self._work.get(worker, (None, 0.0))
        if video is None:
            self._false_starts[worker] += 1
            if self._false_starts[worker] >= ATTEMPTS:
                what = f"{lost.reason}, for the second time without a video"
                hint = "look for the reason in the system's log; is there enough memory for that many --workers?"
                self._give_up(worker, UserError(f"worker {worker} on {self._backend.devices[worker]}", what, hint))
                return None
        self._set(worker, "lost")
        if video is None:
            self._start(worker)
            return None
        event = self._result_of_lost_worker(video, time.perf_counter() - began, worker, lost)
        self._start(worker)
        return event

    def _result_of_lost_worker(self, video: Video, seconds: float, worker: int, lost: WorkerDied) -> Event:
        """What became of a lost worker's video: it may have been stored before."""
        frames, reason = len(video.frames), f"worker {worker} {lost.reason}"
        if self._store.path(video.id).exists():
            return Event("done", video.id, seconds, frames, self._store.read_table(video.id).num_rows)
        return Event("failed", video.id, seconds, frames, 0, reason, lost.details or reason)

    def _finish(self, worker: int, event: Event, queue: Queue) -> Event:
        """Take a video that has ended from the queue, or put it back."""
        self._work.pop(worker, None)
        event = replace(event, attempts=queue.attempts(event.video_id))
        if event.kind == "done":
            queue.done(event.video_id)
        elif queue.failed(event.video_id, event.bad_input):
            log.info("video %s failed and is tried once more: %s", event.video_id, event.error)
            event = replace(event, kind="retried")
        self._progress.ended(worker, event)
        return event

    def _start(self, worker: int) -> None:
        self._set(worker, "loading")
        self._backend.start(worker)

    def _set(self, worker: int, doing: Doing, place: WorkerReady | None = None) -> None:
        self._doing[worker] = doing
        host, pid = (place.host, place.pid) if place is not None else ("", 0)
        self._progress.worker(worker, doing, self._backend.devices[worker], host, pid)

    def _give_up(self, worker: int, error: UserError) -> None:
        log.warning("worker %s is given up: %s", worker, error)
        self._refusal = error
        self._set(worker, "lost")

    def _refuse_if_all_are_lost(self) -> None:
        if self._refusal is not None and set(self._doing.values()) == {"lost"}:
            raise self._refusal

    def _run_in_process(self) -> None:
        log.warning("%s works on several videos itself: one worker", self._spec.plugin.name)
        self.close()
        first = self._backend.devices[0]
        self._in_process = InProcess(self._spec.on(first), self._store, self._progress)
        self._in_process.load()
