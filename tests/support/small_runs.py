"""A small dataset in memory, and models that behave as a test wants, for tests of stores and runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco
from pydantic import BaseModel, ConfigDict

from harness.formats.youtube_vis import annotations_from_document
from harness.frames import Image
from harness.masks import Rle
from harness.runner import Run
from harness.types import Category, Dataset, LoadContext, Track, Video, Vocabulary

HEIGHT, WIDTH, LENGTH, VIDEOS = 12, 16, 3, 4


class BlackFrames:
    """Frames without anything on them."""

    def __init__(self, length: int = LENGTH) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, frame_index: int, /) -> Image:
        return np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def make_video(video_id: int = 1, height: int = HEIGHT, width: int = WIDTH, length: int = LENGTH) -> Video:
    return Video(video_id, f"video {video_id}", height, width, BlackFrames(length))


def box(top: int, left: int, height: int, width: int) -> Rle:
    """The mask of a rectangle in a small video."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    pixels[top : top + height, left : left + width] = 1
    return Rle((HEIGHT, WIDTH), coco.encode(pixels)["counts"])


def truth_of(video_id: int) -> tuple[Rle, ...]:
    """The only object of a video: a box that moves."""
    return tuple(box(video_id, frame, 5, 6) for frame in range(LENGTH))


def make_dataset(videos: int = VIDEOS, with_truth: bool = True, first_annotation: int = 1) -> Dataset:
    """``videos`` videos with ids from 1, one object of category 1 each; category 2 is never seen."""
    records = [
        {"id": v, "height": HEIGHT, "width": WIDTH, "length": LENGTH, "file_names": [f"{v}/{f}.jpg" for f in range(3)]}
        for v in range(1, videos + 1)
    ]
    document: dict[str, Any] = {
        "videos": records,
        "categories": [{"id": 1, "name": "box", "partition": 0}, {"id": 2, "name": "ball", "partition": 3}],
    }
    if with_truth:
        document["annotations"] = [
            {
                "id": first_annotation + v - 1,
                "video_id": v,
                "category_id": 1,
                "iscrowd": 0,
                "areas": [30] * LENGTH,
                "segmentations": [{"size": list(m.size), "counts": m.counts.decode()} for m in truth_of(v)],
            }
            for v in range(1, videos + 1)
        ]
    annotations = annotations_from_document(document, "small dataset")
    categories = (Category(1, "box", groups=("base",)), Category(2, "ball", groups=("novel",)))
    shown = tuple(make_video(v) for v in range(1, videos + 1))
    server = None if with_truth else "https://server.invalid/submit"
    return Dataset("small", "val", categories, shown, "lvvis", annotations, server)


class SmallConfig(BaseModel):
    """One dial, to have different configurations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    score: float = 0.5


@dataclass
class SmallModel:
    """Finds the truth; ``before`` is called first with every video and may raise. Is its own plugin.

    ``seen`` are the ids of the videos it was asked for, in order; ``loads`` counts how often it was loaded.
    """

    before: Callable[[int], None] = lambda video_id: None
    tracks: Callable[[int], list[Track]] | None = None
    name: str = "small"
    version: str = "1"
    summary: str = "For tests"
    seen: list[int] = field(default_factory=list)
    loads: int = 0
    Config: type[BaseModel] = SmallConfig
    config: SmallConfig = field(default_factory=SmallConfig)

    def load(self, config: Any, context: LoadContext) -> SmallModel:
        self.loads += 1
        self.config = config
        return self

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        self.seen.append(video.id)
        self.before(video.id)
        if self.tracks is not None:
            yield from self.tracks(video.id)
        else:
            yield Track(video.id, vocabulary.categories[0].id, self.config.score, truth_of(video.id))


def make_run(runs_dir: Path, model: SmallModel | None = None, dataset: Dataset | None = None, **options: Any) -> Run:
    """A run of a small model; ``options`` are fields of `Run`."""
    options.setdefault("config", SmallConfig())
    return Run(model or SmallModel(), dataset=dataset or make_dataset(), runs_dir=runs_dir, **options)


def interrupting(at: int) -> SmallModel:
    """A model during whose video ``at`` the user presses Ctrl-C."""

    def before(video_id: int) -> None:
        if video_id == at:
            raise KeyboardInterrupt

    return SmallModel(before)
