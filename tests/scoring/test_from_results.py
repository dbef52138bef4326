"""Records of a results file as tracks: which are kept, and which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.formats.results import read_blocks
from harness.formats.youtube_vis import annotations_from_document
from harness.scoring.from_results import read_batch
from harness.scoring.overlap import GroundTruthArrays, TrackBatch
from harness.warnings import Warnings

MASK = {"size": [2, 2], "counts": "04"}
DOCUMENT: dict[str, Any] = {
    "videos": [{"id": v, "width": 2, "height": 2, "length": 1} for v in (1, 2)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [{"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "areas": [4], "segmentations": [MASK]}],
}


def batch_of(tmp_path: Path, *changes: dict[str, Any], **options: Any) -> tuple[TrackBatch, list[dict[str, Any]]]:
    """The batch of one record per change of a good one, and the warnings."""
    good = {"video_id": 1, "category_id": 1, "score": 0.5, "segmentations": [MASK]}
    file = tmp_path / "results.json"
    file.write_text(json.dumps([good | change for change in changes]))
    warnings = Warnings()
    truths = GroundTruthArrays(annotations_from_document(DOCUMENT, "truth"))
    (block,) = read_blocks(file)
    return read_batch(block, truths, str(file), warnings, **options), warnings.record()


def test_columns_and_masks(tmp_path: Path) -> None:
    batch, warnings = batch_of(tmp_path, {}, {"video_id": 2, "score": 0.25}, {"category_id": 2})
    assert batch.video.tolist() == [0, 1, 0]
    assert batch.category.tolist() == [0, 0, 1]
    assert batch.score.tolist() == [0.5, 0.25, 0.5]
    assert batch.record.tolist() == [0, 1, 2]
    assert batch.has_masks.tolist() == [True, True, False]  # the second category has no truth
    assert warnings == []


def test_tracks_of_unlisted_categories_are_dropped_and_counted(tmp_path: Path) -> None:
    batch, (warning,) = batch_of(tmp_path, {"category_id": 9}, {})
    assert batch.record.tolist() == [1]
    assert (warning["kind"], warning["count"]) == ("category not in the annotations, track dropped", 1)


def test_tracks_of_unknown_videos_are_refused_or_collected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"record 1: unknown video 7"):
        batch_of(tmp_path, {}, {"video_id": 7})
    unknown: list[UserError] = []
    batch, _ = batch_of(tmp_path, {}, {"video_id": 7}, unknown=unknown)
    assert batch.record.tolist() == [0]
    assert [error.where.rpartition(", ")[2] for error in unknown] == ["record 1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, "record 1: "),
        ({"score": float("nan")}, "record 1: score is nan; write a finite number"),
        ({"segmentations": [[[0, 0, 1, 1, 0, 1]]]}, "record 1, frame 0: mask is not a compressed RLE"),
        ({"video_id": "x"}, "record 1: unknown video"),
    ],
)
def test_faulty_records_are_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        batch_of(tmp_path, {}, change)
    assert message.lower() in str(caught.value).lower()
