"""A backend of Ray actors: on this machine, or on all machines of a cluster. Needs the extra ``ray``."""

from __future__ import annotations

import logging
import math
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from harness.atomic_write import write_atomically
from harness.engines.model_spec import ModelSpec
from harness.engines.pool import Message, Pool, WorkerDied, WriteFailed
from harness.engines.ray_connection import OwnRay, connect
from harness.engines.video_timeout import VideoTimeout
from harness.engines.worker import Worker, serialize
from harness.errors import UserError, first_line
from harness.events import Event
from harness.frame_digests import FrameDigests
from harness.paths import Location
from harness.run_folder.log import SentLog
from harness.run_folder.progress import RunProgress
from harness.run_folder.store import PredictionStore
from harness.standard_output import printed_to_log
from harness.types import Video

log = logging.getLogger(__name__)

MOST_RECORDS = 10_000
"""Log records that an actor keeps of one video; later ones are left out."""
LOOK_SECONDS = 1.0
"""Interval at which a waiting run checks that the Ray that it started is still alive."""
LOOKS_BEFORE_WARNING = 60
"""After this many checks without a message, a warning says what the run waits for."""


def ray_pool(
    spec: ModelSpec,
    store: PredictionStore,
    progress: RunProgress,
    device: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    address: str | None = None,
    video_timeout: float | None = None,
) -> Pool:
    """Return the engine with ``workers`` actors; if that is ``None``, as many as the cluster has free at the start.

    ``gpus_per_worker`` is 1 by default if the device is a GPU, else 0. Without an address, and without the environment
    variable ``RAY_ADDRESS``, Ray is started on this machine and stopped with the run. ``video_timeout`` is the limit of
    each video in seconds, see `VideoTimeout`. Raises `UserError` if ``device``
    names one GPU.
    """
    if device not in (None, "cpu", "cuda"):
        raise UserError("device", f"{device} cannot be requested from Ray", "name cpu or cuda; Ray chooses the GPUs")
    request = WorkerRequest(device, workers, gpus_per_worker, address or os.environ.get("RAY_ADDRESS") or None)
    return Pool(spec, store, progress, Actors(spec, store, request), VideoTimeout(video_timeout))


class WorkerRequest(NamedTuple):
    """The user's options for the workers; ``None`` where there is no option."""

    device: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None
    address: str | None = None

    def resolve(self, resources: Mapping[str, float]) -> tuple[str, int, float]:
        """Return the device of the workers, their number, and the GPUs of each, in a cluster with these resources."""
        gpus = self.gpus_per_worker
        if gpus is None:
            gpus = float(self.device == "cuda" or (self.device is None and resources.get("GPU", 0) > 0))
        room = resources.get("GPU", 0) // gpus if gpus else resources.get("CPU", 0)
        return self.device or ("cuda" if gpus else "cpu"), self.workers or max(1, int(room)), gpus


def refuse_missing_gpus(wanted: float, found: float) -> None:
    """Raise `UserError` if a worker needs more GPUs than there are: the run would wait forever."""
    if wanted > found:
        what = f"{wanted:g} requested for each worker, Ray finds {found:g} on this machine"
        raise UserError("GPUs", what, "name device cpu, fewer gpus_per_worker, or a cluster as ray_address")


@dataclass(frozen=True, slots=True)
class Reply:
    """A message of an actor, with its log records.

    If the actor cannot write to the store, ``tracks`` and ``frames`` are the tracks of the video and the digests of its
    frames. If not ``usable``, the actor's process has to be replaced.
    """

    message: Message
    tracks: pa.Table | None = None
    frames: FrameDigests | None = None
    logged: tuple[logging.LogRecord, ...] = ()
    usable: bool = True


