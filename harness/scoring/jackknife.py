"""Sampling variance of AP and AR over the choice of videos: a jackknife, adapted to categories of few videos.

Each video is left out once. Videos are the unit because tracks of one video are not independent; what a video
contributes to two runs is paired. Formulas, sources and how far they hold: ``docs/comparison.md``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numba
import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from harness.arrays import Flags, Floats, Ints, Ints32
from harness.scoring.hota import EPSILON
from harness.scoring.match import RECALL_POINTS
from harness.scoring.match_table import MatchTable
from harness.scoring.protocols import get_protocol

JACKKNIFE_METRICS = ("AP", "AP50", "AP75", "AR100")
"""Numbers of a category, in the order of `Replicates.values` and `LeftOut.full`."""
LEVEL = 0.95
"""Coverage of intervals; differences with a p-value below its complement are called significant."""
POWER = 0.8
"""Probability with which a detectable difference would be found."""
ROUNDING = 1e-12
"""Differences of metrics up to this are rounding: means of the same cells in another order differ by about 1e-16."""
FEWEST_VIDEOS = 6
"""An interval and a test need so many videos with truth: with fewer no test by signs reaches 0.05."""

_CHUNK = 16
_ENTRIES = 256


@dataclass(frozen=True)
class Replicates:
    """Numbers of every category under every weighing: ``values (metrics, weighings, categories)`` as fractions.

    A category without positives under a weighing is not ``defined (weighings, categories)``; its values are then 0.
    """

    values: Floats
    defined: Flags

    def mean(self, metric: str, rows: Ints | None = None) -> Floats:
        """The mean over the defined categories among ``rows`` (all: ``None``) ``(weighings,)``; nan without any."""
        values, defined = self.values[JACKKNIFE_METRICS.index(metric)], self.defined
        if rows is not None:
            values, defined = values[:, rows], defined[:, rows]
        count = defined.sum(1)
        return np.asarray(np.divide(values.sum(1), count, out=np.full(len(values), np.nan), where=count > 0))


@dataclass(frozen=True)
class LeftOut:
    """A run's numbers by category, and those without each video that the category has tracks or positives in.

    ``full (metrics, categories)`` are the numbers over all videos, of the ``defined (categories,)``. One entry per
    category and video: ``category``, ``video``, whether it holds the category's truth ``has_truth``, all
    ``(entries,)``, and ``drop (metrics, entries)``: by how much the category's number falls without the video. An
    entry whose video has the only truth leaves nothing behind (``is_last``); its drop is the number itself.
    """

    videos: int
    full: Floats
    defined: Flags
    category: Ints
    video: Ints
    has_truth: Flags
    drop: Floats

    @cached_property
    def truths(self) -> Ints:
        """How many videos hold a category's truth ``(categories,)``."""
        return np.bincount(self.category[self.has_truth], minlength=len(self.defined))

    @cached_property
    def is_last(self) -> Flags:
        """Whether an entry's video has all truth of its category ``(entries,)``."""
        return np.asarray(self.has_truth & (self.truths[self.category] == 1))

    def number(self, metric: str, rows: Ints | None = None) -> float:
        """The mean over the defined categories among ``rows`` (all: ``None``); nan without any."""
        chosen = self._chosen(rows)
        return float(self.full[JACKKNIFE_METRICS.index(metric), chosen].mean()) if chosen.any() else float("nan")

    def without(self, metric: str, rows: Ints | None = None) -> Floats:
        """`number` without each video ``(videos,)``; nan where it leaves no category."""
        m, chosen = JACKKNIFE_METRICS.index(metric), self._chosen(rows)
        inside = chosen[self.category]
        falls = np.bincount(self.video[inside], self.drop[m, inside], self.videos)
        left = chosen.sum() - np.bincount(self.video[inside & self.is_last], minlength=self.videos)
        total = self.full[m, chosen].sum() - falls
        return np.asarray(np.divide(total, left, out=np.full(self.videos, np.nan), where=left > 0))

    def contributions(self, metric: str, rows: Ints | None = None) -> Floats:
        """What each video contributes to the error of `number` ``(videos,)``: the sum of squares is its variance.

        Of a category in several videos, a video adds the drop, times the root of (n - 1) / n with n the videos that
        hold its truth. Of a category in one video only, that video adds how far the category is from the mean: the
        scatter of such categories contains all their variance, so that the drops by other videos are not counted again.
        """
        m, chosen = JACKKNIFE_METRICS.index(metric), self._chosen(rows)
        inside = chosen[self.category]
        category, truths = self.category[inside], self.truths[self.category[inside]]
        several = self.drop[m, inside] * np.sqrt((truths - 1) / truths)
        single = (self.full[m, category] - self.number(metric, rows)) * self.is_last[inside]
        added = np.where(truths > 1, several, single)
        return np.asarray(np.bincount(self.video[inside], added, self.videos) / max(int(chosen.sum()), 1))

    def of_category(self, metric: str, row: int) -> Floats:
        """As `contributions`, of one category by itself: zero if only one video holds its truth."""
        m, n = JACKKNIFE_METRICS.index(metric), int(self.truths[row])
        inside = slice(*np.searchsorted(self.category, [row, row + 1]).tolist())
        falls = np.bincount(self.video[inside], self.drop[m, inside], self.videos)
        return np.asarray(falls * np.sqrt(max(n - 1, 0) / max(n, 1)))

    def videos_with_truth(self, rows: Ints | None = None) -> int:
        """How many videos have a positive of the categories ``rows`` (all: ``None``)."""
        return len(np.unique(self.video[self.has_truth & self._chosen(rows)[self.category]]))

    def _chosen(self, rows: Ints | None) -> Flags:
        if rows is None:
            return self.defined
        chosen = np.zeros(len(self.defined), np.bool_)
        chosen[rows] = True
        return chosen & self.defined


