"""Videos of rectangles whose identities are known, and a segmenter that sees them: for tests of trackers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from pycocotools import mask as coco
from small_runs import make_video

from harness.baselines.track_by_detection.detections import SegmentedFrame
from harness.masks import Rle
from harness.models.shared.preprocess import Geometry
from harness.models.shared.windows import Stages
from harness.types import Category, Track, Video, Vocabulary

HEIGHT, WIDTH = 96, 128
CELL = 4
WORDS = Vocabulary((Category(7, "cat"), Category(3, "dog"), Category(9, "red umbrella")))
LOOKS = np.eye(8, dtype=np.float32)

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Thing:
    """An object: where it is in each frame, ``None`` where it is hidden; how it looks; its scores as each category."""

    boxes: Sequence[Box | None]
    look: np.ndarray = field(default_factory=lambda: LOOKS[0])
    scores: Callable[[int], Sequence[float]] = lambda frame: (0.8, 0.1, 0.1)


def moving(start: Box, step: tuple[float, float], frames: int, hidden: Sequence[int] = ()) -> list[Box | None]:
    """A box that moves by ``step`` (right, down) each frame."""
    x, y = step
    return [
        None if f in hidden else (start[0] + x * f, start[1] + y * f, start[2] + x * f, start[3] + y * f)
        for f in range(frames)
    ]


def region(box: Box, edge: int = 1) -> np.ndarray:
    """The cells of ``edge`` pixels whose centre a box covers, boolean."""
    y, x = np.mgrid[: HEIGHT // edge, : WIDTH // edge] * edge + edge / 2
    return np.asarray((x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3]))


@dataclass
class Scene:
    """A video of things, in which earlier ones hide later ones; is its own segmenter (see `Segmenter`).

    Candidates come in another order in every frame, so that nothing can be read off it.
    """

    things: Sequence[Thing]
    stage: Stages = lambda name: nullcontext()

    @property
    def video(self) -> Video:
        return make_video(5, HEIGHT, WIDTH, len(self.things[0].boxes))

    def geometry(self, height: int, width: int) -> Geometry:
        return Geometry((height, width), (height, width), (height, width))

    def frames(self, video: Video, vocabulary: Vocabulary) -> Iterator[SegmentedFrame]:
        for f in range(len(video.frames)):
            order = np.random.default_rng(f).permutation(len(self.things))
            seen = self.visible(f, CELL)
            logits = torch.tensor(np.stack(seen)[order]).float() * 8 - 4
            scores = torch.tensor([self.things[i].scores(f) for i in order], dtype=torch.float32)
            yield SegmentedFrame(scores, logits, torch.tensor(np.stack([self.things[i].look for i in order])))

    def visible(self, frame: int, edge: int = 1) -> list[np.ndarray]:
        """What is seen of each thing."""
        taken = np.zeros((HEIGHT // edge, WIDTH // edge), bool)
        out = []
        for thing in self.things:
            box = thing.boxes[frame]
            own = region(box, edge) & ~taken if box else np.zeros_like(taken)
            out.append(own)
            taken |= own
        return out

    def best_match(self, track: Track) -> list[int | None]:
        """The thing that a track covers in each frame, by the largest overlap; ``None`` where it has no mask."""
        return [
            int(np.argmax([(pixels(mask) & seen).sum() for seen in self.visible(f)])) if mask else None
            for f, mask in enumerate(track.masks)
        ]


def pixels(mask: Rle) -> np.ndarray:
    """A mask decoded, boolean ``(height, width)``."""
    decoded = coco.decode([{"size": list(mask.size), "counts": mask.counts}])
    return np.array(decoded, copy=True)[..., 0].astype(bool)
