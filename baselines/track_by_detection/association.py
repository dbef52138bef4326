"""Linking the objects of a frame with live tracks: the protocol of trackers, and the assignment they share."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from harness.baselines.track_by_detection.detections import Detections, Floats, Ints

FORBIDDEN = 1e6
"""Cost of a pair that may not be: so much that another allowed pair is always worth more."""


class Association(Protocol):
    """How well live tracks fit the objects of the next frame; it remembers one row per live track, in their order."""

    max_cost: float
    """Pairs that cost more are never linked."""

    def costs(self, found: Detections) -> Floats:
        """Costs of linking each track with each object of the next frame, ``(tracks, objects)``; asked once a frame."""
        ...

    def follow(self, tracks: Ints, found: Detections, objects: Ints) -> None:
        """Take in that ``tracks[i]`` goes on with ``objects[i]`` of the frame."""
        ...

    def start(self, found: Detections, objects: Ints) -> None:
        """Add a row for each of these ``objects``, behind all others."""
        ...

    def keep(self, tracks: Ints) -> None:
        """Forget all rows but these."""
        ...


class Pairs(NamedTuple):
    """Linked rows and columns of a matrix of costs."""

    tracks: Ints
    objects: Ints


def match_boxes(costs: Floats, max_cost: float) -> Pairs:
    """Link as many tracks with objects as ``max_cost`` allows, at the lowest total cost (Hungarian method)."""
    allowed = costs <= max_cost
    tracks, objects = linear_sum_assignment(np.where(allowed, costs, FORBIDDEN))
    real = allowed[tracks, objects]
    return Pairs(tracks[real], objects[real])


class LastSeen:
    """What tracks looked like when they were last found: a row of a tensor each. A subclass says what and compares."""

    def __init__(self) -> None:
        self.rows: Tensor | None = None

    def look(self, found: Detections) -> Tensor:
        """What is remembered of each object, ``(objects, ...)``."""
        raise NotImplementedError

    def follow(self, tracks: Ints, found: Detections, objects: Ints) -> None:
        """Remember the newest."""
        if self.rows is not None and len(tracks):
            place, chosen = self._on_device(tracks), self._on_device(objects)
            self.rows[place] = self.look(found)[chosen]

    def start(self, found: Detections, objects: Ints) -> None:
        """Remember new ones."""
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
