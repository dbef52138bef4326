"""A pool of workers over the videos of a run: which worker gets which video, and what happens when a worker dies.

These rules are the same for processes on this machine and for a cluster. A `WorkerBackend` does the rest.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

from harness.engines.first_faults import FirstFaults
from harness.engines.local import InProcess
from harness.engines.model_spec import ModelSpec
from harness.engines.video_timeout import VideoTimeout
from harness.errors import UserError, shortened
from harness.events import ATTEMPTS, Event
from harness.plugin_code import MOST_CHARACTERS, MOST_DETAILS
from harness.run_folder.progress import Doing, RunProgress, expected_cost
from harness.run_folder.store import PredictionStore
from harness.types import Video

log = logging.getLogger(__name__)

MOST_COSTLIER = 1.5
"""A video that a worker was promised, or that nobody was, is passed over for one that costs more than so many times as
much."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker has loaded the model. ``alone``: the model is a `BatchModel`, so it runs in one process."""

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
    """A worker's process has ended unexpectedly; ``reason`` is a predicate that follows the worker's name."""

    reason: str
    details: str = ""


Message = WorkerReady | LoadFailed | Event | WriteFailed | WorkerDied


class WorkerBackend(Protocol):
    """Workers with the numbers 0, 1, ...: each loads the model and then runs one video after the other."""

    @property
    def devices(self) -> Sequence[str]:
        """The device of each worker, as text; known after `open`."""
        ...

    def open(self) -> None:
        """Called once, before anything else; raises `UserError` if no workers can be started."""
        ...

    def start(self, worker: int) -> None:
        """Start a worker, or the replacement of one that died."""
        ...

    def give(self, worker: int, video: Video, then: Video | None = None) -> None:
        """Send a video to a worker that is ready; ``then`` is the one that it probably gets next."""
        ...

    def messages(self, seconds: float | None = None) -> Iterable[tuple[int, Message]]:
        """Wait for messages, at most ``seconds``; return each with the number of its worker.

        The event of a video is ``done`` once its shard is stored, else ``failed``.
        """
        ...

    def end(self, worker: int) -> None:
        """Stop a worker in the middle of its video; it sends no more messages."""
        ...

    def close(self) -> None:
        """Stop all workers, busy ones included."""
        ...


class Queue:
    """Videos by descending expected cost, so that no long one runs alone at the end; failed ones come last.

    A worker may be promised its next video. It gets that one, unless one that costs much more is waiting.
    """

    def __init__(self, videos: Iterable[Video]) -> None:
        self._waiting = _in_order(sorted(videos, key=lambda v: (-expected_cost(v), v.id)))
        self._promised = _in_order(())
        self._promises: dict[int, int] = {}  # by worker: id of a video in `_promised`, unless another worker took it
        self._given: dict[int, Video] = {}
        self._failures = Counter[int]()

    def __bool__(self) -> bool:
        """Whether a video is waiting or running."""
        return bool(self._waiting or self._promised or self._given)

    def take(self, worker: int = 0) -> Video | None:
        """Return the next video of a worker, or ``None`` if none is waiting."""
        number = self._promises.pop(worker, None)
        promised = None if number is None else self._promised.pop(number, None)
        if promised is not None:
            self._waiting[promised.id] = promised
            self._waiting.move_to_end(promised.id, last=False)
        candidates = [each for each in (promised, _first(self._waiting), _first(self._promised)) if each is not None]
        if not candidates:
            return None
        first = max(candidates, key=self._cost)
        if self._cost(first) <= MOST_COSTLIER * self._cost(candidates[0]):
            first = candidates[0]
        for videos in (self._waiting, self._promised):
            videos.pop(first.id, None)
        self._given[first.id] = first
        return first

    def promise(self, worker: int, others: int = 0) -> Video | None:
        """Choose the video that a worker probably gets next, ``None`` if none is left.

        ``others`` is the number of workers that have no video yet, and take the first ones. A model begins with that
        video before the worker's own one is done, so none that has failed is chosen: it could end this one, too.
        """
        video = next(islice(self._waiting.values(), others, None), None)
        if video is None or self._failures[video.id]:
            return None
        self._promised[video.id] = self._waiting.pop(video.id)
        self._promises[worker] = video.id
        return video

    def _cost(self, video: Video) -> float:
        return 0.0 if self._failures[video.id] else float(expected_cost(video))

    def done(self, video_id: int) -> None:
        """Record that a video that was taken is done."""
        del self._given[video_id]

    def attempts(self, video_id: int) -> int:
        """The number of attempts at a video that was taken, this one included."""
        return self._failures[video_id] + 1

    def failed(self, video_id: int, bad_input: bool = False) -> bool:
        """Record that a video that was taken has failed; return whether it is tried again: never for bad input."""
        video = self._given.pop(video_id)
        self._failures[video_id] += 1
        if bad_input or self._failures[video_id] >= ATTEMPTS:
            return False
        self._waiting[video_id] = video
        return True


def _in_order(videos: Iterable[Video]) -> OrderedDict[int, Video]:
    return OrderedDict((video.id, video) for video in videos)


def _first(videos: OrderedDict[int, Video]) -> Video | None:
    return next(iter(videos.values()), None)


