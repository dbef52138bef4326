"""Results files: what is read, what is refused and how the refusal reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vis_documents import box, document, perfect

from harness.errors import UserError
from harness.formats.results import read_blocks
from harness.formats.youtube_vis import Annotations, annotations_from_document
from harness.scoring.score import Score, score_results


@pytest.fixture
def truth() -> Annotations:
    return annotations_from_document(document(), "gt.json")


def score(truth: Annotations, text: str, folder: Path, strict: bool = False) -> Score:
    path = folder / "results.json"
    path.write_text(text)
    return score_results("lvvis", truth, path, strict)


def with_first(**changes: Any) -> str:
    results = perfect(document())
    results[0] |= changes
    return json.dumps(results)


def test_perfect_results_score_one(truth: Annotations, tmp_path: Path) -> None:
    record = score(truth, json.dumps(perfect(document())), tmp_path).record()
    assert record["metrics"]["AP"] == pytest.approx(1)
    assert record["metrics"]["APl"] is None
    assert "large" in record["undefined"]["metrics"]["APl"]
    assert record["warnings"] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("{}", ["is an object, not a list"]),
        ("[1, 2]", ["record 0", "not a JSON object"]),
        ('[{"video_id": 1,]', ["record 0"]),
        (json.dumps(perfect(document()))[:-40], ["record 1", "ends inside"]),
        (json.dumps(perfect(document())) + "x", ["after the list"]),
        (json.dumps(perfect(document()))[:-1] + ",]", ["record 2"]),
        (with_first(video_id=9), ["record 0", "unknown video 9"]),
        (with_first(score=float("nan")), ["record 0", "score is nan"]),
        (with_first(score=float("inf")), ["record 0", "score is inf"]),
        (with_first(score="high"), ["record 0", "score"]),
        (with_first(score=None), ["record 0", "score"]),
        (with_first(video_id="one"), ["record 0", 'unknown video "one"']),
        (with_first(video_id=1.5), ["record 0", "video_id is 1.5"]),
        (with_first(segmentations=5), ["record 0", "not a list of masks"]),
        (with_first(segmentations=[7, 7]), ["record 0, frame 0", "not a compressed RLE"]),
        (with_first(segmentations=[{"size": [20, 30], "counts": [600]}] * 2), ["record 0, frame 0", "compressed RLE"]),
        (with_first(segmentations=[None, {"size": [20, 30], "counts": "~~"}]), ["record 0, frame 1", "run-length"]),
        (with_first(segmentations=[{"size": [2, 3], "counts": "Pj0"}] * 2), ["record 0, frame 0", "run past the end"]),
        (with_first(segmentations=[{"size": [20, 30], "counts": "3"}] * 2), ["record 0, frame 0", "end before"]),
        (with_first(segmentations=[{"counts": "3"}] * 2), ["record 0, frame 0"]),
        ('[{"video_id": 1, "category_id": 1, "score": 1}]', ["record 0", "segmentations"]),
    ],
)
def test_faulty_files_are_refused_by_name(truth: Annotations, tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as refusal:
        score(truth, text, tmp_path)
    assert "results.json" in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (with_first(score=3), "score outside [0, 1]"),
        (with_first(category_id=7), "category not in the annotations, track dropped"),
        (with_first(segmentations=[]), "number of frames differs from the video's"),
        (with_first(segmentations=[box(9, 9, 0, 0, 3, 3)] * 2), "mask size differs from the video's"),
    ],
)
def test_odd_input_is_counted_and_strict_refuses_it(truth: Annotations, tmp_path: Path, text: str, kind: str) -> None:
    warnings = score(truth, text, tmp_path).record()["warnings"]
    assert [(w["kind"], w["count"]) for w in warnings] == [(kind, 1)]
    assert "results.json, record 0" in warnings[0]["first"]
    with pytest.raises(UserError, match="record 0"):
        score(truth, text, tmp_path, strict=True)


def test_masks_of_categories_without_truth_are_not_read(truth: Annotations, tmp_path: Path) -> None:
    bare = document()
    bare["annotations"].pop()
    stray = {"video_id": 2, "category_id": 2, "score": 0.5, "segmentations": ["no mask at all"]}
    results = [*perfect(bare), stray]
    found = score(annotations_from_document(bare, "gt.json"), json.dumps(results), tmp_path)
    assert found.metrics.values["AP"] == pytest.approx(1)


def test_keys_in_any_order_with_any_space_and_extra_fields(truth: Annotations, tmp_path: Path) -> None:
    results = [
        {"extra": {"segmentations": [1]}, "segmentations": [{"counts": m["counts"], "x": "]}", "size": m["size"]} for m
         in r["segmentations"]], "score": r["score"], "category_id": r["category_id"], "video_id": r["video_id"]}
        for r in perfect(document())
    ]  # fmt: skip
    assert score(truth, json.dumps(results, indent=3), tmp_path).metrics.values["AP"] == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({
        "video_id": st.integers(0, 9), "name": st.text(max_size=8),
        "segmentations": st.lists(st.none() | st.text(max_size=4), max_size=4),
    }), min_size=1, max_size=12),
    st.integers(1, 64),
    st.sampled_from([None, 1]),
)  # fmt: skip
def test_blocks_of_any_size_give_the_same_records(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]], block: int, indent: int | None
) -> None:
    path = tmp_path_factory.mktemp("blocks") / "r.json"
    path.write_text(json.dumps(records, indent=indent, ensure_ascii=False))
    found, masks = [], []
    for part in read_blocks(path, block):
        assert part.first == len(found)
        for start, stop, mask_start, mask_stop in part.spans.tolist():
            found.append(json.loads(part.text[start:stop].tobytes()))
            masks.append(json.loads(part.text[mask_start:mask_stop].tobytes()))
    assert found == records
    assert masks == [r["segmentations"] for r in records]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_scored_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    text = bytearray(json.dumps(perfect(document())).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path_factory.mktemp("damage") / "r.json"
    path.write_bytes(bytes(text))
    try:
        value = score_results("lvvis", annotations_from_document(document(), "gt"), path).metrics.values["AP"]
    except UserError:
        return
    assert value is not None
    assert np.isfinite(value)
