"""Samples read and augmented ahead by worker processes, in the order of the stream, from any position on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from harness.errors import UserError
from harness.frames import Image
from harness.training.sampling import Order
from harness.training.types import Augmentation, TrainingSample, TrainingSet


@dataclass(frozen=True)
class Stream:
    """Position k of a training's stream: the item, its frame and its augmentation follow from the seed and k."""

    training_set: TrainingSet
    augmentation: Augmentation
    order: Order
    seed: int

    def __getitem__(self, position: int) -> TrainingSample:
        random = np.random.default_rng((self.seed, 1, position))
        return self.augmentation(self.training_set.draw(self.order.item(position), random), random)


@dataclass(frozen=True)
class Share:
    """Which part of each step's images a process takes: ``rank`` of ``count``, in ``parts`` accumulated parts."""

    batch_size: int
    """Images per step, over all processes and parts; a multiple of ``count * parts``."""
    rank: int = 0
    count: int = 1
    parts: int = 1

    def positions(self, first_step: int) -> Iterator[list[int]]:
        """Yield the positions of each part of each step from ``first_step`` on."""
        size = self.batch_size // (self.count * self.parts)
        step = first_step
        while True:
            for part in range(self.parts):
                start = step * self.batch_size + (part * self.count + self.rank) * size
                yield list(range(start, start + size))
            step += 1


def batches(stream: Stream, share: Share, first_step: int, workers: int) -> Iterator[Sequence[TrainingSample]]:
    """Yield the batches of a process from ``first_step`` on; ``workers`` processes prepare two batches each ahead.

    Raises `UserError` in the turn of a sample that cannot be read.
    """
    loader = DataLoader(
        _Items(stream),
        batch_sampler=_Positions(share, first_step),
        num_workers=workers,
        collate_fn=list,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # else its first batch takes a number from the generator that losses draw from
    )
    for batch in loader:
        yield [_unpacked(sample) for sample in batch]


@dataclass(frozen=True, slots=True)
class _Packed:
    """A sample on its way between processes: masks are most of it, so they travel as bits."""

    image: Image
    bits: NDArray[np.uint8]
    shape: tuple[int, ...]
    categories: NDArray[np.int64]


def _unpacked(sample: _Packed | UserError) -> TrainingSample:
    if isinstance(sample, UserError):
        raise sample
    pixels = np.unpackbits(sample.bits, count=math.prod(sample.shape)).view(np.bool_)
    return TrainingSample(sample.image, pixels.reshape(sample.shape), sample.categories)


class _Items(Dataset[_Packed | UserError]):
    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __getitem__(self, position: int) -> _Packed | UserError:
        """A user's mistake is handed over as it is: torch would wrap it, with its traceback, in another error."""
        try:
            sample = self.stream[position]
        except UserError as error:
            return error
        return _Packed(sample.image, np.packbits(sample.masks), sample.masks.shape, sample.categories)


class _Positions(Sampler[list[int]]):
    def __init__(self, share: Share, first_step: int) -> None:
        self.share, self.first_step = share, first_step

    def __iter__(self) -> Iterator[list[int]]:
        return self.share.positions(self.first_step)


def _one_thread(worker: int) -> None:
    """Workers are many: each computes on one core."""
    torch.set_num_threads(1)
