"""Worker processes that read and augment samples ahead, in the order of the stream, from any position."""

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
    """The samples of a training by position: item, frame and augmentation depend on the seed and the position only."""

    training_set: TrainingSet
    augmentation: Augmentation
    order: Order
    seed: int

    def __getitem__(self, position: int) -> TrainingSample:
        random = np.random.default_rng((self.seed, 1, position))
        return self.augmentation(self.training_set.draw(self.order.item(position), random), random)


@dataclass(frozen=True)
class Share:
    """The images of each step that a process takes: ``rank`` of ``count``, in ``parts`` accumulated parts."""

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
    """Yield the batches of a process from ``first_step`` on; each of ``workers`` processes prepares two batches ahead.

    Raises `UserError` at the batch of a sample that cannot be read.
    """
    loader = DataLoader(
        _Items(stream),
        batch_sampler=_Positions(share, first_step),
        num_workers=workers,
        collate_fn=list,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # otherwise it draws from the global generator, which the losses use
    )
    for batch in loader:
        yield [_unpacked(sample) for sample in batch]


@dataclass(frozen=True, slots=True)
class _Packed:
    """A sample for transfer between processes; masks, its largest part, are packed to bits."""

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
        """Return the sample, or a `UserError` as it is: torch would wrap a raised one, with its traceback."""
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
    """Let each of the many workers compute on one core."""
    torch.set_num_threads(1)
