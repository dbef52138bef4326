"""Calibration of scores: how often a track of a given score is right (Guo et al., ICML 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.arrays import Flags, Floats

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Tracks with ``low <= score < high`` (the last bin includes ``high``).

    ``tracks`` is their number, ``mean_score`` their mean score and ``hits`` the fraction that are hits; the last two
    are ``None`` for an empty bin.
    """

    low: float
    high: float
    tracks: int
    mean_score: float | None
    hits: float | None


@dataclass(frozen=True)
class Calibration:
    """Calibration at IoU 0.5 of the tracks that the protocol counts.

    ``error`` is the expected calibration error: the mean over tracks of the distance between their bin's mean score and
    its fraction of hits; ``None`` without tracks.
    """

    tracks: int
    error: float | None
    bins: tuple[Bin, ...]


def calibration(score: Floats, hit: Flags) -> Calibration:
    """Return the calibration of ``score`` and ``hit``, both ``(tracks,)``, in ten bins of equal width over ``[0, 1]``.

    A score outside of ``[0, 1]`` counts in the nearest bin.
    """
    place = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
    bins, error = [], 0.0
    for b in range(BINS):
        mine = place == b
        count = int(mine.sum())
        mean, hits = (float(score[mine].mean()), float(hit[mine].mean())) if count else (None, None)
        bins.append(Bin(b / BINS, (b + 1) / BINS, count, mean, hits))
        if mean is not None and hits is not None:
            error += count * abs(mean - hits)
    return Calibration(len(score), error / len(score) if len(score) else None, tuple(bins))
