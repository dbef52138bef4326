"""COCO files of frames: which images are a video, which records a track, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from track_sets import HEIGHT, WIDTH, shapes
from vis_documents import box

from harness.convert.coco_frames import read_coco
from harness.errors import UserError


def test_coco_without_videos_goes_by_folders_and_numbers(tmp_path: Path) -> None:
    size = {"height": HEIGHT, "width": WIDTH}
    images = [{"id": n, "file_name": f"{v}/f{n}.jpg", **size} for n, v in ((10, "b"), (9, "b"), (1, "a"))]
    square = [[1, 1, 5, 1, 5, 5, 1, 5]]
    annotations = [
        {"id": 1, "image_id": 9, "category_id": 4, "segmentation": square, "attributes": {"track_id": "x"}},
        {"id": 2, "image_id": 10, "category_id": 4, "bbox": [0, 0, 3, 2], "attributes": {"track_id": "x"}},
        {"id": 3, "image_id": 1, "category_id": 4, "segmentation": box(HEIGHT, WIDTH, 0, 0, 2, 2), "track_id": 1},
    ]
    made = {"images": images, "annotations": annotations, "categories": [{"id": 4, "name": "cat"}]}
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(made))
    tracks = read_coco(file)
    assert shapes(tracks) == [("a", "cat", [4]), ("b", "cat", [16, 6])]
    assert tracks.videos[1].file_names == ("b/f9.jpg", "b/f10.jpg")
    for change, words in (
        ({"attributes": {}}, "annotations[0]: has no track id; write one of instance_id, track_id"),
        ({"image_id": 10}, "track x occurs twice in one image"),
        ({"image_id": 77}, "unknown image 77"),
        ({"category_id": 1}, "unknown category 1"),
        ({"segmentation": {"size": [3, 3], "counts": "x"}}, "its mask is of size [3, 3], its image 20x30"),
        ({"segmentation": {"size": [20, 30], "counts": "x"}}, "annotations[0]: "),
        ({"segmentation": {"size": [20, 30], "counts": [1, 2]}}, "its counts do not fill the image"),
        ({"segmentation": []}, "has neither segmentation nor bbox"),
    ):
        file.write_text(json.dumps(made | {"annotations": [annotations[0] | change, *annotations[1:]]}))
        with pytest.raises(UserError) as error:
            read_coco(file)
        assert words in str(error.value)
