"""Label Studio: boxes on a video, polygons and brush masks on frames."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from track_sets import HEIGHT, WIDTH, label_studio_images, shapes

from harness.convert.label_studio import read_label_studio
from harness.convert.tracks import decoded
from harness.errors import UserError


def test_label_studio_boxes_on_a_video(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    for number in range(6):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"clip/{number}.jpg")
    here = {"x": 0, "y": 0, "width": 20, "height": 50, "rotation": 0}
    sequence = [
        {"frame": 1, "enabled": True, **here},
        {"frame": 3, "enabled": False, **here, "x": 40},
        {"frame": 5, "enabled": True, **here},
    ]
    value = {"framesCount": 6, "sequence": sequence, "labels": ["cat"]}
    result = {"id": "a", "type": "videorectangle", "from_name": "box", "value": value}
    task = {"id": 1, "data": {"video": "/data/upload/1/clip.mp4"}, "annotations": [{"result": [result]}]}
    (tmp_path / "ls.json").write_text(json.dumps([task]))
    tracks = read_label_studio(tmp_path / "ls.json", tmp_path)
    assert shapes(tracks) == [("clip", "cat", [60, 60, 60, None, 60, 60])]
    left = [None if m is None else int(np.nonzero(decoded(m))[1].min()) for m in tracks.videos[0].tracks[0].masks]
    assert left == [0, 6, 12, None, 0, 0]
    with pytest.raises(UserError, match="does not state the size of its video; name the folder of its frames"):
        read_label_studio(tmp_path / "ls.json")


def test_label_studio_polygons_on_frames(tmp_path: Path) -> None:
    file = tmp_path / "ls.json"
    file.write_text(json.dumps(label_studio_images(tracks=True)))
    tracks = read_label_studio(file)
    assert shapes(tracks) == [("v1", "cat", [60, 60]), ("v1", "cat", [60, 60])]
    assert tracks.videos[0].file_names == ("v1/0.jpg", "v1/1.jpg")
    file.write_text(json.dumps(label_studio_images(tracks=False)))
    with pytest.raises(UserError, match="is the second of label cat in one frame; give each region a number or text"):
        read_label_studio(file)


def test_label_studios_brush_needs_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "ls.json"
    file.write_text(json.dumps(label_studio_images(tracks=True, kind="brushlabels")))
    monkeypatch.setitem(sys.modules, "label_studio_sdk", None)
    with pytest.raises(UserError, match=r"needs a package that is not installed .*ovvis-harness\[label-studio\]"):
        read_label_studio(file)
    unpacked = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    unpacked[3:5, :, 3] = 255
    brush = types.ModuleType("label_studio_sdk.converter.brush")
    brush.decode_rle = lambda runs: unpacked.ravel()  # type: ignore[attr-defined]
    for name in ("label_studio_sdk", "label_studio_sdk.converter"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, brush.__name__, brush)
    assert shapes(read_label_studio(file)) == [("v1", "cat", [60, 60]), ("v1", "cat", [60, 60])]
