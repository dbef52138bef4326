"""When a run cannot come to anything: the same fault of the user's on its first videos ends it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.errors import FrameError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.events import Event
    from harness.run_folder.store import PredictionStore
    from harness.types import Video

SAME_FAULTS = 3
"""So many first videos with the same fault end a run."""


def fault_of(error: BaseException) -> str:
    """What two videos' errors have in common if they have the same reason: without places and numbers.

    Empty for what may be one video's own: an exception that is no `UserError`, and frames that cannot be read.
    """
    if not isinstance(error, UserError) or isinstance(error, FrameError):
        return ""
    return re.sub(r"[-+]?\d+(\.\d+)?", "#", error.what)


class FirstFaults:
    """Looks at what becomes of the first videos of a run that has no predictions yet."""

    def __init__(self, name: str, videos: Sequence[Video], store: PredictionStore) -> None:
        self._name = name
        self._faults: list[Event] | None = [] if len(videos) > SAME_FAULTS and not store.done() else None

    def refuse_if_all_alike(self, event: Event) -> None:
        """Take note of what became of a video.

        Raises `UserError` where that is the last one of the first `SAME_FAULTS`, and all have failed for one reason.
        """
        if self._faults is None or event.kind == "retried":
            return
        self._faults.append(event)
        if not event.fault or event.fault != self._faults[0].fault:
            self._faults = None
        elif len(self._faults) == SAME_FAULTS:
            what = f"the first {SAME_FAULTS} videos have failed for the same reason, so the run was ended"
            raise UserError(self._name, f"{what}: {event.error}")
