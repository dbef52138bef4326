"""Worker processes on this machine, each with its own model and a pipe to the driver."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from harness.engines.model_spec import ModelSpec
from harness.engines.pool import Message, Pool, WorkerDied
from harness.engines.video_timeout import VideoTimeout
from harness.engines.worker import Worker, serialize
from harness.run_folder.log import SentLog
from harness.run_folder.progress import RunProgress
from harness.run_folder.store import PredictionStore
from harness.standard_output import stay_with_driver
from harness.types import Video
from harness.warnings import tolerate_warnings_of_libraries

log = logging.getLogger(__name__)


class _Last(NamedTuple):
    """The last message of a process that cannot run another video."""

    message: Message


GRACE_SECONDS = 3.0
"""Time that a process has to end by itself before it is killed."""
_HELLO = "hello"
"""First message of a process: it is ready to receive the payload."""


def process_pool(
    spec: ModelSpec,
    store: PredictionStore,
    progress: RunProgress,
    devices: Sequence[str],
    video_timeout: float | None = None,
) -> Pool:
    """Return the engine with one worker process for each of ``devices``; a device may be listed several times.

    ``video_timeout`` is the limit of each video in seconds, see `VideoTimeout`.
    """
    return Pool(spec, store, progress, WorkerProcesses(spec, store, devices), VideoTimeout(video_timeout))


class WorkerProcesses:
    """A backend of processes on this machine; see `harness.engines.pool.WorkerBackend`."""

    def __init__(self, spec: ModelSpec, store: PredictionStore, devices: Sequence[str]) -> None:
        self.devices = tuple(devices)
        self._spec, self._store = spec, store
        self._context = get_context("spawn")  # CUDA and threads do not survive a fork
        self._payload = b""
        self._processes: dict[int, SpawnProcess] = {}
        self._pipes: dict[int, Connection[Any, Any]] = {}
        self._busy: set[int] = set()  # those that load or run a video, and so do not read from their pipe

    def open(self) -> None:
        """Pickle the model's spec; raises `UserError` if the plugin or the dataset cannot be pickled."""
        self._payload = serialize(self._spec, self._store)

    def start(self, worker: int) -> None:
        """Start a process."""
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self.devices[worker])
        process = self._context.Process(target=_work, args=arguments, name=f"harness worker {worker}")
        with _interrupts_blocked():
            process.start()
        theirs.close()
        self._processes[worker], self._pipes[worker] = process, ours
        self._busy.add(worker)

    def give(self, worker: int, video: Video, then: Video | None = None) -> None:
        """Send the videos' ids; `messages` reports a process that has ended."""
        self._busy.add(worker)
        with suppress(OSError):
            self._pipes[worker].send((video.id, then.id if then is not None else None))

    def messages(self, seconds: float | None = None) -> Iterator[tuple[int, Message]]:
        """Wait for at least one message, at most ``seconds``; a process that has ended is reported after its last."""
        sources: dict[Any, int] = {pipe: worker for worker, pipe in self._pipes.items()}
        sources |= {self._processes[worker].sentinel: worker for worker in self._pipes}
        for worker in sorted({sources[source] for source in wait(list(sources), seconds)}):
            yield from ((worker, message) for message in self._received(worker))

    def end(self, worker: int) -> None:
        """End a process, at once: it may hang where no signal is answered."""
        process = self._processes.pop(worker)
        process.kill()
        _ended(process)
        self._pipes.pop(worker).close()
        self._busy.discard(worker)

    def close(self) -> None:
        """Close all pipes: idle processes end by themselves, busy ones are terminated, then killed."""
        for worker, process in self._processes.items():
            self._pipes.pop(worker).close()
            if worker in self._busy:
                process.terminate()
        while self._processes:
            _ended(self._processes.popitem()[1])
        self._busy.clear()

    def _received(self, worker: int) -> Iterator[Message]:
        pipe = self._pipes[worker]
        try:
            while pipe.poll():
                message = pipe.recv()
                if message == _HELLO:
                    pipe.send_bytes(self._payload)
                elif isinstance(message, logging.LogRecord):
                    message.msg = f"worker {worker}: {message.msg}"
                    logging.getLogger(message.name).handle(message)
                elif isinstance(message, _Last):
                    yield message.message
                    self._pipes.pop(worker).close()
                    self._busy.discard(worker)
                    _ended(self._processes.pop(worker))
                    yield WorkerDied("cannot run another video and is replaced")
                    return
                else:
                    self._busy.discard(worker)
                    yield message
        except (EOFError, OSError):  # the process has closed its end
            pass
        else:
            if self._processes[worker].exitcode is None:
                return
        self._pipes.pop(worker).close()
        self._busy.discard(worker)
        yield WorkerDied(_reason(_ended(self._processes.pop(worker))))


def _ended(process: SpawnProcess) -> int:
    """Wait `GRACE_SECONDS` for a process to end, then kill it; return its exit code."""
    process.join(GRACE_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join(GRACE_SECONDS)
    code = process.exitcode
    if code is not None:  # else it waits for a disk or a device that does not respond, and ends after that
        process.close()
    return code or 0


def _reason(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C, here and in a process that starts inside the block: it would print a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection[Any, Any], device: str) -> None:
    """The main function of a worker process; it returns when the driver closes the pipe."""
    # Ctrl-C and the end of a terminal reach all of its processes: only the driver reacts to them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    stay_with_driver()
    tolerate_warnings_of_libraries()
    threading.Thread(target=_end_with_driver, name="driver", daemon=True).start()
    sender = _Sender(pipe)
    _log_to(sender)
    with suppress(EOFError, OSError):  # the driver is gone, or has closed the pipe
        sender.put_nowait(_HELLO)
        worker = Worker(device)
        sender.put_nowait(worker.load(pipe.recv_bytes()))
        while True:
            outcome = worker.run(*pipe.recv())
            usable = worker.is_usable()
            sender.put_nowait(outcome if usable else _Last(outcome))
            if not usable:
                return


class _Sender:
    """Sends messages to the driver from several threads; has the interface of a queue, which logging needs."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def put_nowait(self, message: Any) -> None:
        """Send a message; raises `OSError` if the driver has closed the pipe."""
        with self._lock:
            self._pipe.send(message)


def _log_to(sender: _Sender) -> None:
    """Send the harness's log records and Python's warnings to the driver."""
    handler = SentLog(sender)  # type: ignore[arg-type]
    logging.captureWarnings(True)
    for name in ("harness", "py.warnings"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def _end_with_driver() -> None:
    """Exit as soon as the driver has ended, even in the middle of a video."""
    driver = parent_process()
    if driver is not None:
        wait([driver.sentinel])
    os._exit(1)
