"""Compiled work on all cores: its loops let other threads run (``nogil``)."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray


def on_all_cores(work: Callable[[NDArray[np.int64]], object], items: int) -> None:
    """Call ``work`` once per core with some of the numbers 0 to ``items`` - 1, each of them once.

    Neighbours go to different cores, because they often take about as long.
    """
    workers = min(os.cpu_count() or 1, max(items, 1))
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, [np.arange(first, items, workers) for first in range(workers)]))
