"""The generated dataset: exact truth, novel categories kept out of training, the same everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from harness.datasets.shapes import COLOURS, NAMES, NOVEL, PLUGIN, SHAPES, VIDEOS, document
from harness.errors import UserError
from harness.types import Dataset, Rle

SPLITS = ("train", "val")


def opened(split: str) -> Dataset:
    return PLUGIN.open(Path(), split)


def decoded(mask: Rle | None) -> np.ndarray:
    if mask is None:
        return np.zeros((96, 128), bool)
    return coco.decode({"size": list(mask.size), "counts": mask.counts}).astype(bool)


def names_in(split: str) -> set[str]:
    names = {c.id: c.name for c in opened(split).categories}
    return {names[t.category_id] for v in opened(split).videos for t in opened(split).truth.tracks_of(v.id)}


@pytest.mark.parametrize("split", SPLITS)
def test_the_truth_is_what_is_drawn(split: str) -> None:
    dataset = opened(split)
    colours = {c.id: COLOURS[c.name.split()[0]] for c in dataset.categories}
    for video in dataset.videos:
        tracks = dataset.truth.tracks_of(video.id)
        for frame_index, image in enumerate(video.read()):
            covered = np.zeros((video.height, video.width), int)
            for track in tracks:
                mask = decoded(track.masks[frame_index])
                covered += mask
                assert (image[mask] == colours[track.category_id]).all()
            assert covered.max() <= 1
            is_grey = (image[..., 0] == image[..., 1]) & (image[..., 1] == image[..., 2])
            np.testing.assert_array_equal(covered == 0, is_grey)


def test_areas_are_the_pixels_of_the_masks() -> None:
    for annotation in document("val")["annotations"]:
        masks = annotation["segmentations"]
        assert annotation["areas"] == [None if m is None else int(coco.area(m)) for m in masks]
        assert any(masks)


def test_every_category_occurs_and_novel_ones_only_in_val() -> None:
    assert len(NAMES) == len(COLOURS) * len(SHAPES)
    assert names_in("val") == set(NAMES)
    assert names_in("train") == set(NAMES) - set(NOVEL)
    groups = {c.name: c.groups for c in opened("val").categories}
    assert all(groups[n] == (("novel",) if n in NOVEL else ("base",)) for n in NAMES)


def test_novel_categories_are_new_pairs_of_known_parts() -> None:
    known = set(NAMES) - set(NOVEL)
    assert {word for name in known for word in name.split()} == {word for name in NAMES for word in name.split()}


def test_objects_cover_each_other_leave_and_return() -> None:
    dataset = opened("val")
    seen = [
        "".join("x" if m else "." for m in track.masks).strip(".")
        for video in dataset.videos
        for track in dataset.truth.tracks_of(video.id)
    ]
    assert sum("." in frames for frames in seen) >= 5


def test_videos_are_short_and_of_one_size() -> None:
    dataset = opened("val")
    assert len(dataset.videos) == VIDEOS
    assert {(v.height, v.width) for v in dataset.videos} == {(96, 128)}
    assert all(8 <= len(v.frames) <= 12 for v in dataset.videos)
    assert all(2 <= len(dataset.truth.tracks_of(v.id)) <= 5 for v in dataset.videos)
    with pytest.raises(IndexError):
        dataset.videos[0].frames[12]


def test_the_dataset_never_changes_unnoticed() -> None:
    """Numbers on it are compared over time: another digest needs another seed name and a new baseline."""
    assert opened("val").digest == "be59331be15e07d1c92c74fde25de23e03469c7ef74fa3fe9bfded1823ff7279"
    assert opened("train").digest != opened("val").digest


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UserError, match="known: train, val"):
        PLUGIN.open(Path(), "holdout")
    with pytest.raises(UserError, match="known: train, val"):
        PLUGIN.check(Path(), "holdout")


def test_its_check_is_always_complete() -> None:
    report = PLUGIN.check(Path())
    assert report.complete
    assert [s.found.videos for s in report.splits] == [VIDEOS, VIDEOS]
