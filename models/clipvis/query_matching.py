"""Temporal topK-enhanced matching: orders the queries of a frame like those of earlier frames (CLIP-VIS, 3.3)."""

from __future__ import annotations

from collections import deque

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
        self._memory: deque[Tensor] = deque(maxlen=memory_length)  # re-ordered, normalised, oldest first

    def match(self, embeddings: Tensor) -> Tensor:
        """Match consecutive frames ``(frames, queries, dim)``; returns ``(frames, queries)`` int64 on the CPU.

        Entry ``[t, b]`` is the query of frame ``t`` that belongs to slot ``b``; the first frame of the video keeps its
        order.
        """
        rows = functional.normalize(embeddings.detach().float().cpu(), dim=-1)
        return torch.stack([self._match_frame(current) for current in rows])

    def _match_frame(self, current: Tensor) -> Tensor:
        """Order one frame's normalised embeddings ``(queries, dim)`` and keep them."""
        if self._memory:
            memory = torch.stack(tuple(self._memory))
            costs = 1 - torch.einsum("nbc,ac->nba", memory, current)  # (frames, slots, current)
            order = torch.from_numpy(self._order(costs.numpy()))
        else:
            order = torch.arange(current.shape[0])
        self._memory.append(current[order])
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
