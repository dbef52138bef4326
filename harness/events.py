"""Events of videos in a run, and time and memory of a model's stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from harness.types import LoadedWeights

ATTEMPTS = 2
"""Number of attempts before a video counts as failed; a single one if the user has to fix something."""


class StageUse(NamedTuple):
    """Time and memory of a stage: total wall time in ``seconds``, and the largest memory in bytes.

    On a GPU a stage takes what it takes the GPU or the host, whichever is more, and stages overlap; memory is the peak
    that torch allocated during the stage. On a CPU it is the resident memory at its end.
    """

    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Event:
    """How a video ended: ``done``, to be ``retried``, or ``failed`` for good; or its shard was ``lost`` later on.

    ``error`` is one line, ``details`` the traceback; ``bad_input`` says that the user has to fix something, ``fault``
    what, in words that are the same for other videos (empty where it may be this video's own). ``attempts`` is how
    often the video has been tried. ``stages`` is what the stages of the model's work took, and ``weights`` how its
    weights were loaded, where the model reports it. ``out_of_memory`` says that a video failed because memory ran out.
    """

    kind: Literal["done", "retried", "failed", "lost"]
    video_id: int
    seconds: float
    frames: int
    tracks: int = 0
    error: str = ""
    details: str = ""
    bad_input: bool = False
    fault: str = ""
    attempts: int = 1
    stages: Mapping[str, StageUse] = field(default_factory=dict)
    weights: LoadedWeights | None = None
    out_of_memory: bool = False


def merge_stage_usage(parts: Iterable[Mapping[str, StageUse]]) -> dict[str, StageUse]:
    """Return the sum of seconds and the largest memory of each stage, in order of first appearance."""
    found: dict[str, StageUse] = {}
    for part in parts:
        for name, use in part.items():
            known = found.get(name, StageUse(0.0, 0))
            found[name] = StageUse(known.seconds + use.seconds, max(known.memory_bytes, use.memory_bytes))
    return found
