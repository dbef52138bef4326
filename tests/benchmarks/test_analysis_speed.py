"""The analysis of errors on a made workload: ``pytest tests/benchmarks --benchmark-enable``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from analysis_scenes import NoFrames
from workload import MEDIUM, SMALL, make

from harness.formats.youtube_vis import Annotations, read_annotations
from harness.masks import Rle
from harness.run_folder.store import PredictionStore
from harness.scoring.analysis import analyse
from harness.scoring.score import score_store
from harness.types import Track, Video


@pytest.fixture(scope="module")
def workload(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Annotations, PredictionStore]:
    folder = tmp_path_factory.mktemp("workload")
    gt, results = make(folder, MEDIUM if request.config.getoption("benchmark_enable") else SMALL)
    annotations, store = read_annotations(gt), PredictionStore(folder / "predictions")
    tracks: dict[int, list[Track]] = {video.id: [] for video in annotations.videos}
    for one in json.loads(results.read_text()):
        masks = tuple(m and Rle(tuple(m["size"]), m["counts"].encode()) for m in one["segmentations"])
        tracks[one["video_id"]].append(Track(one["video_id"], one["category_id"], one["score"], masks))
    for video in annotations.videos:
        named = Video(video.id, video.name, video.height, video.width, NoFrames(video.length))
        store.write_video(named, tracks[video.id])
    return annotations, store


@pytest.mark.benchmark(group="analyse")
def test_analyse(benchmark: Any, workload: tuple[Annotations, PredictionStore]) -> None:
    found = benchmark(lambda: analyse("lvvis", *workload))
    assert found.errors.ap == score_store("lvvis", *workload).metrics.values["AP"]
