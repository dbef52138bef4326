"""HOTA and OWTA of one class (Luiten et al., IJCV 2021; Liu et al., CVPR 2022), from similarities per time step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""The 19 localisation thresholds."""
EPSILON = float(np.finfo("float").eps)


@dataclass(frozen=True)
class Step:
    """One time step: ids of the truths ``(g,)`` and of the predictions ``(p,)``, and similarities ``(g, p)``."""

    truths: Ints
    predictions: Ints
    similarity: Floats


@dataclass(frozen=True)
class Hota:
    """Counts and association scores per localisation threshold, each ``(19,)``."""

    tp: Floats
    fn: Floats
    fp: Floats
    ass_a: Floats
    ass_re: Floats
    ass_pr: Floats
    loc_a: Floats

    def values(self) -> dict[str, Floats]:
        """All members of the family, by their usual names."""
        det_re = self.tp / np.maximum(1, self.tp + self.fn)
        det_pr = self.tp / np.maximum(1, self.tp + self.fp)
        det_a = self.tp / np.maximum(1, self.tp + self.fn + self.fp)
        return {
            "HOTA": np.sqrt(det_a * self.ass_a), "DetA": det_a, "AssA": self.ass_a, "DetRe": det_re, "DetPr": det_pr,
            "AssRe": self.ass_re, "AssPr": self.ass_pr, "LocA": self.loc_a, "OWTA": np.sqrt(det_re * self.ass_a),
            "HOTA_TP": self.tp, "HOTA_FN": self.fn, "HOTA_FP": self.fp,
        }  # fmt: skip


def hota(steps: Sequence[Step]) -> Hota:
    """HOTA of one sequence.

    Pairs are matched step by step, maximising similarity weighted by how well two tracks agree over the sequence.
    """
    n_truths, n_predictions = sum(len(s.truths) for s in steps), sum(len(s.predictions) for s in steps)
    zeros, ones = np.zeros(len(ALPHAS)), np.ones(len(ALPHAS))
    if not n_truths or not n_predictions:
        return Hota(zeros, zeros + n_truths, zeros + n_predictions, zeros, zeros, zeros, ones)
    truth_ids, truth_at = _renumber([s.truths for s in steps])
    prediction_ids, prediction_at = _renumber([s.predictions for s in steps])
    seen_truth = np.bincount(np.concatenate(truth_at), minlength=truth_ids)[:, None].astype(np.float64)
    seen_prediction = np.bincount(np.concatenate(prediction_at), minlength=prediction_ids)[None, :].astype(np.float64)
    both = [
        (step.similarity, g, p) for step, g, p in zip(steps, truth_at, prediction_at, strict=True) if len(g) and len(p)
    ]
    agreement = np.zeros((truth_ids, prediction_ids))
    for s, g, p in both:
        total = s.sum(0)[None, :] + s.sum(1)[:, None] - s
        np.add.at(agreement, (g[:, None], p[None, :]), np.divide(s, total, out=np.zeros_like(s), where=total > EPSILON))
    alignment = agreement / (seen_truth + seen_prediction - agreement)
    tp, loc = zeros.copy(), zeros.copy()
    matches = np.zeros((len(ALPHAS), truth_ids, prediction_ids))
    for s, g, p in both:
        rows, columns = linear_sum_assignment(-(alignment[g[:, None], p[None, :]] * s))
        similarity = s[rows, columns]
        hit = similarity >= ALPHAS[:, None] - EPSILON  # (19, pairs)
        tp += hit.sum(1)
        loc += (similarity * hit).sum(1)
        matches[:, g[rows], p[columns]] += hit
    fn, fp = n_truths - tp, n_predictions - tp
    together = np.maximum(1, seen_truth + seen_prediction - matches)
    found = np.maximum(1, tp)
    return Hota(
        tp, fn, fp,
        (matches * (matches / together)).sum((1, 2)) / found,
        (matches * (matches / np.maximum(1, seen_truth))).sum((1, 2)) / found,
        (matches * (matches / np.maximum(1, seen_prediction))).sum((1, 2)) / found,
        np.maximum(1e-10, loc) / np.maximum(1e-10, tp),
    )  # fmt: skip


def combine(parts: Sequence[Hota]) -> Hota:
    """HOTA over sequences: counts add up, association and localisation are means weighted by the hits."""
    tp = np.sum([p.tp for p in parts], axis=0)

    def weighted(name: str) -> Floats:
        return np.asarray(np.sum([getattr(p, name) * p.tp for p in parts], axis=0))

    fn, fp = (np.sum([getattr(p, name) for p in parts], axis=0) for name in ("fn", "fp"))
    found = np.maximum(1, tp)
    loc_a = np.maximum(1e-10, weighted("loc_a")) / np.maximum(1e-10, tp)
    return Hota(tp, fn, fp, weighted("ass_a") / found, weighted("ass_re") / found, weighted("ass_pr") / found, loc_a)


def _renumber(ids: Sequence[Ints]) -> tuple[int, list[Ints]]:
    """Ids as positions in the ascending list of all of them; also how many there are."""
    known, position = np.unique(np.concatenate([np.empty(0, np.int64), *ids]), return_inverse=True)
    ends = np.cumsum([len(i) for i in ids])
    return len(known), np.split(position.reshape(-1), ends[:-1])