def mean_of(several: Sequence[LeftOut]) -> LeftOut:
    """The mean of runs over the same truth, category by category."""
    if len(several) == 1:
        return several[0]
    first = several[0]
    places = [one.category * one.videos + one.video for one in several]
    union, inverse = np.unique(np.concatenate(places), return_inverse=True)
    drops = np.concatenate([one.drop for one in several], 1) / len(several)
    drop = np.array([np.bincount(inverse, row, len(union)) for row in drops])
    has_truth = np.zeros(len(union), np.bool_)
    has_truth[inverse] = np.concatenate([one.has_truth for one in several])
    full = np.mean([one.full for one in several], 0)
    category, video = union // max(first.videos, 1), union % max(first.videos, 1)
    return LeftOut(first.videos, full, first.defined, category, video, has_truth, drop)


class VarianceComponent(NamedTuple):
    """The variance of a number from one source (videos or seeds), and the degrees of freedom of its estimate."""

    variance: float
    freedom: float


def of_seeds(values: Floats, contributions: Floats) -> VarianceComponent:
    """What the choice of seeds adds to the variance of their mean; ``values (seeds,)``, ``contributions (seeds,
    videos)``.

    The variance between seeds also holds how single videos turn out under each seed. The contributions of the mean hold
    that already, so it is taken off, as in errors clustered two ways (Cameron, Gelbach and Miller 2011). The estimate
    may be negative where seeds differ in nothing else.
    """
    seeds = len(values)
    apart = contributions - contributions.mean(0)
    of_videos = sum(standard_error(one) ** 2 for one in apart) / (seeds - 1)
    whole = float(values.var(ddof=1))
    if whole == of_videos:
        return VarianceComponent(0.0, seeds - 1)
    # the part is known as little as the whole that it is a difference of
    freedom = (seeds - 1) * (1 - of_videos / whole) ** 2 if whole else seeds - 1
    return VarianceComponent((whole - of_videos) / seeds, freedom)


def combine_variances(videos: VarianceComponent, seeds: Sequence[VarianceComponent] = ()) -> tuple[float, float]:
    """Standard error and degrees of freedom of the sum of independent components (Satterthwaite).

    Seeds add nothing where the sum of their estimates is negative.
    """
    of_seeds = sum(part.variance for part in seeds)
    total, parts = (videos.variance + of_seeds, (videos, *seeds)) if of_seeds > 0 else (videos.variance, (videos,))
    if total <= 0:
        return 0.0, videos.freedom
    least = sum(part.variance**2 / part.freedom for part in parts)
    return float(np.sqrt(total)), float(total**2 / least)


