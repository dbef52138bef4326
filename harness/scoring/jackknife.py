"""Sampling variance of AP and AR over the choice of videos: a jackknife, adapted to categories with few videos.

Each video is left out once. Videos are the sampling unit because tracks of one video are not independent. Two runs are
compared by the paired contributions of each video. ``docs/comparison.md`` has formulas, sources and limits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from math import fsum
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
"""Metrics of a category, in the order of `Replicates.values` and `LeftOut.full`."""
LEVEL = 0.95
"""Confidence level of intervals; a difference is significant if its p-value is below ``1 - LEVEL``."""
POWER = 0.8
"""Probability that a test finds a detectable difference, see `detectable`."""
ROUNDING = 1e-12
"""Differences of metrics up to this are rounding errors: the same mean in another order differs by about 1e-16."""
FEWEST_VIDEOS = 6
"""Fewest videos with truth for an interval and a test: with fewer, no sign test reaches a p-value of 0.05."""

_CHUNK = 16
_ENTRIES = 256


@dataclass(frozen=True)
class Replicates:
    """Metrics of every category for every weighting of videos: ``values (metrics, weightings, categories)``, fractions.

    A category without positives in a weighting is not ``defined (weightings, categories)``; its values are then 0.
    """

    values: Floats
    defined: Flags

    def mean(self, metric: str, rows: Ints | None = None) -> Floats:
        """Return the mean over the defined categories among ``rows`` (``None``: all) ``(weightings,)``; nan if none."""
        values, defined = self.values[JACKKNIFE_METRICS.index(metric)], self.defined
        if rows is not None:
            values, defined = values[:, rows], defined[:, rows]
        count = defined.sum(1)
        return np.asarray(np.divide(values.sum(1), count, out=np.full(len(values), np.nan), where=count > 0))


@dataclass(frozen=True)
class LeftOut:
    """A run's metrics by category, and how much they drop without each video.

    ``full (metrics, categories)`` are the metrics over all videos, as fractions; ``defined (categories,)`` whether they
    are defined. There is one entry for each category and each video in which it has tracks or positives: ``category``
    and ``video`` are their rows, ``has_truth`` whether the video has truth of the category, all ``(entries,)``.
    ``drop (metrics, entries)`` is the category's metric minus its value without the video. If no other video has truth
    of the category (``is_last``), the drop is the metric itself.
    """

    videos: int
    full: Floats
    defined: Flags
    category: Ints
    video: Ints
    has_truth: Flags
    drop: Floats
    metrics: tuple[str, ...] = JACKKNIFE_METRICS

    @cached_property
    def truths(self) -> Ints:
        """The number of videos with truth of each category ``(categories,)``."""
        return np.bincount(self.category[self.has_truth], minlength=len(self.defined))

    @cached_property
    def is_last(self) -> Flags:
        """Whether an entry's video is the only one with truth of its category ``(entries,)``."""
        return np.asarray(self.has_truth & (self.truths[self.category] == 1))

    def number(self, metric: str, rows: Ints | None = None) -> float:
        """Return the mean over the defined categories among ``rows`` (``None``: all), a fraction; nan if none."""
        chosen = self._chosen(rows)
        return float(self.full[self.metrics.index(metric), chosen].mean()) if chosen.any() else float("nan")

    def without(self, metric: str, rows: Ints | None = None) -> Floats:
        """Return `number` without each video ``(videos,)``; nan where no category is left."""
        m, chosen = self.metrics.index(metric), self._chosen(rows)
        inside = chosen[self.category]
        falls = np.bincount(self.video[inside], self.drop[m, inside], self.videos)
        left = chosen.sum() - np.bincount(self.video[inside & self.is_last], minlength=self.videos)
        total = self.full[m, chosen].sum() - falls
        return np.asarray(np.divide(total, left, out=np.full(self.videos, np.nan), where=left > 0))

    def contributions(self, metric: str, rows: Ints | None = None) -> Floats:
        """Return each video's contribution to the error of `number` ``(videos,)``: the sum of squares is its variance.

        For a category with truth in n > 1 videos, a video contributes its drop times sqrt((n - 1) / n). For a category
        with truth in one video, that video contributes the distance of the category's metric from the mean. The spread
        of such categories already contains all their variance, so drops by other videos are not added.
        """
        m, chosen = self.metrics.index(metric), self._chosen(rows)
        inside = chosen[self.category]
        category, truths = self.category[inside], self.truths[self.category[inside]]
        several = self.drop[m, inside] * np.sqrt((truths - 1) / truths)
        single = (self.full[m, category] - self.number(metric, rows)) * self.is_last[inside]
        added = np.where(truths > 1, several, single)
        return np.asarray(np.bincount(self.video[inside], added, self.videos) / max(int(chosen.sum()), 1))

    def of_category(self, metric: str, row: int) -> Floats:
        """As `contributions`, for one category alone ``(videos,)``; zeros if only one video has its truth."""
        m, n = self.metrics.index(metric), int(self.truths[row])
        inside = slice(*np.searchsorted(self.category, [row, row + 1]).tolist())
        falls = np.bincount(self.video[inside], self.drop[m, inside], self.videos)
        return np.asarray(falls * np.sqrt(max(n - 1, 0) / max(n, 1)))

    def videos_with_truth(self, rows: Ints | None = None) -> int:
        """Return the number of videos that have a positive of the categories ``rows`` (``None``: all)."""
        return len(np.unique(self.video[self.has_truth & self._chosen(rows)[self.category]]))

    def _chosen(self, rows: Ints | None) -> Flags:
        if rows is None:
            return self.defined
        chosen = np.zeros(len(self.defined), np.bool_)
        chosen[rows] = True
        return chosen & self.defined


