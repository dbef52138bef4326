"""The time limit of a worker for one video: the user's, or a large multiple of the run's own times."""

from __future__ import annotations

from harness.run_folder.progress import expected_cost
from harness.types import Video

FIRST_SECONDS = 4 * 3600.0
"""The limit until the first video of the run has ended."""
LEAST_SECONDS, TIMES = 600.0, 20.0
"""Afterwards a video may take this many times the largest time per pixel so far, and at least this
long."""


class VideoTimeout:
    """The limit of each video in wall-clock seconds; ``seconds`` is the user's limit for all, if given."""

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self._slowest: float | None = None

    def learn(self, video: Video, seconds: float) -> None:
        """Record a video that has succeeded."""
        self._slowest = max(self._slowest or 0.0, seconds / max(expected_cost(video), 1))

    def limit(self, video: Video) -> float:
        """The limit of a video."""
        if self.seconds is not None:
            return self.seconds
        if self._slowest is None:
            return FIRST_SECONDS
        return max(LEAST_SECONDS, TIMES * self._slowest * expected_cost(video))