class Estimate(NamedTuple):
    """What is known of a number: 95 % interval and standard error, ``None`` where undefined."""

    low: float | None
    high: float | None
    standard_error: float | None


NOTHING = Estimate(None, None, None)


def replicate(table: MatchTable, weights: Ints32) -> Replicates:
    """The numbers of a run under each weighing of its videos, ``weights (weighings, videos)``, on all cores.

    A video of weight ``w`` counts as ``w`` copies of it would; with weights of 1 the numbers are the official ones.
    """
    quirks, m, categories = get_protocol(table.protocol).quirks, table.matches, len(table.category_ids)
    values = np.zeros((len(JACKKNIFE_METRICS), len(weights), categories))
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


def leave_videos_out(table: MatchTable) -> LeftOut:
    """Leave each video out of each category that has tracks or positives in it, on all cores."""
    quirks, m = get_protocol(table.protocol).quirks, table.matches
    videos, categories = len(table.video_ids), len(table.category_ids)
    epsilon = EPSILON if quirks.epsilon_in_precision else 0.0
    of_pairs = np.repeat(np.arange(categories), np.diff(m.pair_first)) * videos + m.pair_video
    of_tracks = np.repeat(np.arange(categories), np.diff(m.first)) * videos + m.video
    whole = replicate(table, np.ones((1, videos), np.int32))
    places = np.unique(np.concatenate([of_pairs, of_tracks]))
    category, video = places // max(videos, 1), places % max(videos, 1)
    positives = np.bincount(of_pairs // max(videos, 1), m.pair_positives, categories).astype(np.int64)
    positives_in = np.zeros(len(places), np.int64)
    np.add.at(positives_in, np.searchsorted(places, of_pairs), m.pair_positives)
    used = whole.defined[0][category]
    category, video, positives_in = category[used], video[used], positives_in[used]
    values = np.zeros((len(JACKKNIFE_METRICS), len(category)))

    def work(begin: int) -> None:
        _leave_out(
            begin, min(begin + _ENTRIES, len(category)), category, video, positives_in, m.first, m.video, m.score,
            m.hits, m.misses, positives, RECALL_POINTS, epsilon, not quirks.ties_by_file_order, values,
        )  # fmt: skip

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(work, range(0, len(category), _ENTRIES)))
    full = whole.values[:, 0]
    return LeftOut(videos, full, whole.defined[0], category, video, positives_in > 0, full[:, category] - values)


@numba.njit(cache=True, nogil=True)
def _longest(first):
    """The number of tracks of the category that has most, at least 1; ``first`` as in `_weigh`."""
    longest = 1
    for k in range(len(first) - 1):
        longest = max(longest, first[k + 1] - first[k])
    return longest


