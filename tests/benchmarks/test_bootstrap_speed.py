"""The bootstrap at the size of LV-VIS's validation split: ``pytest tests/benchmarks --benchmark-enable``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from match_populations import make_population

from harness.scoring.bootstrap import draw, replicate

LVVIS = {"videos": 837, "categories": 1196, "objects": 4, "wrong": 46}
"""50 tracks per video, 41,850 in all."""
SMALL = {"videos": 20, "categories": 10, "objects": 4, "wrong": 20}
"""What runs where benchmarks are off."""


@pytest.mark.benchmark(group="1,000 resamples of a run")
def test_resamples(benchmark: Any, request: pytest.FixtureRequest) -> None:
    size = LVVIS if request.config.getoption("benchmark_enable") else SMALL
    table = make_population(0, **size).table(0)
    replicate(table, np.ones((1, size["videos"]), np.int32))  # compile
    replicates = benchmark(lambda: replicate(table, draw(size["videos"], 1000, 0)))
    assert replicates.defined.any(0).sum() == len(np.unique(make_population(0, **size).category))
