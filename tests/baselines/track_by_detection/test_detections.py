"""Which objects of a frame are tracked, and what is known of them.

Tests of `baselines/track_by_detection/mask_iou.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from harness.baselines.track_by_detection.config import TrackingConfig
from harness.baselines.track_by_detection.detections import (
    Detections,
    SegmentedFrame,
    boxes_of,
    detections,
    mask_iou,
    without_duplicates,
)
from harness.models.shared.preprocess import Geometry

SIZES = Geometry((60, 100), (24, 40), (32, 64))
"""A video of 100x60 pixels that goes through the network at 40x24, padded to 64x32: 10x6 cells of 10x10 pixels."""


def frame(masks: list[tuple[int, int, int, int]], scores: list[list[float]]) -> SegmentedFrame:
    """Rectangles of cells (top, left, bottom, right)."""
    logits = torch.full((len(masks), 8, 16), -3.0)
    for i, (top, left, bottom, right) in enumerate(masks):
        logits[i, top:bottom, left:right] = 2.0
    looks = torch.arange(1.0, 1 + 3 * len(masks)).view(len(masks), 3)
    return SegmentedFrame(torch.tensor(scores), logits, looks)


def chosen(given_: SegmentedFrame, **settings: object) -> Detections:
    return detections(given_, SIZES, TrackingConfig(**settings))


def test_the_best_come_first_with_their_boxes_and_unit_embeddings() -> None:
    found = chosen(frame([(0, 0, 2, 2), (1, 3, 6, 10), (2, 0, 6, 1)], [[0.2, 0.3], [0.9, 0.1], [0.05, 0.09]]))
    assert found.class_scores.tolist() == pytest.approx(np.array([[0.9, 0.1], [0.2, 0.3]]))
    assert found.boxes.tolist() == [[30, 10, 100, 60], [0, 0, 20, 20]]
    assert found.masks.sum(1).tolist() == [35, 4]
    assert found.embeddings.norm(dim=1).tolist() == pytest.approx([1, 1])
    assert found.embeddings[1] @ torch.tensor([1.0, 2, 3]) == pytest.approx(14**0.5)


def test_what_lies_in_the_padding_alone_is_no_object() -> None:
    found = chosen(frame([(6, 0, 8, 16), (0, 10, 8, 16), (5, 9, 8, 16)], [[0.9], [0.8], [0.7]]), score_threshold=0)
    assert found.class_scores.tolist() == [[pytest.approx(0.7)]]
    assert found.boxes.tolist() == [[90, 50, 100, 60]]


def test_limits() -> None:
    many = frame([(0, i, 6, i + 1) for i in range(5)], [[0.1 * (i + 1)] for i in range(5)])
    assert len(chosen(many, score_threshold=0.25)) == 3
    assert chosen(many, detections_per_frame=2).class_scores[:, 0].tolist() == pytest.approx([0.5, 0.4])
    nothing = chosen(SegmentedFrame(torch.zeros(0, 2), torch.zeros(0, 8, 16), torch.zeros(0, 3)))
    assert len(nothing) == 0
    assert nothing.boxes.shape == (0, 4)


def test_duplicates_of_better_ones_are_left_out() -> None:
    """The second overlaps the first by 5/6; the third the second by 4/5, the first by 4/6."""
    three = frame([(0, 0, 6, 4), (0, 0, 5, 4), (0, 0, 4, 4)], [[0.9], [0.8], [0.7]])
    assert len(chosen(three, duplicate_iou=0.7)) == 2  # the second is gone and removes none
    assert len(chosen(three, duplicate_iou=0.6)) == 1
    assert len(chosen(three, duplicate_iou=1)) == 3


@given(st.integers(0, 2**32 - 1))
def test_overlaps_are_those_of_pycocotools(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = (random.random((int(random.integers(1, 6)), 9, 7)) < random.random() for _ in range(2))
    own = mask_iou(*(torch.from_numpy(m).flatten(1) for m in (a, b)))
    encoded = [coco.encode(np.asfortranarray(m.transpose(1, 2, 0), np.uint8)) for m in (a, b)]
    theirs = coco.iou(encoded[0], encoded[1], [False] * len(b))
    np.testing.assert_allclose(own, theirs, atol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_boxes_hold_their_masks(seed: int) -> None:
    random = np.random.default_rng(seed)
    masks = random.random((4, 6, 10)) < 0.1
    masks[:, 3, 4] = True
    for mask, box in zip(masks, boxes_of(torch.from_numpy(masks), SIZES), strict=True):
        rows, columns = np.nonzero(mask)
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box.tolist() == [10 * int(edge) for edge in edges]


def test_the_kept_do_not_overlap() -> None:
    overlap = np.array([[1, 0.6, 0.0, 0.0], [0.6, 1, 0.9, 0.0], [0, 0.9, 1, 0.5], [0, 0, 0.5, 1]])
    assert without_duplicates(overlap, 0.5).tolist() == [0, 2, 3]
    assert without_duplicates(overlap, 0.4).tolist() == [0, 2]
    assert without_duplicates(np.zeros((0, 0)), 0.4).tolist() == []
