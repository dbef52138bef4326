"""Videos as a training set: each is an item, each draw takes one of its frames (CLIP-VIS, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from harness.errors import UserError
from harness.training.types import Instance, TrainingImage
from harness.types import Category, Dataset, Rle


class VideoFrames:
    """The frames of a dataset with truth. Objects that are absent from the drawn frame are no part of it."""

    def __init__(self, dataset: Dataset) -> None:
        if dataset.truth is None:
            where = f"{dataset.name}, split {dataset.split}"
            raise UserError(where, "its truth is withheld", "train on a split that has it")
        self.dataset, self.truth = dataset, dataset.truth
        self.name = dataset.name
        self.categories: tuple[Category, ...] = dataset.categories
        self.digest = dataset.digest

    @cached_property
    def _position(self) -> dict[int, int]:
        return {category.id: i for i, category in enumerate(self.categories)}

    def __len__(self) -> int:
        return len(self.dataset.videos)

    def categories_of(self, item: int) -> Sequence[int]:
        """Positions of the categories of a video's tracks."""
        tracks = self.truth.tracks_of(self.dataset.videos[item].id)
        return sorted({self._position[track.category_id] for track in tracks if not track.is_crowd})

    def draw(self, item: int, random: np.random.Generator) -> TrainingImage:
        """One frame of video ``item``, chosen uniformly."""
        video = self.dataset.videos[item]
        frame = int(random.integers(len(video.frames)))
        instances = tuple(
            Instance(self._position[track.category_id], _pixels(mask))
            for track in self.truth.tracks_of(video.id)
            if not track.is_crowd and (mask := track.masks[frame]) is not None
        )
        return TrainingImage(f"video {video.id} ({video.name}), frame {frame}", video.frames[frame], instances)


def _pixels(mask: Rle) -> np.ndarray:
    from pycocotools import mask as coco

    return np.asarray(coco.decode({"size": list(mask.size), "counts": mask.counts}), dtype=np.bool_)
