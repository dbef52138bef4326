"""How far a run is, from the files in its folder alone: on any machine that sees them, whatever became of the run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from harness.paths import Location
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.lock import is_locked
from harness.run_folder.progress import BEAT_SECONDS, FILE, Snapshot
from harness.run_folder.schemas import Failure

T = TypeVar("T")

SILENCE_SECONDS = 3 * BEAT_SECONDS
"""A run that has written nothing for so long is asked for by its lock."""


@dataclass(frozen=True)
class Status:
    """A run at one moment.

    ``state`` is ``running``; ``complete`` or ``incomplete`` for a run that has come to its end; ``stopped`` for one
    that was interrupted or met an error, and ``dead`` for one whose process ended without a word. ``session`` is what
    its workers last said, ``None`` for a run without that; ``silent_s`` how long ago that was.
    """

    folder: str
    state: Literal["running", "complete", "incomplete", "stopped", "dead"]
    total: int
    done: int
    failed: tuple[Failure, ...]
    session: Snapshot | None
    silent_s: float | None

    @property
    def videos_per_second(self) -> float | None:
        """Throughput of the last session, in videos that ended well."""
        session = self.session
        return session.done / session.seconds if session is not None and session.seconds else None

    @property
    def frames_per_second(self) -> float | None:
        """Throughput of the last session, in frames of videos that ended well."""
        session = self.session
        return session.frames / session.seconds if session is not None and session.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Expected time until all videos have ended, by the pixels that are left; ``None`` where it is not known."""
        session = self.session
        if self.state != "running" or session is None or not session.work:
            return None
        return max(0.0, session.seconds * (1 - session.work) / session.work - (self.silent_s or 0.0))

    def record(self) -> dict[str, Any]:
        """As data for machines."""
        failed = [{"video_id": one.video_id, "error": one.error} for one in self.failed]
        return {
            "folder": self.folder,
            "state": self.state,
            "videos": {"total": self.total, "done": self.done, "failed": failed},
            "videos_per_second": _rounded(self.videos_per_second),
            "frames_per_second": _rounded(self.frames_per_second),
            "seconds_left": _rounded(self.seconds_left),
            "silent_seconds": _rounded(self.silent_s),
            "workers": [] if self.session is None else msgspec.to_builtins(self.session.workers),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def read_status(folder: Location) -> Status:
    """Read how far a run is; raises `UserError` where ``folder`` is no run folder, or damaged."""
    run = FinishedRun(folder)
    ids = run.video_ids
    session = _read(folder / FILE, Snapshot)
    failures = run.failures
    silent = None if session is None else time.time() - session.written
    done, total = len(run.done), len(set(ids.run))
    return Status(str(folder), _state(folder, session, silent, done == total), total, done, failures, session,
                  None if silent is None else max(0.0, silent))  # fmt: skip


def _state(
    folder: Location, session: Snapshot | None, silent: float | None, is_done: bool
) -> Literal["running", "complete", "incomplete", "stopped", "dead"]:
    if session is not None and session.state == "running":
        # the clocks of two machines may differ a little
        if silent is not None and abs(silent) < SILENCE_SECONDS:
            return "running"
    elif session is not None:
        if session.state == "stopped":
            return "stopped"
        return "complete" if is_done else "incomplete"
    if is_locked(folder):
        return "running"
    if session is None and (folder / "metrics.json").exists():  # of a harness that did not write progress yet
        return "complete" if is_done else "incomplete"
    return "dead"


def _read(path: Location, kind: type[T]) -> T | None:
    """A file that is nice to have: ``None`` where it is absent, damaged, or of another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None
