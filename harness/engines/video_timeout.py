"""How long a worker may take for one video: as the user says, or a generous multiple of what the run has shown."""

from __future__ import annotations

from harness.run_folder.progress import expected_cost
from harness.types import Video

FIRST_SECONDS = 4 * 3600.0
"""The limit as long as no video of the run has ended: nothing is known about the model."""
LEAST_SECONDS, TIMES = 600.0, 20.0
"""Afterwards a video may take this many times as long as the slowest one so far would take per pixel, and at least this
long."""


class VideoTimeout:
    """The limit of each video in seconds of the wall clock; ``seconds`` is that of all, if the user has named one."""

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self._slowest: float | None = None

    def learn(self, video: Video, seconds: float) -> None:
        """Take notice of a video that has succeeded."""
        self._slowest = max(self._slowest or 0.0, seconds / max(expected_cost(video), 1))

    def limit(self, video: Video) -> float:
        """The limit of a video."""
        if self.seconds is not None:
            return self.seconds
        if self._slowest is None:
            return FIRST_SECONDS
        return max(LEAST_SECONDS, TIMES * self._slowest * expected_cost(video))
