"""Matching, scores, selection and mask encoding of CLIP-VIS beside their plain forms.

``pytest tests/benchmarks/test_clipvis_stages_speed.py --benchmark-enable``. Sizes are those of a 480x853 video with
LV-VIS's words: 100 queries of 256 numbers, 1,196 classes, masks of 120x216, windows of 10; on the GPU if there is one.
Matching runs on the CPU whatever the device, as scipy's assignment does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from torch import Tensor
from torch.nn import functional

from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.postprocess import TrackScoreAccumulator, frame_scores
from harness.models.clipvis.query_matching import QueryMatcher
from harness.models.shared.mask_encoding import encode_masks
from harness.models.shared.preprocess import Geometry, geometry

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def full_size(request: pytest.FixtureRequest) -> bool:
    """Whether benchmarks are on; small inputs run where they are off."""
    return bool(request.config.getoption("benchmark_enable"))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def smooth_masks(frames: int, queries: int, sizes: Geometry) -> Tensor:
    """Logits ``(frames, queries, h, w)`` at stride 4 whose masks are blobs, as a trained model's are."""
    height, width = sizes.padded[0] // 4, sizes.padded[1] // 4
    coarse = draw(frames, queries, max(2, height // 24), max(2, width // 24)) - 1
    return functional.interpolate(coarse, (height, width), mode="bicubic").to(DEVICE)


@pytest.mark.parametrize("memory_length", [1, 9])
def test_matching(benchmark: Any, full_size: bool, memory_length: int) -> None:
    frames, queries = (30, 100) if full_size else (5, 8)
    benchmark.group = f"query matching, {frames} frames of {queries} queries"
    first = draw(queries, 256)
    embeddings = torch.stack([first + 0.3 * draw(queries, 256, seed=f) for f in range(frames)]).to(DEVICE)
    order = benchmark(lambda: QueryMatcher(memory_length, min(5, memory_length)).match(embeddings))
    assert torch.equal(order, torch.arange(queries).expand(frames, -1))


def test_scores_and_selection(benchmark: Any, full_size: bool) -> None:
    windows, frames, queries, classes = (3, 10, 100, 1196) if full_size else (2, 2, 8, 11)
    sizes = geometry(480, 853, 480, 1333) if full_size else geometry(48, 64, 48, 64)
    benchmark.group = f"post-processing, {windows * frames} frames, {queries} queries, {classes} classes"
    order = torch.arange(queries).expand(frames, -1)
    masks = smooth_masks(frames, queries, sizes)
    heads = [draw(frames, queries, n, seed=n).to(DEVICE) for n in (classes, 2, 1)]

    def select() -> Tensor:
        evidence = TrackScoreAccumulator(ClipVisConfig())
        try:
            for _ in range(windows):
                evidence.add(order, frame_scores(heads[0], heads[1], heads[2].sigmoid(), masks))
            selection = evidence.select()
            return selection.scores * evidence.mask_scores(selection)
        finally:
            evidence.close()

    scores = benchmark(select)
    assert scores.shape == (min(50, queries * classes),)
    assert 0 < float(scores.max()) <= 1


@pytest.mark.parametrize("way", ["harness", "pycocotools"])
def test_encoding(benchmark: Any, full_size: bool, way: str) -> None:
    frames, tracks = (10, 50) if full_size else (2, 3)
    sizes = geometry(480, 853, 480, 1333) if full_size else geometry(48, 64, 48, 64)
    benchmark.group = f"encoding, {frames * tracks} masks of {sizes.original[0]}x{sizes.original[1]}"
    masks = smooth_masks(frames, tracks, sizes).flatten(0, 1)
    encode = harness_runs if way == "harness" else official_runs
    assert benchmark(encode, masks, sizes) == official_runs(masks, sizes)


def harness_runs(masks: Tensor, sizes: Geometry) -> list[bytes]:
    return [rle.counts for rle in encode_masks(masks, sizes).rles]


def official_runs(masks: Tensor, sizes: Geometry) -> list[bytes]:
    """As the official code does: full-size masks leave the device, pycocotools encodes them one at a time."""
    found = []
    for part in masks.split(20):
        padded = functional.interpolate(part[None], sizes.padded, mode="bilinear", align_corners=False)
        cropped = padded[..., : sizes.resized[0], : sizes.resized[1]]
        full = functional.interpolate(cropped, sizes.original, mode="bilinear", align_corners=False)[0] > 0
        found += [coco.encode(np.asfortranarray(mask.cpu().numpy()))["counts"] for mask in full]
    return found
