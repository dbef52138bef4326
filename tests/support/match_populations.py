"""Made match tables: populations of videos with two runs over them, and samples of their videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.arrays import Ints
from harness.scoring.average_precision import Matches
from harness.scoring.match_table import MatchTable


class Tracks(NamedTuple):
    """Tracks of one run, each array ``(tracks,)``; bits of ``hits`` and ``misses`` are IoU thresholds."""

    video: Ints
    category: Ints
    score: NDArray[np.float64]
    hits: Ints
    misses: Ints


@dataclass(frozen=True)
class Population:
    """Annotated objects by video and category, and what each run found."""

    videos: int
    categories: int
    video: Ints
    category: Ints
    runs: tuple[Tracks, ...]

    def table(self, run: int) -> MatchTable:
        """The match table of a run."""
        return make_table(self.videos, self.categories, self.video, self.category, self.runs[run])


def make_table(
    videos: int, categories: int, video: Ints, category: Ints, tracks: Tracks, protocol: str = "ytvis"
) -> MatchTable:
    """A table of objects ``video, category (objects,)`` and tracks; categories without objects are in it too."""
    order = np.lexsort((-tracks.score, tracks.category))
    pairs, positives = np.unique(category * videos + video, return_counts=True)
    return MatchTable(
        protocol,
        "1",
        "made",
        np.arange(1, videos + 1),
        np.arange(1, categories + 1),
        tuple(f"c{number}" for number in range(categories)),
        {"b": np.arange(0, categories, 2), "n": np.arange(1, categories, 2)},
        Matches(
            np.searchsorted(tracks.category[order], np.arange(categories + 1)),
            tracks.video[order],
            tracks.score[order],
            tracks.hits[order],
            tracks.misses[order],
            np.searchsorted(pairs, np.arange(categories + 1) * videos),
            pairs % videos,
            positives,
        ),
    )


@dataclass(frozen=True)
class World:
    """Videos without end: frequent and rare categories, hard and easy ones, hard and easy videos.

    The k-th category is as frequent as ``k ** -rarity``. A video shows ``labels`` categories on average, each object of
    which has ``copies`` more like it, and either run adds ``wrong`` false positives. Both runs find every object, as
    well as their luck, the video and the category let them; the second one's luck is ``better`` by that much, and each
    category favours one of them by a standard deviation of ``taste``. With both at 0 neither is better.
    """

    categories: int
    rarity: float = 1.0
    labels: float = 3.0
    copies: float = 0.0
    wrong: float = 8.0
    better: float = 0.0
    taste: float = 0.0
    seed: int = 0

    def sample(self, rng: np.random.Generator, videos: int) -> Population:
        """So many videos, drawn independently."""
        return self._sample(rng, videos, [(0.0, -0.5), (self.better, 0.5)])

    def sample_seeds(self, rng: np.random.Generator, videos: int, seeds: int, spread: float) -> Population:
        """So many videos, and so many seeds of each model: those of the first are the first half of the runs.

        The luck of a seed differs from that of its model with a standard deviation of ``spread``.
        """
        lucks = [(0.0, -0.5)] * seeds + [(self.better, 0.5)] * seeds
        return self._sample(rng, videos, [(luck + spread * rng.normal(), sign) for luck, sign in lucks])

    def _sample(self, rng: np.random.Generator, videos: int, lucks: Sequence[tuple[float, float]]) -> Population:
        """A run for each luck, with the sign of what categories favour it."""
        fixed = np.random.default_rng(self.seed)
        hard, taste = fixed.normal(0, 0.7, self.categories), fixed.normal(0, 1, self.categories) * self.taste
        frequency = np.arange(1, self.categories + 1) ** -self.rarity
        frequency /= frequency.sum()
        shown = np.repeat(np.arange(videos), 1 + rng.poisson(self.labels - 1, videos))
        labels = rng.choice(self.categories, len(shown), p=frequency)
        times = 1 + rng.poisson(self.copies, len(shown))
        video, category = np.repeat(shown, times), np.repeat(labels, times)
        hardness = hard[category] + rng.normal(0, 0.7, videos)[video]
        elsewhere = np.repeat(np.arange(videos), rng.poisson(self.wrong, videos))
        runs = []
        for luck, sign in lucks:
            level = luck + 0.3 + sign * taste[category] - hardness + rng.normal(0, 0.6, len(video))
            hits = (1 << np.clip(np.round(5 + 3 * level), 0, 10).astype(np.int64)) - 1
            certainty = np.concatenate([level, np.full(len(elsewhere), -1.0)])
            runs.append(
                Tracks(
                    np.concatenate([video, elsewhere]),
                    np.concatenate([category, rng.choice(self.categories, len(elsewhere), p=frequency)]),
                    1 / (1 + np.exp(-certainty - rng.normal(0, 1, len(certainty)))),
                    np.concatenate([hits, np.zeros(len(elsewhere), np.int64)]),
                    np.concatenate([1023 & ~hits, np.full(len(elsewhere), 1023)]),
                )
            )
        return Population(videos, self.categories, video, category, tuple(runs))


def make_population(seed: int, videos: int, categories: int, **world: float) -> Population:
    """So many videos of a `World`."""
    return World(categories, seed=seed, **world).sample(np.random.default_rng(seed), videos)  # type: ignore[arg-type]
