"""The progress of a run's workers, written to ``progress.json`` for ``harness status``; see `run_folder.status`."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

import msgspec

from harness.atomic_write import write_unflushed
from harness.paths import Location, ObjectPath
from harness.types import Video

if TYPE_CHECKING:
    from harness.events import Event

PROGRESS_FILE = "progress.json"
BEAT_SECONDS = 5.0
"""The file is written at least this often, to show that the run is alive."""
_LOOK_SECONDS = 1.0

Doing = Literal["loading", "idle", "working", "lost"]


class WorkerProgress(msgspec.Struct):
    """One worker. ``seconds`` is the time for videos that have ended, ``video_seconds`` for the current one.

    ``losses`` counts how often its process died and was replaced.
    """

    device: str = ""
    state: Doing = "loading"
    host: str = ""
    pid: int = 0
    video: int | None = None
    video_seconds: float = 0.0
    done: int = 0
    failed: int = 0
    frames: int = 0
    seconds: float = 0.0
    losses: int = 0


class Snapshot(msgspec.Struct):
    """``progress.json``: one session of a run, from its start to ``written`` (seconds since 1970 on its host).

    ``videos`` is the number of videos of this session. ``work`` is the share of them that has ended, in ``[0, 1]``,
    weighted by `expected_cost`. ``seconds`` is the time from the start of the first video to the end of the last one,
    or to now. ``state`` is ``interrupted`` after Ctrl-C, SIGTERM or SIGHUP, ``stopped`` after an error.
    """

    format: Literal[1] = 1
    state: Literal["running", "ended", "interrupted", "stopped"] = "running"
    host: str = ""
    pid: int = 0
    written: float = 0.0
    videos: int = 0
    done: int = 0
    failed: int = 0
    frames: int = 0
    work: float = 0.0
    seconds: float = 0.0
    workers: list[WorkerProgress] = msgspec.field(default_factory=list)


def expected_cost(video: Video) -> int:
    """The expected cost of a video: the number of pixels in all frames."""
    return len(video.frames) * video.height * video.width


class RunProgress:
    """The current state of a run's workers. Engines update it; `write_progress` writes it to the folder."""

    def __init__(self) -> None:
        self._snapshot = Snapshot(host=socket.gethostname(), pid=os.getpid())
        self._lock = threading.Lock()
        self._costs: dict[int, int] = {}
        self._cost = self._cost_ended = 0
        self._session_began: float | None = None
        self._last_ended: float | None = None
        self._video_began: dict[int, float] = {}
        self.changes = 0
        """Number of changes so far."""

    def expect(self, videos: Sequence[Video]) -> None:
        """Add videos to this session."""
        with self._changed() as now:
            costs = {video.id: expected_cost(video) for video in videos}
            self._costs |= costs
            self._cost += sum(costs.values())
            self._last_ended = None
            now.videos += len(videos)

    def worker(self, number: int, state: Doing, device: str = "", host: str = "", pid: int = 0) -> None:
        """Set the state of a worker; empty values keep the previous ones."""
        with self._changed():
            worker = self._worker(number)
            worker.state, worker.video = state, None
            worker.device, worker.host, worker.pid = device or worker.device, host or worker.host, pid or worker.pid
            worker.losses += state == "lost"
            self._video_began.pop(number, None)

    def began(self, number: int, video: Video) -> None:
        """Record that a worker has begun a video."""
        with self._changed():
            self._video_began[number] = time.monotonic()
            if self._session_began is None:
                self._session_began = self._video_began[number]
            worker = self._worker(number)
            worker.state, worker.video = "working", video.id

    def ended(self, number: int, event: Event) -> None:
        """Record that a worker has ended a video, successfully or not."""
        with self._changed() as now:
            worker = self._worker(number)
            if worker.state == "working":  # else its process died during the video and is being replaced
                worker.state, worker.video = "idle", None
            worker.seconds = round(worker.seconds + event.seconds, 3)
            worker.done += event.kind == "done"
            worker.failed += event.kind != "done"
            worker.frames += event.frames if event.kind == "done" else 0
            self._video_began.pop(number, None)
            if event.kind != "retried":
                now.done += event.kind == "done"
                now.failed += event.kind == "failed"
                now.frames += event.frames if event.kind == "done" else 0
                self._cost_ended += self._costs.get(event.video_id, 0)
                if now.done + now.failed == now.videos:
                    self._last_ended = time.monotonic()

    def snapshot(self) -> Snapshot:
        """Return a copy of the current state."""
        with self._lock:
            now, clock = self._snapshot, time.monotonic()
            if self._session_began is not None:
                now.seconds = round((self._last_ended or clock) - self._session_began, 3)
            now.work = round(self._cost_ended / max(self._cost, 1), 6)
            now.written = round(time.time(), 3)
            for number, worker in enumerate(now.workers):
                worker.video_seconds = round(clock - self._video_began.get(number, clock), 3)
            return msgspec.convert(msgspec.to_builtins(now), Snapshot)

    def end(self, state: Literal["ended", "interrupted", "stopped"]) -> None:
        """Record the end of the session."""
        with self._changed() as now:
            now.state = state

    @contextmanager
    def _changed(self) -> Iterator[Snapshot]:
        with self._lock:
            self.changes += 1
            yield self._snapshot

    def _worker(self, number: int) -> WorkerProgress:
        workers = self._snapshot.workers
        while len(workers) <= number:
            workers.append(WorkerProgress())
        return workers[number]


@contextmanager
def write_progress(progress: RunProgress, folder: Location) -> Iterator[None]:
    """Keep ``progress.json`` in a folder up to date from a thread, with at most one write per second.

    It is for monitoring only: if it cannot be written, the run continues without it.
    """
    over = threading.Event()
    _write(folder / PROGRESS_FILE, progress.snapshot())
    thread = threading.Thread(target=_keep, args=(progress, folder / PROGRESS_FILE, over), name="progress", daemon=True)
    thread.start()
    state: Literal["ended", "interrupted", "stopped"] = "stopped"
    try:
        yield
        state = "ended"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        over.set()
        thread.join(BEAT_SECONDS)
        progress.end(state)
        if not thread.is_alive():  # else it hangs on a file system that does not answer
            _write(folder / PROGRESS_FILE, progress.snapshot())


def _keep(progress: RunProgress, path: Location, over: threading.Event) -> None:
    seen, beat = progress.changes, time.monotonic()
    pause = BEAT_SECONDS if isinstance(path, ObjectPath) else _LOOK_SECONDS  # object stores charge per request
    while not over.wait(pause):
        if progress.changes != seen or time.monotonic() - beat >= BEAT_SECONDS:
            seen, beat = progress.changes, time.monotonic()
            _write(path, progress.snapshot())


def _write(path: Location, snapshot: Snapshot) -> None:
    with suppress(OSError):
        write_unflushed(path, msgspec.json.format(msgspec.json.encode(snapshot), indent=1) + b"\n")
