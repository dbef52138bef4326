"""Worker processes on this machine: one per device, each with a model of its own and a pipe to the driver."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from harness.engines.model_spec import ModelSpec
from harness.engines.pool import Message, Pool, WorkerDied
from harness.engines.worker import Worker, serialize
from harness.run_folder.progress import RunProgress
from harness.run_folder.store import PredictionStore
from harness.standard_output import stay_with_driver
from harness.types import Video

log = logging.getLogger(__name__)

GRACE_SECONDS = 3.0
"""What a process gets to end by itself before it is killed."""
_HELLO = "hello"
"""A process says it once it can take what it has to load."""


def pool(spec: ModelSpec, store: PredictionStore, progress: RunProgress, devices: Sequence[str]) -> Pool:
    """The engine with one worker process for each of ``devices``; a device may stand there several times."""
    return Pool(spec, store, progress, Processes(spec, store, devices))


class Processes:
    """A backend of processes on this machine; see `harness.engines.pool.WorkerBackend`."""

    def __init__(self, spec: ModelSpec, store: PredictionStore, devices: Sequence[str]) -> None:
        self.devices = tuple(devices)
        self._spec, self._store = spec, store
        self._context = get_context("spawn")  # CUDA and threads do not survive a fork
        self._payload = b""
        self._processes: dict[int, SpawnProcess] = {}
        self._pipes: dict[int, Connection[Any, Any]] = {}
        self._busy: set[int] = set()  # those that load or run a video, and so do not listen to their pipe

    def open(self) -> None:
        """Raises `UserError` where the model's plugin or the dataset cannot be sent to other processes."""
        self._payload = serialize(self._spec, self._store)

    def start(self, worker: int) -> None:
        """Start a process."""
        ours, theirs = self._context.Pipe()
        arguments = (theirs, self.devices[worker])
        process = self._context.Process(target=_work, args=arguments, name=f"harness worker {worker}")
        with _interrupts_held():
            process.start()
        theirs.close()
        self._processes[worker], self._pipes[worker] = process, ours
        self._busy.add(worker)

    def give(self, worker: int, video: Video) -> None:
        """Send a video's number; a process that is gone is found out by `messages`."""
        self._busy.add(worker)
        with suppress(OSError):
            self._pipes[worker].send(video.id)

    def messages(self) -> Iterator[tuple[int, Message]]:
        """Wait for one message at least; a process that has ended is reported after its last message."""
        sources: dict[Any, int] = {pipe: worker for worker, pipe in self._pipes.items()}
        sources |= {self._processes[worker].sentinel: worker for worker in self._pipes}
        for worker in sorted({sources[source] for source in wait(list(sources))}):
            yield from ((worker, message) for message in self._received(worker))

    def close(self) -> None:
        """Processes that wait end by themselves; the others are terminated, and killed if they resist."""
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
                said = pipe.recv()
                if said == _HELLO:
                    pipe.send_bytes(self._payload)
                elif isinstance(said, logging.LogRecord):
                    said.msg = f"worker {worker}: {said.msg}"
                    logging.getLogger(said.name).handle(said)
                else:
                    self._busy.discard(worker)
                    yield said
        except (EOFError, OSError):  # it has closed its end
            pass
        else:
            if self._processes[worker].exitcode is None:
                return
        self._pipes.pop(worker).close()
        self._busy.discard(worker)
        yield WorkerDied(_reason(_ended(self._processes.pop(worker))))


def _ended(process: SpawnProcess) -> int:
    """Wait a moment for a process to end, then make it; return its exit code."""
    process.join(GRACE_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
    code = process.exitcode
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
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait, here and in a process that starts meanwhile: a new one would print a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection[Any, Any], device: str) -> None:
    """What a worker process does until its driver closes the pipe."""
    # Ctrl-C reaches all processes of a terminal: the driver decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    stay_with_driver()
    threading.Thread(target=_end_with_driver, name="driver", daemon=True).start()
    sender = _Sender(pipe)
    _log_to(sender)
    with suppress(EOFError, OSError):  # the driver is gone, or has closed the pipe
        sender.put_nowait(_HELLO)
        worker = Worker(device)
        sender.put_nowait(worker.load(pipe.recv_bytes()))
        while True:
            outcome = worker.run(pipe.recv())
            sender.put_nowait(outcome)
            if not worker.is_usable():
                return


class _Sender:
    """The way to the driver, for several threads; has the form of a queue, as logging wants it."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def put_nowait(self, message: Any) -> None:
        """Send a message; raises `OSError` where nobody listens any more."""
        with self._lock:
            self._pipe.send(message)


def _log_to(sender: _Sender) -> None:
    """Send what the harness logs, and Python's warnings, to the driver."""
    handler = QueueHandler(sender)  # type: ignore[arg-type]
    logging.captureWarnings(True)
    for name in ("harness", "py.warnings"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def _end_with_driver() -> None:
    """Leave as soon as the driver is gone, in the middle of a video too."""
    driver = parent_process()
    if driver is not None:
        wait([driver.sentinel])
    os._exit(1)
