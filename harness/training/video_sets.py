"""Videos as a training set: each video is an item, each draw takes one of its frames (CLIP-VIS, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from harness.errors import UserError
from harness.training.outlines import pixels_of_rle
from harness.training.types import Instance, TrainingImage
from harness.types import Category, Dataset


class VideoFrames:
    """The frames of a dataset with truth. A drawn frame has only the objects that are visible in it."""

    def __init__(self, dataset: Dataset) -> None:
        if dataset.truth is None:
            where = f"{dataset.name}, split {dataset.split}"
            raise UserError(where, "its truth is withheld", "train on a split whose truth is public")
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
        """Return one frame of video ``item``, chosen uniformly; raises `UserError` for a broken frame or mask."""
        video = self.dataset.videos[item]
        frame = int(random.integers(len(video.frames)))
        name = f"video {video.id} ({video.name}), frame {frame}"
        image = video.frames[frame]
        instances = []
        for track in self.truth.tracks_of(video.id):
            mask = track.masks[frame]
            if track.is_crowd or mask is None:
                continue
            where = f"{self.truth.path}, annotation {track.id}, frame {frame}"
            if mask.size != image.shape[:2]:
                what = f"its mask is {mask.size[0]}x{mask.size[1]} (height x width), its frame has another size"
                raise UserError(where, what, "use the frames that belong to these annotations")
            instances.append(Instance(self._position[track.category_id], pixels_of_rle(mask, where)))
        return TrainingImage(name, image, tuple(instances))
