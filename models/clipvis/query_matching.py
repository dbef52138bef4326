"""Temporal topK-enhanced matching: orders the queries of a frame like those of earlier frames (CLIP-VIS, 3.3)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from harness.models.shared.assignment import (
    Costs,
    Permutation,
    minimum_cost_assignment,
    minimum_cost_assignments,
)


class QueryMatcher:
    """Matches the queries of one video frame by frame, keeping the last ``memory_length`` (T) frames.

    ``topk`` (K) frames of the memory decide; the three flags are the quirks of the same name in `ClipVisConfig`.
    """

    def __init__(
        self,
        memory_length: int = 9,
        topk: int = 5,
        *,
        recency_weights: bool = True,
        recency_weights_select: bool = False,
        full_topk_required: bool = True,
    ) -> None:
        self.topk = topk
        self.recency_weights, self.recency_weights_select = recency_weights, recency_weights_select
        self.full_topk_required = full_topk_required
        self._memory = _Memory(memory_length)

    def match(self, embeddings: Tensor) -> Tensor:
        """Match consecutive frames ``(frames, queries, dim)``; returns ``(frames, queries)`` int64 on the CPU.

        Entry ``[t, b]`` is the query of frame ``t`` that belongs to slot ``b``; the first frame of the video keeps its
        order.
        """
        rows = functional.normalize(embeddings.detach().float().cpu(), dim=-1)
        return torch.stack([self._match_frame(current) for current in rows])

    def _match_frame(self, current: Tensor) -> Tensor:
        """Order one frame's normalised embeddings ``(queries, dim)`` and keep them."""
        costs = self._memory.costs(current)
        order = torch.arange(current.shape[0]) if costs is None else torch.from_numpy(self._order(costs))
        self._memory.add(current, order)
        return order

    def _order(self, costs: Costs) -> Permutation:
        """Choose the permutation from the costs with each frame in memory, ``(frames, slots, current)``."""
        frames = costs.shape[0]
        factor = np.arange(1, frames + 1, dtype=np.float32)
        permutations, prices = minimum_cost_assignments(costs)
        totals = _totals(costs, permutations)
        if self.recency_weights_select:
            totals = totals * factor
        if frames < self.topk and self.full_topk_required:
            return np.asarray(permutations[int(totals.argmin())])
        chosen = np.sort(np.argsort(totals, kind="stable")[: self.topk])
        factors = factor[chosen] if self.recency_weights else np.ones(len(chosen), np.float32)
        weighted = (costs[chosen] * factors[:, None, None]).mean(0)
        return minimum_cost_assignment(weighted, (prices[chosen] * factors[:, None]).mean(0))


def _totals(costs: Costs, permutations: Permutation) -> NDArray[np.float64]:
    """Cost of each frame's assignment, ``(frames,)``."""
    taken = np.take_along_axis(costs, permutations[..., None], axis=2)[..., 0]
    return np.asarray(taken.astype(np.float64).sum(1))


class _Memory:
    """The normalised embeddings of the last ``length`` frames in the order of their slots, oldest first.

    They are one after the other in memory, and the array of costs is kept: the system would clear the pages of a new
    one for every frame.
    """

    def __init__(self, length: int) -> None:
        self._length, self._begin, self._end = length, 0, 0
        self._rows = self._costs = torch.empty(0)

    def costs(self, current: Tensor) -> Costs | None:
        """1 - cosine similarity ``(frames, slots, current)``, valid until the next call; ``None`` without frames."""
        frames, (queries, dim) = self._end - self._begin, current.shape
        if not frames:
            return None
        if frames * queries > len(self._costs):
            self._costs = current.new_empty(min(2 * frames, self._length) * queries, queries)
        found = self._costs[: frames * queries]
        torch.mm(self._rows[self._begin : self._end].view(-1, dim), current.T, out=found)
        costs: Costs = found.neg_().add_(1).view(frames, queries, queries).numpy()
        return costs

    def add(self, current: Tensor, order: Tensor) -> None:
        """Add a frame, its queries in this order; drop the oldest one if there are more than ``length``."""
        if self._end == len(self._rows):
            before, kept = self._rows[self._begin : self._end], self._end - self._begin
            if len(self._rows) < 2 * self._length:
                self._rows = current.new_empty(min(max(16, 2 * kept), 2 * self._length), *current.shape)
            if kept:
                self._rows[:kept] = before  # with room for twice the frames these do not overlap their new places
            self._begin, self._end = 0, kept
        torch.index_select(current, 0, order, out=self._rows[self._end])
        self._end += 1
        self._begin = max(self._begin, self._end - self._length)
