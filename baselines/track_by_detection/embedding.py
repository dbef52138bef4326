"""Tracking by query embeddings, frame to frame (MinVIS: Huang et al., NeurIPS 2022, section 3.2).

MinVIS links all queries of a frame to all of the previous one, so that tracks neither begin nor end within a video.
Here tracks consist of the objects that pass the thresholds; with ``score_threshold`` 0, ``duplicate_iou`` 1,
``detections_per_frame`` the number of queries, and ``embedding_cost`` 2 every query with a mask is linked, as there.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from harness.arrays import Floats
from harness.baselines.track_by_detection.association import LastSeen
from harness.baselines.track_by_detection.detections import Detections


class EmbeddingDistance(LastSeen):
    """Costs are 1 - cosine of the embeddings; a lost track keeps its last one."""

    def __init__(self, max_cost: float) -> None:
        super().__init__()
        self.max_cost = max_cost

    def look(self, found: Detections) -> Tensor:
        """The embedding."""
        return found.embeddings

    def costs(self, found: Detections) -> Floats:
        """1 - cosine, ``(tracks, objects)`` in [0, 2]."""
        if self.rows is None:
            return np.zeros((0, len(found)))
        cosine = (self.rows @ found.embeddings.T).double().cpu().numpy()
        distance: Floats = (1 - cosine).clip(0, 2)
        return distance
