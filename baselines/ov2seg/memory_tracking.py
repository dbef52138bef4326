"""Memory-induced tracking: each slot keeps a running mean of the queries that filled it (OV2Seg, section 3.3).

QUIRK: every query of the first frame is a slot until the end of the video; no slot begins or ends (docs/ov2seg.md).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from harness.models.shared.assignment import minimum_cost_assignment


class MemoryMatcher:
    """Matches the queries of one video frame by frame with the memory of its slots.

    ``weight`` is the share of the current frame in the memory, 1 for frame to frame matching. The two flags are the
    quirks of the same name in `Ov2SegConfig`.
    """

    def __init__(
        self, weight: float = 0.7, *, normalise_memory: bool = False, remember_absent_frames: bool = True
    ) -> None:
        self.weight = weight
        self.normalise_memory, self.remember_absent_frames = normalise_memory, remember_absent_frames
        self.memory: Tensor | None = None
        """``(queries, dim)`` float32 on the CPU; ``None`` before the first frame."""

    def match(self, embeddings: Tensor, present: Tensor | None = None) -> Tensor:
        """Match consecutive frames ``(frames, queries, dim)``; returns ``(frames, queries)`` int64 on the CPU.

        Entry ``[t, i]`` is the query of frame ``t`` that fills slot ``i``; the first frame of the video keeps its
        order. ``present`` ``(frames, queries)`` says which queries have a mask, all if it is not given.
        """
        frames = embeddings.detach().float().cpu()
        shown = torch.ones(frames.shape[:2], dtype=torch.bool) if present is None else present.cpu()
        return torch.stack([self._match_frame(current, seen) for current, seen in zip(frames, shown, strict=True)])

    def _match_frame(self, current: Tensor, present: Tensor) -> Tensor:
        """Order one frame's queries ``(queries, dim)`` and add them to the memory."""
        rows = functional.normalize(current, dim=-1) if self.normalise_memory else current
        if self.memory is None:
            self.memory = rows
            return torch.arange(len(current))
        order = torch.from_numpy(minimum_cost_assignment(cosine_costs(self.memory, rows).numpy()))
        updated = self.weight * rows[order] + (1 - self.weight) * self.memory
        if self.normalise_memory:
            updated = functional.normalize(updated, dim=-1)
        if not self.remember_absent_frames:
            updated = torch.where(present[order, None], updated, self.memory)
        self.memory = updated
        return order


def cosine_costs(memory: Tensor, current: Tensor) -> Tensor:
    """1 - cosine of each slot's memory with each query of a frame, ``(slots, queries)``; norms without an epsilon."""
    slots, queries = (rows / rows.norm(dim=-1, keepdim=True) for rows in (memory, current))
    costs: Tensor = 1 - slots @ queries.T
    return costs
