"""Files in COCO-video form: what is read as what it stands for, and one line per refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.formats.coco_video import read_coco_video, read_detections

GOLDEN = Path(__file__).parents[1] / "data" / "teta" / "tao_federated"


@pytest.fixture
def truth() -> Any:
    return json.loads((GOLDEN / "gt.json").read_text())


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], Any]:
    def written(document: Any) -> Any:
        (tmp_path / "gt.json").write_text(json.dumps(document))
        return read_coco_video(tmp_path / "gt.json")

    return written


def test_ids_as_text_and_decimals(truth: Any, read: Callable[[Any], Any]) -> None:
    given = read(truth)
    for one in truth["annotations"]:
        one["image_id"], one["category_id"], one["track_id"] = (
            str(one["image_id"]),
            1.0 * one["category_id"],
            str(one["track_id"]),
        )
    for image in truth["images"]:
        image["id"], image["frame_index"] = str(image["id"]), 1.0 * image["frame_index"]
    found = read(truth)
    assert found.images == given.images
    assert [(a.image_id, a.category_id, a.track) for a in found.annotations] == [
        (a.image_id, a.category_id, a.track) for a in given.annotations
    ]


def test_tracks_by_another_name(truth: Any, read: Callable[[Any], Any]) -> None:
    tracks = [one["track_id"] for one in truth["annotations"]]
    for one in truth["annotations"]:
        one["instance_id"] = one.pop("track_id")
    assert [one.track for one in read(truth).annotations] == tracks


def test_other_forms_are_none_of_it(tmp_path: Path) -> None:
    for document in ({"videos": [], "categories": [], "annotations": []}, [], {"images": [], "annotations": []}):
        (tmp_path / "gt.json").write_text(json.dumps(document))
        assert read_coco_video(tmp_path / "gt.json") is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["images"][3].update(video_id=77), "image 4: unknown video 77"),
        (lambda t: t["images"][3].update(id=1), "image id 1 occurs more than once"),
        (lambda t: t["annotations"][2].update(image_id=999), r"annotations\[2\]: unknown image 999"),
        (lambda t: t["annotations"][2].update(video_id=4), r"annotations\[2\]: is of video 4, its image"),
        (lambda t: t["annotations"][2].pop("track_id"), r"annotations\[2\]: has no track_id"),
        (lambda t: t["annotations"][2].update(bbox=[1, 2]), r"annotations\[2\]"),
        (lambda t: t["categories"][0].pop("name"), r"categories\[0\]"),
    ],
)
def test_faults_are_named(change: Callable[[Any], Any], said: str, truth: Any, read: Callable[[Any], Any]) -> None:
    change(truth)
    with pytest.raises(UserError, match=said):
        read(truth)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"video_id": 1, "segmentations": []}, "record 1: is a track in YouTube-VIS form"),
        ({"image_id": 1}, "record 1: object missing required field `category_id`"),
        ({"image_id": 1, "category_id": 1, "bbox": "x"}, "record 1"),
    ],
)
def test_faulty_results_are_named(record: Any, said: str, tmp_path: Path) -> None:
    good = json.loads((GOLDEN / "predictions.json").read_text())[0]
    (tmp_path / "r.json").write_text(json.dumps([good, record]))
    with pytest.raises(UserError, match=said):
        list(read_detections(tmp_path / "r.json"))
