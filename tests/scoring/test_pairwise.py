"""Sums in compiled loops against numpy's, to the last bit."""

from __future__ import annotations

import itertools

import numpy as np

from harness.scoring.pairwise import means, pairwise_sum


def test_sums_and_means_are_numpys_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 7, 8, 9, 15, 16, 17, 100, 127, 128, 129, 136, 137, 255, 256, 257, 300, 1000, 4097, 100_003):
        values = rng.random(n + 3) * 10.0 ** rng.integers(-8, 8, n + 3)
        assert pairwise_sum(values, 3, n + 3) == values[3:].sum()
    sizes = rng.integers(1, 400, 50)
    first = np.concatenate([[0], np.cumsum(sizes)])
    values = rng.random(first[-1])
    expected = [np.mean(values[a:b].tolist()) for a, b in itertools.pairwise(first)]
    assert means(values, first).tolist() == expected
