"""Calibration of scores: how often a track of a given score is right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bin:
    """Tracks with ``low <= score < high`` (the last one includes its end): how many, their mean score, the fraction
    that are hits; the latter are ``None`` for an empty bin."""

    low: float
    high: float
    tracks: int
    mean_score: float | None
    hits: float | None


@dataclass(frozen=True)
class Calibration:
    """Reliability at IoU 0.5 of the tracks that the protocol counts. ``error`` is the expected calibration error: the
    mean over tracks of the distance between their bin's mean score and its fraction of hits; ``None`` without tracks.
    """

    tracks: int
    error: float | None
    bins: tuple[Bin, ...]
