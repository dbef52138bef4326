"""Paired bootstrap over videos: AP and AR of any weighing of the videos, from match tables, and what follows from it.

Videos are the unit because tracks of one video are not independent. Resamples are drawn once and used for all runs, so
that differences are paired. Formulas and sources: ``docs/comparison.md``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from harness.rle import Ints
from harness.scoring.match import EPSILON, RECALL_POINTS
from harness.scoring.match_table import MatchTable
from harness.scoring.overlap import Floats
from harness.scoring.protocols import get_protocol

Flags = NDArray[np.bool_]
Counts = NDArray[np.int32]

BOOTSTRAP_METRICS = ("AP", "AP50", "AP75", "AR100")
"""Numbers of a category, in the order of `Replicates.values`."""
LEVEL = 0.95
"""Coverage of intervals; differences with a p-value below its complement are called significant."""
POWER = 0.8
"""Probability with which a detectable difference would be found."""
ROUNDING = 1e-12
"""Differences of metrics up to this are rounding: means of the same cells in another order differ by about 1e-16."""
FEWEST_VIDEOS = 6
"""A category has an interval and a test if so many videos hold its truth: with fewer no test by signs reaches 0.05."""

_CHUNK = 16


@dataclass(frozen=True)
class Replicates:
    """Numbers of every category under every weighing: ``values (metrics, weighings, categories)`` as fractions.

    A category without positives under a weighing is not ``defined (weighings, categories)``; its values are then 0.
    """

    values: Floats
    defined: Flags

    def mean(self, metric: str, rows: Ints | None = None) -> Floats:
        """The mean over the defined categories among ``rows`` (all: ``None``) ``(weighings,)``; nan without any."""
        values, defined = self.values[BOOTSTRAP_METRICS.index(metric)], self.defined
        if rows is not None:
            values, defined = values[:, rows], defined[:, rows]
        count = defined.sum(1)
        return np.asarray(np.divide(values.sum(1), count, out=np.full(len(values), np.nan), where=count > 0))


class Estimate(NamedTuple):
    """What replicates say of a number: percentile interval and standard error, ``None`` where undefined."""

    low: float | None
    high: float | None
    standard_error: float | None


NOTHING = Estimate(None, None, None)


def draw(videos: int, resamples: int, seed: int) -> Counts:
    """How often each video is in each resample ``(resamples, videos)``: as many draws with replacement as videos."""
    chance = np.random.default_rng(seed)
    out = np.empty((resamples, videos), np.int32)
    for counts in out:
        counts[:] = np.bincount(chance.integers(videos, size=videos), minlength=videos)
    return out


def leave_one_out(videos: int) -> Counts:
    """All videos but one, each in turn ``(videos, videos)``."""
    return np.ones((videos, videos), np.int32) - np.eye(videos, dtype=np.int32)


def replicate(table: MatchTable, weights: Counts) -> Replicates:
    """The numbers of a run under each weighing of its videos, ``weights (weighings, videos)``, on all cores.

    A video of weight ``w`` counts as ``w`` copies of it would; with weights of 1 the numbers are the official ones.
    """
    quirks, m, categories = get_protocol(table.protocol).quirks, table.matches, len(table.category_ids)
    values = np.zeros((len(BOOTSTRAP_METRICS), len(weights), categories))
    defined = np.zeros((len(weights), categories), np.bool_)
    epsilon = EPSILON if quirks.epsilon_in_precision else 0.0

    def work(first: int) -> None:
        part = slice(first, first + _CHUNK)
        _weigh(
            np.ascontiguousarray(weights[part]), m.first, m.video, m.score, m.hits, m.misses, m.pair_first,
            m.pair_video, m.pair_positives, RECALL_POINTS, epsilon, not quirks.ties_by_file_order,
            values[:, part], defined[part],
        )  # fmt: skip

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(work, range(0, len(weights), _CHUNK)))
    return Replicates(values, defined)


@numba.njit(cache=True, nogil=True)
def _weigh(
    weights, first, video, score, hits, misses, pair_first, pair_video, pair_positives, recall_points, epsilon,
    join_ties, values, defined,
):  # fmt: skip
    """Fill ``values (metrics, weighings, categories)`` and ``defined (weighings, categories)``; see `replicate`."""
    longest = 1
    for k in range(len(first) - 1):
        longest = max(longest, first[k + 1] - first[k])
    weight, value = np.empty(longest, np.int64), np.empty(longest)
    hit, miss = np.empty(longest, np.int64), np.empty(longest, np.int64)
    found, precision = np.empty(longest, np.int64), np.empty(longest)
    for b in range(len(weights)):
        for k in range(len(first) - 1):
            positives = 0
            for p in range(pair_first[k], pair_first[k + 1]):
                positives += weights[b, pair_video[p]] * pair_positives[p]
            if positives == 0:
                continue
            defined[b, k] = True
            n, ever = 0, 0
            for i in range(first[k], first[k + 1]):
                w = weights[b, video[i]]
                if w > 0:
                    weight[n], value[n], hit[n], miss[n] = w, score[i], hits[i], misses[i]
                    ever |= hits[i]
                    n += 1
            total_precision, total_recall = 0.0, 0.0
            for t in range(10):
                if not (ever >> t) & 1:
                    continue
                tp, fp, steps, before = 0, 0, 0, 0
                for i in range(n):
                    tp += weight[i] * ((hit[i] >> t) & 1)
                    fp += weight[i] * ((miss[i] >> t) & 1)
                    if tp == before or (join_ties and i + 1 < n and value[i] == value[i + 1]):
                        continue  # recall has not grown, or tracks of equal score are still to enter
                    found[steps], precision[steps] = tp, tp / (fp + tp + epsilon)
                    before = tp
                    steps += 1
                best, area = 0.0, 0.0
                reached = _points_until(found[steps - 1] / positives, recall_points)
                for s in range(steps - 1, -1, -1):
                    best = max(best, precision[s])
                    below = _points_until(found[s - 1] / positives, recall_points) if s else 0
                    area += best * (reached - below)
                    reached = below
                area /= len(recall_points)
                total_precision += area
                total_recall += tp / positives
                if t == 0:
                    values[1, b, k] = area
                elif t == 5:
                    values[2, b, k] = area
            values[0, b, k] = total_precision / 10
            values[3, b, k] = total_recall / 10


@numba.njit(cache=True, nogil=True)
def _points_until(recall, recall_points):
    """How many recall points are at most ``recall``."""
    n = min(len(recall_points), int(recall * 100) + 2)
    while n > 0 and recall_points[n - 1] > recall:
        n -= 1
    return n


def estimate(replicates: Floats) -> Estimate:
    """The percentile interval of level `LEVEL` and the standard error; undefined replicates (nan) are left out."""
    known = replicates[~np.isnan(replicates)]
    if len(known) < 2:
        return NOTHING
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(low), float(high), float(known.std(ddof=1)))


def centred(value: float, replicates: Floats, lowest: float = 0.0) -> Estimate:
    """As `estimate`, shifted so that the replicates' mean is ``value``, and cut to ``[lowest, 1]``.

    For a run by itself: replicates lie above the measured AP where categories have few videos, since a category is
    only averaged in where its positives are, and then they weigh more than others' false positives.
    """
    found = estimate(replicates)
    if found.low is None or found.high is None:
        return found
    shift = value - float(np.nanmean(replicates))
    return Estimate(max(lowest, min(value, found.low + shift)), min(1.0, max(value, found.high + shift)), found[2])


def without_rounding(differences: Floats) -> Floats:
    """Differences of numbers, with 0 for those that are mere `ROUNDING`; nan stays."""
    return np.where(np.abs(differences) <= ROUNDING, 0.0, differences)


def p_value(replicates: Floats, videos: int) -> float | None:
    """Two-sided p-value of a difference from its replicates: how far the percentile interval must widen to reach 0.

    Twice the smaller share of replicates on either side of 0, each count increased by one; what is 0 but for rounding
    counts on both sides. Never below `smallest_p`.
    """
    known = without_rounding(replicates[~np.isnan(replicates)])
    lowest = smallest_p(videos, len(known))
    if lowest is None:
        return None
    fewer = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, max(2 * (fewer + 1) / (len(known) + 1), lowest))


def smallest_p(videos: int, resamples: int) -> float | None:
    """The least that `p_value` can give: 2 / (1 + resamples), or 2 ** (1 - videos) as a test by signs, if that is more.

    ``None`` where nothing can be tested: without videos, or with fewer than two resamples.
    """
    if resamples < 2 or videos < 1:
        return None
    return min(1.0, max(2 / (resamples + 1), 2.0 ** (1 - videos)))


def t_test(difference: float, standard_error: float | None, videos: int) -> float | None:
    """Two-sided p-value of Student's t with ``videos - 1`` degrees of freedom, for categories.

    The bootstrap's standard error is widened by the square root of n / (n - 1), and the p-value is never below
    2 ** (1 - n). ``None`` for fewer videos than `FEWEST_VIDEOS`. What is `ROUNDING` is 0.
    """
    if videos < FEWEST_VIDEOS or standard_error is None:
        return None
    if abs(difference) <= ROUNDING:
        return 1.0
    if standard_error <= ROUNDING:
        return 2.0 ** (1 - videos)
    t = abs(difference) / (standard_error * np.sqrt(videos / (videos - 1)))
    return min(1.0, max(2 * float(stdtr(videos - 1, -t)), 2.0 ** (1 - videos)))


def detectable(standard_error: float | None) -> float | None:
    """The smallest true difference that is found significant at level 0.05 with a probability of `POWER`."""
    if standard_error is None:
        return None
    return float(ndtri((1 + LEVEL) / 2) + ndtri(POWER)) * standard_error


def correct_for_many(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini and Hochberg's correction over the p-values that there are."""
    known = np.array([p for p in p_values if p is not None])
    order = np.argsort(known, kind="stable")
    scaled = known[order] * len(known) / np.arange(1, len(known) + 1)
    adjusted = np.empty(len(known))
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    corrected = iter(np.minimum(adjusted, 1).tolist())
    return [None if p is None else next(corrected) for p in p_values]
