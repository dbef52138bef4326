"""detectron2 for tests: the real one where it is installed or named, else a minimal stand-in for its interfaces.

``HARNESS_DETECTRON2`` names a source tree of detectron2 (several folders as in PYTHONPATH: with those of what it
needs and is not installed); its compiled parts are not needed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pycocotools import mask as coco

from harness.types import Category, Track, Video, Vocabulary

DATA = Path(__file__).parents[1] / "data"
STAND_IN, PROJECT = DATA / "detectron2_stand_in", DATA / "detectron2_project"
NAMED = [folder for folder in os.environ.get("HARNESS_DETECTRON2", "").split(os.pathsep) if folder]
_ADAPTER = "harness.baselines.detectron2_adapter"
_OF_TESTS = ("detectron2", "colour_project", "open_colour_project", "MultiScaleDeformableAttention")


IS_INSTALLED = not NAMED and importlib.util.find_spec("detectron2") is not None
FOLDERS = NAMED or ([] if IS_INSTALLED else [str(STAND_IN)])
"""What has to be importable for detectron2 to be there."""


@contextmanager
def library() -> Iterator[None]:
    """Make detectron2 importable; a stand-in, and what was imported with it, is gone afterwards."""
    sys.path[:0] = FOLDERS
    try:
        yield
    finally:
        if str(STAND_IN) in FOLDERS:
            sys.path[:] = [folder for folder in sys.path if folder not in (str(STAND_IN), str(PROJECT))]
            for name in list(sys.modules):
                if name.partition(".")[0] in _OF_TESTS or name.startswith(f"{_ADAPTER}."):
                    del sys.modules[name]


HEIGHT, WIDTH, LENGTH = 48, 64, 3
WORDS = Vocabulary((Category(4, "red ball"), Category(7, "dog"), Category(9, "blue ball")))


class Balls:
    """A red patch that moves, and a blue one that stays."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, frame_index: int, /) -> np.ndarray:
        image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        image[4:20, frame_index : frame_index + 24] = (220, 40, 40)
        image[30:40, 30:50] = (40, 40, 220)
        return image


VIDEO = Video(5, "balls", HEIGHT, WIDTH, Balls())


def pixels(track: Track) -> list[np.ndarray]:
    masks = [m for m in track.masks if m is not None]
    return [coco.decode({"size": list(m.size), "counts": m.counts}).astype(bool) for m in masks]


def command(tmp_path: Path, given: Sequence[str], folders: Sequence[str] = FOLDERS) -> subprocess.CompletedProcess[str]:
    """`harness` in a process of its own, where what is in ``folders`` can be imported, so detectron2."""
    start = [sys.executable, "-c", "from harness.cli.main import main; main()"]
    path = os.pathsep.join([*folders, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([*start, *given], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
