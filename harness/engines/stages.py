"""Time and memory of a model's stages: decoding, backbone, matching, ..."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil

from harness.events import StageUse, merge_stage_usage


class _StagePass(NamedTuple):
    """One pass through a stage on a GPU; its work may still be running."""

    name: str
    begin: Any
    end: Any
    """Events of torch on the stream of the work."""
    host_seconds: float
    memory_bytes: int


class StageClock:
    """The ``stage`` hook of a model: a context manager around each stage, by name, for any number of threads.

    Stages are entered once per window or frame, so the cost of reading the clock and the memory is negligible. On a GPU
    events in its stream give the times: call `finish` after a video. A stage then takes as long as the GPU or the host,
    whichever is more; stages overlap, so their sum may be more than the whole. With ``synchronise`` the host
    waits for the GPU at the end of each stage instead, which slows the model and runs its stages one after the other.
    """

    def __init__(self, device: str = "cpu", synchronise: bool = False) -> None:
        self.uses: dict[str, StageUse] = {}
        self._device, self._synchronise = device, synchronise
        self._cuda: Any = sys.modules["torch"].cuda if device.startswith("cuda") else None
        self._process = psutil.Process()
        self._lock = threading.Lock()
        self._open = 0
        self._passed: list[_StagePass] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time and memory of the block to the stage ``name``."""
        with self._lock:
            if self._cuda is not None and self._open == 0:  # else it would cut the peak of a parallel stage
                self._cuda.reset_peak_memory_stats(self._device)
            self._open += 1
        begin = None if self._cuda is None or self._synchronise else self._event()
        began = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
        if self._cuda is not None and self._synchronise:
            self._cuda.synchronize(self._device)
        seconds = time.perf_counter() - began
        if begin is not None:
            self._passed.append(_StagePass(name, begin, self._event(), seconds, self._memory()))
        else:
            self._add(name, StageUse(seconds, self._memory()))

    def begin(self) -> dict[str, StageUse]:
        """Return a new and empty ``uses``, for another video."""
        self.uses = {}
        return self.uses

    def finish(self, wait: bool = True) -> None:
        """Add the times of the stages that the GPU has passed, all of them with ``wait``.

        Others are added by the next call: at the end of a video the GPU may be working on the next one already.
        """
        if wait and self._passed:
            self._cuda.synchronize(self._device)
        passed, self._passed = self._passed, []
        for each in passed:
            if not wait and not each.end.query():
                self._passed.append(each)
                continue
            seconds = max(each.host_seconds, each.begin.elapsed_time(each.end) / 1000)
            self._add(each.name, StageUse(seconds, each.memory_bytes))

    def forget(self) -> None:
        """Drop what was not added yet: it is from a video that has failed."""
        self._passed.clear()

    def _event(self) -> Any:
        """An event at this place of the stream, with a time."""
        event = self._cuda.Event(enable_timing=True)
        event.record(self._cuda.current_stream(self._device))
        return event

    def _add(self, name: str, use: StageUse) -> None:
        with self._lock:
            self.uses |= merge_stage_usage([self.uses, {name: use}])

    def _memory(self) -> int:
        if self._cuda is not None:
            return int(self._cuda.max_memory_allocated(self._device))
        return int(self._process.memory_info().rss)


def clock_of(model: object, synchronise: bool = False) -> StageClock | None:
    """A clock for a model that has the hook ``stage``; ``None`` for others."""
    return StageClock(str(getattr(model, "device", "cpu")), synchronise) if hasattr(model, "stage") else None


@contextmanager
def time_stages(model: object, synchronise: bool = False) -> Iterator[dict[str, StageUse]]:
    """Time the stages of a model that has the hook ``stage``, see `StageClock`; the result stays empty for others."""
    with time_video(model, clock_of(model, synchronise)) as uses:
        yield uses


@contextmanager
def time_video(model: Any, clock: StageClock | None, wait: bool = True) -> Iterator[dict[str, StageUse]]:
    """Time the stages of a video by a clock that may be used for several; ``wait`` as in `StageClock.finish`."""
    if clock is None:
        yield {}
        return
    before, model.stage = model.stage, clock
    try:
        yield clock.begin()
        clock.finish(wait)
    except BaseException:
        clock.forget()
        raise
    finally:
        model.stage = before
