"""Video files: turned, mirrored and with square pixels as a player shows them; what is refused."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as Pillow

from harness.errors import UserError
from harness.video_file import VideoFileFrames, open_video, write_video

DATA = Path(__file__).parent / "data/video"
HEIGHT, WIDTH, FRAMES = 48, 64, 3
UPRIGHT = (1, 0, 0, 1)


def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Dark, with a red square in the upper left corner and a green one in the upper right."""
    image = np.full((height, width, 3), 30, np.uint8)
    image[:16, :16] = (220, 30, 30)
    image[:16, -16:] = (30, 220, 30)
    return image


def packed(a: float, b: float, c: float, d: float) -> bytes:
    """A display matrix as it stands in an MP4's track header."""
    return struct.pack(">9i", *(round(65536 * x) for x in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "plain.mp4"
    write_video(path, [picture()] * FRAMES, 5)
    return path


def with_matrix(path: Path, matrix: tuple[float, ...], to: Path) -> Path:
    """An MP4 with another matrix in its track header."""
    content = path.read_bytes()
    at = content.index(packed(*UPRIGHT), content.index(b"tkhd"))
    to.write_bytes(content[:at] + packed(*matrix) + content[at + 36 :])
    return to


@pytest.fixture
def turned(plain: Path, tmp_path: Path) -> Callable[..., Path]:
    """The plain video with another matrix."""
    return lambda *matrix: with_matrix(plain, matrix, tmp_path / "turned.mp4")


def with_pixels(path: Path, aspect: Fraction, width: int = WIDTH) -> Path:
    """A video whose pixels are ``aspect`` times as wide as high."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = width, HEIGHT, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(width=width), format="rgb24")))
        container.mux(stream.encode())
    return path


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        open_video(path)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        (UPRIGHT, lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # a phone held upright: a quarter turn clockwise
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).swapaxes(0, 1)),
        ((0.001, 1, -1, 0.001), lambda image: np.rot90(image, -1)),  # rounded by its writer
        ((0, 0.5, -0.5, 0), lambda image: np.rot90(image, -1)),
        ((0, 0, 0, 0), lambda image: image),
    ],
)
def test_videos_are_turned_as_a_player_turns_them(
    plain: Path,
    turned: Callable[..., Path],
    matrix: tuple[float, ...],
    shown: Callable[[np.ndarray], np.ndarray],
) -> None:
    path = turned(*matrix)
    expected = shown(VideoFileFrames(plain)[0])
    video, _ = open_video(path)
    assert (video.height, video.width, len(video.frames)) == (*expected.shape[:2], FRAMES)
    for frame in video.read():
        assert frame.flags.c_contiguous
        np.testing.assert_array_equal(frame, expected)


def test_the_turn_is_that_of_the_library(turned: Callable[..., Path]) -> None:
    for matrix in ((0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)):
        path = turned(*matrix)
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
        decoded = frame.to_ndarray(format="rgb24")
        np.testing.assert_array_equal(VideoFileFrames(path)[0], np.rot90(decoded, frame.rotation // 90))


def jpegs(path: Path, *orientations: int) -> Path:
    """Motion JPEG of one picture; a frame's EXIF orientation is side data that the library may not know."""
    with path.open("wb") as file:
        for orientation in orientations:
            exif = Pillow.Exif()
            exif[0x0112] = orientation
            Pillow.fromarray(picture()).save(file, "JPEG", exif=exif)
    return path


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_frames_with_side_data_that_the_library_does_not_know_are_turned(tmp_path: Path, orientation: int) -> None:
    path = jpegs(tmp_path / "clip.mjpeg", orientation, orientation)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        expected = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    assert np.array_equal(VideoFileFrames(path)[0], expected)


def test_no_side_data_and_a_matrix_that_turns_nothing_are_the_same(tmp_path: Path) -> None:
    path = jpegs(tmp_path / "clip.mjpeg", 1)
    plain = io.BytesIO()
    Pillow.fromarray(picture()).save(plain, "JPEG")
    path.write_bytes(plain.getvalue() + path.read_bytes() + plain.getvalue())
    assert len(VideoFileFrames(path)) == 3


def test_frames_that_are_turned_differently_are_refused(tmp_path: Path) -> None:
    with av.open(str(jpegs(tmp_path / "clip.mjpeg", 1, 3))) as container:
        if len({frame.rotation for frame in container.decode(video=0)}) == 1:
            pytest.skip("this FFmpeg does not read the orientation of motion JPEG")
    what = "has another display rotation than the first frame; write the video upright"
    assert refused(tmp_path / "clip.mjpeg") == f"{tmp_path / 'clip.mjpeg'}, frame 1: {what}"


def test_a_turn_by_another_angle_is_refused(turned: Callable[..., Path]) -> None:
    assert "not a multiple of 90 degrees" in refused(turned(0.8, 0.6, -0.6, 0.8))


@pytest.mark.parametrize("container", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize(("aspect", "width"), [(Fraction(4, 3), 85), (Fraction(1, 2), 32), (Fraction(1), 64)])
def test_pixels_become_square(tmp_path: Path, container: str, aspect: Fraction, width: int) -> None:
    video, _ = open_video(with_pixels(tmp_path / f"clip.{container}", aspect))
    frame = video.frames[0]
    assert frame.shape == (video.height, video.width, 3) == (HEIGHT, width, 3)
    red, green = frame[8, 4], frame[8, -5]
    assert red[0] > 180 > 80 > red[1]
    assert green[1] > 180 > 80 > green[0]


def test_pixels_become_square_before_the_turn(tmp_path: Path) -> None:
    path = with_matrix(with_pixels(tmp_path / "0.mp4", Fraction(4, 3)), (0, 1, -1, 0), tmp_path / "1.mp4")
    video, _ = open_video(path)
    assert video.frames[0].shape == (video.height, video.width, 3) == (85, HEIGHT, 3)
    assert video.frames[0][4, -8, 0] > 180  # red is in the upper right corner


def test_pixels_of_absurd_shape_are_refused(tmp_path: Path) -> None:
    path = with_pixels(tmp_path / "clip.mkv", Fraction(20))
    assert "its pixels are 20 times as wide as high" in refused(path)


def test_a_phone_video(tmp_path: Path) -> None:
    video, _ = open_video(DATA / "rot90.mp4")
    assert (video.height, video.width) == (96, 64)
    first = video.frames[0]
    assert first.shape == (96, 64, 3)
    reds = np.argwhere((first[..., 0] > 180) & (first[..., 1] < 80))
    assert reds[:, 0].max() < 48  # upper right, as a player shows it
    assert reds[:, 1].min() >= 32


def test_a_video_that_changes_its_size_is_refused() -> None:
    what = "frame is 96x128 (height x width), the first frame is 64x96; write the video in one size"
    assert refused(DATA / "change.h264") == f"{DATA / 'change.h264'}, frame 4: {what}"


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_preview_before_the_video_is_not_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"two.{suffix}"
    with av.open(str(path), "w") as container:
        preview, video = container.add_stream("mpeg4", rate=5), container.add_stream("mpeg4", rate=5)
        for stream, size, frames in ((preview, (24, 32), 1), (video, (HEIGHT, WIDTH), FRAMES)):
            stream.height, stream.width = size
            stream.pix_fmt = "yuv420p"
            stream.disposition = av.stream.Disposition.default if frames > 1 else av.stream.Disposition(0)
        for stream, size, frames in ((preview, (24, 32), 1), (video, (HEIGHT, WIDTH), FRAMES)):
            for _ in range(frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(*size), format="rgb24")))
            container.mux(stream.encode())
    found = VideoFileFrames(path)
    assert (len(found), found.height, found.width) == (FRAMES, HEIGHT, WIDTH)
    assert found[FRAMES - 1].shape == (HEIGHT, WIDTH, 3)
