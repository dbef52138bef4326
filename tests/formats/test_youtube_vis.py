"""Annotation files: every encoding of masks, and what is refused.

Tests of `harness/formats/segmentations.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco
from vis_documents import box, document

from harness.errors import UserError
from harness.formats.youtube_vis import annotations_from_document, read_annotations
from harness.masks import Rle


def pixels(mask: Rle) -> np.ndarray:
    return coco.decode({"size": list(mask.size), "counts": mask.counts})


def listed(mask: dict[str, Any]) -> dict[str, Any]:
    flat = coco.decode({"size": mask["size"], "counts": mask["counts"].encode()}).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
    return {"size": mask["size"], "counts": np.diff([0, *edges, flat.size]).tolist()}


def test_compressed_uncompressed_polygon_and_null_masks() -> None:
    truth = document(frames=5)
    square = box(20, 30, 4, 5, 9, 15)
    polygon = [[5.0, 4.0, 15.0, 4.0, 15.0, 9.0, 5.0, 9.0]]
    truth["annotations"][0]["segmentations"] = [square, listed(square), polygon, None, []]
    track = annotations_from_document(truth, "gt").truth.tracks_of(1)[0]  # type: ignore[union-attr]
    compressed, uncompressed, drawn, *absent = track.masks
    assert absent == [None, None]
    expected = np.zeros((20, 30), np.uint8)
    expected[4:9, 5:15] = 1
    for mask in (compressed, uncompressed, drawn):
        assert mask is not None
        np.testing.assert_array_equal(pixels(mask), expected)


def test_parts_of_a_polygon_are_united() -> None:
    truth = document(frames=1)
    parts = [[0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 8, 2, 8, 8, 2, 8]]
    truth["annotations"][0]["segmentations"] = [parts]
    mask = annotations_from_document(truth, "gt").truth.tracks_of(1)[0].masks[0]  # type: ignore[union-attr]
    assert mask is not None
    assert pixels(mask).sum() == 4 * 4 + 6 * 6 - 2 * 2


@pytest.mark.parametrize("annotations", [None, "absent"])
def test_withheld_truth(annotations: str | None) -> None:
    truth = document()
    truth.pop("annotations")
    if annotations is None:
        truth["annotations"] = None
    read = annotations_from_document(truth, "gt")
    assert read.truth is None
    assert [v.length for v in read.videos] == [2, 2]


def changed(path: str, value: Any) -> dict[str, Any]:
    truth: Any = document()
    *steps, last = path.split(".")
    node = truth
    for step in steps:
        node = node[int(step) if step.isdigit() else step]
    if value is KeyError:
        del node[last]
    else:
        node[int(last) if last.isdigit() else last] = value
    return truth  # type: ignore[no-any-return]


@pytest.mark.parametrize("other", [[], [1], [3, 4], [3, 2, 9, 8], [3, 2, 20, 2, 20, 9, 4]])
def test_parts_of_a_polygon_are_drawn_as_pycocotools_draws_them(other: list[int]) -> None:
    """The first part decides what they are; a number without its pair is cut, and short parts are points or lines."""
    first = [5, 4, 15, 4, 15, 9, 5, 9]
    for polygon in ([first, other], [[*first, 7], other]):
        truth = document()
        truth["annotations"][0]["segmentations"] = [polygon, None]
        read = annotations_from_document(truth, "gt")
        assert read.truth is not None
        mask = read.truth.tracks_of(1)[0].masks[0]
        drawn = coco.merge(coco.frPyObjects(polygon, 20, 30))
        assert mask is not None
        assert mask.counts == drawn["counts"]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("videos.0.id", 2, "video id 2 occurs 2 times"),
        ("categories.0.id", 2, "category id 2 occurs 2 times"),
        ("videos.0.height", 1 << 31, "video 1: size"),
        ("videos", KeyError, "videos"),
        ("annotations", {}, "not a list"),
        ("annotations.0.segmentations", KeyError, "annotation 1: has no segmentations"),
        ("annotations.0.segmentations", "text", "annotation 1"),
        ("annotations.0.segmentations.1", "text", "annotation 1, frame 1"),
        ("annotations.0.segmentations.1", [[1, 2, 3]], "annotation 1, frame 1"),
        ("annotations.0.segmentations.1", [[], [1, 2, 3, 4, 5, 6]], "annotation 1, frame 1"),
        ("annotations.0.segmentations.1", [[1, 2, 3, 4, 5, 6], ["7"]], "annotation 1, frame 1"),
    ],
)
def test_faulty_files_are_refused_by_name(tmp_path: Path, path: str, value: Any, words: str) -> None:
    file = tmp_path / "gt.json"
    file.write_text(json.dumps(changed(path, value)))
    with pytest.raises(UserError) as refusal:
        read_annotations(file)
    assert "gt.json" in str(refusal.value)
    assert words in str(refusal.value)


def test_truncated_and_missing_files(tmp_path: Path) -> None:
    file = tmp_path / "gt.json"
    with pytest.raises(UserError, match=r"gt\.json"):
        read_annotations(file)
    file.write_text(json.dumps(document())[:-30])
    with pytest.raises(UserError, match="truncated JSON"):
        read_annotations(file)


def test_restricting_to_videos() -> None:
    read = annotations_from_document(document(), "gt").restrict([2])
    assert [v.id for v in read.videos] == [2]
    assert read.truth is not None
    assert [r.id for r in read.truth.records] == [2]
    assert read.truth.tracks_of(1) == []
    assert len(read.truth.tracks_of(2)[0].masks) == 2
