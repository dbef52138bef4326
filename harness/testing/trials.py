"""Trials of a model: short videos of several sizes and lengths with several vocabularies, and their outcomes."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.engines.seeding import seed_everything
from harness.errors import UserError
from harness.frames import Frames, Image
from harness.plugin_code import describe_error, isolate_plugin
from harness.types import Dataset, Model, Track, Video, Vocabulary

FRAME_COUNT = 6
"""Largest number of frames of a video that are used."""
RENUMBERED = 1000
"""Added to category ids, so that they differ from positions in any list."""


@dataclass(frozen=True)
class Excerpt(Frames):
    """The first frames of a video, each changed in the same way."""

    source: Frames
    length: int
    change: Callable[[Image], Image]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, frame_index: int, /) -> Image:
        if not 0 <= frame_index < self.length:
            raise IndexError(frame_index)
        return np.ascontiguousarray(self.change(self.source[frame_index]))


@dataclass(frozen=True)
class Trial:
    """One video with one vocabulary; ``name`` is for messages."""

    name: str
    video: Video
    vocabulary: Vocabulary


@dataclass(frozen=True)
class TrialOutcome:
    """The result of a trial: tracks, or an ``error``. ``refused``: the error is a `UserError`."""

    trial: Trial
    tracks: list[Track]
    error: str = ""
    refused: bool = False


def _excerpt(video: Video, length: int = FRAME_COUNT) -> Video:
    return replace(video, frames=Excerpt(video.frames, min(length, len(video.frames)), lambda image: image))


def _resized(video: Video, video_id: int, name: str, change: Callable[[Image], Image]) -> Video:
    """A new video from the first three frames of ``video``, each changed."""
    frames = Excerpt(video.frames, min(3, len(video.frames)), change)
    height, width = frames[0].shape[:2]
    return Video(video_id, name, height, width, frames)


def ordinary(dataset: Dataset) -> list[Trial]:
    """The first frames of the first two videos, with the whole vocabulary."""
    return [Trial(f"video {v.id}", _excerpt(v), dataset.vocabulary) for v in dataset.videos[:2]]


def special(dataset: Dataset) -> dict[str, list[Trial]]:
    """Trials of special cases, by rule. Changed videos have new ids."""
    first, words = dataset.videos[0], dataset.vocabulary
    new = max(v.id for v in dataset.videos) + 1
    single = Video(new, "one frame", first.height, first.width, Excerpt(first.frames, 1, lambda image: image))
    tall = _resized(first, new + 1, "rows and columns swapped", lambda image: image.transpose(1, 0, 2))
    odd = _resized(first, new + 2, "odd size", lambda image: image[: _odd(len(image)), : _odd(image.shape[1] - 6)])
    small = _resized(first, new + 3, "24x32", lambda image: image[:24, :32])
    one = Vocabulary(words.categories[-1:])
    moved = Vocabulary(tuple(replace(c, id=c.id + RENUMBERED) for c in reversed(words.categories)))
    excerpt = _excerpt(first, 2)
    return {
        "one frame": [Trial("a video of one frame", single, words)],
        "sizes": [Trial(f"frames of {v.height}x{v.width} ({v.name})", v, words) for v in (tall, odd, small)],
        "empty vocabulary": [Trial("an empty vocabulary", excerpt, Vocabulary(()))],
        "other vocabularies": [
            Trial("a vocabulary of one word", excerpt, one),
            Trial("a vocabulary in another order with other ids", excerpt, moved),
        ],
    }


def _odd(side: int) -> int:
    return side - 1 + side % 2


def attempt(model: Model, trial: Trial) -> TrialOutcome:
    """Let a model predict, with the seeds of a run; an exception becomes the outcome."""
    seed_everything(0, trial.video.id)
    try:
        with isolate_plugin("the model"):
            tracks: list[Any] = list(model.predict(trial.video, trial.vocabulary))
    # A model may raise any exception: it becomes the outcome.
    except Exception as error:
        return TrialOutcome(trial, [], describe(error), isinstance(error, UserError))
    for number, track in enumerate(tracks):
        if not isinstance(track, Track):
            return TrialOutcome(trial, [], f"track {number} is a {type(track).__name__}, not a harness.types.Track")
        if not isinstance(track.masks, (tuple, list)):
            return TrialOutcome(trial, [], f"track {number}: masks is a {type(track.masks).__name__}, not a tuple")
    return TrialOutcome(trial, tracks)


def describe(error: Exception) -> str:
    """An exception in one line, with the file and line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return describe_error(error) + place
