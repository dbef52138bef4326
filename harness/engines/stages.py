"""Time and memory of a model's stages: decoding, backbone, matching, ..."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from harness.events import StageUse, merge_stage_usage


class StageClock:
    """The ``stage`` hook of a model: a context manager around each stage, by name. It synchronises a GPU.

    Stages are entered once per window or frame, so reading the clock and the memory costs next to nothing.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.uses: dict[str, StageUse] = {}
        self._device = device
        self._cuda: Any = sys.modules["torch"].cuda if device.startswith("cuda") else None
        self._process = psutil.Process()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time and memory of the block to the stage ``name``."""
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats(self._device)
        began = time.perf_counter()
        yield
        if self._cuda is not None:
            self._cuda.synchronize(self._device)
        self.uses |= merge_stage_usage([self.uses, {name: StageUse(time.perf_counter() - began, self._memory())}])

    def _memory(self) -> int:
        if self._cuda is not None:
            return int(self._cuda.max_memory_allocated(self._device))
        return int(self._process.memory_info().rss)


@contextmanager
def time_stages(model: object) -> Iterator[dict[str, StageUse]]:
    """Time the stages of a model that has the hook ``stage``; the result stays empty for others."""
    if not hasattr(model, "stage"):
        yield {}
        return
    before, clock = model.stage, StageClock(str(getattr(model, "device", "cpu")))
    model.stage = clock
    try:
        yield clock.uses
    finally:
        model.stage = before
