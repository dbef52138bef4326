"""Curves have the metrics as their areas; a video is as good as its objects are covered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_runs import SmallModel, box, truth_of
from small_runs import make_run as make_small_run

from harness.datasets.shapes import PLUGIN as SHAPES
from harness.reports.curves import curves, video_quality
from harness.run_folder.store import PredictionStore
from harness.runner import execute
from harness.scoring.match_table import MATCHES_FILE, read_table
from harness.types import Track


def test_the_area_under_a_curve_is_the_metric(two: list[Path]) -> None:
    for run in two:
        metrics = json.loads((run / "metrics.json").read_bytes())["metrics"]
        found = {
            (c.group, c.panel.partition(" (")[2].rstrip(")")): c.points for c in curves(read_table(run / MATCHES_FILE))
        }
        assert found.keys() == {(g, m) for g in ("all", "base", "novel") for m in ("AP", "AP50", "AP75")}
        for (group, metric), points in found.items():
            suffix = {"all": "", "base": "b", "novel": "n"}[group]
            assert np.mean([precision for _, precision in points]) == pytest.approx(metrics[metric + suffix], abs=1e-12)


def test_the_quality_of_a_video_is_the_overlap_with_the_best_track_of_the_category(tmp_path: Path) -> None:
    half = tuple(box(2, frame, 5, 3) for frame in range(3))  # the left half of video 2's object

    def tracks(video_id: int) -> list[Track]:
        good = [Track(video_id, 1, 0.5, truth_of(video_id))]
        poor = [Track(2, 1, 0.9, half), Track(2, 1, 0.1, (half[0], None, None)), Track(2, 2, 0.9, truth_of(2))]
        return {2: poor, 3: []}.get(video_id, good)

    run = make_small_run(tmp_path, SmallModel(tracks=tracks))
    execute(run)
    assert video_quality(run.dataset, run.store) == pytest.approx({1: 1.0, 2: 0.5, 3: 0.0, 4: 1.0})
    assert video_quality(run.dataset, run.store, [2]) == pytest.approx({2: 0.5})


def test_right_names_make_videos_better(two: list[Path]) -> None:
    right, wrong = (video_quality(SHAPES.open(Path(), "test"), PredictionStore(run / "predictions")) for run in two)
    assert right.keys() == wrong.keys()
    assert all(right[video] >= wrong[video] for video in right)
