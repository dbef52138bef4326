"""Comparing runs: paired bootstrap over videos, per metric, group and category, and what drives a difference.

Every number is defined in ``docs/comparison.md``. Values are fractions; ``None`` where undefined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LEVEL = 0.95
"""Coverage of intervals."""


@dataclass(frozen=True)
class Interval:
    """A number with the 95 % percentile interval and the standard error that the bootstrap gives it."""

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None


@dataclass(frozen=True)
class Measured:
    """One run by itself. ``metrics`` has the keys of ``metrics.json`` that rest on all areas and 100 tracks:
    ``AP``, ``AP50``, ``AP75``, ``AR100``, each also with the suffix of a group (``APb``, ``AP50n``).

    ``label`` is unique in a comparison; ``folder`` is the run's.
    """

    label: str
    folder: str
    model: str
    metrics: dict[str, Interval]


@dataclass(frozen=True)
class Difference:
    """A run minus the reference: value with interval, two-sided p-value in ``(0, 1]``, and ``detectable``, the
    smallest true difference that videos like these would show at the level 0.05 in four of five cases (power 80 %)."""

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    p_value: float | None
    detectable: float | None

    @property
    def is_significant(self) -> bool:
        """Whether the p-value is below 0.05."""
        return self.p_value is not None and self.p_value < 1 - LEVEL


@dataclass(frozen=True)
class CategoryDifference:
    """One category with truth: its AP in both runs and their difference.

    ``videos`` hold its truth. ``q_value`` is the p-value corrected for the number of categories (Benjamini-Hochberg).
    ``share`` is what the category adds to the difference of AP over all categories: they add up to it.
    """

    id: int
    name: str
    groups: tuple[str, ...]
    videos: int
    reference: float
    run: float
    difference: Difference
    q_value: float | None
    share: float


@dataclass(frozen=True)
class VideoInfluence:
    """How much of the difference of AP goes away when the video is left out: positive where it favours the run."""

    video_id: int
    influence: float | None


@dataclass(frozen=True)
class Pair:
    """A run against the reference; ``reference`` and ``run`` are labels.

    ``categories`` come by descending size of their share, ``videos`` by descending size of their influence.
    """

    reference: str
    run: str
    metrics: dict[str, Difference]
    categories: tuple[CategoryDifference, ...]
    videos: tuple[VideoInfluence, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs on the same videos, by the same protocol: each by itself, and each but the first against the first."""

    dataset: str
    split: str
    protocol: str
    protocol_version: str
    annotations: str
    videos: int
    resamples: int
    seed: int
    runs: tuple[Measured, ...]
    pairs: tuple[Pair, ...]

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON."""
        return asdict(self)


def compare_runs(
    folders: Sequence[Path],
    resamples: int = 1000,
    seed: int = 0,
    data_root: Path = Path("data"),
    annotations: Path | None = None,
) -> Comparison:
    """Compare run folders: every run against the first; a single run gets its intervals only.

    The match tables are read from the folders. Where a folder lacks one, it is made again from the predictions and the
    dataset below ``data_root`` (or the file ``annotations``, for the user's own data). Raises `UserError` for folders
    that are no finished, complete runs, and for runs that were not scored on the same videos and annotations by the
    same version of the same protocol.
    """
    raise NotImplementedError
