"""Assignment inside compiled loops chooses what scipy's chooses, among assignments of equal cost too."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from harness.scoring.assignment import assign


def test_assignment_equals_scipys_ties_included() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape = tuple(rng.integers(1, 7, 2))
        cost = -rng.integers(0, 4, shape) / 4.0 if rng.random() < 0.7 else rng.normal(size=shape)
        rows, columns = linear_sum_assignment(cost)
        found = assign(cost)
        assert [(i, c) for i, c in enumerate(found.tolist()) if c >= 0] == list(zip(rows, columns, strict=True))


def test_assignment_is_scipys() -> None:
    """Among assignments of equal cost, too."""
    rng = np.random.default_rng(0)
    for trial in range(60):
        rows, columns = rng.integers(0, 9, 2)
        values = (rng.random((rows, columns)), rng.integers(0, 3, (rows, columns)) / 7, np.zeros((rows, columns)))
        cost = -values[trial % 3]
        wanted = np.full(rows, -1)
        chosen = linear_sum_assignment(cost)
        wanted[chosen[0]] = chosen[1]
        assert np.array_equal(assign(cost), wanted)
