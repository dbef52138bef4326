"""The status of a run. It is read from the run folder only, so any machine that can read the folder can show it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from harness.errors import UnreadableFileError
from harness.input_files import RECORD_BYTES, decode_json, read_file
from harness.paths import Location
from harness.run_folder.checksums import SUMMED, CheckedFiles
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.lock import is_locked
from harness.run_folder.progress import BEAT_SECONDS, PROGRESS_FILE, Snapshot
from harness.run_folder.schemas import FORMAT, Failure
from harness.versions import other_version

RunState = Literal["running", "complete", "incomplete", "interrupted", "stopped", "dead"]

_LONGEST_LEFT = 1e9
SILENCE_SECONDS = 3 * BEAT_SECONDS
"""If a run has written nothing for this time, its lock decides whether it is running."""


@dataclass(frozen=True)
class Status:
    """The status of a run at one moment.

    ``state`` is ``running``; ``complete`` or ``incomplete`` after the end of a run; ``interrupted`` after Ctrl-C,
    SIGTERM or SIGHUP; ``stopped`` after an error; ``dead`` if the process ended without recording it. ``session`` is
    the last ``progress.json``, ``None`` without one; ``silent_s`` is its age in seconds.
    ``damaged`` has a line for every file that is damaged or was changed after the run; predictions are not read.
    """

    folder: str
    state: RunState
    total: int
    done: int
    failed: tuple[Failure, ...]
    session: Snapshot | None
    silent_s: float | None
    damaged: tuple[str, ...] = ()

    @property
    def videos_per_second(self) -> float | None:
        """Throughput of the last session, in videos that succeeded."""
        session = self.session
        return session.done / session.seconds if session is not None and session.seconds else None

    @property
    def frames_per_second(self) -> float | None:
        """Throughput of the last session, in frames of videos that succeeded."""
        session = self.session
        return session.frames / session.seconds if session is not None and session.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Expected time until all videos have ended, from the pixels that are left; ``None`` if unknown."""
        session = self.session
        if self.state != "running" or session is None or not session.work:
            return None
        left = max(0.0, session.seconds * (1 - session.work) / session.work - (self.silent_s or 0.0))
        return left if left < _LONGEST_LEFT else None

    def record(self) -> dict[str, Any]:
        """The status as data for JSON."""
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
            "damaged": list(self.damaged),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def read_status(folder: Location) -> Status:
    """Read the status of a run; raises `UserError` if ``folder`` is not a run folder, or its video ids are damaged."""
    run = FinishedRun(folder)
    ids = run.video_ids
    damaged = _damaged(folder)
    session = _read(folder / PROGRESS_FILE, damaged)
    failures: tuple[Failure, ...] = ()
    try:
        failures = run.failures
    except UnreadableFileError as error:
        damaged.append(str(error))
    silent = None if session is None else time.time() - session.written
    done, total = len(run.done), len(set(ids.run))
    return Status(str(folder), _state(folder, session, silent, done == total), total, done, failures, session,
                  None if silent is None else max(0.0, silent), tuple(dict.fromkeys(damaged)))  # fmt: skip


def _state(folder: Location, session: Snapshot | None, silent: float | None, is_done: bool) -> RunState:
    if session is not None and session.state == "running":
        # the clocks of two machines may differ slightly
        if silent is not None and abs(silent) < SILENCE_SECONDS:
            return "running"
    elif session is not None:
        if session.state != "ended":
            return session.state
        return "complete" if is_done else "incomplete"
    if is_locked(folder):
        return "running"
    if session is None and (folder / "metrics.json").exists():  # earlier versions did not write progress
        return "complete" if is_done else "incomplete"
    return "dead"


def _damaged(folder: Location) -> list[str]:
    """Return the errors of the files that have checksums; empty during a run, because it has removed the checksums."""
    files, found = CheckedFiles(folder), []
    for name in SUMMED:
        try:
            files.read(name)
        except UnreadableFileError as error:
            found.append(str(error))
    return found


def _read(path: Location, damaged: list[str]) -> Snapshot | None:
    """Read the progress of a run: ``None`` if it is absent or of another version; damage is added to ``damaged``."""
    data = b""
    try:
        data = read_file(path, RECORD_BYTES, is_text=True)
        return decode_json(data, Snapshot)
    except FileNotFoundError:
        return None
    except UnreadableFileError as error:
        damaged.append(str(error))
    except OSError as error:
        damaged.append(f"{path}: cannot be read: {error.strerror or error}")
    except msgspec.MsgspecError as error:
        if not other_version(data, (FORMAT,)):
            damaged.append(f"{path}: is damaged: {error}")
    return None
