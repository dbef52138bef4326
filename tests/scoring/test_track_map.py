"""BURST's track mAP of one class, on tracks to follow by hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness.scoring.track_map import TrackPairs, Tracks, track_map


def test_track_map_counts_what_is_not_exhaustively_annotated_as_neither() -> None:
    one, two = np.array([0, 1]), np.array([0, 2])
    truth = Tracks(one, np.array([100.0]), np.array([5.0]))
    found = Tracks(two, np.array([100.0, 90.0]), np.array([5.0, 5.0]))
    iou, scores = np.array([0.0, 0.97]), np.array([0.9, 0.8])
    strict, lenient = (
        track_map(TrackPairs(one, truth, found, scores, np.zeros(2, np.bool_), two, iou, np.array([whole])), True)[0]
        for whole in (True, False)
    )
    assert strict["AP_all"] == pytest.approx(np.full(10, 0.5))
    assert lenient["AP_all"] == pytest.approx(np.ones(10))
    assert strict["AP_area_l"] is None
