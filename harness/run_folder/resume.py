"""Whether the frames of a run that resumes are those that its stored predictions were made from."""

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

READERS = 8
"""Threads that read shards and frames: they mostly wait for a disk or a network."""
HINT = "give the frames of before, start over with --fresh, or name another --runs-dir"


def refuse_other_frames(store: PredictionStore, videos: Iterable[Video], whole: bool = False) -> None:
    """Raise `UserError` where ``videos``, which have predictions, have other frames than when these were made.

    With ``whole`` all content of the frames is compared, where it was noted; it is said where it was not. Shards that
    are damaged are passed over: they are computed anew.
    """

    def compared(video: Video) -> tuple[Video, FrameDigests | None, FrameDigests]:
        before = store.read_frames(video.id)
        return video, before, digests_of(video.frames, whole and before is not None and bool(before.whole))

    def looked_at(video: Video) -> tuple[Video, FrameDigests | None, FrameDigests] | None:
        try:
            return compared(video)
        except DamagedShardError:
            return None

    with ThreadPoolExecutor(READERS) as pool:
        found = [one for one in pool.map(looked_at, videos) if one is not None]
    for video, before, _ in found:
        if before is None:
            what = "was written by a version that did not note the frames that predictions are made from"
            raise UserError(str(store.path(video.id)), what, "start over with --fresh, or name another --runs-dir")
    different = [one for one in found if _first_difference(*one[1:]) is not None]
    if different:
        video, before, now = different[0]
        what = f"not what its predictions in {store.folder.parent} were made from"
        if len(different) > 1:
            what += f", and so in {len(different)} of the {len(found)} videos that are done"
        raise UserError(_named(video, _first_difference(before, now)), what, HINT)
    sampled = sum(before is not None and not before.whole for _, before, _ in found) if whole else 0
    if sampled:
        log.warning("the predictions of %s of %s videos were made without --verify-frames: "
                    "only samples of their frames are compared", sampled, len(found))  # fmt: skip


def _first_difference(before: FrameDigests | None, now: FrameDigests) -> int | None:
    """Index of the first digest that differs; -1 where they cannot be compared one by one; ``None`` for none."""
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
    """A video, and the frame where there is a digest of each."""
    if isinstance(video.frames, ImageFrames) and index is not None and index >= 0:
        return f"{video.frames.root / video.frames.file_names[index]} (video {video.id}, frame {index})"
    return f"the frames of video {video.id} ({video.name})"
