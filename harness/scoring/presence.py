"""How well a model decides whether a word is in a video at all: counts of pairs of a video and a word, and their
MCC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from harness.arrays import Flags, Floats, Ints
from harness.formats.absence import Absence, VideoPhrases
from harness.scoring.overlap import GroundTruthArrays, positions

_EPSILON = 1e-6
"""What SA-Co's evaluators add to every denominator."""
THRESHOLD = 0.5
"""SA-Co's evaluators count a track of at least this score as a decision."""
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


PRESENCE = "presence"
"""The part of ``slices`` with these rates; in the names of metrics it stands where a protocol does."""
LOWER_IS_BETTER = "IL_FPR"
"""The rate that is better when it is lower; all other metrics are better when they are higher."""


@dataclass(frozen=True)
class Presence:
    """Pairs of a video and a word: the word is there and found, not there but found, neither, there but not found."""

    tp: int
    fp: int
    tn: int
    fn: int

    @property
    def mcc(self) -> float:
        """Matthews' correlation coefficient, -1 to 1; 0 where no pair is without the word, or none with it, or all or
        none are found."""
        tp, fp, tn, fn = self.tp, self.fp, self.tn, self.fn
        product = float(tp + fp) * float(tp + fn) * float(tn + fp) * float(tn + fn)
        return float(float(tp * tn - fp * fn) / (product**0.5 + _EPSILON))

    @property
    def false_positive_rate(self) -> float:
        """The fraction of pairs without the word in which it is found."""
        return self.fp / (self.fp + self.tn + _EPSILON)

    def record(self) -> dict[str, float]:
        """As data: the counts and rates, by SA-Co's names."""
        precision, recall = self.tp / (self.tp + self.fp + _EPSILON), self.tp / (self.tp + self.fn + _EPSILON)
        return {
            "IL_TP": self.tp, "IL_FP": self.fp, "IL_TN": self.tn, "IL_FN": self.fn,
            "IL_precision": precision, "IL_recall": recall,
            "IL_F1": 2 * precision * recall / (precision + recall + _EPSILON),
            "IL_FPR": self.false_positive_rate, "IL_MCC": self.mcc,
        }  # fmt: skip


def presence_of(
    truths: GroundTruthArrays, absence: Absence, video: Ints, category: Ints, score: Floats, groups: Mapping[str, Ints]
) -> dict[str, Any]:
    """How often words are found where they are annotated, and where they are known to be absent.

    A word is found in a video if a track ``(tracks,)`` scores at least a threshold: `THRESHOLD`, and others.
    ``groups`` are positions of categories by name. Unknown pairs are left out.
    """
    n = len(truths.category_ids)
    pairs = _pairs(truths, absence, video, category, score)

    def counted(threshold: float, positions: Ints | None = None) -> Presence:
        inside = np.ones(n, np.bool_) if positions is None else np.isin(np.arange(n), positions)
        seen = pairs.known & (pairs.best >= threshold) & inside[pairs.found % n]
        tp, fp = int((seen & pairs.present).sum()), int((seen & ~pairs.present).sum())
        absent, present = int(pairs.absent_by_category[inside].sum()), int(pairs.present_by_category[inside].sum())
        return Presence(tp, fp, absent - fp, present - tp)

    def rates(one: Presence) -> dict[str, float]:
        return {
            "IL_MCC": one.mcc,
            "IL_FPR": one.false_positive_rate,
            "IL_recall": one.tp / (one.tp + one.fn + _EPSILON),
        }

    return {
        "threshold": THRESHOLD,
        **counted(THRESHOLD).record(),
        "by_threshold": {str(t): rates(counted(t)) for t in THRESHOLDS},
        "by_group": {name: counted(THRESHOLD, positions).record() for name, positions in groups.items()},
    }


