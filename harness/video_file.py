"""Reads the frames of a video file or of a folder of images lazily, and writes frames as a video (PyAV)."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from harness.errors import FrameError, UserError
from harness.frame_digests import digest_of_file
from harness.frame_folder import FolderFrames, frame_names
from harness.frames import Frames, Image
from harness.image_files import opened_image, upright_size
from harness.input_files import refuse_odd_file
from harness.types import Video

KEPT = 16
"""Number of skipped decoded frames that are cached: parallel readers are at most a few frames apart."""
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,ogg,asf,gif,mjpeg,h264,hevc"
"""Allowed demuxers of FFmpeg. Playlists are excluded, because they read other files and addresses."""
MOST_PIXELS = 178_956_970
"""Most pixels of a picture, as shown: twice Pillow's limit, at which images are refused."""
WIDEST_PIXEL = 10
"""Largest aspect ratio of pixels, in either direction: a small file may declare a huge picture."""
QUARTER_TURN = 57
"""Least ratio of the matrix's main elements to the others, for an error of one degree."""


class DisplayTransform(NamedTuple):
    """The transform with which a player shows frames: resize to ``width``, then swap the axes, then mirror."""

    width: int | None
    swapped: bool
    mirrored: tuple[bool, bool]
    """Along the height and along the width."""

    def pixels(self, frame: Any) -> Image:
        """The shown picture of a decoded frame, RGB ``uint8 (height, width, 3)``."""
        if self.width is None:
            image = frame.to_ndarray(format="rgb24")
        else:
            image = frame.to_ndarray(format="rgb24", width=self.width, height=frame.height)
        if self.swapped:
            image = image.swapaxes(0, 1)
        image = image[:: -1 if self.mirrored[0] else 1, :: -1 if self.mirrored[1] else 1]
        return np.ascontiguousarray(image, np.uint8)

    def size(self, frame: Any) -> tuple[int, int]:
        """Height and width of the shown picture."""
        width = self.width or frame.width
        return (width, frame.height) if self.swapped else (frame.height, width)


class VideoFileFrames(Frames):
    """The frames of a video file, RGB ``uint8 (height, width, 3)``, decoded in order on access.

    They are rotated and have square pixels, as in a player (docs/frames.md); ``height`` and ``width`` are those of the
    result. Going back reopens the file, so reading backwards is slow. Safe to read from several threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as container:
            stream = _stream(container)
            self.rate = float(stream.average_rate or 25)
            frames = _decoded(container, path)
            first = next(frames, None)
            if first is None:
                raise UserError(str(path), "holds no frames", "give another video")
            aspect = stream.sample_aspect_ratio
            self._shown = _shown(first, aspect, path)
            self.height, self.width = self._shown.size(first)
            self._length = 1
            for frame in frames:
                if (frame.height, frame.width) != (first.height, first.width):
                    what = f"frame is {frame.height}x{frame.width} (height x width), the first frame is "
                    what += f"{first.height}x{first.width}"
                    raise FrameError(f"{path}, frame {self._length}", what, "write the video in one size")
                if _shown(frame, aspect, path) != self._shown:
                    what = "has another display rotation than the first frame"
                    raise FrameError(f"{path}, frame {self._length}", what, "write the video upright")
                self._length += 1
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
                    raise FrameError(f"{self.path}, frame {self._next}", "cannot be decoded", "repair the video")
                self._next += 1
                if self._next > frame_index:
                    return image
                if self._next > frame_index - KEPT:
                    self._waiting[self._next - 1] = image

    def digests(self, whole: bool) -> list[str]:
        """One digest for all frames: of the file's size and ends; with ``whole`` of all content."""
        return [digest_of_file(self.path, "", "whole" if whole else "ends")]

    def _decode(self) -> Iterator[Image]:
        with _opened(self.path) as container:
            for frame in _decoded(container, self.path):
                yield self._shown.pixels(frame)