@numba.njit(cache=True, nogil=True)
def _weigh(
    weights, first, video, score, hits, misses, pair_first, pair_video, pair_positives, recall_points, epsilon,
    join_ties, values, defined,
):  # fmt: skip
    """Fill ``values (metrics, weighings, categories)`` and ``defined (weighings, categories)``; see `replicate`."""
    longest = _longest(first)
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
            n = 0
            for i in range(first[k], first[k + 1]):
                w = weights[b, video[i]]
                if w > 0:
                    weight[n], value[n], hit[n], miss[n] = w, score[i], hits[i], misses[i]
                    n += 1
            _numbers(
                n, weight, value, hit, miss, positives, recall_points, epsilon, join_ties, found, precision,
                values[:, b, k],
            )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _leave_out(
    begin, end, category, left_out, positives_in, first, video, score, hits, misses, positives, recall_points, epsilon,
    join_ties, values,
):  # fmt: skip
    """Fill ``values (metrics, entries)`` from ``begin`` to ``end``: an entry's category without its video."""
    longest = _longest(first)
    weight, value = np.ones(longest, np.int64), np.empty(longest)
    hit, miss = np.empty(longest, np.int64), np.empty(longest, np.int64)
    found, precision = np.empty(longest, np.int64), np.empty(longest)
    for e in range(begin, end):
        k = category[e]
        left = positives[k] - positives_in[e]
        if left == 0:
            continue
        n = 0
        for i in range(first[k], first[k + 1]):
            if video[i] != left_out[e]:
                value[n], hit[n], miss[n] = score[i], hits[i], misses[i]
                n += 1
        _numbers(
            n, weight, value, hit, miss, left, recall_points, epsilon, join_ties, found, precision, values[:, e]
        )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _numbers(
    n, weight, value, hit, miss, positives, recall_points, epsilon, join_ties, found, precision, out
):  # fmt: skip
    """Write AP, AP50, AP75 and AR of ``n`` tracks by descending score to ``out (metrics,)``, which holds zeros."""
    ever = 0
    for i in range(n):
        ever |= hit[i]
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
            out[1] = area
        elif t == 5:
            out[2] = area
    out[0] = total_precision / 10
    out[3] = total_recall / 10


@numba.njit(cache=True, nogil=True)
def _points_until(recall, recall_points):
    """How many recall points are at most ``recall``."""
    n = min(len(recall_points), int(recall * 100) + 2)
    while n > 0 and recall_points[n - 1] > recall:
        n -= 1
    return n


def standard_error(contributions: Floats) -> float:
    """The root of the sum of squares of the contributions of videos about their mean."""
    return float(np.sqrt(np.square(contributions - contributions.mean()).sum()))


def estimate(value: float, error: float | None, freedom: float, lowest: float = 0.0, highest: float = 1.0) -> Estimate:
    """The interval of level `LEVEL` by Student's t with ``freedom`` degrees of freedom, cut to what a metric can be.

    It always holds ``value``. Nothing where ``value`` or ``error`` is undefined.
    """
    if error is None or np.isnan(value) or np.isnan(error):
        return NOTHING
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return Estimate(min(value, max(lowest, value - half)), max(value, min(highest, value + half)), error)


def without_rounding(differences: Floats) -> Floats:
    """Differences of numbers, with 0 for those that are mere `ROUNDING`; nan stays."""
    return np.where(np.abs(differences) <= ROUNDING, 0.0, differences)


def t_test(difference: float, error: float | None, freedom: float) -> float | None:
    """Two-sided p-value of Student's t, never below that of a test by signs, 2 ** -freedom.

    ``None`` where the standard error is undefined. A difference that is `ROUNDING` has a p-value of 1.
    """
    if error is None or np.isnan(difference) or np.isnan(error):
        return None
    if abs(difference) <= ROUNDING:
        return 1.0
    if error <= ROUNDING:
        return float(2.0**-freedom)
    return min(1.0, max(2 * float(stdtr(freedom, -abs(difference) / error)), float(2.0**-freedom)))


def detectable(standard_error: float | None) -> float | None:
    """The smallest true difference that is found significant at level 0.05 with a probability of `POWER`."""
    if standard_error is None:
        return None
    return float(ndtri((1 + LEVEL) / 2) + ndtri(POWER)) * standard_error


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction over the p-values that there are: the probability of any false alarm stays below the level."""
    known = np.array([p for p in p_values if p is not None])
    order = np.argsort(known, kind="stable")
    adjusted = np.empty(len(known))
    adjusted[order] = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1))
    corrected = iter(np.minimum(adjusted, 1).tolist())
    return [None if p is None else next(corrected) for p in p_values]


def correct_for_many(p_values: Sequence[float | None]) -> list[float | None]:
    """Benjamini and Hochberg's correction over the p-values that there are."""
    known = np.array([p for p in p_values if p is not None])
    order = np.argsort(known, kind="stable")
    scaled = known[order] * len(known) / np.arange(1, len(known) + 1)
    adjusted = np.empty(len(known))
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    corrected = iter(np.minimum(adjusted, 1).tolist())
    return [None if p is None else next(corrected) for p in p_values]
