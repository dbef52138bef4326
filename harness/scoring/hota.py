"""HOTA and OWTA of one class (Luiten et al., IJCV 2021; Liu et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from harness.arrays import Floats, Ints

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""The 19 localisation thresholds."""
EPSILON = float(np.finfo("float").eps)


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


def combine(parts: Sequence[Hota]) -> Hota:
    """HOTA over sequences: counts add up, association and localisation are means weighted by the hits."""
    return combine_rows(Hota(*(np.array([getattr(part, f.name) for part in parts]) for f in fields(Hota))), slice(None))


def combine_rows(scores: Hota, rows: Ints | slice) -> Hota:
    """The same over some sequences of ``scores``, whose arrays are ``(sequences, 19)``."""
    tp = scores.tp[rows]
    total = tp.sum(0)

    def weighted(values: Floats) -> Floats:
        return np.asarray((values[rows] * tp).sum(0))

    found = np.maximum(1, total)
    ass_a, ass_re, ass_pr = (weighted(part) / found for part in (scores.ass_a, scores.ass_re, scores.ass_pr))
    loc_a = np.maximum(1e-10, weighted(scores.loc_a)) / np.maximum(1e-10, total)
    return Hota(total, scores.fn[rows].sum(0), scores.fp[rows].sum(0), ass_a, ass_re, ass_pr, loc_a)
