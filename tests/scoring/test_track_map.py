"""BURST's track mAP of one class, on tracks to follow by hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness.scoring.track_map import Tracks, VideoPairs, track_map


def test_track_map_counts_what_is_not_exhaustively_annotated_as_neither() -> None:
    truth = Tracks(np.array([1]), np.array([100.0]), np.array([5.0]))
    found = Tracks(np.array([1, 2]), np.array([100.0, 90.0]), np.array([5.0, 5.0]))
    iou, scores = np.array([[0.0], [0.97]]), np.array([0.9, 0.8])
    strict = track_map([VideoPairs(truth, found, scores, iou, True)], True)
    lenient = track_map([VideoPairs(truth, found, scores, iou, False)], True)
    assert strict["AP_all"] == pytest.approx(np.full(10, 0.5))
    assert lenient["AP_all"] == pytest.approx(np.ones(10))
    assert strict["AP_area_l"] is None
