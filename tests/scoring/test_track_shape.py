"""How steady tracks are and where their boxes lie, beside pycocotools and plain pixels."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from analysis_scenes import CAT, DOG, HEIGHT, WIDTH, Box, Thing, annotated
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco
from vis_documents import rle

from harness.formats.youtube_vis import annotations_from_document
from harness.rle import MaskTable
from harness.scoring.overlap import GroundTruthArrays
from harness.scoring.slices import density
from harness.scoring.track_shape import UNKNOWN, boxes, consistency

SIZE = (5, 7)


def table(tracks: list[list[np.ndarray | None]]) -> MaskTable:
    """Masks of tracks as annotations hold them."""
    frames, (height, width) = len(tracks[0]), SIZE
    video = {"id": 1, "height": height, "width": width, "length": frames, "file_names": ["x.jpg"] * frames}
    records = [
        {"id": i, "video_id": 1, "category_id": 1, "segmentations": [None if m is None else rle(m) for m in track]}
        for i, track in enumerate(tracks, 1)
    ]
    document = {"videos": [video], "categories": [{"id": 1, "name": "cat"}], "annotations": records}
    truth = annotations_from_document(document, "masks").truth
    assert truth is not None
    return truth.masks


masks = st.none() | arrays(np.bool_, SIZE, elements=st.booleans())


@given(st.lists(masks, min_size=1, max_size=4))
def test_the_same_as_plain_pixels(track: list[np.ndarray | None]) -> None:
    found = table([track, [None] * len(track)])
    present = [np.zeros(SIZE, np.bool_) if m is None else m for m in track]
    ious = [(a & b).sum() / (a | b).sum() for a, b in pairwise(present) if a.any() and b.any()]
    assert consistency(found) == pytest.approx([np.mean(ious) if ious else UNKNOWN, UNKNOWN])
    for box, mask in zip(boxes(found)[: len(track)], present, strict=True):
        left, top, width, height = coco.toBbox(coco.encode(np.asfortranarray(mask.astype(np.uint8))))
        expected = [left, top, left + width, top + height] if mask.any() else [0] * 4
        assert box.tolist() == expected


def test_a_mask_that_stays_is_steady_and_a_gap_is_no_neighbour() -> None:
    still, moved = np.zeros(SIZE, np.bool_), np.zeros(SIZE, np.bool_)
    still[:2, :2], moved[:2, 1:3] = True, True
    assert consistency(table([[still, still, still]])) == [1]
    assert consistency(table([[still, None, moved]])) == [UNKNOWN]
    assert consistency(table([[still, still, moved]])) == pytest.approx([(1 + 2 / 6) / 2])


def test_frames_may_share_a_mask() -> None:
    still, moved = np.zeros(SIZE, np.bool_), np.zeros(SIZE, np.bool_)
    still[:2, :2], moved[:2, 1:3] = True, True
    shared = replace(table([[still, moved, still]]), frame_mask=np.array([0, 0, 1], np.int32))
    assert consistency(shared) == pytest.approx([(1 + 2 / 6) / 2])
    assert boxes(shared).tolist() == [[0, 0, 2, 2], [0, 0, 2, 2], [1, 0, 3, 2]]


def test_density_is_the_share_of_the_box_under_one_other_box() -> None:
    large: Box = (0, 0, WIDTH, HEIGHT)
    small: Box = (0, 0, 10, 10)
    half: Box = (5, 0, 15, 10)
    things = [
        Thing(CAT, [small, small, None, None]),
        Thing(DOG, [half, None, None, half]),
        Thing(DOG, [large] * 4, video=2),
    ]
    # frame 1: the cat's half under the dog's box; frame 2: alone; the dog is alone in frame 4
    assert density(GroundTruthArrays(annotated(things, 2, 4))).tolist() == [0.25, 0.25, 0]