def presence_by_video(truths: GroundTruthArrays, absence: Absence, video: Ints, category: Ints, score: Floats) -> Ints:
    """The counts of `Presence` at `THRESHOLD` in each video: ``tp, fp, tn, fn`` as ``(videos, 4)``."""
    n, videos = len(truths.category_ids), len(truths.video_ids)
    pairs = _pairs(truths, absence, video, category, score)
    seen = pairs.known & (pairs.best >= THRESHOLD)
    tp, fp = (np.bincount(pairs.found[seen & side] // n, minlength=videos) for side in (pairs.present, ~pairs.present))
    present = np.bincount(truths.keys // n, minlength=videos)
    return np.stack([tp, fp, pairs.absent_by_video - fp, present - tp], 1)


RATES = ("IL_MCC", LOWER_IS_BETTER)
"""Rates that `rates_of` gives, for comparisons of runs."""


def rates_of(counts: Floats) -> Floats:
    """`RATES` of counts ``tp, fp, tn, fn (..., 4)``, as ``(..., 2)``."""
    tp, fp, tn, fn = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return np.stack([(tp * tn - fp * fn) / (np.sqrt(product) + _EPSILON), fp / (fp + tn + _EPSILON)], -1)


class _Pairs(NamedTuple):
    """Pairs of a video and a word in which the word has tracks: their keys ``found``, the ``best`` score, whether it is
    ``present``, and whether that is ``known (pairs,)``; and how many pairs are known to be absent, or are present."""

    found: Ints
    best: Floats
    present: Flags
    known: Flags
    absent_by_category: Ints
    absent_by_video: Ints
    present_by_category: Ints


def _pairs(truths: GroundTruthArrays, absence: Absence, video: Ints, category: Ints, score: Floats) -> _Pairs:
    n, videos = len(truths.category_ids), len(truths.video_ids)
    found, of = np.unique(video * n + category, return_inverse=True)
    best = np.full(len(found), -np.inf)
    np.maximum.at(best, of.reshape(-1), score)
    present = np.isin(found, truths.keys)
    unknown = _keys(truths, absence.unknown)
    if absence.exhaustive:
        known = present | ~np.isin(found, unknown)
        absent = np.ones((videos, n), np.bool_)
        absent.reshape(-1)[truths.keys] = False
        absent.reshape(-1)[np.setdiff1d(unknown, truths.keys)] = False
        by_category, by_video = absent.sum(0), absent.sum(1)
    else:
        listed = np.setdiff1d(_keys(truths, absence.listed), truths.keys)
        known = present | np.isin(found, listed)
        by_category, by_video = np.bincount(listed % n, minlength=n), np.bincount(listed // n, minlength=videos)
    present_by_category = np.bincount(truths.keys % n, minlength=n)
    return _Pairs(found, best, present, known, by_category, by_video, present_by_category)


def presence_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Rates of presence of a run's record, ``presence@0.5/IL_FPR`` and so on, for each score threshold.

    They are the same for all AP protocols of the run; none where its annotations do not say what is absent.
    """
    for scored in record.get("protocols", ()):
        by_threshold = scored.get("slices", {}).get(PRESENCE, {}).get("by_threshold", {})
        if by_threshold:
            return {
                f"{PRESENCE}@{t}/{name}": value for t, rates in by_threshold.items() for name, value in rates.items()
            }
    return {}


def is_lower_better(metric: str) -> bool:
    """Whether a metric, by any of its names (``presence@0.5/IL_FPR``, ``IL_FPR@0.5``), is better when it is lower."""
    return metric.rpartition("/")[2].partition("@")[0] == LOWER_IS_BETTER


def _keys(truths: GroundTruthArrays, pairs: VideoPhrases) -> Ints:
    """Pairs of ids as `GroundTruthArrays.keys` has them, ascending; those of other videos and categories are left
    out."""
    listed = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    video, is_video = positions(truths.video_ids, listed[:, 0])
    category, is_category = positions(truths.category_ids, listed[:, 1])
    return np.unique((video * len(truths.category_ids) + category)[is_video & is_category])
