"""Time and memory of the stages of a model's work: decoding, backbone, matching, ..."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil


class StageUse(NamedTuple):
    """What a stage took in all: ``seconds`` of wall time, and the most memory in bytes at any of its times.

    Memory is what torch has allocated on the model's GPU within the stage; on a CPU what the process holds at its end.
    """

    seconds: float
    memory_bytes: int


class StageClock:
    """The ``stage`` hook of a model: a context manager by name, entered around each stage; a GPU is waited for.

    Stages are entered once per window or frame: looking at the clock and at memory costs nothing to speak of.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.uses: dict[str, StageUse] = {}
        self._device = device
        self._cuda: Any = sys.modules["torch"].cuda if device.startswith("cuda") else None
        self._process = psutil.Process()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add what is done inside to the stage ``name``."""
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats(self._device)
        began = time.perf_counter()
        yield
        if self._cuda is not None:
            self._cuda.synchronize(self._device)
        self.uses |= together([self.uses, {name: StageUse(time.perf_counter() - began, self._memory())}])

    def _memory(self) -> int:
        if self._cuda is not None:
            return int(self._cuda.max_memory_allocated(self._device))
        return int(self._process.memory_info().rss)


@contextmanager
def timed(model: object) -> Iterator[dict[str, StageUse]]:
    """Time the stages of a model that has the hook ``stage``; for others, and until it works, the result is empty."""
    if not hasattr(model, "stage"):
        yield {}
        return
    before, clock = model.stage, StageClock(str(getattr(model, "device", "cpu")))
    model.stage = clock
    try:
        yield clock.uses
    finally:
        model.stage = before


def together(parts: Iterable[Mapping[str, StageUse]]) -> dict[str, StageUse]:
    """Seconds added up and the largest memory of each stage, in the order in which stages first come."""
    found: dict[str, StageUse] = {}
    for part in parts:
        for name, use in part.items():
            known = found.get(name, StageUse(0.0, 0))
            found[name] = StageUse(known.seconds + use.seconds, max(known.memory_bytes, use.memory_bytes))
    return found
