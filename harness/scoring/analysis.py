"""The analysis of one run: errors by kind, slices of the truth, calibration of scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harness.formats.youtube_vis import Annotations
from harness.scoring.calibration import Calibration
from harness.scoring.errors_breakdown import Breakdown
from harness.scoring.protocols import Protocol
from harness.scoring.slices import Slicing

if TYPE_CHECKING:
    from harness.store import PredictionStore


@dataclass(frozen=True)
class Verdicts:
    """What became of every track that took part at IoU 0.5, by ascending video id and row: arrays ``(tracks,)``.

    ``track`` is the row in the video's shard. ``kind`` is one of `errors_breakdown.KINDS`, ``"hit"``, or
    ``"ignored"``; ``truth_id`` is the annotation it hit or is an error about, ``None`` for background.
    """

    video_id: tuple[int, ...]
    track: tuple[int, ...]
    kind: tuple[str, ...]
    truth_id: tuple[int | None, ...]

    def of_video(self, video_id: int) -> dict[int, tuple[str, int | None]]:
        """Kind and truth by row of the video's shard; tracks beyond the protocol's cap have none."""
        rows = [i for i, v in enumerate(self.video_id) if v == video_id]
        return {self.track[i]: (self.kind[i], self.truth_id[i]) for i in rows}


@dataclass(frozen=True)
class Analysis:
    """Why the numbers of a run are what they are.

    ``slices`` are by name: ``area``, ``track length``, ``objects``, ``motion``, ``occlusion`` or ``crowding``,
    ``category frequency``, ``groups``. ``calibration`` is by group of categories: ``all``, ``base``, ``novel``, ...
    """

    protocol: str
    protocol_version: str
    errors: Breakdown
    slices: dict[str, Slicing]
    calibration: dict[str, Calibration]
    verdicts: Verdicts

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON; without the verdicts on single tracks."""
        data = asdict(self)
        del data["verdicts"]
        return data


def analyse(
    protocol: str | Protocol, annotations: Annotations, store: PredictionStore, videos: Iterable[int] | None = None
) -> Analysis:
    """Analyse a store's predictions; ``videos`` restricts truth and predictions to these ids.

    Raises `UserError` as `harness.scoring.score.score_store` does.
    """
    raise NotImplementedError
