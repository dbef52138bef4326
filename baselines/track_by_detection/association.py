"""Links the objects of a frame to live tracks: the interface of trackers, and their assignment."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from harness.arrays import Floats, Ints
from harness.baselines.track_by_detection.detections import Detections

_FORBIDDEN = 1e6
"""Cost of a forbidden pair, so large that one more allowed pair is always better."""


class Association(Protocol):
    """Computes the costs of linking live tracks to objects; it keeps one row per live track, in their order."""

    max_cost: float
    """Pairs that cost more are never linked."""

    def costs(self, found: Detections) -> Floats:
        """Costs of linking each track to each object of the next frame, ``(tracks, objects)``; one call per frame."""
        ...

    def follow(self, tracks: Ints, found: Detections, objects: Ints) -> None:
        """Update ``tracks[i]`` with ``objects[i]`` of the frame."""
        ...

    def start(self, found: Detections, objects: Ints) -> None:
        """Append a row for each of these ``objects``."""
        ...

    def keep(self, tracks: Ints) -> None:
        """Keep only these rows."""
        ...


class Links(NamedTuple):
    """Linked rows and columns of a matrix of costs."""

    tracks: Ints
    objects: Ints


def match_boxes(costs: Floats, max_cost: float) -> Links:
    """Link as many tracks to objects as ``max_cost`` allows, at the lowest total cost (Hungarian method)."""
    allowed = costs <= max_cost
    tracks, objects = linear_sum_assignment(np.where(allowed, costs, _FORBIDDEN))
    real = allowed[tracks, objects]
    return Links(tracks[real], objects[real])


class LastSeen:
    """The last appearance of each track, a row of a tensor each. A subclass defines the rows and compares them."""

    def __init__(self) -> None:
        self.rows: Tensor | None = None

    def look(self, found: Detections) -> Tensor:
        """The row of each object, ``(objects, ...)``."""
        raise NotImplementedError

    def follow(self, tracks: Ints, found: Detections, objects: Ints) -> None:
        """Store the latest ones."""
        if self.rows is not None and len(tracks):
            place, chosen = self._on_device(tracks), self._on_device(objects)
            self.rows[place] = self.look(found)[chosen]

    def start(self, found: Detections, objects: Ints) -> None:
        """Store new ones."""
        if self.rows is None:
            self.rows = self.look(found)[:0].clone()
        self.rows = torch.cat((self.rows, self.look(found)[self._on_device(objects)]))

    def keep(self, tracks: Ints) -> None:
        """Forget others."""
        if self.rows is not None:
            self.rows = self.rows[self._on_device(tracks)]

    def _on_device(self, index: Ints) -> Tensor:
        assert self.rows is not None
        return torch.from_numpy(index).to(self.rows.device)
