"""Converts training samples to batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from harness.models.shared.preprocess import PIXEL_MEAN, PIXEL_STD, SIZE_DIVISOR, Channels, normalise
from harness.training.types import TrainingSample


def batch_of(
    samples: Sequence[TrainingSample],
    device: torch.device,
    pixel_mean: Channels = PIXEL_MEAN,
    pixel_std: Channels = PIXEL_STD,
) -> tuple[Tensor, list[Tensor]]:
    """Normalise images and pad them, and their masks, with zeros to one size, a multiple of 32.

    Returns images ``(B, 3, H, W)`` and for each image its masks ``(objects, H, W)``, boolean.
    """
    height, width = (
        -(-max(sample.image.shape[side] for sample in samples) // SIZE_DIVISOR) * SIZE_DIVISOR for side in (0, 1)
    )
    images = [
        normalise(torch.from_numpy(sample.image).to(device)[None], (height, width), pixel_mean, pixel_std)[0]
        for sample in samples
    ]
    masks = [torch.from_numpy(sample.masks).to(device) for sample in samples]
    padded = [functional.pad(m, (0, width - m.shape[2], 0, height - m.shape[1])) for m in masks]
    return torch.stack(images), padded
