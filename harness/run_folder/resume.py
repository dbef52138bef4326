"""Check that a resumed run has the same frames as its stored predictions."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from harness.errors import UserError
from harness.frame_digests import FrameDigests, digests_of
from harness.image_files import ImageFrames
from harness.run_folder.store import DamagedShardError, PredictionStore
from harness.types import Video

log = logging.getLogger(__name__)

_READERS = 8
"""Number of threads that read shards and frames: they mostly wait for a disk or a network."""
_HINT = "restore the earlier frames, start over (fresh), or name another runs_dir"


def refuse_other_frames(store: PredictionStore, videos: Iterable[Video], whole: bool = False) -> None:
    """Raise `UserError` if the frames of ``videos`` differ from those that their predictions were made from.

    With ``whole`` the whole content of the frames is compared if its digest was stored; a warning counts the videos
    without that digest. Damaged shards are skipped: their videos are computed again.
    """

    def compared(video: Video) -> tuple[Video, FrameDigests | None, FrameDigests]:
        before = store.read_frames(video.id)
        return video, before, digests_of(video.frames, whole and before is not None and bool(before.whole))

    def compared_if_intact(video: Video) -> tuple[Video, FrameDigests | None, FrameDigests] | None:
        try:
            return compared(video)
        except DamagedShardError:
            return None

    with ThreadPoolExecutor(_READERS) as pool:
        found = [one for one in pool.map(compared_if_intact, videos) if one is not None]
    for video, before, _ in found:
        if before is None:
            what = "was written by a version that did not record the frames that predictions are made from"
            raise UserError(str(store.path(video.id)), what, "start over (fresh), or name another runs_dir")
    different = [one for one in found if _first_difference(*one[1:]) is not None]
    if different:
        video, before, now = different[0]
        what = f"not what its predictions in {store.folder.parent} were made from"
        if len(different) > 1:
            what += f"; the same holds for {len(different)} of the {len(found)} videos that are done"
        raise UserError(_named(video, _first_difference(before, now)), what, _HINT)
    sampled = sum(before is not None and not before.whole for _, before, _ in found) if whole else 0
    if sampled:
        log.warning("the predictions of %s of %s videos were made without --verify-frames: "
                    "only samples of their frames are compared", sampled, len(found))  # fmt: skip


def _first_difference(before: FrameDigests | None, now: FrameDigests) -> int | None:
    """Index of the first digest that differs; -1 if their numbers differ; ``None`` if all are equal."""
    assert before is not None
    pairs = [(before.sampled, now.sampled)]
    if before.whole and now.whole:
        pairs.append((before.whole, now.whole))
    for one, other in pairs:
        if len(one) != len(other):
            return -1
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            if a != b:
                return index
    return None


def _named(video: Video, index: int | None) -> str:
    """The video in an error, with the frame if each frame has a digest."""
    if isinstance(video.frames, ImageFrames) and index is not None and index >= 0:
        return f"{video.frames.root / video.frames.file_names[index]} (video {video.id}, frame {index})"
    return f"the frames of video {video.id} ({video.name})"
