"""Data of a user's own, by the names of its files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_copies import write_frames
from PIL import Image
from vis_documents import document

from harness.datasets.youtube_vis_format import open_custom
from harness.errors import UserError


def test_own_data_opens_by_files(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(document()))
    write_frames(tmp_path / "frames")
    dataset = open_custom(tmp_path / "mine.json", tmp_path / "frames", "lvvis")
    assert (dataset.name, dataset.split, dataset.protocol) == ("mine", "custom", "lvvis")
    assert [c.groups for c in dataset.categories] == [("base",), ("novel",)]
    assert [int(frame[0, 0, 0]) for video in dataset.videos for frame in video.read()] == [40, 41, 80, 81]


def test_frames_of_own_data_are_turned_and_have_8_bits(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(document()))
    write_frames(tmp_path / "frames")
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.arange(600, dtype=np.uint16).reshape(30, 20) * 109
    Image.fromarray(deep).save(tmp_path / "frames/v1/1.jpg", format="PNG", exif=exif)
    frame = open_custom(tmp_path / "mine.json", tmp_path / "frames", "lvvis").videos[0].frames[1]
    np.testing.assert_array_equal(frame, np.rot90(deep >> 8, -1)[..., None].repeat(3, 2))


def test_own_data_may_have_lvvis_file_names(tmp_path: Path) -> None:
    text = json.dumps(document()).replace('"v1/', r'"data\\JPEGImages\\v1/')
    (tmp_path / "mine.json").write_text(text)
    write_frames(tmp_path / "frames")
    dataset = open_custom(tmp_path / "mine.json", tmp_path / "frames", "ytvis")
    assert dataset.videos[0].frames[0].shape == (20, 30, 3)


def test_own_data_is_refused_in_words(tmp_path: Path) -> None:
    own = document()
    own["categories"] = [{"id": c["id"], "name": c["name"]} for c in own["categories"]]
    (tmp_path / "mine.json").write_text(json.dumps(own))
    with pytest.raises(UserError, match="is not a folder"):
        open_custom(tmp_path / "mine.json", tmp_path / "frames", "ytvis")
    with pytest.raises(UserError, match="lvvis"):
        open_custom(tmp_path / "mine.json", tmp_path, "lvviz")
    for protocol in ("ytvis", "lvvis"):  # without a partition they are in no group
        assert [c.groups for c in open_custom(tmp_path / "mine.json", tmp_path, protocol).categories] == [(), ()]
