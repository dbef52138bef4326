"""The types of training: a set of annotated images, one image of it, and the sample that the network gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.arrays import Mask
from harness.frames import Image
from harness.types import Category, ModelPlugin

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor

Polygons = tuple[NDArray[np.float64], ...]
"""The outline of one object: closed polygons, each ``(points, 2)`` as ``(x, y)`` in pixels of the image."""


class Instance(NamedTuple):
    """One object of an image."""

    category: int
    """Position of its category in the set's ``categories``."""
    outline: Polygons | Mask
    """Its annotated shape; polygons are rasterised after the image is transformed."""


class TrainingImage(NamedTuple):
    """One annotated image of a set, before augmentation."""

    name: str
    """Its name in messages: a path, or a video and a frame."""
    image: Image
    instances: tuple[Instance, ...]


class TrainingSet(Protocol):
    """A set of annotated images. A video is one item: each draw takes one of its frames."""

    name: str
    categories: tuple[Category, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the annotations and of the selection from them."""
        ...

    def __len__(self) -> int: ...

    def categories_of(self, item: int) -> Sequence[int]:
        """Positions of the categories that occur in ``item``, for repeat-factor sampling."""
        ...

    def draw(self, item: int, random: np.random.Generator) -> TrainingImage:
        """Read ``item``; random choices (the frame of a video) use ``random``."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """The input of the network: an augmented image with its instances."""

    image: Image
    """RGB ``(height, width, 3)``, before normalisation; not padded, unless padding precedes normalisation."""
    masks: NDArray[np.bool_]
    """``(instances, height, width)``, the size of ``image``."""
    categories: NDArray[np.int64]
    """``(instances,)``: positions in the set's categories."""


class Augmentation(Protocol):
    """Turns an annotated image into a sample; the same generator state gives the same sample."""

    def __call__(self, image: TrainingImage, random: np.random.Generator) -> TrainingSample: ...


@runtime_checkable
class Trainee(Protocol):
    """A model in training, a ``torch.nn.Module`` that returns its losses and exports its weights."""

    def __call__(self, samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
        """Return the losses of a batch by name, scalars; their weighted sum is ``"total"``."""
        ...

    def rates(self) -> Mapping[str, float]:
        """Return factors of the learning rate by prefix of a parameter's name; empty: the same rate for all."""
        ...

    def export(self, path: Path, facts: Mapping[str, str]) -> None:
        """Write a checkpoint for ``--checkpoint`` as safetensors, with ``facts`` in its metadata."""
        ...


@runtime_checkable
class TrainablePlugin(ModelPlugin, Protocol):
    """A model plugin that ``harness train`` can train."""

    TrainingConfig: type[BaseModel]
    """Settings of the model: sizes, initial weights, losses."""

    def training_defaults(self, dataset: str) -> Mapping[str, Any]:
        """Return the settings of model and schedule whose defaults differ for this dataset."""
        ...

    def trainee(self, config: Any, training_set: TrainingSet, device: str, checkpoint: Path | None) -> Trainee:
        """Build the model to train on ``training_set``, new or from ``checkpoint``."""
        ...
