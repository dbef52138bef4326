"""What the frames of a video are known by: digests that are kept with its predictions and compared when a run resumes.

They are free of place: the same frames in another folder have the same digests.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from harness.errors import UserError
from harness.frames import DigestedFrames, Frames

SAMPLE_BYTES = 64 << 10
"""So much is read of a file's beginning, and of its end, where its content is sampled."""
UNREADABLE = "unreadable"
"""Stands for a frame that is missing or cannot be read: some models look at no frames."""
_DIGITS = 12

Content = Literal["size", "ends", "whole"]
"""How much of a file is looked at: its size; also `SAMPLE_BYTES` at both ends; all of it."""


class FrameDigests(NamedTuple):
    """Digests of a video's frames, in hexadecimal digits: one per frame, or one for all of them.

    ``sampled`` tells other files apart by their sizes and a part of their content. ``whole`` is of all content, and
    empty where that was not asked for.
    """

    sampled: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()


def digests_of(frames: Frames, whole: bool = False) -> FrameDigests:
    """Return the digests of a video's frames; with ``whole`` those of all content, too."""
    return FrameDigests(_digests(frames, False), _digests(frames, True) if whole else ())


def sampled_frames(count: int) -> set[int]:
    """The indices of the frames of a video whose content is sampled: the first, the middle and the last one."""
    return {0, count // 2, count - 1} if count else set()


def digest_of_file(path: str | Path, name: str, content: Content) -> str:
    """Return a digest of ``name`` and a file's size and content; `UNREADABLE` where it cannot be read."""
    try:
        if content == "size":
            return _short(f"{name}\0{os.stat(path).st_size}".encode())  # noqa: PTH116 (every frame: pathlib is slow)
        with open(path, "rb") as file:  # noqa: PTH123
            size = os.fstat(file.fileno()).st_size
            hashed = hashlib.sha256(f"{name}\0{size}\0".encode())
            if content == "whole":
                hashed.update(hashlib.file_digest(file, "sha256").digest())
            else:
                hashed.update(file.read(SAMPLE_BYTES))
                file.seek(max(0, size - SAMPLE_BYTES))
                hashed.update(file.read(SAMPLE_BYTES))
    except OSError:
        return UNREADABLE
    return hashed.hexdigest()


def _digests(frames: Frames, whole: bool) -> tuple[str, ...]:
    found = frames.digests(whole) if isinstance(frames, DigestedFrames) else _of_pixels(frames, whole)
    return tuple(_short(digest.encode()) for digest in found)


def _of_pixels(frames: Frames, whole: bool) -> Sequence[str]:
    """Digests of decoded frames, of each with ``whole``, else of the sampled ones; empty for those not looked at."""
    chosen = range(len(frames)) if whole else sampled_frames(len(frames))
    return [_of_frame(frames, index) if index in chosen else "" for index in range(len(frames))]


def _of_frame(frames: Frames, frame_index: int) -> str:
    try:
        image = frames[frame_index]
    except (UserError, OSError):
        return UNREADABLE
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]
