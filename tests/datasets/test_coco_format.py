"""LVIS and COCO: where their files may lie, what is said of a copy, and that they are there to train on.

Tests of `datasets/coco.py` and `datasets/lvis.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from instance_documents import document, write_images

from harness import plugins
from harness.datasets.coco import PLUGIN as COCO
from harness.datasets.coco_format import ImageDataset
from harness.datasets.lvis import PLUGIN as LVIS
from harness.errors import UserError

LVIS_FILE, COCO_FILE = "lvis/lvis_v1_train.json", "coco/annotations/instances_train2017.json"


def write(root: Path, file: str, images: str = "coco/train2017", names: str = "coco_url") -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(names)))
    write_images(root / images)


@pytest.mark.parametrize("images", ["coco/train2017", "coco/images/train2017", "lvis/train2017", "train2017"])
@pytest.mark.parametrize("file", [LVIS_FILE, "lvis/annotations/lvis_v1_train.json", "lvis_v1_train.json"])
def test_lvis_is_found_and_has_no_rare_objects(tmp_path: Path, file: str, images: str) -> None:
    write(tmp_path, file, images)
    found = LVIS.training_set(tmp_path, "train")
    assert (found.name, len(found), len(found.categories)) == ("lvis", 2, 3)
    assert found.root / found.names[0] == tmp_path / images / "000000000010.jpg"


@pytest.mark.parametrize("root", ["", "coco"])
def test_coco_has_all_categories_but_no_crowds(tmp_path: Path, root: str) -> None:
    write(tmp_path, COCO_FILE, names="file_name")
    found = COCO.training_set(tmp_path / root, "train")
    assert [image.id for image in found.images] == [10, 20, 40]


def test_missing_files_are_told_with_what_is_expected_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        LVIS.training_set(tmp_path, "train")
    for words in ("no annotations of the train split", str(tmp_path / LVIS_FILE), "coco/train2017/", LVIS.home):
        assert words in str(error.value)
    write(tmp_path, LVIS_FILE, "elsewhere")
    with pytest.raises(UserError, match=r"no images of the train split.*cocodataset\.org"):
        LVIS.training_set(tmp_path, "train")
    write(tmp_path, LVIS_FILE)
    (tmp_path / "coco/train2017/000000000040.jpg").unlink()  # shows a rare object only
    assert len(LVIS.training_set(tmp_path, "train")) == 2
    (tmp_path / "coco/train2017/000000000020.jpg").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of the files .* first: train2017/000000000020\.jpg; get them from"):
        LVIS.training_set(tmp_path, "train")


@pytest.mark.parametrize("plugin", [LVIS, COCO])
def test_they_are_plugins_without_videos(tmp_path: Path, plugin: ImageDataset) -> None:
    assert plugins.dataset(plugin.name) is plugin
    assert plugin.default_split in plugin.splits
    with pytest.raises(UserError, match=f"images to train on, without videos; .*--dataset {plugin.name}"):
        plugin.open(tmp_path, "train")
    with pytest.raises(UserError, match='did you mean "train"'):
        plugin.training_set(tmp_path, "trein")


def test_check_compares_a_copy_with_the_official_one(tmp_path: Path) -> None:
    write(tmp_path, COCO_FILE, names="file_name")
    folder = tmp_path / "coco/train2017"
    (folder / "000000000050.jpg").unlink()
    (folder / "000000000040.jpg").write_bytes((folder / "000000000040.jpg").read_bytes()[:200])
    train, val = COCO.check(tmp_path).to_dict()["splits"]
    assert train["found"] == {"images": 5, "objects": 6, "categories": 3}
    assert train["expected"] == {"images": 118_287, "objects": 860_001, "categories": 80}
    assert train["missing_frames"] == {"count": 1, "first": ["train2017/000000000050.jpg"]}
    assert train["truncated_frames"] == {"count": 1, "first": ["train2017/000000000040.jpg"]}
    assert "5 images, 118287 expected" in train["faults"]
    assert train["notes"] == ["1 crowds, which are not trained on"]
    assert (val["complete"], val["annotations"]) == (False, None)
    assert "no annotation file" in val["faults"][0]


def test_check_tells_a_malformed_file_as_a_fault(tmp_path: Path) -> None:
    write(tmp_path, LVIS_FILE)
    (tmp_path / LVIS_FILE).write_text("{")
    report = LVIS.check(tmp_path, "train")
    assert not report.complete
    assert "truncated JSON" in report.splits[0].faults[0]
