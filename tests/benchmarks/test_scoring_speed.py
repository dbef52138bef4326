"""Scoring beside a plain pycocotools evaluator: ``pytest tests/benchmarks --benchmark-enable``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reference_evaluator import average_precision
from workload import MEDIUM, SMALL, make

from harness.formats.youtube_vis import read_annotations
from harness.scoring.score import score_results

WORKLOADS = {"small": SMALL, "medium": MEDIUM}


@pytest.fixture(scope="module", params=WORKLOADS)
def workload(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    # with benchmarks off the cases still run once, on the small workload only
    enabled = request.config.getoption("benchmark_enable")
    name = request.param if enabled else "small"
    return name, *make(tmp_path_factory.mktemp(name), WORKLOADS[name])


@pytest.mark.benchmark(group="score")
def test_harness(benchmark: Any, workload: tuple[str, Path, Path]) -> None:
    name, gt, results = workload
    benchmark.group = f"score {name}"
    score = benchmark(lambda: score_results("lvvis", read_annotations(gt), results))
    assert score.metrics.values["AP"] is not None


@pytest.mark.benchmark(group="score")
def test_plain_pycocotools(benchmark: Any, workload: tuple[str, Path, Path]) -> None:
    name, gt, results = workload
    benchmark.group = f"score {name}"
    numbers = benchmark.pedantic(lambda: average_precision(gt, results), rounds=1)
    ours = score_results("lvvis", read_annotations(gt), results).metrics.values["AP"]
    assert numbers["AP"] == pytest.approx(ours, abs=1e-12)
