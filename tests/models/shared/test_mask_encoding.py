"""Run-length encodings at the output's size, compared with interpolation and pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco
from torch import Tensor
from torch.nn import functional

from harness.models.shared.mask_encoding import compress, encode_masks
from harness.models.shared.preprocess import Geometry, geometry


def plain(logits: Tensor, sizes: Geometry) -> Tensor:
    """The rule as it is written: two interpolations with a crop between them; ``(n, height, width)`` logits."""

    def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
        return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)

    padded = resized(logits[None], sizes.padded)[..., : sizes.resized[0], : sizes.resized[1]]
    return resized(padded, sizes.original)[0]


@pytest.mark.parametrize("size", [(60, 100), (97, 41), (1, 1), (5, 300)])
def test_same_masks_as_coco_encodes(size: tuple[int, int]) -> None:
    sizes = geometry(*size, 64, 128)
    logits = torch.randn(9, sizes.padded[0] // 4, sizes.padded[1] // 4, generator=torch.Generator().manual_seed(1))
    logits[0], logits[1] = -1.0, 1.0
    logits[2:] = functional.avg_pool2d(logits[None, 2:], 5, 1, 2)[0] * 5
    encoded = encode_masks(logits, sizes, confidence=True)
    full = plain(logits, sizes)
    masks = np.asfortranarray((full > 0).permute(1, 2, 0).numpy().astype(np.uint8))
    assert [rle.counts for rle in encoded.rles] == [rle["counts"] for rle in coco.encode(masks)]
    assert {rle.size for rle in encoded.rles} == {size}
    assert encoded.area.tolist() == (full > 0).sum((1, 2)).tolist()
    torch.testing.assert_close(encoded.confidence, (full.sigmoid() * (full > 0)).sum((1, 2)), atol=1e-3, rtol=1e-5)


def test_no_masks() -> None:
    encoded = encode_masks(torch.zeros(0, 16, 16), geometry(64, 64, 64, 64))
    assert encoded.rles == []


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=60), min_size=1, max_size=5))
def test_compression_is_cocos(masks: list[list[int]]) -> None:
    """Any column of pixels is written as pycocotools writes it."""
    counts, starts, expected = [], [0], []
    for pixels in masks:
        edges = np.flatnonzero(np.diff(np.array([0, *pixels])))
        counts += np.diff(edges, prepend=0, append=len(pixels)).tolist()
        starts.append(len(counts))
        column = np.asfortranarray(np.array(pixels, dtype=np.uint8)[:, None])
        expected.append(coco.encode(column)["counts"])
    assert compress(np.array(counts), np.array(starts)) == expected


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=20))
def test_long_runs_survive(counts: list[int]) -> None:
    """Runs of any length come back when pycocotools' own reader takes them apart."""
    text = compress(np.array(counts), np.array([0, len(counts)]))[0]
    assert _expand(text) == counts


def _expand(text: bytes) -> list[int]:
    """COCO's reader (rleFrString), in plain words."""
    counts: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            code = text[at] - 48
            value |= (code & 31) << shift
            more, shift, at = bool(code & 32), shift + 5, at + 1
            if not more and code & 16:
                value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts
