"""Frames from files: what is read, what is refused, and how far ahead is read.

Tests of `harness/frames.py`.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.errors import UserError
from harness.frames import AheadReader, decoding_threads, read_ahead
from harness.image_files import ImageFrames, inside
from harness.image_files import pixels as pixels_of


def pixels(height: int = 6, width: int = 9, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path: Path, image: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)


def refused(root: Path, name: str, height: int = 6, width: int = 9) -> str:
    with pytest.raises(UserError) as error:
        ImageFrames(root, [name], height, width, video="41")[0]
    assert "video 41" in str(error.value)
    assert error.value.hint
    return str(error.value)


def test_pixels_come_as_writable_rgb(tmp_path: Path) -> None:
    save(tmp_path / "v/0.png", pixels())
    frames = ImageFrames(tmp_path, ["v/0.png"], 6, 9)
    assert len(frames) == 1
    assert frames[0].dtype == np.uint8
    assert frames[0].flags.writeable
    np.testing.assert_array_equal(frames[0], pixels())


def test_grey_images_get_three_channels(tmp_path: Path) -> None:
    grey = pixels()[..., 0]
    save(tmp_path / "0.png", grey)
    np.testing.assert_array_equal(ImageFrames(tmp_path, ["0.png"], 6, 9)[0], np.repeat(grey[..., None], 3, 2))


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    save(tmp_path / "0.png", pixels(), exif=exif)
    np.testing.assert_array_equal(ImageFrames(tmp_path, ["0.png"], 9, 6)[0], np.rot90(pixels(), -1))


def png(width: int, depth: int, colour: int, row: bytes, palette: bytes = b"", alpha: bytes = b"") -> bytes:
    """A PNG of one row of samples as they stand in the file."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
    header += (chunk(b"PLTE", palette) if palette else b"") + (chunk(b"tRNS", alpha) if alpha else b"")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


def samples(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(4, 16, 0, samples(0, 255, 256, 65535)), [(0,) * 3, (0,) * 3, (1,) * 3, (255,) * 3]),  # grey
        (png(2, 16, 0, samples(300, 40000), alpha=samples(300)), [(1,) * 3, (156,) * 3]),  # a transparent grey
        (png(2, 16, 2, samples(255, 256, 65535, 32767, 511, 512)), [(0, 1, 255), (127, 1, 2)]),  # colour
        (png(2, 16, 4, samples(513, 0, 65535, 9)), [(2,) * 3, (255,) * 3]),  # grey and alpha
        (png(1, 16, 6, samples(513, 1027, 65535, 0)), [(2, 4, 255)]),  # colour and alpha
        (png(2, 1, 0, bytes([0b01000000])), [(0,) * 3, (255,) * 3]),
        (png(4, 2, 0, bytes([0b00011011])), [(0,) * 3, (85,) * 3, (170,) * 3, (255,) * 3]),
        (png(2, 4, 0, bytes([0x1F])), [(17,) * 3, (255,) * 3]),
        (png(2, 8, 3, bytes([1, 0]), bytes([1, 2, 3, 200, 100, 50])), [(200, 100, 50), (1, 2, 3)]),  # palette
        (png(2, 8, 3, bytes([1, 0]), bytes([1, 2, 3, 200, 100, 50]), bytes([0])), [(200, 100, 50), (1, 2, 3)]),
        (png(2, 8, 4, bytes([7, 0, 9, 128])), [(7,) * 3, (9,) * 3]),
        (png(1, 8, 6, bytes([7, 8, 9, 0])), [(7, 8, 9)]),
    ],
)
def test_png_of_every_kind(tmp_path: Path, content: bytes, expected: list[tuple[int, int, int]]) -> None:
    (tmp_path / "0.png").write_bytes(content)
    frame = ImageFrames(tmp_path, ["0.png"], 1, len(expected))[0]
    assert frame.dtype == np.uint8
    assert frame.flags.writeable
    assert [tuple(pixel) for pixel in frame[0].tolist()] == expected


def test_ink_becomes_light(tmp_path: Path) -> None:
    Image.new("CMYK", (9, 6), (255, 0, 0, 0)).save(tmp_path / "0.jpg", quality=100)
    red, green, blue = ImageFrames(tmp_path, ["0.jpg"], 6, 9)[0][3, 4].tolist()
    assert red < 5
    assert min(green, blue) > 250


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_of_an_animation_the_first_picture_is_read(tmp_path: Path, suffix: str) -> None:
    shown = [Image.new("RGB", (9, 6), (50 * n, 10, 10)) for n in (4, 1, 2)]
    shown[0].save(tmp_path / f"0.{suffix}", save_all=True, append_images=shown[1:], lossless=True)
    np.testing.assert_array_equal(ImageFrames(tmp_path, [f"0.{suffix}"], 6, 9)[0], np.asarray(shown[0]))


@pytest.mark.parametrize(("kind", "named"), [(np.float32, "floating point"), (np.int32, "32-bit integer")])
def test_pixels_without_a_range_are_refused(kind: type, named: str) -> None:
    with pytest.raises(UserError, match=f"0.tif: has {named} pixels, whose range is not defined"):
        pixels_of(Image.fromarray(np.zeros((6, 9), kind)), "0.tif")


@pytest.mark.parametrize(
    ("kind", "named"), [("BMP", "BMP"), ("TIFF", "TIFF"), ("GIF", "GIF"), ("JPEG2000", "JPEG 2000")]
)
def test_the_real_format_is_named(tmp_path: Path, kind: str, named: str) -> None:
    save(tmp_path / "0.jpg", pixels(), format=kind)
    assert f"is a {named} image; JPEG, PNG and WEBP are read; convert it to PNG" in refused(tmp_path, "0.jpg")


