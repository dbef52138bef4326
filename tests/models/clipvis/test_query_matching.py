"""Temporal matching: golden permutations, a small case by hand, the rules that flags change."""

from __future__ import annotations

from collections import deque

import clipvis_golden
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from harness.models.clipvis.query_matching import QueryMatcher, _Memory
from harness.models.shared.assignment import minimum_cost_assignment


@pytest.mark.parametrize("name", clipvis_golden.cases("d_match_"))
def test_golden(name: str) -> None:
    golden, facts = clipvis_golden.tensors(name), clipvis_golden.facts(name)
    order = QueryMatcher(facts["T"], facts["K"]).match(golden["embds"])
    assert torch.equal(order, golden["indices"])


@pytest.mark.parametrize("window", [1, 2, 5])
def test_windows_do_not_matter(window: int) -> None:
    embeddings = torch.randn(11, 12, 8, generator=torch.Generator().manual_seed(3))
    whole = QueryMatcher(4, 2).match(embeddings)
    matcher = QueryMatcher(4, 2)
    assert torch.equal(torch.cat([matcher.match(part) for part in embeddings.split(window)]), whole)


def test_queries_that_swap_are_put_back() -> None:
    first = torch.eye(3)
    order = QueryMatcher().match(torch.stack((first, first[[2, 0, 1]], first)))
    assert order.tolist() == [[0, 1, 2], [1, 2, 0], [0, 1, 2]]


def test_assignment_is_the_cheapest() -> None:
    costs = np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0], [3.0, 2.0, 2.0]], dtype=np.float32)
    assert minimum_cost_assignment(costs).tolist() == [1, 0, 2]


def _orders(**flags: bool) -> list[torch.Tensor]:
    return [
        QueryMatcher(5, 3, **flags).match(torch.randn(8, 10, 4, generator=torch.Generator().manual_seed(seed)))
        for seed in range(8)
    ]


@pytest.mark.parametrize(
    "flags", [{"recency_weights": False}, {"recency_weights_select": True}, {"full_topk_required": False}]
)
def test_each_quirk_changes_some_order(flags: dict[str, bool]) -> None:
    """On noise, where nothing matches well, each rule decides some frame; every outcome stays a permutation."""
    official, other = _orders(), _orders(**flags)
    assert any(not torch.equal(a, b) for a, b in zip(official, other, strict=True))
    assert all(sorted(row) == list(range(10)) for order in other for row in order.tolist())


def test_more_frames_asked_than_remembered_is_the_single_best_throughout() -> None:
    embeddings = torch.randn(9, 10, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(QueryMatcher(3, 4).match(embeddings), QueryMatcher(3, 99).match(embeddings))


@pytest.mark.parametrize("length", [1, 3, 9, 100])
def test_costs_are_those_with_the_last_frames_oldest_first(length: int) -> None:
    """Also when frames have moved to other places in memory."""
    frames = functional.normalize(torch.randn(60, 6, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    memory, kept = _Memory(length), deque[Tensor](maxlen=length)
    assert memory.costs(frames[0]) is None
    for frame in frames:
        order = torch.randperm(6, generator=torch.Generator().manual_seed(len(kept)))
        memory.add(frame, order)
        kept.append(frame[order])
        found = memory.costs(frame)
        assert found is not None
        expected = 1 - torch.stack(tuple(kept)) @ frame.T
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-6)
