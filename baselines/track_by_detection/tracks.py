"""Manages tracks: unmatched objects begin tracks, which are continued, lost, found again, ended and ranked.

Memory holds the live tracks and the ended ones that may be reported, with masks as run-length encodings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.baselines.track_by_detection.association import Association, match_boxes
from harness.baselines.track_by_detection.config import TrackingConfig
from harness.baselines.track_by_detection.detections import Detections
from harness.baselines.track_by_detection.embedding import EmbeddingDistance
from harness.baselines.track_by_detection.mask_iou import MaskOverlap
from harness.baselines.track_by_detection.sort import Sort
from harness.masks import Rle
from harness.types import Category, Track, Video


def association(config: TrackingConfig) -> Association:
    """Return the configured tracker for one video."""
    if config.tracker == "embedding":
        return EmbeddingDistance(config.embedding_cost)
    return Sort(config.iou_threshold) if config.tracker == "sort" else MaskOverlap(config.iou_threshold)


@dataclass(slots=True)
class LiveTrack:
    """A track that may continue; its memory row is its position in the list of live tracks."""

    first: int
    masks: list[Rle | None]
    """One per frame from ``first`` to the last in which it was found."""
    class_scores: NDArray[np.float64]
    """``(C,)``: sum over the frames in which it was found."""
    found: int = 1

    def add(self, frame: int, mask: Rle | None, class_scores: NDArray[np.float32]) -> None:
        """Continue in ``frame``; the track is absent in the frames since its last one."""
        self.masks += [None] * (frame - self.first - len(self.masks))
        self.masks.append(mask)
        self.class_scores += class_scores
        self.found += 1

    @property
    def last(self) -> int:
        """The last frame in which it was found."""
        return self.first + len(self.masks) - 1


class EndedTrack(NamedTuple):
    """A track with its label and score: the category with the highest mean score, and that mean."""

    score: float
    label: int
    born: int
    first: int
    masks: list[Rle | None]


class VideoTracks:
    """The tracks of one video, frame by frame."""

    def __init__(self, config: TrackingConfig) -> None:
        self.config = config
        self.frames = 0
        self._link = association(config)
        self._live: list[tuple[int, LiveTrack]] = []  # each with its number in the order of birth
        self._ended: list[EndedTrack] = []
        self._born = 0

    def add(self, found: Detections, masks: list[Rle | None]) -> None:
        """Add the next frame: its objects and their ``masks`` in the size of the video."""
        pairs = match_boxes(self._link.costs(found), self._link.max_cost)
        for row, column in zip(pairs.tracks.tolist(), pairs.objects.tolist(), strict=True):
            self._live[row][1].add(self.frames, masks[column], found.class_scores[column])
        self._link.follow(pairs.tracks, found, pairs.objects)
        self._end_lost()
        new = np.setdiff1d(np.arange(len(found)), pairs.objects)
        self._link.start(found, new)
        for column in new.tolist():
            scores = found.class_scores[column].astype(np.float64)
            self._live.append((self._born, LiveTrack(self.frames, [masks[column]], scores)))
            self._born += 1
        self.frames += 1

    def result(self, video: Video, categories: tuple[Category, ...]) -> list[Track]:
        """Return the tracks to report, best first; ``None`` in frames where a track was not found. Call it last."""
        for born, track in self._live:
            self._end(born, track)
        self._live = []
        self._rank()
        tracks = []
        for ended in self._ended:
            after = self.frames - ended.first - len(ended.masks)
            masks = (*[None] * ended.first, *ended.masks, *[None] * after)
            tracks.append(Track(video.id, categories[ended.label].id, ended.score, masks))
        return tracks

    def _end_lost(self) -> None:
        """End the tracks that were not found for too long."""
        stays = [self.frames - track.last <= self.config.max_age for _, track in self._live]
        if all(stays):
            return
        for (born, track), stay in zip(self._live, stays, strict=True):
            if not stay:
                self._end(born, track)
        self._link.keep(np.flatnonzero(stays))
        self._live = [entry for entry, stay in zip(self._live, stays, strict=True) if stay]
        if len(self._ended) > 2 * self.config.tracks_per_video:
            self._rank()

    def _end(self, born: int, track: LiveTrack) -> None:
        """Label and score a track that is long enough to be reported."""
        if track.found >= self.config.min_frames and any(track.masks):
            mean = track.class_scores / track.found
            label = int(mean.argmax())
            self._ended.append(EndedTrack(float(mean[label]), label, born, track.first, track.masks))

    def _rank(self) -> None:
        """Keep the best tracks; ties are ordered by start."""
        self._ended.sort(key=lambda track: (-track.score, track.born))
        del self._ended[self.config.tracks_per_video :]
