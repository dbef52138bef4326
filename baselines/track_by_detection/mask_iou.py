"""Tracking by the overlap of masks: a track continues with the object that overlaps its last mask."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from harness.arrays import Floats
from harness.baselines.track_by_detection.association import LastSeen
from harness.baselines.track_by_detection.detections import Detections, mask_iou


class MaskOverlap(LastSeen):
    """Costs are 1 - IoU of the masks at stride 4; a lost track keeps its last mask."""

    def __init__(self, iou_threshold: float) -> None:
        super().__init__()
        self.max_cost = 1 - iou_threshold

    def look(self, found: Detections) -> Tensor:
        """The mask."""
        return found.masks

    def costs(self, found: Detections) -> Floats:
        """1 - IoU, ``(tracks, objects)`` in [0, 1]."""
        return 1 - mask_iou(self.rows, found.masks) if self.rows is not None else np.zeros((0, len(found)))
