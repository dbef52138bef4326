"""Digests of the frames of a video, stored with its predictions and compared when a run resumes.

They do not depend on the folder: the same frames elsewhere have the same digests.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from harness.errors import UnreadableFileError, UserError
from harness.frames import DigestedFrames, Frames
from harness.input_files import UNBOUNDED, open_file

SAMPLE_BYTES = 64 << 10
"""Bytes that are read at each end of a file whose content is sampled."""
UNREADABLE = "unreadable"
"""Digest of a missing or unreadable frame. It is not an error, because some models read no frames."""
_DIGITS = 12

Content = Literal["size", "ends", "whole"]
"""How much of a file is digested: its size; also `SAMPLE_BYTES` at both ends; all of it."""


class FrameDigests(NamedTuple):
    """Digests of a video's frames, in hexadecimal digits: one per frame, or one for all of them.

    ``sampled`` covers sizes and a part of the content; ``whole`` covers all content, and is empty if not requested.
    """

    sampled: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()


def digests_of(frames: Frames, whole: bool = False) -> FrameDigests:
    """Return the digests of a video's frames; with ``whole`` also those of all content."""
    return FrameDigests(_digests(frames, False), _digests(frames, True) if whole else ())


def sampled_frames(count: int) -> set[int]:
    """Return the indices of the frames whose content is sampled: the first, the middle and the last."""
    return {0, count // 2, count - 1} if count else set()


def digest_of_file(path: str | Path, name: str, content: Content) -> str:
    """Return a digest of ``name`` and a file's size and content; `UNREADABLE` if it cannot be read."""
    try:
        if content == "size":
            return _short(f"{name}\0{os.stat(path).st_size}".encode())  # noqa: PTH116 (every frame: pathlib is slow)
        with open_file(path, UNBOUNDED) as file:
            size = os.fstat(file.fileno()).st_size
            hashed = hashlib.sha256(f"{name}\0{size}\0".encode())
            if content == "whole":
                hashed.update(hashlib.file_digest(file, "sha256").digest())
            else:
                hashed.update(file.read(SAMPLE_BYTES))
                file.seek(max(0, size - SAMPLE_BYTES))
                hashed.update(file.read(SAMPLE_BYTES))
    except (OSError, UnreadableFileError):
        return UNREADABLE
    return hashed.hexdigest()


def _digests(frames: Frames, whole: bool) -> tuple[str, ...]:
    found = frames.digests(whole) if isinstance(frames, DigestedFrames) else _of_pixels(frames, whole)
    return tuple(_short(digest.encode()) for digest in found)


def _of_pixels(frames: Frames, whole: bool) -> Sequence[str]:
    """Digests of decoded frames: of all with ``whole``, else of the sampled ones and empty for the others."""
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
