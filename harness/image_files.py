"""Frames of a video from image files, decoded on access."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from harness.errors import FrameError, UnreadableFileError, UserError
from harness.frame_digests import UNREADABLE, Content, digest_of_file, sampled_frames
from harness.frames import Frames, Image
from harness.input_files import FRAME_BYTES, open_file

DECODERS = ("JPEG", "PNG", "WEBP")
"""Image formats that are read. Frames are untrusted: fewer decoders are a smaller attack surface."""
_ORIENTATION = 0x0112
_OTHER_FORMATS = (
    (0, b"BM", "BMP"), (0, b"II*\0", "TIFF"), (0, b"MM\0*", "TIFF"), (0, b"II+\0", "TIFF"), (0, b"MM\0+", "TIFF"),
    (0, b"GIF8", "GIF"), (4, b"ftypheic", "HEIC"), (4, b"ftypheix", "HEIC"), (4, b"ftypmif1", "HEIC"),
    (4, b"ftypavif", "AVIF"), (4, b"jP  ", "JPEG 2000"), (0, b"\xff\x0a", "JPEG XL"), (4, b"JXL ", "JPEG XL"),
    (0, b"v/1\x01", "OpenEXR"), (0, b"#?RADIANCE", "Radiance"), (0, b"8BPS", "Photoshop"), (0, b"P5", "PGM"),
    (0, b"P6", "PPM"),
)  # fmt: skip
"""Signatures of unsupported formats: offset in the file, bytes, name."""


class ImageFrames(Frames):
    """The frames of one video, one image file each, RGB ``uint8 (height, width, 3)``.

    ``file_names`` are relative to ``root``, with slashes; ``height`` and ``width`` are in pixels, after EXIF
    orientation. ``video`` names the video in errors. Raises `UserError` at once for names outside of ``root``; on
    access for links to outside, and for files that are missing, truncated or of another size.
    """

    size_source: ClassVar[str] = "the annotations say"
    """The source of the expected size, for errors."""
    size_fix: ClassVar[str] = "use the frames that belong to these annotations"
    broken_fix: ClassVar[str] = "extract the dataset's frames again"

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
        with opened_image(path, where, self._fix()) as image:
            self._check_size(image, where)
            return pixels(image, where)

    def digests(self, whole: bool) -> list[str]:
        """One digest per frame: of name and size, and of the ends of a few files; with ``whole`` of all content."""
        sampled = sampled_frames(len(self))
        return [self._digest(name, whole, index in sampled) for index, name in enumerate(self.file_names)]

    def _digest(self, name: str, whole: bool, sampled: bool) -> str:
        content: Content = "whole" if whole else "ends" if sampled else "size"
        file_name = name.rpartition("/")[2]  # digests do not depend on folders
        if content == "size":
            return digest_of_file(f"{self.root}/{name}", file_name, content)
        try:
            return digest_of_file(inside(self.root, name), file_name, content)
        except UserError:
            return UNREADABLE

    def _check_size(self, image: Pillow.Image, where: str) -> None:
        """Refuse other sizes before any pixel is decoded: a small file may declare a huge image."""
        stated = (self.height, self.width)
        size = _size_to_compare(image, stated)
        if size != stated:
            what = f"frame is {size[0]}x{size[1]} (height x width), {self.size_source} {self.height}x{self.width}"
            raise FrameError(where, what, self.size_fix)

    def _fix(self) -> str:
        if not self.root.is_dir():
            return f"put the frames into {self.root}, which does not exist"
        return self.broken_fix


@contextmanager
def opened_image(path: Path, where: str, fix: str) -> Iterator[Pillow.Image]:
    """Open an image file without decoding its pixels.

    Raises `FrameError` with the hint ``fix`` for a faulty file, also if it is decoded inside the block.
    """
    try:
        with open_file(path, FRAME_BYTES) as file, Pillow.open(file, formats=DECODERS) as image:
            yield image
    except FileNotFoundError as error:
        raise FrameError(where, "frame is missing", fix) from error
    except UnidentifiedImageError as error:
        with open_file(path, FRAME_BYTES) as file:
            found = other_format(file.read(16))
        read = f"{', '.join(DECODERS[:-1])} and {DECODERS[-1]}"
        if found:
            raise FrameError(where, f"is a {found} image; {read} are read", "convert it to PNG") from error
        raise FrameError(where, f"is not an image that is read ({read})", fix) from error
    except UnreadableFileError as error:
        raise FrameError(where, f"frame {error.what}", fix) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Pillow.DecompressionBombError) as error:
        # Pillow raises all of these for broken files, depending on the decoder and the place of the damage.
        raise FrameError(where, f"frame is truncated or broken ({error})", fix) from error


def other_format(head: bytes) -> str:
    """Return the name of an unsupported image format from the first 16 bytes of a file; empty for other files."""
    return next((name for at, start, name in _OTHER_FORMATS if head.startswith(start, at)), "")


def header_size(path: Path, stated: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of an image file from its header, after EXIF orientation if that matters for ``stated``.

    Raises `UserError` if the file is not a supported image.
    """
    with opened_image(path, str(path), ImageFrames.broken_fix) as image:
        return _size_to_compare(image, stated)


def _size_to_compare(image: Pillow.Image, stated: tuple[int, int]) -> tuple[int, int]:
    size = (image.height, image.width)
    if sorted(size) == sorted(stated):  # only then: Pillow may have to decode a PNG to find its orientation
        return upright_size(image)
    return size


def upright_size(image: Pillow.Image) -> tuple[int, int]:
    """Height and width of an opened image after EXIF orientation."""
    swapped = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    return (image.width, image.height) if swapped else (image.height, image.width)


def pixels(image: Pillow.Image, where: str) -> Image:
    """Decode an opened image: RGB ``uint8 (height, width, 3)``, after EXIF orientation. docs/frames.md has the rules.

    16-bit samples keep their upper 8 bits. Raises `UserError` for pixel types without a defined range.
    """
    mode, is_png = image.mode, image.format == "PNG"
    if mode == "F" or (mode == "I" and not is_png):  # older Pillow uses "I" for PNGs of 16 bits
        kind = "floating point" if mode == "F" else "32-bit integer"
        raise FrameError(where, f"has {kind} pixels, whose range is not defined", "convert it to 8 bits per channel")
    turned = ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image
    if mode.startswith("I"):
        # Not by Pillow, which clips grey values to 255 and so makes nearly every pixel white. It handles colour itself.
        grey = (np.asarray(turned) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.array(turned.convert("RGB"), dtype=np.uint8)


def inside(root: Path, name: str, where: str = "") -> Path:
    """Return the real path of ``root/name``; raises `UserError` if it is outside of ``root``, also through links."""
    base = os.path.realpath(root)
    _refuse_leaving(name, where or str(root))
    path = os.path.realpath(os.path.join(base, name))  # noqa: PTH118 (pathlib would raise on a loop of links)
    if os.path.commonpath((base, path)) != base:
        what = f"leads out of {root} through a link"
        raise FrameError(where or f"{root}/{name}", what, "put the files themselves there, or name their real folder")
    return Path(path)


def _refuse_leaving(name: str, where: str) -> None:
    if not name or "\0" in name or name.startswith("/") or ".." in name.split("/"):
        raise FrameError(where, f"file name {name!r} is not a path below its folder", "correct file_names")
