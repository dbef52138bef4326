"""SORT: tracking by boxes that a Kalman filter predicts (Bewley et al., ICIP 2016).

A box is its centre, area and aspect ratio; the first three move at constant velocity. The filter is a dozen lines over
all tracks at once. Existing packages do not fit: filterpy filters one object at a time and depends on matplotlib,
simdkalman had its last release in 2023, and tracking frameworks have their own types and depend on OpenCV.
"""

from __future__ import annotations

import numpy as np

from harness.arrays import Floats, Ints
from harness.baselines.track_by_detection.detections import Detections

TRANSITION = np.eye(7) + np.eye(7, k=4)
"""State (x, y, area, aspect, vx, vy, v_area) one frame on: each of the first three gains its velocity."""
OBSERVED = np.eye(4, 7)
START_NOISE = np.diag([10.0, 10, 10, 10, 1e4, 1e4, 1e4])
MOTION_NOISE = np.diag([1.0, 1, 1, 1, 1e-2, 1e-2, 1e-4])
MEASUREMENT_NOISE = np.diag([1.0, 1, 10, 10])
"""The covariances that SORT's code uses; lengths in pixels, velocities per frame."""


class BoxMotion:
    """Kalman filters of boxes, one per track; all operations are on all of them."""

    def __init__(self) -> None:
        self.mean = np.zeros((0, 7))
        self.covariance = np.zeros((0, 7, 7))

    def start(self, boxes: Floats) -> None:
        """Add filters that rest at ``boxes`` ``(n, 4)``."""
        added = np.concatenate((measurements(boxes), np.zeros((len(boxes), 3))), 1)
        self.mean = np.concatenate((self.mean, added))
        self.covariance = np.concatenate((self.covariance, np.repeat(START_NOISE[None], len(boxes), 0)))

    def predict(self) -> Floats:
        """Move one frame on; returns the boxes that are expected, ``(tracks, 4)``. An area never shrinks to nothing."""
        shrinks_away = self.mean[:, 2] + self.mean[:, 6] <= 0
        self.mean[shrinks_away, 6] = 0
        self.mean = self.mean @ TRANSITION.T
        self.covariance = TRANSITION @ self.covariance @ TRANSITION.T + MOTION_NOISE
        return boxes_at(self.mean)

    def correct(self, tracks: Ints, boxes: Floats) -> None:
        """Take in the ``boxes`` ``(n, 4)`` at which ``tracks`` ``(n,)`` were found."""
        mean, covariance = self.mean[tracks], self.covariance[tracks]
        innovation = OBSERVED @ covariance @ OBSERVED.T + MEASUREMENT_NOISE
        gain = np.linalg.solve(innovation, OBSERVED @ covariance).transpose(0, 2, 1)  # both are symmetric
        surprise = measurements(boxes) - mean[:, :4]
        self.mean[tracks] = mean + (gain @ surprise[:, :, None])[..., 0]
        self.covariance[tracks] = covariance - gain @ OBSERVED @ covariance

    def keep(self, tracks: Ints) -> None:
        """Forget all others."""
        self.mean, self.covariance = self.mean[tracks], self.covariance[tracks]


class Sort:
    """Costs are 1 - IoU of found boxes with predicted ones; a lost track moves on as predicted."""

    def __init__(self, iou_threshold: float) -> None:
        self.max_cost = 1 - iou_threshold
        self.motion = BoxMotion()

    def costs(self, found: Detections) -> Floats:
        """1 - IoU of boxes, ``(tracks, objects)`` in [0, 1]; moves the tracks one frame on."""
        return 1 - box_iou(self.motion.predict(), found.boxes)

    def follow(self, tracks: Ints, found: Detections, objects: Ints) -> None:
        """Correct the motion of these tracks."""
        self.motion.correct(tracks, found.boxes[objects])

    def start(self, found: Detections, objects: Ints) -> None:
        """Begin at rest."""
        self.motion.start(found.boxes[objects])

    def keep(self, tracks: Ints) -> None:
        """Forget the motion of others."""
        self.motion.keep(tracks)


def measurements(boxes: Floats) -> Floats:
    """Boxes ``(n, 4)``, left, top, right, bottom, as x and y of the centre, area and width / height, ``(n, 4)``."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return np.stack((boxes[:, 0] + width / 2, boxes[:, 1] + height / 2, width * height, width / height), 1)


def boxes_at(state: Floats) -> Floats:
    """The opposite, for states ``(n, 7)``: boxes ``(n, 4)``."""
    area, aspect = state[:, 2].clip(1e-6), state[:, 3].clip(1e-6)
    half = np.stack((np.sqrt(area * aspect), np.sqrt(area / aspect)), 1) / 2
    return np.concatenate((state[:, :2] - half, state[:, :2] + half), 1)


def box_iou(one: Floats, other: Floats) -> Floats:
    """Overlap of boxes ``(n, 4)`` and ``(m, 4)``: ``(n, m)`` in [0, 1]."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = (high - low).clip(0).prod(2)
    area = (one[:, 2:] - one[:, :2]).prod(1)[:, None] + (other[:, 2:] - other[:, :2]).prod(1)
    overlap: Floats = common / (area - common)
    return overlap
