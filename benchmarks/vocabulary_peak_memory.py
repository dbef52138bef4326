"""Measures the peak memory of text embeddings and of a video by vocabulary size.

``python -m vocabulary_peak_memory FOLDER FRAMES FEW MANY`` prints, in bytes, the peaks after: embedding FEW words,
embedding MANY, a video of FRAMES frames with FEW, the same with MANY. FOLDER is for scratch files. Embeddings have the
1,024 dimensions of CLIP but are random; the video is processed by a tiny CLIP-VIS with the usual 100 queries.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor
from video_peak_memory import SETTINGS, moving_video, peak, tiny_clipvis_model, words

from harness.cli.bench_fit import forget_peak
from harness.models.shared.text_classifier import build_text_classifier

WIDE, QUERIES = 1024, 100


class Encoder:
    """Returns random text embeddings ``(texts, WIDE)``, chosen by the sum of the tokens."""

    def __init__(self) -> None:
        self.table = torch.randn(512, WIDE, generator=torch.Generator().manual_seed(0))

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.table[tokens.sum(1) % len(self.table)]


def peaks(folder: Path, frames: int, sizes: list[int]) -> list[int]:
    """Return the peaks in bytes for each vocabulary size: first of embedding its words, then of a video."""
    model = tiny_clipvis_model(folder, QUERIES)
    model.predict(moving_video(frames), words(sizes[0]))  # warm-up: memory allocated at first use does not count
    found = []
    for count in sizes:
        forget_peak("cpu")
        build_text_classifier(Encoder(), [f"thing {number}" for number in range(count)])
        found.append(peak())
    for count in sizes:
        forget_peak("cpu")
        assert len(model.predict(moving_video(frames), words(count))) == SETTINGS["detections_per_video"]
        found.append(peak())
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(peaks(Path(sys.argv[1]), int(sys.argv[2]), [int(text) for text in sys.argv[3:]])))