def _shown(frame: Any, aspect: Fraction | None, path: Path) -> DisplayTransform:
    """The transform of a frame from its display matrix and the aspect ratio of its pixels (width over height).

    Raises `UserError` for rotations other than quarter turns, and for aspect ratios over `WIDEST_PIXEL`.
    """
    aspect = aspect or Fraction(1)
    if not Fraction(1, WIDEST_PIXEL) <= aspect <= WIDEST_PIXEL:
        what = f"states that its pixels are {float(aspect):.3g} times as wide as high"
        raise UserError(str(path), what, "write the video with square pixels")
    width = max(1, round(frame.width * aspect))
    _refuse_size(width, frame.height, path)
    resized = None if width == frame.width else width
    a, b, c, d = _matrix(frame)
    straight, crossed = (abs(a), abs(d)), (abs(b), abs(c))
    if max(straight) > 0 and min(straight) >= QUARTER_TURN * max(crossed):
        return DisplayTransform(resized, False, (d < 0, a < 0))
    if max(crossed) > 0 and min(crossed) >= QUARTER_TURN * max(straight):
        return DisplayTransform(resized, True, (b < 0, c < 0))
    if not any((a, b, c, d)):  # players ignore such a matrix
        return DisplayTransform(resized, False, (False, False))
    what = "has a display rotation that is not a multiple of 90 degrees"
    raise UserError(str(path), what, "write the video rotated, without a display matrix")


def _matrix(frame: Any) -> tuple[float, ...]:
    """A frame's display matrix a, b, c, d, at any scale: pixel (x, y) moves to (a x + c y, b x + d y), plus a shift."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV reads no side data if it does not know one of its kinds, but it has the angle
        angle = math.radians(frame.rotation)
        return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(matrix, "=i4").astype(np.int64)[:5].tolist()
    return a, b, c, d


def _opened(path: Path) -> Any:
    try:
        refuse_odd_file(path)
        container = av.open(f"file:{path}", options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"})
        if container.streams.video:
            context = _stream(container).codec_context
            _refuse_size(context.width, context.height, path)
            context.options = {**context.options, "max_pixels": str(MOST_PIXELS)}  # a later frame may be larger
            return container
        container.close()
    except (av.FFmpegError, OSError, ValueError) as error:
        raise UserError(str(path), f"is not a video that can be read ({error})", "give a video file") from error
    raise UserError(str(path), "has no video stream", "give a video file")


def _stream(container: Any) -> Any:
    """The video stream that players show: cover pictures and previews may come before it."""
    return container.streams.best("video")


def _refuse_size(width: int, height: int, path: Path) -> None:
    """Raise `UserError` for pictures over `MOST_PIXELS`: a few bytes may declare them."""
    if width * height > MOST_PIXELS:
        what = f"has frames of {height}x{width} (height x width), more than {MOST_PIXELS} pixels"
        raise UserError(str(path), what, "write the video smaller")


def _decoded(container: Any, path: Path) -> Iterator[Any]:
    """The frames of a container's video stream; raises `UserError` if they cannot be decoded."""
    try:
        yield from container.decode(_stream(container))
    except (av.FFmpegError, ValueError) as error:
        raise UserError(str(path), f"cannot be decoded ({error})", "repair the video") from error


def open_video(source: Path) -> tuple[Video, float]:
    """Open a video file or a folder of frames (see `frame_names`); return it with its frames per second (folders: 10).

    Raises `UserError` if it is neither, or if the first frame cannot be read.
    """
    if source.is_dir():
        names = frame_names(source)
        with opened_image(source / names[0], str(source / names[0]), FolderFrames.broken_fix) as image:
            height, width = upright_size(image)
        return Video(1, source.name, height, width, FolderFrames(source, names, height, width, source.name)), 10.0
    if not source.is_file():
        raise UserError(str(source), "is neither a video file nor a folder of frames", "check the path")
    frames = VideoFileFrames(source)
    return Video(1, source.stem, frames.height, frames.width, frames), frames.rate


def write_video(path: Path, images: Iterable[Image], rate: float) -> None:
    """Write RGB images as an MP4 with H.264, or MPEG-4 if this FFmpeg has no H.264 encoder."""
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
