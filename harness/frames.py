"""Frames of a video from image files: decoded when asked for, read ahead within a bound."""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from harness.errors import UserError
from harness.types import Frames, Image

DECODERS = ("JPEG", "PNG", "WEBP")
"""Image formats that are read. Frames come from strangers: fewer decoders are fewer doors."""
DECODING_THREADS = 4
_ORIENTATION = 0x0112


class ImageFrames(Frames):
    """The frames of one video, one image file each, RGB ``uint8 (height, width, 3)``.

    ``file_names`` are relative to ``root`` with slashes; ``height`` and ``width`` are pixels after the EXIF
    orientation was applied. ``video`` names the video in errors. Names that lead out of ``root`` raise `UserError` at
    once, links that do when they are read, like files that are missing, truncated or of another size.
    """

    def __init__(self, root: Path, file_names: Sequence[str], height: int, width: int, video: str = "") -> None:
        self.root, self.file_names = Path(root), tuple(file_names)
        self.height, self.width, self.video = height, width, video
        for name in self.file_names:
            _refuse_leaving(name, f"{self.root / name} (video {video})" if video else str(self.root))

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, frame_index: int, /) -> Image:
        name = self.file_names[frame_index]
        of_video = f" (video {self.video}, frame {frame_index})" if self.video else f" (frame {frame_index})"
        where = f"{self.root / name}{of_video}"
        path = inside(self.root, name, where)
        try:
            with Pillow.open(path, formats=DECODERS) as image:
                self._check_size(image, where)
                turned = ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image
                return np.array(turned.convert("RGB"), dtype=np.uint8)
        except FileNotFoundError as error:
            raise UserError(where, "frame is missing", self._mend()) from error
        except UnidentifiedImageError as error:
            raise UserError(where, f"is not a {', '.join(DECODERS)} image", self._mend()) from error
        except (OSError, SyntaxError, ValueError, EOFError, struct.error, Pillow.DecompressionBombError) as error:
            # Pillow reports broken files by all of these, depending on the decoder and the place of the damage.
            raise UserError(where, f"frame is truncated or broken ({error})", self._mend()) from error

    def _check_size(self, image: Pillow.Image, where: str) -> None:
        """Refuse other sizes before any pixel is decoded: a small file may claim a huge image."""
        width, height = image.size
        if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):  # those that swap the axes
            width, height = height, width
        if (height, width) != (self.height, self.width):
            what = f"frame is {height}x{width} (height x width), the annotations say {self.height}x{self.width}"
            raise UserError(where, what, "use the frames that belong to these annotations")

    def _mend(self) -> str:
        if not self.root.is_dir():
            return f"there is no folder {self.root}: put the frames there"
        return "extract the dataset's frames again"


def inside(root: Path, name: str, where: str = "") -> Path:
    """Return the real path of ``root/name``; raises `UserError` where it leads out of ``root``, links included."""
    base = os.path.realpath(root)
    _refuse_leaving(name, where or str(root))
    path = os.path.realpath(os.path.join(base, name))  # noqa: PTH118 (pathlib would raise on a loop of links)
    if os.path.commonpath((base, path)) != base:
        what = f"leads out of {root} through a link"
        raise UserError(where or f"{root}/{name}", what, "put the files themselves there, or name their real folder")
    return Path(path)


def _refuse_leaving(name: str, where: str) -> None:
    if not name or "\0" in name or name.startswith("/") or ".." in name.split("/"):
        raise UserError(where, f"file name {name!r} is not a path below its folder", "correct file_names")


def read_ahead(frames: Frames, ahead: int = 4) -> Iterator[Image]:
    """Yield the frames in order while at most ``ahead`` undelivered ones are decoded in the background.

    An exception of a frame is raised in its turn, after the frames before it. Closing the generator stops the threads.
    With ``ahead`` 0 frames are decoded one by one, without threads.
    """
    if ahead < 0:
        raise ValueError(f"ahead is {ahead}, must not be negative")
    if ahead == 0:
        for frame_index in range(len(frames)):
            yield frames[frame_index]
        return
    waiting: deque[Future[Image]] = deque()
    indices = iter(range(len(frames)))
    pool = ThreadPoolExecutor(min(ahead, DECODING_THREADS), thread_name_prefix="frames")
    try:
        for frame_index in indices:
            waiting.append(pool.submit(frames.__getitem__, frame_index))
            if len(waiting) == ahead:
                break
        while waiting:
            frame = waiting.popleft().result()
            for frame_index in indices:
                waiting.append(pool.submit(frames.__getitem__, frame_index))
                break
            yield frame
            del frame  # the caller alone decides how long a delivered frame lives
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