def test_a_png_named_jpg_is_read(tmp_path: Path) -> None:
    save(tmp_path / "0.jpg", pixels(), format="PNG")
    np.testing.assert_array_equal(ImageFrames(tmp_path, ["0.jpg"], 6, 9)[0], pixels())


def test_another_size_is_refused_before_any_pixel_is_decoded(tmp_path: Path) -> None:
    save(tmp_path / "0.png", pixels(60, 90))
    path = tmp_path / "0.png"
    path.write_bytes(path.read_bytes()[:60])  # what is left is the size, not the pixels
    assert "frame is 60x90" in refused(tmp_path, "0.png")


def test_a_missing_frame_is_named(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    message = refused(tmp_path, "v/7.jpg")
    assert str(tmp_path / "v/7.jpg") in message
    assert "missing" in message


def test_a_missing_folder_is_named_in_the_mend(tmp_path: Path) -> None:
    assert f"put the frames into {tmp_path / 'none'}" in refused(tmp_path / "none", "v/7.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_frame_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"0.{suffix}"
    save(path, pixels(60, 90))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "truncated" in refused(tmp_path, path.name, 60, 90)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\xff\xd8\xff"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.jpg").write_bytes(content)
    assert str(tmp_path / "0.jpg") in refused(tmp_path, "0.jpg")


def test_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    save(tmp_path / "0.png", pixels(6, 9))
    message = refused(tmp_path, "0.png", 9, 6)
    assert "6x9" in message
    assert "9x6" in message


@pytest.mark.parametrize("name", ["../secret.png", "v/../../secret.png", "/etc/passwd", "", "a\0b"])
def test_names_that_leave_the_root_are_refused(tmp_path: Path, name: str) -> None:
    save(tmp_path / "secret.png", pixels())
    (tmp_path / "root").mkdir()
    assert "not a path below" in refused(tmp_path / "root", name)


def test_links_that_leave_the_root_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere/0.png", pixels())
    (tmp_path / "root").mkdir()
    (tmp_path / "root/v").symlink_to(tmp_path / "elsewhere")
    assert "leads out of" in refused(tmp_path / "root", "v/0.png")


def test_a_root_that_is_a_link_and_links_within_it_are_followed(tmp_path: Path) -> None:
    save(tmp_path / "real/v/0.png", pixels())
    (tmp_path / "real/w").symlink_to("v")
    (tmp_path / "root").symlink_to(tmp_path / "real")
    np.testing.assert_array_equal(ImageFrames(tmp_path / "root", ["w/0.png"], 6, 9)[0], pixels())


@given(st.text(alphabet="ab./\\\0", max_size=12))
def test_no_name_leads_out(name: str) -> None:
    root = Path("/some/root")
    try:
        path = inside(root, name)
    except UserError:
        return
    assert path.is_relative_to(root)


class Counted:
    """Frames that count how many of them were asked for; frame ``broken`` fails."""

    def __init__(self, length: int, broken: int = -1) -> None:
        self.length, self.broken, self.started = length, broken, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, frame_index: int, /) -> np.ndarray:
        self.started += 1
        if frame_index == self.broken:
            raise UserError(f"frame {frame_index}", "broken")
        time.sleep(0.002 * (3 - frame_index % 4))  # later frames are often ready first
        return np.full((1, 1, 3), frame_index, np.uint8)


def reading_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("frames")]


@pytest.mark.parametrize("ahead", [0, 1, 3, 100])
def test_frames_arrive_in_order(ahead: int) -> None:
    assert [int(f[0, 0, 0]) for f in read_ahead(Counted(17), ahead)] == list(range(17))
    assert not reading_threads()


def test_no_more_than_ahead_frames_wait() -> None:
    frames = Counted(12)
    for delivered, _ in enumerate(read_ahead(frames, 3), start=1):
        time.sleep(0.01)
        assert frames.started - delivered <= 3


@pytest.mark.parametrize("ahead", [0, 4])
def test_an_error_comes_in_its_turn(ahead: int) -> None:
    reader = read_ahead(Counted(9, broken=5), ahead)
    assert [int(next(reader)[0, 0, 0]) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="frame 5"):
        next(reader)
    assert not reading_threads()


def test_closing_stops_the_threads() -> None:
    frames = Counted(1000)
    reader = read_ahead(frames, 4)
    next(reader)
    reader.close()
    assert not reading_threads()
    assert frames.started < 10


@pytest.mark.parametrize("length", [2, 9])
def test_other_frames_are_begun_where_none_is_left(length: int) -> None:
    """At most four frames wait in all, and each of the other reader's errors comes from it alone."""
    other = Counted(9, broken=1)
    with closing(AheadReader(Counted(length), 4)) as first, closing(AheadReader(other, 3)) as then:
        begun: list[bool] = []
        delivered = [int(frame[0, 0, 0]) for frame in first.read(lambda: begun.append(then.begin()))]
        assert delivered == list(range(length))
        assert begun == [True, True, True, False]
        reader = then.read()
        assert int(next(reader)[0, 0, 0]) == 0
        with pytest.raises(UserError, match="frame 1"):
            next(reader)
        assert other.started <= 4
    assert not reading_threads()


def test_no_frames_give_nothing() -> None:
    assert list(read_ahead(Counted(0))) == []


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        next(read_ahead(Counted(1), -1))


@pytest.mark.parametrize(("cores", "threads"), [(1, 4), (8, 4), (16, 8), (96, 16)])
def test_more_cores_decode_more_frames_at_once(cores: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert decoding_threads() == threads
