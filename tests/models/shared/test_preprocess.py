"""Sizes, resizing, normalisation and padding of frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from harness.models.shared.preprocess import PIXEL_MEAN, PIXEL_STD, geometry, normalise, padding_maps, resize


@pytest.mark.parametrize(
    ("original", "resized", "padded"),
    [
        ((720, 1280), (480, 853), (480, 864)),
        ((1280, 720), (853, 480), (864, 480)),
        ((480, 480), (480, 480), (480, 480)),
        ((100, 1000), (133, 1333), (160, 1344)),
        ((3, 5), (480, 800), (480, 800)),
    ],
)
def test_sizes(original: tuple[int, int], resized: tuple[int, int], padded: tuple[int, int]) -> None:
    assert geometry(*original, 480, 1333) == (original, resized, padded)


def test_resizing_is_pillows_bilinear() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    expected = Image.fromarray(frame).resize((30, 20), Image.Resampling.BILINEAR)
    assert np.array_equal(resize(frame, (20, 30)), np.asarray(expected))
    assert resize(frame, (37, 53)) is frame


def test_padding_is_zero_after_normalisation() -> None:
    frames = torch.full((2, 20, 40, 3), 100, dtype=torch.uint8)
    images = normalise(frames, (32, 64))
    assert images.shape == (2, 3, 32, 64)
    assert torch.allclose(images[0, 1, :20, :40], torch.tensor((100 - PIXEL_MEAN[1]) / PIXEL_STD[1]))
    assert not images[:, :, 20:].any()
    assert not images[..., 40:].any()


def test_padding_maps_mark_what_is_not_picture() -> None:
    coarse, fine = padding_maps(geometry(32, 40, 32, 64), (32, 8), "cpu")
    assert coarse.tolist() == [[False, True]]
    assert fine.shape == (4, 8)
    assert fine.any(0).tolist() == [False] * 5 + [True] * 3