def mean_of(several: Sequence[LeftOut]) -> LeftOut:
    """Return the mean of runs on the same truth, for each category."""
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
    """The variance of a metric from one source (videos or seeds), and the degrees of freedom of its estimate."""

    variance: float
    freedom: float


def of_seeds(values: Floats, contributions: Floats) -> VarianceComponent:
    """Return the variance that the choice of seeds adds to the mean of ``values (seeds,)``.

    ``contributions (seeds, videos)`` are those of each seed. The variance between seeds includes the variance of videos
    within each seed. The contributions of the mean include it too, so it is subtracted, as in two-way clustered errors
    (Cameron, Gelbach and Miller 2011). The estimate may be negative if seeds do not differ otherwise.
    """
    seeds = len(values)
    apart = contributions - contributions.mean(0)
    of_videos = sum(standard_error(one) ** 2 for one in apart) / (seeds - 1)
    whole = float(values.var(ddof=1))
    if whole == of_videos:
        return VarianceComponent(0.0, seeds - 1)
    # the difference has the uncertainty of `whole`, so a smaller one has fewer degrees of freedom
    freedom = (seeds - 1) * (1 - of_videos / whole) ** 2 if whole else seeds - 1
    return VarianceComponent((whole - of_videos) / seeds, freedom)


def combine_variances(videos: VarianceComponent, seeds: Sequence[VarianceComponent] = ()) -> tuple[float, float]:
    """Return standard error and degrees of freedom of the sum of independent components (Satterthwaite).

    Seeds add nothing if the sum of their variances is negative.
    """
    of_seeds = fsum(part.variance for part in seeds)  # exact sums: two runs in either order give the same bytes
    total, parts = (videos.variance + of_seeds, (videos, *seeds)) if of_seeds > 0 else (videos.variance, (videos,))
    if total <= 0:
        return 0.0, videos.freedom
    least = fsum(part.variance**2 / part.freedom for part in parts)
    return float(np.sqrt(total)), float(total**2 / least)


