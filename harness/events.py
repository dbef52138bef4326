"""What happens to a video in a run, and what the stages of a model take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

ATTEMPTS = 2
"""How often a video is tried before it counts as failed; once, where the user has to fix something."""


class StageUse(NamedTuple):
    """What a stage took in all: ``seconds`` of wall time, and the most memory in bytes at any of its times.

    Memory is what torch has allocated on the model's GPU within the stage; on a CPU what the process holds at its end.
    """

    seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a video: ``done``, to be ``retried``, or ``failed`` for good; or its shard was ``lost`` later on.

    ``error`` is one line, ``details`` the traceback; ``bad_input`` says that the user has to fix something, ``fault``
    what, in words that are the same for other videos (empty where it may be this video's own). ``attempts`` is how
    often the video has been tried. ``stages`` is what the stages of the model's work took, where the model tells of
    them.
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


def merge_stage_usage(parts: Iterable[Mapping[str, StageUse]]) -> dict[str, StageUse]:
    """Seconds added up and the largest memory of each stage, in the order in which stages first come."""
    found: dict[str, StageUse] = {}
    for part in parts:
        for name, use in part.items():
            known = found.get(name, StageUse(0.0, 0))
            found[name] = StageUse(known.seconds + use.seconds, max(known.memory_bytes, use.memory_bytes))
    return found
