"""Made match tables: populations of videos with two runs over them, and samples of their videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.scoring.average_precision import Matches
from harness.scoring.match_table import MatchTable

Ints = NDArray[np.int64]


class Tracks(NamedTuple):
    """Tracks of one run, each array ``(tracks,)``; bits of ``hits`` and ``misses`` are IoU thresholds."""

    video: Ints
    category: Ints
    score: NDArray[np.float64]
    hits: Ints
    misses: Ints


@dataclass(frozen=True)
class Population:
    """Annotated objects by video and category, and what each of two runs found."""

    videos: int
    categories: int
    video: Ints
    category: Ints
    runs: tuple[Tracks, ...]

    def table(self, run: int, chosen: Ints | None = None) -> MatchTable:
        """The match table of a run over the ``chosen`` videos (all: ``None``)."""
        chosen = np.arange(self.videos) if chosen is None else chosen
        place = np.full(self.videos, -1)
        place[chosen] = np.arange(len(chosen))
        tracks = Tracks(*(column[place[self.runs[run].video] >= 0] for column in self.runs[run]))
        truths = place[self.video] >= 0
        return make_table(
            len(chosen), self.categories, place[self.video[truths]], self.category[truths],
            tracks._replace(video=place[tracks.video]),
        )  # fmt: skip


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


def make_population(
    seed: int, videos: int, categories: int, objects: int = 3, wrong: int = 8, better: float = 0.0
) -> Population:
    """``objects`` objects and ``wrong`` false positives per video, frequent and rare categories, hard and easy videos.

    Both runs find every object, as well as their luck, the video and the category let them; the second one's luck is
    ``better`` by that much. At 0 neither is better.
    """
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, categories + 1)
    frequency /= frequency.sum()
    video = np.repeat(np.arange(videos), objects)
    category = rng.choice(categories, len(video), p=frequency)
    hardness = rng.normal(0, 0.7, categories)[category] + rng.normal(0, 0.7, videos)[video]
    runs = []
    for luck in (0.0, better):
        level = luck + 0.3 - hardness + rng.normal(0, 0.6, len(video))
        hits = (1 << np.clip(np.round(5 + 3 * level), 0, 10).astype(np.int64)) - 1
        elsewhere = np.repeat(np.arange(videos), wrong)
        certainty = np.concatenate([level, np.full(len(elsewhere), -1.0)])
        runs.append(
            Tracks(
                np.concatenate([video, elsewhere]),
                np.concatenate([category, rng.choice(categories, len(elsewhere), p=frequency)]),
                1 / (1 + np.exp(-certainty - rng.normal(0, 1, len(certainty)))),
                np.concatenate([hits, np.zeros(len(elsewhere), np.int64)]),
                np.concatenate([1023 & ~hits, np.full(len(elsewhere), 1023)]),
            )
        )
    return Population(videos, categories, video, category, tuple(runs))
