"""Measures the costs of runs: ``python -m scaling_costs`` prints the numbers of docs/scaling.md as JSON.

Seconds of scoring and bytes of shards are fitted as ``fixed + per_track * tracks`` over generated workloads of growing
size. Seconds of models are means per frame over runs on `shapes`, on one core.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from workload import MEDIUM, make

from harness import plugins
from harness.formats.youtube_vis import read_annotations
from harness.masks import Rle
from harness.run_folder.store import PredictionStore, tabulate
from harness.runner import Run, execute
from harness.scoring.score import score_store
from harness.types import Track, Video

MODELS = ("oracle", "clipvis", "ov2seg")  # the networks are the miniatures that come with the harness
VIDEOS = (20, 40, 80)


def fitted(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Return ``fixed`` and ``per_one`` of the least-squares line ``value = fixed + per_one * size``."""
    per_one, fixed = np.polyfit(np.asarray(sizes, float), np.asarray(values, float), 1)
    return float(fixed), float(per_one)


def model_seconds(name: str, folder: Path, videos: int = 12) -> dict[str, float]:
    """Return a model's seconds per frame without the first video, which is the warm-up."""
    plugin, dataset = plugins.model(name), plugins.dataset("shapes").open(Path(), "val")
    run = Run(plugin, plugin.Config(), dataset, folder, limit=videos)
    execute(run)
    seconds = json.loads((run.folder / "timings.json").read_text())["videos"]
    later = run.videos[1:]
    spent, frames = sum(seconds[str(v.id)] for v in later), sum(len(v.frames) for v in later)
    return {"seconds_per_frame": spent / frames, "frames": frames}


def store_and_scoring(folder: Path) -> dict[str, float]:
    """Return bytes of shards and seconds of scoring per track (640x360, 20 frames, 300 categories)."""
    tracks, sizes, seconds = [], [], []
    for videos in VIDEOS:
        place = folder / str(videos)
        place.mkdir()
        truth, results = make(place, replace(MEDIUM, videos=videos))
        store = PredictionStore(place / "predictions")
        count = fill(store, json.loads(results.read_text()))
        annotations = read_annotations(truth)
        best = min(timed(annotations, store) for _ in range(3))
        tracks.append(count)
        seconds.append(best)
        sizes.append(sum(p.stat().st_size for p in store.folder.iterdir()))
    fixed, per_track = fitted(tracks, seconds)
    return {
        "bytes_per_track": fitted(tracks, sizes)[1],
        "scoring_seconds": fixed,
        "scoring_seconds_per_track": per_track,
        "tracks": tracks[-1],
    }


def timed(annotations: object, store: PredictionStore) -> float:
    """Return the seconds of scoring once."""
    began = time.perf_counter()
    score_store("lvvis", annotations, store, False, None)  # type: ignore[arg-type]
    return time.perf_counter() - began


def fill(store: PredictionStore, results: Sequence[dict[str, object]]) -> int:
    """Store results by video; return the number of tracks."""
    by_video: dict[int, list[Track]] = {}
    for row in results:
        masks = tuple(None if m is None else Rle((m["size"][0], m["size"][1]), m["counts"].encode())
                      for m in row["segmentations"])  # type: ignore[attr-defined]  # fmt: skip
        track = Track(int(row["video_id"]), int(row["category_id"]), float(row["score"]), masks)  # type: ignore[call-overload, arg-type]
        by_video.setdefault(track.video_id, []).append(track)
    for number, tracks in by_video.items():
        video = Video(number, str(number), MEDIUM.height, MEDIUM.width, range(MEDIUM.frames))  # type: ignore[arg-type]
        store.write_table(video, tabulate(video, tracks))
    return len(results)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        for model in MODELS:
            print(json.dumps({"model": model, **model_seconds(model, Path(made))}), flush=True)
        print(json.dumps(store_and_scoring(Path(made))))
