"""Stops a run that cannot succeed: its first videos all fail for the same reason, which the user has to fix."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.errors import FrameError, UserError, shortened
from harness.plugin_code import MOST_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.events import Event
    from harness.run_folder.store import PredictionStore
    from harness.types import Video

SAME_FAULTS = 3
"""The run ends if this many first videos fail for the same reason."""


def fault_of(error: BaseException) -> str:
    """The part of an error that is equal in all videos that fail for the same reason: no paths, no numbers.

    Empty for errors that may concern one video only: exceptions other than `UserError`, and unreadable frames.
    """
    if not isinstance(error, UserError) or isinstance(error, FrameError):
        return ""
    return re.sub(r"[-+]?\d+(\.\d+)?", "#", shortened(error.what, MOST_CHARACTERS))


class FirstFaults:
    """Compares the errors of the first videos of a run that has no predictions yet."""

    def __init__(self, name: str, videos: Sequence[Video], store: PredictionStore) -> None:
        self._name = name
        self._faults: list[Event] | None = [] if len(videos) > SAME_FAULTS and not store.done() else None

    def refuse_if_all_alike(self, event: Event) -> None:
        """Record the outcome of a video.

        Raises `UserError` if it is the last of the first `SAME_FAULTS` and all of them failed for the same reason.
        """
        if self._faults is None or event.kind == "retried":
            return
        self._faults.append(event)
        if not event.fault or event.fault != self._faults[0].fault:
            self._faults = None
        elif len(self._faults) == SAME_FAULTS:
            what = f"the first {SAME_FAULTS} videos have failed for the same reason, so the run was ended"
            raise UserError(self._name, f"{what}: {event.error}")
