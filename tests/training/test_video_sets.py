"""Videos as a training set: one frame of a video per draw, with what is visible in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from harness.datasets.shapes import PLUGIN
from harness.datasets.shapes_scenes import NAMES, NOVEL, VIDEOS
from harness.errors import UserError
from harness.training.video_sets import VideoFrames


def test_a_draw_is_a_frame_with_its_visible_objects() -> None:
    dataset = PLUGIN.open(Path(), "val")
    frames = VideoFrames(dataset)
    video = dataset.videos[4]
    drawn = frames.draw(4, np.random.default_rng(2))
    index = int(np.random.default_rng(2).integers(len(video.frames)))
    assert drawn.name == f"video {video.id} ({video.name}), frame {index}"
    assert np.array_equal(drawn.image, video.frames[index])
    visible = [t for t in dataset.truth.tracks_of(video.id) if t.masks[index] is not None]
    assert len(drawn.instances) == len(visible)
    for instance, track in zip(drawn.instances, visible, strict=True):
        assert frames.categories[instance.category].id == track.category_id
        rle = track.masks[index]
        assert instance.outline.sum() == coco.area({"size": list(rle.size), "counts": rle.counts})


def test_all_frames_are_drawn_in_time() -> None:
    frames = VideoFrames(PLUGIN.open(Path(), "val"))
    random = np.random.default_rng(0)
    seen = {frames.draw(0, random).name for _ in range(80)}
    assert len(seen) == len(frames.dataset.videos[0].frames)


def test_shapes_shows_no_novel_object_in_training() -> None:
    frames = PLUGIN.training_set(Path(), "train")
    assert len(frames) == VIDEOS["train"]
    shown = {NAMES[category] for item in range(len(frames)) for category in frames.categories_of(item)}
    assert shown == set(NAMES) - set(NOVEL)


def test_videos_without_truth_cannot_be_trained_on() -> None:
    dataset = PLUGIN.open(Path(), "test")
    hidden = replace(dataset, annotations=replace(dataset.annotations, truth=None))
    with pytest.raises(UserError, match="its truth is withheld"):
        VideoFrames(hidden)


def test_masks_of_another_size_than_their_frame_are_refused() -> None:
    dataset = PLUGIN.open(Path(), "val")
    table = dataset.truth.masks
    truth = replace(dataset.truth, masks=replace(table, height=table.width, width=table.height))
    turned = VideoFrames(replace(dataset, annotations=replace(dataset.annotations, truth=truth)))
    with pytest.raises(UserError, match=r"annotation \d+, frame \d+: its mask is 256x192"):
        turned.draw(0, np.random.default_rng(0))


def test_malformed_masks_are_named() -> None:
    dataset = PLUGIN.open(Path(), "val")
    table = dataset.truth.masks
    truth = replace(dataset.truth, masks=replace(table, stop=np.maximum(table.start + 1, table.stop - 2)))
    cut = VideoFrames(replace(dataset, annotations=replace(dataset.annotations, truth=truth)))
    with pytest.raises(UserError, match=r"annotation \d+, frame \d+: counts"):
        cut.draw(0, np.random.default_rng(0))
