"""The generated dataset: exact truth, novel categories kept out of training, hard in every way it means to be.

Tests of `datasets/shapes_captions.py`, `datasets/shapes_pictures.py` and `datasets/shapes_scenes.py`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from harness.datasets.shapes import PLUGIN, document
from harness.datasets.shapes_captions import pair
from harness.datasets.shapes_scenes import FORMS, LOOKS, NAMES, NOVEL, VIDEOS, Pose, filled, scenes
from harness.errors import UserError
from harness.masks import Rle
from harness.types import Dataset

SPLITS = ("train", "val", "test")


def opened(split: str) -> Dataset:
    return PLUGIN.open(Path(), split)


def decoded(mask: Rle | None) -> np.ndarray:
    if mask is None:
        return np.zeros((192, 256), bool)
    return coco.decode({"size": list(mask.size), "counts": mask.counts}).astype(bool)


def names_in(split: str) -> set[str]:
    names = {c.id: c.name for c in opened(split).categories}
    return {names[t.category_id] for v in opened(split).videos for t in opened(split).truth.tracks_of(v.id)}


@pytest.mark.parametrize("split", ["val", "test"])
def test_masks_of_one_frame_do_not_overlap(split: str) -> None:
    dataset = opened(split)
    for video in dataset.videos:
        for masks in zip(*(t.masks for t in dataset.truth.tracks_of(video.id)), strict=True):
            assert sum(decoded(mask).astype(int) for mask in masks).max() <= 1


def test_objects_are_where_the_truth_says() -> None:
    """The colour inside of a mask differs from the colour around it in nearly every frame."""
    dataset, differs = opened("val"), []
    for video in dataset.videos[:12]:
        for frame_index, image in enumerate(video.read()):
            for track in dataset.truth.tracks_of(video.id):
                mask = decoded(track.masks[frame_index])
                if mask.sum() > 200:
                    inside, around = image[mask].astype(float), image[~mask].astype(float)
                    spread = np.abs(inside.mean(0) - around.mean(0)).max() + inside.std(0).max() - around.std(0).min()
                    differs.append(spread > 25)
    assert np.mean(differs) > 0.95


def test_areas_are_the_pixels_of_the_masks() -> None:
    for annotation in document("val")["annotations"]:
        masks = annotation["segmentations"]
        assert annotation["areas"] == [None if m is None else int(coco.area(m)) for m in masks]
        assert any(masks)


def test_every_category_occurs_and_novel_ones_only_in_val() -> None:
    assert len(NAMES) == len(LOOKS) * len(FORMS) == 54
    assert names_in("val") == set(NAMES)
    assert names_in("train") == set(NAMES) - set(NOVEL)
    groups = {c.name: c.groups for c in opened("val").categories}
    assert all(groups[n] == (("novel",) if n in NOVEL else ("base",)) for n in NAMES)


def test_novel_categories_are_new_pairs_of_known_parts() -> None:
    known = set(NAMES) - set(NOVEL)
    assert {word for name in known for word in name.split()} == {word for name in NAMES for word in name.split()}


def test_every_word_is_known_from_several_base_categories() -> None:
    base = [name.split() for name in NAMES if name not in NOVEL]
    assert min(Counter(look for look, _ in base).values()) >= 4
    assert min(Counter(form for _, form in base).values()) >= 6


def test_objects_cover_each_other_leave_and_return() -> None:
    dataset = opened("val")
    tracks = [t for video in dataset.videos for t in dataset.truth.tracks_of(video.id)]
    seen = ["".join("x" if m else "." for m in track.masks) for track in tracks]
    assert sum("." in frames.strip(".") for frames in seen) >= 5
    assert sum("." in frames for frames in seen) >= 12
    covered = 0
    for scene in scenes("val"):
        whole = [filled(b.name.split()[1], b.pose(4), 192, 256).sum() for b in scene.bodies]
        left = [mask.sum() for mask in scene.visible(4)]
        covered += sum(0 < part < 0.8 * all_ for part, all_ in zip(left, whole, strict=True))
    assert covered >= 20


def test_objects_look_alike() -> None:
    twins = sum(len({b.name for b in scene.bodies}) < len(scene.bodies) for scene in scenes("val"))
    assert twins >= 8


def test_categories_have_a_long_tail() -> None:
    counts = sorted(Counter(b.name for scene in scenes("train") for b in scene.bodies).values(), reverse=True)
    assert len(counts) == len(NAMES) - len(NOVEL)
    assert counts[0] > 5 * counts[-1]
    assert counts[-1] >= 10


def test_videos_are_short_and_of_one_size() -> None:
    dataset = opened("val")
    assert len(dataset.videos) == VIDEOS["val"]
    assert {(v.height, v.width) for v in dataset.videos} == {(192, 256)}
    assert all(8 <= len(v.frames) <= 12 for v in dataset.videos)
    assert all(1 <= len(dataset.truth.tracks_of(v.id)) <= 5 for v in dataset.videos)
    first = dataset.videos[0].frames
    assert np.array_equal(first[0], first[0])
    assert not np.array_equal(first[0], first[1])
    with pytest.raises(IndexError):
        first[12]


def test_splits_show_other_videos() -> None:
    drawn = {split: opened(split).videos[0].frames[0] for split in SPLITS}
    assert not np.array_equal(drawn["val"], drawn["test"])
    assert not np.array_equal(drawn["val"], drawn["train"])


@pytest.mark.parametrize("form", FORMS)
def test_forms_keep_their_size_when_they_turn(form: str) -> None:
    areas = [filled(form, Pose(100.3, 90.7, 40.0, angle), 192, 256).sum() for angle in np.linspace(0, 6, 13)]
    assert max(areas) < 1.02 * min(areas)
    assert not filled(form, Pose(-100, 50, 40, 0), 192, 256).any()


def test_captions_name_what_is_shown() -> None:
    pairs = [pair(3, index) for index in range(60)]
    assert {image.shape for image, _ in pairs} == {(96, 96, 3)}
    captions = [caption for _, caption in pairs]
    assert all(any(name in caption for name in NAMES) for caption in captions)
    assert any(" and a " in caption for caption in captions)
    assert any(name in caption for caption in captions for name in NOVEL)
    again, caption = pair(3, 7)
    assert np.array_equal(again, pairs[7][0])
    assert caption == captions[7]
    assert pair(3, 7, 64)[0].shape == (64, 64, 3)


def test_the_dataset_never_changes_unnoticed() -> None:
    """Numbers on it are compared over time: another digest needs another seed name and a new baseline."""
    assert opened("val").digest == "02002166d922ce9c13167674a18374ce28e1a65d2cd03de3198e7e607fba4728"
    assert opened("train").digest != opened("val").digest


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UserError, match="known: test, train, val"):
        PLUGIN.open(Path(), "holdout")
    with pytest.raises(UserError, match="known: test, train, val"):
        PLUGIN.check(Path(), "holdout")


def test_its_check_is_always_complete() -> None:
    report = PLUGIN.check(Path())
    assert report.complete
    assert [s.found.videos for s in report.splits] == list(VIDEOS.values())
