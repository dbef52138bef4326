"""BURST is read in its own form: sequences, categories by LVIS numbers, groups by frequency and split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_copies import HEIGHT, WIDTH
from PIL import Image
from vis_documents import box

from harness.datasets.burst import PLUGIN

LISTED = [
    {"id": 4, "name": "airplane", "frequency": "f"},  # 4 is on the challenge's common list, the others are not
    {"id": 16, "name": "apricot", "frequency": "r"},
    {"id": 17, "name": "apron", "frequency": "c"},
]


def sequence(number: int, category_id: int) -> dict[str, Any]:
    paths = [f"frame{30 * f:04d}.jpg" for f in (1, 2)]
    seen = {"rle": box(HEIGHT, WIDTH, 1, 1, 9, 9)["counts"], "is_gt": True}
    return {
        "id": number, "dataset": "AVA", "seq_name": f"seq_{number}", "width": WIDTH, "height": HEIGHT, "fps": 30,
        "all_image_paths": [*paths, "frame0090.jpg"], "annotated_image_paths": paths,
        "neg_category_ids": [], "not_exhaustive_category_ids": [],
        "track_category_ids": {"1": category_id}, "segmentations": [{"1": seen}, {}],
    }  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    document = {"split": "val", "categories": LISTED, "sequences": [sequence(10, 4), sequence(11, 16)]}
    path = tmp_path / "burst/annotations/val/all_classes.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document))
    for number in (10, 11):
        folder = tmp_path / f"burst/frames/val/AVA/seq_{number}"
        folder.mkdir(parents=True)
        for f in (1, 2):
            Image.fromarray(np.full((HEIGHT, WIDTH, 3), number + f, np.uint8)).save(folder / f"frame{30 * f:04d}.jpg")
    return tmp_path


def test_it_opens_with_truth_groups_and_annotated_frames(root: Path) -> None:
    dataset = PLUGIN.open(root, "val")
    assert [(c.id, c.name, c.groups) for c in dataset.categories] == [
        (1, "airplane", ("base", "common")),
        (2, "apricot", ("novel", "uncommon")),
        (3, "apron", ("base", "uncommon")),
    ]
    assert [v.id for v in dataset.videos] == [10, 11]
    assert [int(image[0, 0, 0]) for image in dataset.videos[1].read()] == [12, 13]
    assert dataset.truth is not None
    assert [[m is not None for m in t.masks] for t in dataset.truth.tracks_of(10)] == [[True, False]]


def test_its_check_counts_and_notes_that_categories_are_the_files_own(root: Path) -> None:
    report = PLUGIN.check(root, "val").splits[0]
    assert (report.found.videos, report.found.frames, report.found.tracks) == (2, 4, 2)
    assert report.missing_frames.count == 0
    assert report.notes[0] == "the released file has 988 videos, the paper states 993"
    assert "category list differs" in report.notes[1]
    assert "2 videos, 988 expected" in report.shortfall
