"""Palette masks, as DAVIS and YouTube-VOS have them: what is read, what is refused, which object is on top."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_copies import write_frames
from PIL import Image
from track_sets import HEIGHT, WIDTH, command, shapes, two_on_top

from harness.convert.palette import read_palette, write_palette
from harness.errors import UserError


def test_davis_like_masks(tmp_path: Path) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[2:6, 3:9], values[10:12, 1:4], values[0] = 1, 3, 255
    for name, frames in (("bear", ("00000", "00005")), ("deep/clip", ("frame_2", "frame_10"))):
        (tmp_path / "Annotations" / name).mkdir(parents=True)
        for index, frame in enumerate(frames):
            image = Image.fromarray(np.where(values == 3, 3 * (index == 0), values).astype(np.uint8), "P")
            image.putpalette([0, 0, 0, 128, 0, 0] + 254 * [9, 9, 9])
            image.save(tmp_path / "Annotations" / name / f"{frame}.png")
    meta = {"videos": {"bear": {"objects": {"1": {"category": "bear"}, "3": {"category": "cub"}}}}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    tracks = read_palette(tmp_path / "Annotations")
    assert shapes(tracks) == [
        ("bear", "bear", [24, 24]),
        ("bear", "cub", [6, None]),
        ("deep/clip", "object", [24, 24]),
        ("deep/clip", "object", [6, None]),
    ]
    assert tracks.videos[0].file_names == ("bear/00000.jpg", "bear/00005.jpg")
    assert tracks.videos[1].file_names == ("deep/clip/frame_2.jpg", "deep/clip/frame_10.jpg")
    assert [w["count"] for w in tracks.warnings.record()] == [4]  # frames with void pixels
    strict = command(tmp_path / "Annotations", "--from", "masks", "--out", tmp_path / "o.json", "--strict")
    assert "void" in str(strict.exception)


def test_masks_of_one_object_are_0_and_255(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[:4] = 255
    Image.fromarray(values).save(tmp_path / "v/0.png")
    Image.fromarray(values > 0).save(tmp_path / "v/1.png")
    assert shapes(read_palette(tmp_path)) == [("v", "object", [120, 120])]


def test_frames_are_those_with_masks(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames")
    (tmp_path / "masks/v1").mkdir(parents=True)
    Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "masks/v1/1.png")
    assert read_palette(tmp_path / "masks", tmp_path / "frames").videos[0].file_names == ("v1/1.jpg",)
    (tmp_path / "masks/v1/1.png").rename(tmp_path / "masks/v1/7.png")
    with pytest.raises(UserError, match="1 of 1 masks have no frame"):
        read_palette(tmp_path / "masks", tmp_path / "frames")


def test_masks_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        read_palette(tmp_path / "no")
    with pytest.raises(UserError, match="holds no PNG masks"):
        read_palette(tmp_path)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "0.png")
    with pytest.raises(UserError, match="has RGB pixels, not numbers of objects"):
        read_palette(tmp_path)
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "0.png")
    Image.new("L", (WIDTH, HEIGHT + 1)).save(tmp_path / "1.png")
    with pytest.raises(UserError, match="is 21x30, the first mask is 20x30"):
        read_palette(tmp_path)


def test_palette_masks_show_the_higher_score(tmp_path: Path) -> None:
    assert write_palette(two_on_top((0.9, 0.2)), tmp_path) == ["1 masks overlap others, which lose those pixels"]
    with Image.open(tmp_path / "a/b/0.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]  # type: ignore[index]
        assert np.asarray(image)[0, :6].tolist() == [1, 1, 1, 2, 2, 0]
