"""Frames of a video file or of a folder of images, read lazily; and writing frames as a video (PyAV)."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from harness.errors import UserError
from harness.frames import DECODERS, ImageFrames
from harness.types import Frames, Image, Video

KEPT = 16
"""Decoded frames that wait for those who asked for a later one first; readers run at most a few frames apart."""
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,ogg,asf,gif,mjpeg,h264,hevc"
"""Demuxers of FFmpeg that are used. Playlists are not among them: they read the files and addresses they name."""


class VideoFileFrames(Frames):
    """The frames of a video file, RGB ``uint8 (height, width, 3)``, decoded in order as they are asked for.

    Going back opens the file again, so reading backwards is slow. Safe to read from several threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as container:
            stream = container.streams.video[0]
            self.rate = float(stream.average_rate or 25)
            frames = _decoded(container, path)
            first = next(frames, None)
            if first is None:
                raise UserError(str(path), "holds no frames", "give another video")
            self.height, self.width = first.height, first.width
            self._length = 1 + sum(1 for _ in frames)
        self._lock = threading.Lock()
        self._decoder: Iterator[Image] = iter(())
        self._next = self._length
        self._waiting: dict[int, Image] = {}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, frame_index: int, /) -> Image:
        if not 0 <= frame_index < self._length:
            raise IndexError(frame_index)
        with self._lock:
            if frame_index in self._waiting:
                return self._waiting.pop(frame_index)
            if frame_index < self._next:
                self._decoder, self._next = self._decode(), 0
                self._waiting.clear()
            while True:
                image = next(self._decoder, None)
                if image is None:
                    raise UserError(f"{self.path}, frame {self._next}", "cannot be decoded", "repair the video")
                self._next += 1
                if self._next > frame_index:
                    return image
                if self._next > frame_index - KEPT:
                    self._waiting[self._next - 1] = image

    def _decode(self) -> Iterator[Image]:
        with _opened(self.path) as container:
            for frame in _decoded(container, self.path):
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _opened(path: Path) -> Any:
    try:
        container = av.open(f"file:{path}", options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"})
        if container.streams.video:
            return container
        container.close()
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(str(path), f"is not a video that can be read ({error})", "give a video file") from error
    raise UserError(str(path), "has no video stream", "give a video file")


def _decoded(container: Any, path: Path) -> Iterator[Any]:
    """The frames of a container's video stream; raises `UserError` where they cannot be decoded."""
    try:
        yield from container.decode(container.streams.video[0])
    except (av.FFmpegError, ValueError) as error:
        raise UserError(str(path), f"cannot be decoded ({error})", "repair the video") from error


def open_video(source: Path) -> tuple[Video, float]:
    """Open a video file, or a folder of frames in order of their names; also its frames per second (folders: 10).

    Raises `UserError` where there is neither, or the first frame cannot be read.
    """
    if source.is_dir():
        names = sorted(p.name for p in source.iterdir() if p.suffix.lower() in IMAGES)
        if not names:
            raise UserError(str(source), f"has no frames ({', '.join(IMAGES)})", "name a folder of images, or a video")
        from PIL import Image as Pillow
        from PIL import ImageOps

        try:
            with Pillow.open(source / names[0], formats=DECODERS) as image:
                width, height = ImageOps.exif_transpose(image).size
        except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
            raise UserError(str(source / names[0]), f"is not an image ({error})", "repair or remove it") from error
        return Video(1, source.name, height, width, ImageFrames(source, names, height, width, source.name)), 10.0
    if not source.is_file():
        raise UserError(str(source), "is neither a video file nor a folder of frames", "check the path")
    frames = VideoFileFrames(source)
    return Video(1, source.stem, frames.height, frames.width, frames), frames.rate


def write_video(path: Path, images: Iterable[Image], rate: float) -> None:
    """Write RGB images as an MP4 with H.264, or MPEG-4 where this FFmpeg has no H.264 encoder."""
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = None
        for image in images:
            height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2  # 4:2:0 needs even sizes
            if stream is None:
                stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())