class Pool:
    """The engine that runs a backend; see `harness.engines.model_spec.Engine`.

    If a worker dies, another process runs its video once more; so it does if a video takes longer than ``timeout``
    allows, which ends its worker. A video is given up if that or a failure comes twice, or if the user has to fix
    something. A worker that dies twice in a row without a video is not replaced; if
    no worker is left, the run ends with `UserError`. A `BatchModel` runs in the calling process, without the backend.
    """

    def __init__(
        self,
        spec: ModelSpec,
        store: PredictionStore,
        progress: RunProgress,
        backend: WorkerBackend,
        timeout: VideoTimeout | None = None,
    ) -> None:
        self._spec, self._store, self._progress, self._backend = spec, store, progress, backend
        self._timeout = timeout or VideoTimeout()
        self._doing: dict[int, Doing] = {}
        self._work: dict[int, tuple[Video, float]] = {}  # by worker: its video, and when it began
        self._false_starts = Counter[int]()
        self._refusal: UserError | None = None
        self._alone = False
        self._in_process: InProcess | None = None

    def load(self) -> None:
        """Start the workers and wait until the first one is ready; raises `UserError` if none can be."""
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
        """Give every idle worker a video until all videos have ended."""
        self.load()
        if self._in_process is not None:
            yield from self._in_process.run(videos, scratch)
            return
        queue, faults = Queue(videos), FirstFaults(self._spec.name, videos, self._store)
        while queue:
            self._hand_out(queue)
            for worker, message in [*self._backend.messages(self._seconds_left()), *self._overdue()]:
                event = self._handle_message(worker, message)
                if event is not None:
                    event = self._finish(worker, event, queue)
                    yield event
                    faults.refuse_if_all_alike(event)
            self._refuse_if_all_are_lost()

    def close(self) -> None:
        """Stop all workers."""
        if self._in_process is not None:
            self._in_process.close()
        self._doing.clear()
        self._backend.close()

    def _seconds_left(self) -> float | None:
        """Time until the first video reaches its limit; ``None`` if no worker has a video."""
        now = time.perf_counter()
        return min((max(0.0, began + self._timeout.limit(v) - now) for v, began in self._work.values()), default=None)

    def _overdue(self) -> Iterator[tuple[int, Message]]:
        """End the workers whose videos have reached their limits."""
        now = time.perf_counter()
        for worker, (video, began) in list(self._work.items()):
            limit = self._timeout.limit(video)
            if self._doing[worker] == "working" and now - began >= limit:
                self._backend.end(worker)
                yield (
                    worker,
                    WorkerDied(f"was ended: video {video.id} took longer than {limit:.0f} s (--video-timeout)"),
                )

    def _hand_out(self, queue: Queue) -> None:
        for worker in [w for w, doing in self._doing.items() if doing == "idle"]:
            video = queue.take(worker)
            if video is None:
                return
            self._doing[worker], self._work[worker] = "working", (video, time.perf_counter())
            self._progress.began(worker, video)
            without = sum(doing in ("idle", "loading") for doing in self._doing.values())
            is_first = queue.attempts(video.id) == 1  # the next video may have ended that one: the last is made alone
            self._backend.give(worker, video, queue.promise(worker, without) if is_first else None)

    def _handle_message(self, worker: int, message: Message) -> Event | None:
        """Process a message; return the outcome of the worker's video, if the message has it."""
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
        """Replace the process of a worker that died; return the outcome of the video that it worked on."""
        log.warning("worker %s on %s %s", worker, self._backend.devices[worker], lost.reason)
        video, began = self._work.get(worker, (None, 0.0))
        if video is None:
            self._false_starts[worker] += 1
            if self._false_starts[worker] >= ATTEMPTS:
                what = f"{lost.reason}, for the second time without a video"
                hint = "read the system's log; if memory ran out, use fewer workers"
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
        """The outcome of the video of a worker that died: its shard may already be stored."""
        frames, reason = len(video.frames), shortened(f"worker {worker} {lost.reason}", MOST_CHARACTERS)
        if self._store.path(video.id).exists():
            return Event("done", video.id, seconds, frames, self._store.read_table(video.id).num_rows)
        return Event("failed", video.id, seconds, frames, 0, reason, shortened(lost.details, MOST_DETAILS) or reason)

    def _finish(self, worker: int, event: Event, queue: Queue) -> Event:
        """Remove a video that has ended from the queue, or put it back for another attempt."""
        given = self._work.pop(worker, None)
        event = replace(event, attempts=queue.attempts(event.video_id))
        if event.kind == "done":
            if given is not None:
                self._timeout.learn(given[0], event.seconds)
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
        log.warning("worker %s is not replaced: %s", worker, error)
        self._refusal = error
        self._set(worker, "lost")

    def _refuse_if_all_are_lost(self) -> None:
        if self._refusal is not None and set(self._doing.values()) == {"lost"}:
            raise self._refusal

    def _run_in_process(self) -> None:
        log.warning("%s processes several videos itself, so it runs in one worker", self._spec.plugin.name)
        self.close()
        first = self._backend.devices[0]
        self._in_process = InProcess(self._spec.on(first), self._store, self._progress)
        self._in_process.load()
