"""The jackknife at the size of LV-VIS's validation split: ``pytest tests/benchmarks --benchmark-enable``."""

from __future__ import annotations

from typing import Any

import pytest
from match_populations import make_population

from harness.scoring.jackknife import leave_videos_out

LVVIS = {"videos": 837, "categories": 1196, "labels": 4, "wrong": 46}
"""50 tracks per video, 41,850 in all."""
SMALL = {"videos": 20, "categories": 10, "labels": 4, "wrong": 20}
"""What runs where benchmarks are off."""


@pytest.mark.benchmark(group="jackknife of a run")
def test_jackknife(benchmark: Any, request: pytest.FixtureRequest) -> None:
    size = LVVIS if request.config.getoption("benchmark_enable") else SMALL
    table = make_population(0, **size).table(0)
    leave_videos_out(table)  # compile
    found = benchmark(lambda: leave_videos_out(table))
    assert 0 < found.number("AP") < 1
