"""Random numbers of a video: the same in any order of the videos, others for another seed or video."""

from __future__ import annotations

import random

import numpy as np
import torch

from harness.engines.seeding import seed_everything


def drawn(seed: int, video_id: int | None = None) -> tuple[float, float, float]:
    seed_everything(seed, video_id)
    return random.random(), float(np.random.random()), float(torch.rand(()))


def test_a_video_has_its_numbers_whatever_was_drawn_before() -> None:
    first = drawn(0, 7)
    drawn(0, 8)
    assert drawn(0, 7) == first


def test_other_videos_and_seeds_have_other_numbers() -> None:
    found = [drawn(0), drawn(1), drawn(0, 7), drawn(0, 8), drawn(1, 7)]
    for numbers in zip(*found, strict=True):
        assert len(set(numbers)) == len(found)


def test_large_seeds_are_taken() -> None:
    assert drawn(2**40) == drawn(2**40)
