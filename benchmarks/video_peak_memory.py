"""Measures peak memory and temporary files of tiny models by number of frames, queries and words.

``python -m video_peak_memory MODEL FOLDER FRAMES,QUERIES,WORDS ...`` runs ``clipvis``, ``ov2seg``,
``track-by-detection`` or ``sam3`` on a video for each triple in turn, and prints a JSON list: ``peak``, the peak
resident memory of the process so far, and ``scratch``, the temporary files of the video, both in bytes, and
``seconds``. A peak never falls, so cases that are compared need separate processes. FOLDER is for scratch files. Text
embeddings are random, except for ``sam3``, which always has five queries.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tiny_clipvis
import torch
import weight_recipe

from harness import plugins
from harness.baselines.ov2seg import network as ov2seg
from harness.baselines.ov2seg.config import Ov2SegConfig
from harness.baselines.ov2seg.model import Ov2Seg
from harness.baselines.ov2seg.text_classifier import SourcedClassifier
from harness.baselines.track_by_detection.config import TrackingConfig
from harness.baselines.track_by_detection.model import TrackByDetection
from harness.baselines.track_by_detection.segmenters import ClipVisSegmenter
from harness.cli.bench_fit import peak as peak_of
from harness.frames import Image
from harness.models.backbones.resnet import ResNetSize
from harness.models.clipvis.checkpoint import load_state
from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.model import ClipVis
from harness.models.clipvis.network import ClipVisNetwork
from harness.models.shared.spill_buffer import SpillBuffer
from harness.models.shared.text_classifier import TextClassifier, classes_of
from harness.types import Category, LoadContext, Model, Video, Vocabulary

HEIGHT, WIDTH = 120, 160
SETTINGS = {"short_edge": 64, "window": 10, "mask_memory_mb": 1, "detections_per_video": 10}
NARROW = 32
"""Dimension of the tiny models' text embeddings."""


class Moving:
    """Frames with a moving bright block, drawn on access."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, frame_index: int, /) -> Image:
        picture = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
        left = 3 * frame_index % (WIDTH - 45)
        picture[20:80, left : left + 45] = (250, 40, 30)
        return picture


def moving_video(frames: int) -> Video:
    return Video(1, "moving", HEIGHT, WIDTH, Moving(frames))


def words(count: int) -> Vocabulary:
    return Vocabulary(tuple(Category(i, f"thing {i}") for i in range(1, count + 1)))


def embedded(vocabulary: Vocabulary) -> TextClassifier:
    """Return random unit embeddings, one per category, ``(categories, NARROW)``."""
    count = len(vocabulary.categories)
    made = torch.randn(count, NARROW, generator=torch.Generator().manual_seed(0))
    return TextClassifier(torch.nn.functional.normalize(made, dim=-1), classes_of([1] * count))


class Embedded(ClipVis):
    """CLIP-VIS with random text embeddings: computing them with its tiny CLIP would take most of the time."""

    def text_classifier(self, vocabulary: Vocabulary) -> TextClassifier:
        return embedded(vocabulary)


def tiny_clipvis_model(folder: Path, queries: int, **settings: Any) -> ClipVis:
    tiny_clipvis.tiny_network(folder)  # registers the tiny CLIP with open_clip
    with torch.device("meta"):
        network = ClipVisNetwork(replace(tiny_clipvis.TINY, queries=queries))
    config = ClipVisConfig.model_validate(SETTINGS | settings)
    return Embedded(load_state(network, weight_recipe.state(network.state_dict())), config)


def tiny_ov2seg_model(folder: Path, queries: int, **settings: Any) -> Ov2Seg:
    sizes = {"decoder_layers": 2, "dim": 32, "heads": 4, "feedforward": 64, "encoder_layers": 1}
    backbone = ResNetSize((1, 1, 1, 1), 8)
    network = ov2seg.Ov2SegNetwork(
        ov2seg.Ov2SegArchitecture(backbone, queries=queries, encoder_feedforward=48, embed_dim=NARROW, **sizes)
    )
    network.load_state_dict(weight_recipe.state(network.state_dict()))
    config = Ov2SegConfig.model_validate(SETTINGS | settings)
    return Ov2Seg(network, lambda vocabulary: SourcedClassifier(embedded(vocabulary), "random", True), config)


def tiny_tracking_model(folder: Path, queries: int) -> TrackByDetection:
    """Return a model in which each query with a separate mask is an object, and most objects start a track."""
    segmenter = ClipVisSegmenter(tiny_clipvis_model(folder, queries))
    return TrackByDetection(segmenter, TrackingConfig(score_threshold=0, tracks_per_video=10))


def tiny_sam3_model(folder: Path, queries: int) -> Model:
    import tiny_sam3

    plugin = plugins.model("sam3")
    context = LoadContext(plugins.dataset("shapes").open(Path(), "val"), checkpoint=tiny_sam3.save(folder, seed=6))
    return plugin.load(plugin.Config(), context)


BUILT: dict[str, Callable[[Path, int], Model]] = {
    "clipvis": tiny_clipvis_model,
    "ov2seg": tiny_ov2seg_model,
    "track-by-detection": tiny_tracking_model,
    "sam3": tiny_sam3_model,
}


class Scratch:
    """Adds up the bytes of the temporary files of all `SpillBuffer` objects."""

    def __init__(self) -> None:
        self.nbytes = 0
        close = SpillBuffer.close

        def measured(spool: SpillBuffer) -> None:
            if spool._file is not None:
                self.nbytes += os.fstat(spool._file.fileno()).st_size
            close(spool)

        SpillBuffer.close = measured  # type: ignore[method-assign]


def peak() -> int:
    """Return the peak resident memory of this process so far, in bytes.

    `resource` is not used: it reports the size of the parent process if that is larger.
    """
    return peak_of("cpu")


def measure(name: str, folder: Path, cases: list[tuple[int, int, int]]) -> list[dict[str, float]]:
    """Return the cost of each case ``(frames, queries, words)``, measured in order."""
    scratch, found = Scratch(), []
    for frames, queries, count in cases:
        model = BUILT[name](folder, queries)
        before, begun = scratch.nbytes, time.perf_counter()
        tracks = list(model.predict(moving_video(frames), words(count)))
        assert tracks
        assert all(len(track.masks) == frames for track in tracks)
        seconds = time.perf_counter() - begun
        found.append({"peak": peak(), "scratch": scratch.nbytes - before, "seconds": round(seconds, 1)})
        del tracks
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    asked = [tuple(int(number) for number in text.split(",")) for text in sys.argv[3:]]
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), asked)))  # type: ignore[arg-type]
