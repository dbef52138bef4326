"""The local engine: one process, one video after the other, each stored before the next one begins."""

from __future__ import annotations

import hashlib
import logging
import random
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.errors import UserError
from harness.store import PredictionStore, tabulate
from harness.types import Model, Video, Vocabulary

log = logging.getLogger(__name__)

ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a video: ``done``, to be ``retried``, or ``failed`` for good.

    ``error`` is one line, ``details`` the traceback; ``bad_input`` says that the user has to mend something.
    """

    kind: Literal["done", "retried", "failed"]
    video_id: int
    seconds: float
    frames: int
    tracks: int = 0
    error: str = ""
    details: str = ""
    bad_input: bool = False


def run_videos(
    model: Model, videos: Iterable[Video], vocabulary: Vocabulary, store: PredictionStore, seed: int = 0
) -> Iterator[Event]:
    """Run a model over videos and store their tracks; yield what became of each.

    A video whose prediction fails is tried once more and then left out. A store that cannot be written raises
    `UserError`: nothing that follows could be kept either.
    """
    for video in videos:
        for attempt in range(1, ATTEMPTS + 1):
            event = _attempt(model, video, vocabulary, store, seed, attempt)
            yield event
            if event.kind != "retried":
                break


def _attempt(
    model: Model, video: Video, vocabulary: Vocabulary, store: PredictionStore, seed: int, attempt: int
) -> Event:
    seed_chance(seed, video.id)
    began, frames = time.perf_counter(), len(video.frames)
    try:
        table = tabulate(video, list(model.predict(video, vocabulary)))
    # A model is anybody's code and may raise anything; what it raises is recorded and reported, and the run goes on.
    except Exception as error:
        kind: Literal["retried", "failed"] = "retried" if attempt < ATTEMPTS else "failed"
        line = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        line, details = " ".join(line.split()), traceback.format_exc()
        if kind == "retried":
            log.info("video %s failed and is tried once more: %s", video.id, line)
        seconds = time.perf_counter() - began
        return Event(kind, video.id, seconds, frames, 0, line, details, isinstance(error, UserError))
    store.write_table(video, table)
    return Event("done", video.id, time.perf_counter() - began, frames, len(table))


def seed_chance(seed: int, video_id: int | None = None) -> None:
    """Seed Python's, numpy's and (if it is in use) torch's random numbers.

    Each video has a seed of its own, so that its tracks do not depend on which videos were run before it.
    """
    number = seed if video_id is None else int.from_bytes(hashlib.sha256(f"{seed}/{video_id}".encode()).digest()[:4])
    random.seed(number)
    np.random.seed(number % (1 << 32))
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(number)
