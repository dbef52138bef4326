"""Assignments equal scipy's, also where several cost the same and wherever the search starts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from harness.models.shared import assignment
from harness.models.shared.assignment import Costs, minimum_cost_assignment, minimum_cost_assignments
from harness.scoring.assignment import assign


def by_scipy(costs: Costs) -> list[list[int]]:
    return [linear_sum_assignment(cost.astype(np.float64))[1].tolist() for cost in costs]


def like_frames(random: np.random.Generator, problems: int, size: int, noise: float) -> Costs:
    """1 - cosine of queries with those of earlier frames: noisy copies in one other order."""
    first = random.normal(size=(size, 32))
    rows = first + noise * random.normal(size=(problems, size, 32))
    last = (first + noise * random.normal(size=(size, 32)))[random.permutation(size)]
    rows, last = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (rows, last))
    return (1 - rows @ last.T).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 7, 100])
@pytest.mark.parametrize("noise", [0.0, 0.3, 3.0])
def test_similar_problems(size: int, noise: float) -> None:
    random = np.random.default_rng(size)
    costs = like_frames(random, 9, size, noise)
    found, prices = minimum_cost_assignments(costs)
    assert found.tolist() == by_scipy(costs)
    for start in (prices[-1], random.normal(size=size), np.full(size, 1e3)):
        assert minimum_cost_assignments(costs, start).permutations.tolist() == by_scipy(costs)


@pytest.mark.parametrize("values", [1, 2, 5, 1000])
def test_equal_costs_are_settled_as_scipy_settles_them(values: int) -> None:
    random = np.random.default_rng(values)
    for size in (1, 2, 3, 8, 40):
        costs = random.integers(0, values, (40, size, size)).astype(np.float32)
        start = random.integers(-2, 3, size).astype(np.float64)
        assert minimum_cost_assignments(costs, start).permutations.tolist() == by_scipy(costs)


def test_queries_that_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two columns alike but for rounding: the solver of scipy is asked."""
    asked: list[int] = []
    costs = like_frames(np.random.default_rng(0), 3, 20, 0.3)
    costs[:, :, 7] = costs[:, :, 3]

    def counted(cost: NDArray[np.float64]) -> NDArray[np.int64]:
        asked.append(1)
        return np.asarray(assign(cost))

    monkeypatch.setattr(assignment, "assign", counted)
    found, _ = minimum_cost_assignments(costs)
    assert found.tolist() == by_scipy(costs)
    assert len(asked) == 3


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="invalid numeric"):
        minimum_cost_assignment(np.array([[1.0, np.nan], [0.0, 1.0]], np.float32))
