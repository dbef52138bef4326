"""A folder of frames: which files are frames, in which order, and what is refused because it is not clear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.errors import UserError
from harness.frame_folder import frame_names
from harness.video_file import open_video


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir(exist_ok=True)
    for name in names:
        (path / name).touch()
    return path


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        frame_names(folder)
    assert str(error.value).startswith(f"{folder}: ")
    return str(error.value)


@pytest.mark.parametrize(
    "in_order",
    [
        ["00000.jpg", "00001.jpg", "00010.jpg"],
        [f"frame_{n}.png" for n in range(1, 13)],
        ["img9998.jpg", "img9999.jpg", "img10000.jpg"],  # %04d that overflows
        ["cam1_9.jpg", "cam1_10.jpg", "cam2_1.jpg", "cam10_1.jpg"],
        ["1.webp"],
        ["a.jpg", "b.jpg", "c.JPG"],
        ["frame_1.jpg", "frame_2.png", "frame_10.jpeg"],  # several formats, numbers are all that differs
        ["0.25.jpg", "0.50.jpg", "1.00.jpg"],
        ["intro.jpg", "shot_01.jpg", "shot_02.jpg"],
        ["clip.mp4.0001.png", "clip.mp4.0002.png"],
    ],
)
def test_frames_in_order(tmp_path: Path, in_order: list[str]) -> None:
    assert frame_names(folder_of(tmp_path, *reversed(in_order))) == in_order


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=30), st.integers(0, 7))
def test_numbers_of_any_width_are_in_numeric_order(
    tmp_path_factory: pytest.TempPathFactory, numbers: set[int], width: int
) -> None:
    folder = folder_of(tmp_path_factory.mktemp("frames"), *(f"frame-{n:0{width}d}.jpg" for n in numbers))
    assert frame_names(folder) == [f"frame-{n:0{width}d}.jpg" for n in sorted(numbers)]


def test_hidden_files_other_files_and_folders_are_no_frames(tmp_path: Path) -> None:
    folder_of(tmp_path, "0.jpg", "1.jpg", "._0.jpg", "._1.jpg", ".DS_Store", "Thumbs.db", "notes.txt", "preview.gif")
    (tmp_path / "2.jpg").mkdir()
    assert frame_names(tmp_path) == ["0.jpg", "1.jpg"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["00000.jpg", "00000.png"], "same name: 00000.jpg, 00000.png"),
        (["cat.jpg", "cat.png"], "same name: cat.jpg, cat.png"),
        (["0.jpg", "0.JPG"], "same name: 0.JPG, 0.jpg"),
        (["00000.jpg", "00000_mask.png"], "same number: 00000.jpg, 00000_mask.png"),
        (["00000.png", "00000_mask.png"], "same number: 00000.png, 00000_mask.png"),
        (["frame_3.png", "mask_03.png"], "same number: frame_3.png, mask_03.png"),
        (["01.jpg", "1.jpg"], "same number: 01.jpg, 1.jpg"),
    ],
)
def test_masks_beside_frames_and_frames_of_one_number_are_refused(tmp_path: Path, names: list[str], told: str) -> None:
    message = refused(folder_of(tmp_path, *names))
    assert told in message
    assert "move masks and other images that are not frames to another folder" in message


def test_several_formats_need_names_that_differ_by_numbers_alone(tmp_path: Path) -> None:
    message = refused(folder_of(tmp_path, "0.jpg", "1.jpg", "mask.png"))
    assert "several formats" in message
    assert "0.jpg, mask.png" in message


@pytest.mark.parametrize(
    ("names", "orders"),
    [
        (
            ["a1.jpg", "a2.jpg", "a10.jpg", "b3.jpg"],
            "a1.jpg, a10.jpg, a2.jpg, b3.jpg by characters, a1.jpg, a2.jpg, a10.jpg, b3.jpg by numbers",
        ),
        (["0.5.jpg", "0.25.jpg"], "0.25.jpg, 0.5.jpg by characters, 0.5.jpg, 0.25.jpg by numbers"),
        (["shot.jpg", "shot (2).jpg"], "shot (2).jpg, shot.jpg by characters, shot.jpg, shot (2).jpg by numbers"),
    ],
)
def test_an_unclear_order_is_refused_with_both(tmp_path: Path, names: list[str], orders: str) -> None:
    assert f"the order of its frames is unclear: {orders}; rename them" in refused(folder_of(tmp_path, *names))


def test_both_orders_are_shown_from_where_they_part(tmp_path: Path) -> None:
    names = [*(f"a{n:03d}.jpg" for n in range(500)), "b1000.jpg", "b999.jpg"]
    message = refused(folder_of(tmp_path, *names))
    assert "a499.jpg, b1000.jpg, b999.jpg by characters, a499.jpg, b999.jpg, b1000.jpg by numbers" in message


def test_a_frame_of_a_format_that_is_not_read_is_refused_and_a_mask_of_one_is_no_frame(tmp_path: Path) -> None:
    folder_of(tmp_path, "0.jpg", "1.jpg", "0.bmp")
    assert frame_names(tmp_path) == ["0.jpg", "1.jpg"]
    folder_of(tmp_path, "2.tif")
    assert "2.tif continues the frames (0.jpg, ...), and .tif files are not read; convert it" in refused(tmp_path)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], "has no frames (.jpg, .jpeg, .png, .webp); name the folder that holds the images"),
        ([".0.jpg"], "has no frames (.jpg, .jpeg, .png, .webp); name the folder that holds the images"),
        (["0.bmp", "1.bmp"], "it holds 0.bmp (.bmp: 2); convert the images to PNG"),
        (["0.TIF", "README"], "it holds 0.TIF (no suffix: 1, .tif: 1); convert the images to PNG"),
    ],
)
def test_a_folder_without_frames_says_what_it_holds(tmp_path: Path, names: list[str], told: str) -> None:
    assert told in refused(folder_of(tmp_path, *names))


def test_a_folder_of_folders_says_so(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    assert "it holds clip (folders: 1); name the folder that holds the images" in refused(tmp_path)


def test_frames_of_several_sizes_are_refused_by_the_first_frame(tmp_path: Path) -> None:
    Image.new("RGB", (9, 6)).save(tmp_path / "0.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (9, 6)).save(tmp_path / "1.jpg", exif=exif)
    video, rate = open_video(tmp_path)
    assert (video.height, video.width, len(video.frames), rate) == (6, 9, 2, 10.0)
    with pytest.raises(UserError) as error:
        video.frames[1]
    what = "frame is 9x6 (height x width), the first frame is 6x9; give frames of one size"
    assert str(error.value) == f"{tmp_path / '1.jpg'} (video {tmp_path.name}, frame 1): {what}"


def test_a_first_frame_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(UserError, match=r"0\.jpg: frame is missing; repair the file or remove it"):
        open_video(tmp_path)
    (tmp_path / "0.jpg").unlink()
    Image.new("RGB", (9, 6)).save(tmp_path / "0.jpg", format="BMP")
    with pytest.raises(UserError, match=r"0\.jpg: is a BMP image; JPEG, PNG and WEBP are read; convert it to PNG"):
        open_video(tmp_path)


def test_frames_are_turned_and_have_8_bits(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = np.arange(54, dtype=np.uint16).reshape(6, 9) * 1200
    Image.fromarray(wide).save(tmp_path / "0.png", exif=exif)
    video, _ = open_video(tmp_path)
    assert (video.height, video.width) == (9, 6)
    expected = np.rot90(wide >> 8, -1)[..., None].repeat(3, 2)
    np.testing.assert_array_equal(video.frames[0], expected)


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(UserError, match="cannot be listed: Permission denied; check its permissions"):
        frame_names(tmp_path)
