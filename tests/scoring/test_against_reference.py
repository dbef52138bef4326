"""Our scoring and a plain pycocotools evaluator agree on made workloads."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference_evaluator import average_precision
from workload import Workload, make

from harness.formats.youtube_vis import read_annotations
from harness.scoring.score import score_results


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("categories", [2, 12])
def test_agrees_with_plain_evaluator(tmp_path: Path, seed: int, categories: int) -> None:
    gt, results = make(
        tmp_path, Workload(videos=6, frames=5, categories=categories, tracks=15, height=90, width=160), seed
    )
    expected = average_precision(gt, results)
    values = score_results("lvvis", read_annotations(gt), results).metrics.values
    for name, number in expected.items():
        assert values[name] == (None if number == -1 else pytest.approx(number, abs=1e-12)), name
