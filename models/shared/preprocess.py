"""Frames as the network wants them: resized with Pillow, normalised, padded (docs/clipvis.md, *Input*)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional

from harness.frames import Image
from harness.training.augment import shortest_edge_size

Channels = tuple[float, float, float]
"""One number for each of red, green and blue."""

SIZE_DIVISOR = 32
PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
PIXEL_STD = (68.5005327, 66.6321579, 70.32316305)
"""CLIP's constants on the 0..255 scale, RGB; the same for both backbones."""


class Geometry(NamedTuple):
    """Sizes ``(height, width)`` in pixels of one video's frames at each step of the model."""

    original: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]


def geometry(height: int, width: int, short_edge: int, long_edge: int) -> Geometry:
    """Sizes after resizing to ``short_edge``, at most ``long_edge``, and after padding to a multiple of 32."""
    resized = shortest_edge_size(height, width, short_edge, long_edge)
    padded = (_round_up(resized[0]), _round_up(resized[1]))
    return Geometry((height, width), resized, padded)


def resize(frame: Image, size: tuple[int, int]) -> Image:
    """Resize RGB ``(height, width, 3)`` to ``size``, bilinear with antialiasing, as uint8."""
    if frame.shape[:2] == size:
        return frame
    return np.asarray(Pillow.fromarray(frame).resize((size[1], size[0]), Pillow.Resampling.BILINEAR))


def normalise(
    frames: Tensor, padded: tuple[int, int], pixel_mean: Channels = PIXEL_MEAN, pixel_std: Channels = PIXEL_STD
) -> Tensor:
    """Turn uint8 frames ``(frames, height, width, 3)`` into float32 ``(frames, 3, *padded)``.

    The border at the right and at the bottom is zero after normalisation.
    """
    # filled on the device: a copy from the host would wait for it
    mean, std = (
        torch.cat([torch.full((1, 1, 1), value, device=frames.device) for value in values])
        for values in (pixel_mean, pixel_std)
    )
    images = (frames.permute(0, 3, 1, 2).float() - mean) / std
    height, width = images.shape[-2:]
    return functional.pad(images, (0, padded[1] - width, 0, padded[0] - height))


def padding_maps(sizes: Geometry, strides: tuple[int, ...], device: torch.device | str) -> list[Tensor]:
    """Boolean maps ``(h, w)`` of the padded image at each stride, true where the centre of a cell is padding."""
    maps = []
    for stride in strides:
        centres = [torch.arange(size // stride, device=device) * stride + stride / 2 for size in sizes.padded]
        maps.append((centres[0][:, None] >= sizes.resized[0]) | (centres[1][None, :] >= sizes.resized[1]))
    return maps


def _round_up(size: int) -> int:
    return -(-size // SIZE_DIVISOR) * SIZE_DIVISOR
