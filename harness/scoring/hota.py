"""HOTA and OWTA of one class (Luiten et al., IJCV 2021; Liu et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.arrays import Floats, Ints

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""The 19 localisation thresholds."""
EPSILON = float(np.finfo("float").eps)


class _ByThreshold(NamedTuple):
    tp: Floats
    fn: Floats
    fp: Floats
    ass_a: Floats
    ass_re: Floats
    ass_pr: Floats
    loc_a: Floats


class Hota(_ByThreshold):
    """Counts and association scores per localisation threshold, each ``(19,)``."""

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
    return combine_rows(Hota(*(np.array(values) for values in zip(*parts, strict=True))), slice(None))


def combine_rows(scores: Hota, rows: Ints | slice) -> Hota:
    """The same over some sequences of ``scores``, whose arrays are ``(sequences, 19)``."""
    return HotaSums.of(scores).over(rows).scores()


class HotaSums(_ByThreshold):
    """What adds up over sequences: counts, and associations and localisation times the hits, each ``(..., 19)``."""

    @classmethod
    def of(cls, scores: Hota) -> HotaSums:
        """The sums that have these scores."""
        parts = (part * scores.tp for part in (scores.ass_a, scores.ass_re, scores.ass_pr, scores.loc_a))
        return cls(scores.tp, scores.fn, scores.fp, *parts)

    def over(self, rows: Ints | slice) -> HotaSums:
        """The sums over some of the first axis ``(19,)``."""
        return HotaSums(*(part[rows].sum(0) for part in self))

    def minus(self, other: HotaSums) -> HotaSums:
        """What is left without ``other``."""
        return HotaSums(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    def scores(self) -> Hota:
        """The scores of what was added up: associations and localisation are means weighted by the hits."""
        found = np.maximum(1, self.tp)
        loc_a = np.maximum(1e-10, self.loc_a) / np.maximum(1e-10, self.tp)
        return Hota(self.tp, self.fn, self.fp, self.ass_a / found, self.ass_re / found, self.ass_pr / found, loc_a)