class Actors:
    """A backend of actors; see `harness.engines.pool.WorkerBackend`. Every actor has at most one video at a time.

    An actor writes to the store itself if it finds the driver's probe file there. Otherwise its tracks come back
    through Ray's object store, and the driver writes them.
    """

    def __init__(self, spec: ModelSpec, store: PredictionStore, request: WorkerRequest) -> None:
        self.devices: Sequence[str] = ()
        self._spec, self._store = spec, PredictionStore(store.folder.absolute())
        self._request = request
        self._probe = SharedFilesystemProbe(self._store.folder / f".probe.{os.getpid()}.tmp", secrets.token_hex(16))
        self._actors: dict[int, Any] = {}
        self._workers: dict[Any, int] = {}  # by pending task: its worker
        self._videos: dict[int, Video] = {}
        self._ray: Any = None
        self._own: OwnRay | None = None

    def open(self) -> None:
        """Connect to Ray, or start it.

        Raises `UserError` if it is not installed, does not answer, or was started here and lacks the GPUs.
        """
        self._ray, self._own = connect(self._request.address)
        resources = self._ray.cluster_resources()
        device, workers, gpus = self._request.resolve(resources)
        if self._own is not None:  # an existing cluster may get more machines later, this one cannot
            refuse_missing_gpus(gpus, resources.get("GPU", 0))
        self.devices = (device,) * workers
        # If Ray's daemons have died, the next use of its object store ends this process without a message. A Ray that
        # is started here has few workers, so their payload is an argument of their first task instead.
        payload = serialize(self._spec, self._store)
        self._payload = payload if self._own is not None else self._ray.put(payload)
        # The pool replaces actors that die, by the same rules for all backends; Ray does not.
        options = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0}
        self._kind = self._ray.remote(_Actor).options(**options)

    def start(self, worker: int) -> None:
        """Request an actor; it starts when the cluster has resources for it."""
        self._kill(worker)
        self._actors[worker] = self._kind.remote(self.devices[worker], str(Path.cwd()), sys.path)
        self._workers[self._actors[worker].load.remote(self._payload)] = worker

    def give(self, worker: int, video: Video, then: Video | None = None) -> None:
        """Send a video to an actor, and tell it which one probably follows."""
        if not self._probe.is_found():
            self._probe.write()
        self._videos[worker] = video
        following = then.id if then is not None else None
        self._workers[self._actors[worker].run.remote(video.id, following, self._probe)] = worker

    def messages(self, seconds: float | None = None) -> Iterator[tuple[int, Message]]:
        """Wait for at least one reply, at most ``seconds``."""
        ready: list[Any] = []
        looks, end = 0, math.inf if seconds is None else time.monotonic() + seconds
        while not ready and self._workers and (not looks or time.monotonic() < end):
            pause = min(LOOK_SECONDS, max(0.0, end - time.monotonic()))
            ready, _ = self._ray.wait(list(self._workers), timeout=pause)
            if self._own is not None:
                self._own.check()
            looks += 1
            if not ready and not self._videos and looks % LOOKS_BEFORE_WARNING == 0:
                log.warning("no worker is ready after %.0f s: %s are requested, the cluster has free: %s",
                            looks * LOOK_SECONDS, len(self.devices), self._ray.available_resources())  # fmt: skip
        for task in ready:
            worker = self._workers.pop(task)
            yield from ((worker, message) for message in self._result(worker, task))

    def end(self, worker: int) -> None:
        """Kill an actor, and forget its task."""
        self._kill(worker)
        self._videos.pop(worker, None)
        self._workers = {task: other for task, other in self._workers.items() if other != worker}

    def close(self) -> None:
        """Stop the actors, and Ray if it was started for this run."""
        if self._ray is None:
            return
        if self._own is not None and self._own.lost():
            self._actors.clear()
        for worker in list(self._actors):
            self._kill(worker)
        self._workers.clear()
        self._probe.path.unlink(missing_ok=True)
        if self._own is not None:
            self._own.end(self._ray)
        self._ray = None

    def _kill(self, worker: int) -> None:
        actor = self._actors.pop(worker, None)
        if actor is not None:
            with suppress(Exception):  # it may have ended already, and Ray too
                self._ray.kill(actor)

    def _result(self, worker: int, task: Any) -> Iterator[Message]:
        video = self._videos.pop(worker, None)
        try:
            reply: Reply = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            yield WorkerDied(f"was lost: {first_line(error)}", str(error))
            return
        for record in reply.logged:
            record.msg = f"worker {worker}: {record.msg}"
            logging.getLogger(record.name).handle(record)
        yield self._store_tracks(reply, video)
        if not reply.usable:
            yield WorkerDied("was ended: its device no longer works")

    def _store_tracks(self, reply: Reply, video: Video | None) -> Message:
        """Store the tracks of a reply, if it has any; return its message."""
        if reply.tracks is not None and video is not None:
            try:
                self._store.write_table(video, reply.tracks, reply.frames)
            except UserError as error:
                return WriteFailed(error)
        return reply.message


@dataclass(frozen=True, slots=True)
class SharedFilesystemProbe:
    """A file with a random text, written by the driver: a process that can read it shares the driver's file system."""

    path: Location
    word: str

    def write(self) -> None:
        """Write the file; raises `UserError` if it cannot be written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, self.word.encode())

    def is_found(self) -> bool:
        """Whether the file exists and holds the text."""
        try:
            return self.path.read_bytes() == self.word.encode()
        except OSError:
            return False


class _InMemoryStore(PredictionStore):
    """Keeps the tracks of one video in memory, to be sent to the driver."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.table: pa.Table | None = None
        self.frames: FrameDigests | None = None

    def write_table(self, video: Video, table: pa.Table, frames: FrameDigests | None = None) -> None:
        self.table, self.frames = table, frames


class _Actor:
    """The actor: a worker in a process of Ray."""

    def __init__(self, device: str, folder: str, path: Sequence[str]) -> None:
        with suppress(OSError):  # relative paths mean the same as in the driver, if this folder exists here
            os.chdir(folder)
        sys.path += [entry for entry in path if entry not in sys.path]
        self._worker, self._records = Worker(device), _Records()
        self._records.listen()
        self._output = ExitStack()  # for as long as the process lives
        self._log_printed = self._output.enter_context(printed_to_log())
        self._is_shared: bool | None = None

    def load(self, payload: bytes) -> Reply:
        message = self._worker.load(payload)  # its prints are sent with the first video: the log is not open yet
        return Reply(message, logged=self._records.take())

    def run(self, video_id: int, then: int | None, probe: SharedFilesystemProbe) -> Reply:
        if self._is_shared is None:
            self._is_shared = probe.is_found()
        store = None if self._is_shared else _InMemoryStore()
        message = self._worker.run(video_id, then, store)
        self._log_printed()
        usable = not isinstance(message, Event) or self._worker.is_usable()
        tracks, frames = (store.table, store.frames) if store else (None, None)
        return Reply(message, tracks, frames, self._records.take(), usable)


class _Records:
    """Collects the log records of the harness in an actor."""

    def __init__(self) -> None:
        self._records: list[logging.LogRecord] = []

    def listen(self) -> None:
        logging.captureWarnings(True)
        for name in ("harness", "py.warnings"):
            logging.getLogger(name).addHandler(SentLog(self))  # type: ignore[arg-type]
            logging.getLogger(name).setLevel(logging.INFO)

    def put_nowait(self, record: logging.LogRecord) -> None:
        if len(self._records) < MOST_RECORDS:
            self._records.append(record)

    def take(self) -> tuple[logging.LogRecord, ...]:
        records, self._records = self._records, []
        return tuple(records)
