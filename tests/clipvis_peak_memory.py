"""Peak memory of a tiny CLIP-VIS on a short and on a long video; a process of its own, since a peak never falls.

``python -m clipvis_peak_memory FOLDER SHORT LONG`` prints both as JSON, in bytes; FOLDER is for scratch files.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np
import torch
from tiny_clipvis import tiny_with_weights

from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.model import ClipVis
from harness.types import Category, Image, Video, Vocabulary

HEIGHT, WIDTH = 120, 160
SETTINGS = {"short_edge": 64, "window": 10, "mask_memory_mb": 1, "detections_per_video": 10}


class Moving:
    """Frames with a bright block that moves, drawn when they are asked for."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, frame_index: int, /) -> Image:
        picture = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
        left = 3 * frame_index % (WIDTH - 45)
        picture[20:80, left : left + 45] = (250, 40, 30)
        return picture


def peaks(folder: Path, lengths: list[int]) -> list[int]:
    """Largest resident size of this process, in bytes, after a video of each length in turn."""
    model = ClipVis(tiny_with_weights(folder), ClipVisConfig.model_validate(SETTINGS))
    words = Vocabulary(tuple(Category(i, f"thing {i}") for i in range(1, 41)))
    scale = 1 if sys.platform == "darwin" else 1024
    found = []
    for frames in lengths:
        tracks = model.predict(Video(1, "moving", HEIGHT, WIDTH, Moving(frames)), words)
        assert len(tracks) == SETTINGS["detections_per_video"]
        assert all(len(track.masks) == frames for track in tracks)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale)
        del tracks
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(peaks(Path(sys.argv[1]), [int(text) for text in sys.argv[2:]])))
