"""Host work in parallel with the network: copies without an immediate wait, and a thread for the rest.

On a GPU the host queues the next window before it reads the results of this one, at the end of a video the first ones
of the next video. On a CPU the same code runs, and a second core takes a part of the work. Order and arithmetic are the
same either way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from harness.frames import Image

Group = TypeVar("Group", bound=tuple[Any, ...])
Result = TypeVar("Result")

MOST_UNFINISHED = 2
"""Jobs that are waiting or being done when another is given: the results of so many windows are held."""


def on_device(frames: Sequence[Image], device: torch.device) -> Tensor:
    """Frames of one size, stacked: uint8 ``(frames, height, width, 3)`` on ``device``. The host does not wait for it.

    For a GPU they are stacked in pinned memory, from which it copies by itself.
    """
    if not _is_gpu(device):
        return torch.from_numpy(np.stack(frames)).to(device, non_blocking=True)
    stacked = torch.empty((len(frames), *frames[0].shape), dtype=torch.uint8, pin_memory=True)
    np.stack(frames, out=stacked.numpy())
    return stacked.to(device, non_blocking=True)


class HostCopy(Generic[Group]):
    """A tuple of tensors, named or nested too, on its way to the host. On a CPU they are the tensors themselves."""

    def __init__(self, tensors: Group, device: torch.device) -> None:
        self._tensors: Group = _copied(tensors)
        self._arrived = None
        if _is_gpu(device):
            # a thread that waits for it sleeps: by default it would keep a core busy, which decoding may need
            self._arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(device))

    def wait(self) -> Group:
        """The tensors, as soon as they are there; waits for nothing that the GPU was given later."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensors


def _copied(tensors: Any) -> Any:
    if isinstance(tensors, Tensor):
        return tensors.to("cpu", non_blocking=True)  # into pinned memory, which torch takes for it
    copies = [_copied(each) for each in tensors]
    return tensors._make(copies) if hasattr(tensors, "_make") else tuple(copies)


class OwnThread:
    """Runs jobs in the order given, on a separate thread if ``parallel``, else at once.

    It works on the caller's stream of ``device``, in inference mode, with the caller's number of threads. After a job
    that fails the others are left out. Close it after use.
    """

    def __init__(self, device: torch.device, parallel: bool = True) -> None:
        self._stream = torch.cuda.current_stream(device) if _is_gpu(device) else None
        self._unfinished: deque[Future[Any]] = deque()
        self._failed = False
        self._pool: ThreadPoolExecutor | None = None
        if parallel:  # in OpenMP each thread has its own number of threads
            threads = (torch.get_num_threads(),)
            self._pool = ThreadPoolExecutor(1, "windows", initializer=torch.set_num_threads, initargs=threads)

    def do(self, job: Callable[[], None]) -> None:
        """Queue a job; waits while there are `MOST_UNFINISHED`. Raises the error of an earlier one."""
        if self._pool is None:
            job()
            return
        while len(self._unfinished) >= MOST_UNFINISHED:
            self._unfinished.popleft().result()
        self._unfinished.append(self._pool.submit(self._do, job))

    def conclude(self, job: Callable[[], Result], meanwhile: Callable[[Callable[[], bool]], object]) -> Result:
        """Run a last job after all others and return its result; raises the first error of any job.

        ``meanwhile`` runs here at the same time; it gets a function that says whether the job is done. It is left out
        without a thread. On a GPU the job has a stream for itself, of higher priority than what ``meanwhile`` queues.
        """
        if self._pool is None:
            return job()
        stream = None
        if self._stream is not None:
            stream = _last_stream(self._stream.device)
            stream.wait_stream(self._stream)  # what was queued before, and nothing that follows
        # not in a variable here: a job that fails would be kept by its own traceback, with the memory that it has
        self._unfinished.append(self._pool.submit(self._do, job, stream))
        meanwhile(self._unfinished[-1].done)
        while len(self._unfinished) > 1:
            self._unfinished.popleft().result()
        return cast(Result, self._unfinished.popleft().result())

    def close(self) -> None:
        """Wait for the running job, and drop the others."""
        if self._pool is not None:
            self._failed = True
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _do(self, job: Callable[[], Result], own_stream: torch.cuda.Stream | None = None) -> Result | None:
        if self._failed:
            return None
        stream = own_stream or self._stream
        on_stream: AbstractContextManager[object] = nullcontext()
        if stream is not None:
            on_stream = torch.cuda.stream(stream)
        try:
            with torch.inference_mode(), on_stream:
                result = job()
            if own_stream is not None:
                own_stream.synchronize()  # memory of the caller's stream that the job has read may be used again now
        except BaseException:
            self._failed = True
            raise
        return result


@cache
def _last_stream(device: torch.device) -> torch.cuda.Stream:
    """A stream of high priority, the same one each time: freed memory is kept by stream."""
    return torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]


class WindowConsumer(Generic[Group]):
    """The host's work on the windows of a video, on a separate thread: matching, scores, masks.

    ``match`` returns the order ``(f, Q)`` of a window's queries, ``add`` takes it with the outputs of its frames,
    ``keep`` the window's mask logits with it. Close it after use.
    """

    def __init__(
        self,
        thread: OwnThread,
        stage: Callable[[str], AbstractContextManager[object]],
        match: Callable[..., Tensor],
        add: Callable[[Tensor, Group], None],
        keep: Callable[[Tensor, Tensor], None],
    ) -> None:
        self._thread, self._stage, self._match, self._add, self._keep = thread, stage, match, add, keep

    def take(self, mask_logits: Tensor, matched: tuple[Tensor, ...], groups: Iterable[tuple[slice, Group]]) -> None:
        """Take a window: its mask logits ``(f, Q, h, w)``, what ``match`` gets, and the outputs of groups of frames.

        Returns before it is done. Raises the error of an earlier window.
        """
        device = mask_logits.device
        for_matching = HostCopy(matched, device)
        orders: list[Tensor] = []

        def consume(part: slice, copy: HostCopy[Group]) -> None:
            if part.start == 0:
                tensors = for_matching.wait()
                with self._stage("matching"):
                    orders.append(self._match(*tensors))
            order, own = orders[0], copy.wait()
            with self._stage("classification"):
                self._add(order[part], own)
            if part.stop == len(order):
                with self._stage("encoding"):
                    self._keep(mask_logits, order)

        for part, outputs in groups:
            self._thread.do(partial(consume, part, HostCopy(outputs, device)))

    def finish(self, last: Callable[[], Result], meanwhile: Callable[[Callable[[], bool]], object]) -> Result:
        """Wait until all is done, and ``last`` after it, whose result is returned; see `OwnThread.conclude`."""
        return self._thread.conclude(last, meanwhile)

    def close(self) -> None:
        """Wait for the window that is being consumed, and leave out the others."""
        self._thread.close()


def _is_gpu(device: torch.device) -> bool:
    """Whether it is a GPU that can be waited for: tests trace networks on one that is not there."""
    return device.type == "cuda" and torch.cuda.is_available()