class Estimate(NamedTuple):
    """The 95 % interval and the standard error of a metric, ``None`` where undefined."""

    low: float | None
    high: float | None
    standard_error: float | None


NOTHING = Estimate(None, None, None)


def replicate(table: MatchTable, weights: Ints32) -> Replicates:
    """Return the metrics of a run for each weighting of its videos, ``weights (weightings, videos)``; uses all cores.

    A video of weight ``w`` counts as ``w`` copies of it; with weights of 1 the metrics are the official ones.
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
    """Compute each category's metrics without each video in which it has tracks or positives; uses all cores."""
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
    """The largest number of tracks of any category, at least 1; ``first`` as in `_weigh`."""
    longest = 1
    for k in range(len(first) - 1):
        longest = max(longest, first[k + 1] - first[k])
    return longest


@numba.njit(cache=True, nogil=True)
def _weigh(
    weights, first, video, score, hits, misses, pair_first, pair_video, pair_positives, recall_points, epsilon,
    join_ties, values, defined,
):  # fmt: skip
    """Fill ``values (metrics, weightings, categories)`` and ``defined (weightings, categories)``; see `replicate`."""
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
                continue  # recall has not grown, or the next track has the same score
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
    """Return the square root of the sum of squared deviations of the videos' contributions from their mean."""
    return float(np.sqrt(np.square(contributions - contributions.mean()).sum()))


def estimate(value: float, error: float | None, freedom: float, lowest: float = 0.0, highest: float = 1.0) -> Estimate:
    """Return the interval at level `LEVEL` by Student's t with ``freedom`` degrees of freedom.

    It is clipped to ``lowest`` and ``highest`` and always contains ``value``. `NOTHING` if ``value`` or ``error`` is
    undefined.
    """
    if error is None or np.isnan(value) or np.isnan(error):
        return NOTHING
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return Estimate(min(value, max(lowest, value - half)), max(value, min(highest, value + half)), error)


def without_rounding(differences: Floats) -> Floats:
    """Return the differences, with 0 for those of at most `ROUNDING`; nan stays nan."""
    return np.where(np.abs(differences) <= ROUNDING, 0.0, differences)


def t_test(difference: float, error: float | None, freedom: float, videos: int) -> float | None:
    """Return the two-sided p-value of Student's t, never below that of a sign test of so many ``videos``.

    ``None`` if the difference or its standard error is undefined; 1 for a difference of at most `ROUNDING`. With at
    least `FEWEST_VIDEOS` it is below 0.05 where the interval by `estimate` excludes 0, and only there.
    """
    if error is None or np.isnan(difference) or np.isnan(error):
        return None
    if abs(difference) <= ROUNDING:
        return 1.0
    least = 2.0 ** (1 - videos)
    return max(2 * float(stdtr(freedom, -abs(difference) / error)), least) if error else least


def detectable(standard_error: float | None) -> float | None:
    """Return the smallest true difference that is found significant at level 0.05 with probability `POWER`."""
    if standard_error is None:
        return None
    return float(ndtri((1 + LEVEL) / 2) + ndtri(POWER)) * standard_error


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values with Holm's correction, which bounds the family-wise error rate; ``None`` stays ``None``."""
    known = np.array([p for p in p_values if p is not None])
    order = np.argsort(known, kind="stable")
    adjusted = np.empty(len(known))
    adjusted[order] = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1))
    corrected = iter(np.minimum(adjusted, 1).tolist())
    return [None if p is None else next(corrected) for p in p_values]


def correct_for_many(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values with Benjamini and Hochberg's correction (false discovery rate); ``None`` stays ``None``."""
    known = np.array([p for p in p_values if p is not None])
    order = np.argsort(known, kind="stable")
    scaled = known[order] * len(known) / np.arange(1, len(known) + 1)
    adjusted = np.empty(len(known))
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    corrected = iter(np.minimum(adjusted, 1).tolist())
    return [None if p is None else next(corrected) for p in p_values]
