"""Assignment of a frame's objects to tracks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.baselines.track_by_detection.association import match_boxes


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 4))
def test_assignment_is_the_best_of_all(seed: int, tracks: int, objects: int) -> None:
    """Against all ways to link: as many as allowed, and of these the cheapest."""
    costs = np.random.default_rng(seed).random((tracks, objects))
    linked = match_boxes(costs, 0.6)
    assert (costs[linked.tracks, linked.objects] <= 0.6).all()
    ways = _all_ways(costs.tolist(), 0.6)
    best = min(ways, key=lambda way: (-len(way), sum(way)))
    assert len(linked.tracks) == len(best)
    assert costs[linked.tracks, linked.objects].sum() == pytest.approx(sum(best))


def _all_ways(costs: list[list[float]], limit: float, taken: tuple[int, ...] = ()) -> list[list[float]]:
    """The costs in every set of allowed links."""
    if not costs:
        return [[]]
    ways = _all_ways(costs[1:], limit, taken)
    for column, cost in enumerate(costs[0]):
        if cost <= limit and column not in taken:
            ways = ways + [[cost, *rest] for rest in _all_ways(costs[1:], limit, (*taken, column))]
    return ways
