"""Reliability and expected calibration error, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness.scoring.calibration import BINS, Bin, calibration


def test_by_hand() -> None:
    score = np.array([0.05, 0.05, 0.92, 0.98, 1.0])
    found = calibration(score, np.array([False, True, True, True, False]))
    assert found.tracks == 5
    assert len(found.bins) == BINS
    assert found.bins[0] == Bin(0.0, 0.1, 2, 0.05, 0.5)
    assert found.bins[9] == Bin(0.9, 1.0, 3, pytest.approx(2.9 / 3), pytest.approx(2 / 3))
    assert found.bins[5] == Bin(0.5, 0.6, 0, None, None)
    assert found.error == pytest.approx((2 * 0.45 + 3 * 0.3) / 5)


def test_scores_that_tell_the_truth_have_no_error() -> None:
    found = calibration(np.array([0.5, 0.5, 1.0]), np.array([True, False, True]))
    assert found.error == 0


def test_scores_outside_of_the_unit_interval_count_at_its_ends() -> None:
    found = calibration(np.array([-3.0, 7.0]), np.array([False, True]))
    assert (found.bins[0].tracks, found.bins[9].tracks) == (1, 1)


def test_no_tracks_no_error() -> None:
    found = calibration(np.empty(0), np.empty(0, np.bool_))
    assert (found.tracks, found.error) == (0, None)
