"""TETA: every number of the official code, what it aborts on, and a plain reference on generated scenes.

Tests of `harness/scoring/frame_objects.py`, `harness/scoring/teta_inputs.py` and `harness/scoring/teta_score.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import teta_reference as reference

from harness.errors import UserError
from harness.formats.youtube_vis import annotations_from_document
from harness.scoring.frame_objects import concatenate_objects
from harness.scoring.teta import TETA_METRICS, Steps, count_steps
from harness.scoring.teta_score import TetaScore, read_teta_truth, score_teta

NAMED = os.environ.get("HARNESS_GOLDEN")
GOLDEN = Path(NAMED) / "teta" if NAMED else Path(__file__).parents[1] / "data" / "teta"
CASES = [c["case"] for c in json.loads((GOLDEN / "manifest.json").read_text())["cases"]]
VARIANTS = {"teta": "coco", "teta-tao": "tao"}
KINDS = {"": "mask", "_box": "bbox"}
ERRORS = ("IndexError", "KeyError", "TypeError", "AssertionError", "RuntimeError", "TrackEvalException")


def score_case(case: str, protocol: str) -> TetaScore:
    folder = GOLDEN / case
    return score_teta(protocol, read_teta_truth(folder / "gt.json"), folder / "predictions.json")


@pytest.mark.parametrize("protocol", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_official_and_repaired_numbers(case: str, protocol: str) -> None:
    score = score_case(case, protocol)
    expected = json.loads((GOLDEN / case / "expected.json").read_text())
    assert score.score_threshold == expected["score_threshold"]
    for suffix, kind in KINDS.items():
        for tool, found in (("official", score.metrics), ("repaired", score.corrected)):
            wanted = expected[tool].get(f"{VARIANTS[protocol]}_{kind}")
            if wanted is None:
                continue
            for key in TETA_METRICS:
                if "error" not in wanted:
                    assert found[key + suffix] == pytest.approx(wanted["values"][key] / 100, rel=0, abs=1e-11), key
                elif tool == "official":
                    assert found[key + suffix] is None
                    assert "aborts" in score.undefined["metrics"][key + suffix]
                else:
                    assert found[key + suffix] == 0


@pytest.mark.parametrize("protocol", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_numbers_of_each_category(case: str, protocol: str) -> None:
    expected = json.loads((GOLDEN / case / "expected.json").read_text())["official"]
    rows = {str(row["id"]): row for row in score_case(case, protocol).per_category}
    for suffix, kind in KINDS.items():
        for number, wanted in expected[f"{VARIANTS[protocol]}_{kind}"].get("classes", {}).items():
            tp, fn, fp = (np.array(wanted[f"Loc_{name}"]) for name in ("TP", "FN", "FP"))
            if not (tp + fn + fp).any():
                continue
            located = (tp / np.maximum(1, tp + fn + fp)).mean()
            tp, fn, fp = (np.array(wanted[f"Cls_{name}"]) for name in ("TP", "FN", "FP"))
            assert rows[number][f"LocA{suffix}"] == pytest.approx(located, rel=0, abs=1e-12)
            labelled = (tp / np.maximum(1, tp + fn + fp)).mean()
            assert rows[number][f"ClsA{suffix}"] == pytest.approx(labelled, rel=0, abs=1e-12)


def read_case(case: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    folder = GOLDEN / case
    return json.loads((folder / "gt.json").read_text()), json.loads((folder / "predictions.json").read_text())


@pytest.fixture
def score_documents(tmp_path: Path) -> Callable[..., TetaScore]:
    def score(truth: Any, predictions: Any, protocol: str = "teta", strict: bool = False) -> TetaScore:
        for name, document in (("gt.json", truth), ("predictions.json", predictions)):
            (tmp_path / name).write_text(json.dumps(document))
        return score_teta(protocol, read_teta_truth(tmp_path / "gt.json"), tmp_path / "predictions.json", strict)

    return score


def test_the_order_of_categories_changes_the_official_number_only(score_documents: Callable[..., TetaScore]) -> None:
    truth, predictions = read_case("category_order")
    given = score_documents(truth, predictions)
    turned = score_documents(truth | {"categories": truth["categories"][::-1]}, predictions)
    assert given.metrics["TETA"] == pytest.approx(0.71310, abs=5e-6)
    assert turned.metrics["TETA"] == pytest.approx(0.73250, abs=5e-6)
    assert given.corrected == pytest.approx(turned.corrected, abs=1e-14)
    assert given.corrected["TETA"] == pytest.approx(0.70700, abs=5e-6)


def test_federated_lists_are_never_read(score_documents: Callable[..., TetaScore]) -> None:
    truth, predictions = read_case("tao_federated")
    other = json.loads(json.dumps(truth))
    for video in other["videos"]:
        video["neg_category_ids"], video["not_exhaustive_category_ids"] = [1, 2, 3], [4, 5]
    for protocol in VARIANTS:
        assert score_documents(other, predictions, protocol) == score_documents(truth, predictions, protocol)


def test_videos_of_one_folder(score_documents: Callable[..., TetaScore]) -> None:
    truth, predictions = read_case("same_folder")
    score = score_documents(truth, predictions)
    assert [w["kind"] for w in score.warnings] == ["video whose frames are in the folder of a later video, left out"]
    for video in truth["videos"]:
        video["file_names"] = [f"{video['id']}/{name}" for name in video["file_names"]]
    apart = score_documents(truth, predictions)
    assert score.slices["videos"]["told apart by id"] == pytest.approx(apart.corrected, abs=1e-14)
    assert not apart.warnings
    truth, found = GOLDEN / "same_folder" / "gt.json", GOLDEN / "same_folder" / "predictions.json"
    with pytest.raises(UserError, match="folder"):
        score_teta("teta", read_teta_truth(truth), found, strict=True)


def without(key: str) -> Callable[[Any, Any], None]:
    def change(truth: Any, predictions: Any) -> None:
        for one in predictions:
            del one[key]

    return change


def truth_without(key: str) -> Callable[[Any, Any], None]:
    def change(truth: Any, predictions: Any) -> None:
        for one in truth["annotations"]:
            del one[key]

    return change


def no_masks_of_first(truth: Any, predictions: Any) -> None:
    first = max(predictions, key=lambda one: (one["score"], sum(any(b) for b in one["bboxes"])))
    first["segmentations"] = [None] * len(first["segmentations"])


def of_other_size(truth: Any, predictions: Any) -> None:
    for one in predictions:
        for mask in one["segmentations"]:
            if mask:
                mask["size"] = mask["size"][::-1]


def behind_the_last_frame(truth: Any, predictions: Any) -> None:
    for one in predictions:
        one["bboxes"].append([1, 1, 2, 2])
        one["segmentations"].append(None)
        one["areas"].append(4)


def uncompressed(truth: Any, predictions: Any) -> None:
    from pycocotools import mask as coco

    for one in truth["annotations"]:
        for at, mask in enumerate(one["segmentations"]):
            if mask:
                pixels = coco.decode({**mask, "counts": mask["counts"].encode()}).T.reshape(-1)
                edges = np.flatnonzero(np.diff(np.concatenate([[0], pixels, [2]])))
                counts = np.diff(np.concatenate([[0], edges])).tolist()
                one["segmentations"][at] = {"size": mask["size"], "counts": counts}


ODD = {
    "predictions without boxes": (without("bboxes"), ("", "_box"), True),
    "truth without boxes": (truth_without("bboxes"), ("", "_box"), True),
    "truth without areas": (truth_without("areas"), ("", "_box"), True),
    "truth without crowd flags": (truth_without("iscrowd"), ("", "_box"), True),
    "uncompressed truth": (uncompressed, ("",), True),
    "a track without masks": (no_masks_of_first, ("",), False),
    "masks of another size": (of_other_size, ("",), False),
    "objects after the last frame": (behind_the_last_frame, ("", "_box"), True),
}


@pytest.mark.parametrize("what", ODD)
def test_where_the_official_tool_aborts(what: str, score_documents: Callable[..., TetaScore]) -> None:
    """Its numbers are undefined with that reason; the others keep theirs, and the repaired ones stand."""
    change, undefined, same = ODD[what]
    truth, predictions = read_case("ordinary")
    whole = score_documents(truth, predictions)
    change(truth, predictions)
    score = score_documents(truth, predictions)
    for suffix in KINDS:
        assert (score.metrics[f"TETA{suffix}"] is None) == (suffix in undefined)
        if suffix in undefined:
            reason = score.undefined["metrics"][f"TETA{suffix}"]
            assert "aborts" in reason
            assert any(error in reason for error in ERRORS)
        assert score.corrected[f"TETA{suffix}"] is not None
    if same:
        assert score.corrected == pytest.approx(whole.corrected, abs=1e-14)
    with pytest.raises(UserError):
        score_documents(truth, predictions, strict=True)


def test_aborts_of_coco_video_form(score_documents: Callable[..., TetaScore]) -> None:
    truth, predictions = read_case("tao_federated")
    whole = score_documents(truth, predictions, "teta-tao")
    for protocol, part, key in (("teta-tao", "videos", "neg_category_ids"), ("teta", "images", "frame_id"),
                                ("teta-tao", "images", "frame_index")):  # fmt: skip
        odd = json.loads(json.dumps(truth))
        del odd[part][0][key]
        score = score_documents(odd, predictions, protocol)
        assert f"has no {key} (KeyError)" in score.undefined["metrics"]["TETA"]
        other = "teta" if protocol == "teta-tao" else "teta-tao"
        assert score_documents(odd, predictions, other).metrics["TETA"] is not None
    twice = score_documents(truth, [*predictions, predictions[0]], "teta-tao")
    assert "two objects in a frame" in twice.undefined["metrics"]["TETA_box"]
    assert twice.corrected == whole.corrected
    with pytest.raises(UserError, match="two objects in a frame"):
        score_documents(truth, [*predictions, predictions[0]], "teta-tao", strict=True)


def test_nothing_annotated(score_documents: Callable[..., TetaScore]) -> None:
    truth, predictions = read_case("ordinary")
    for protocol, said in (("teta", "IndexError"), ("teta-tao", "no annotated object")):
        score = score_documents({**truth, "annotations": []}, predictions, protocol)
        assert set(score.metrics.values()) == set(score.corrected.values()) == {None}
        assert said in score.undefined["metrics"]["TETA"]
        assert score.undefined["corrected"]["TETA"] == "no annotated object"


def test_boxes_alone(score_documents: Callable[..., TetaScore]) -> None:
    """TAO's form has no masks: numbers of boxes only."""
    truth, predictions = read_case("tao_federated")
    whole = score_documents(truth, predictions, "teta-tao")
    for one in (*truth["annotations"], *predictions):
        del one["segmentation"]
    score = score_documents(truth, predictions, "teta-tao", strict=True)
    assert {k: v for k, v in score.metrics.items() if k.endswith("_box")} == {
        k: v for k, v in whole.metrics.items() if k.endswith("_box")
    }
    assert score.metrics["TETA"] is None
    assert "no masks" in score.undefined["metrics"]["TETA"]


def test_categories_of_one_name(score_documents: Callable[..., TetaScore]) -> None:
    """The official tool takes them for the last of them; the repaired number tells them apart."""
    truth, predictions = read_case("ordinary")
    given = score_documents(truth, predictions)
    for category in truth["categories"][:2]:
        category["name"] = "same"
    score = score_documents(truth, predictions)
    assert score.corrected == given.corrected
    assert score.metrics["TETA"] != given.metrics["TETA"]
    assert "category name repeated" in score.warnings[0]["kind"]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"video_id": 99}, "unknown video 99"),
        ({"score": None}, "score"),
        ({"bboxes": [[1, 2, 3]]}, "bboxes"),
        ({"segmentations": 3}, "not a list of masks"),
    ],
)
def test_faulty_records_are_refused(
    record: dict[str, Any], said: str, score_documents: Callable[..., TetaScore]
) -> None:
    truth, predictions = read_case("ordinary")
    predictions[0]["score"] = 0.9
    predictions[0].update(record)
    with pytest.raises(UserError, match=said):
        score_documents(truth, predictions)


def test_predictions_of_the_other_form_are_refused(score_documents: Callable[..., TetaScore]) -> None:
    of_videos, of_frames = read_case("ordinary"), read_case("tao_federated")
    with pytest.raises(UserError, match="YouTube-VIS form"):
        score_documents(of_frames[0], of_videos[1])
    with pytest.raises(UserError, match="holds one frame"):
        score_documents(of_videos[0], of_frames[1])
    of_frames[1][0]["image_id"] = 999
    with pytest.raises(UserError, match="record 0: unknown image 999"):
        score_documents(*of_frames)


def test_restricted_to_some_videos(tmp_path: Path) -> None:
    truth, predictions = read_case("ordinary")
    kept = {video["id"] for video in truth["videos"][:2]}
    part = {**truth, "videos": truth["videos"][:2],
            "annotations": [a for a in truth["annotations"] if a["video_id"] in kept]}  # fmt: skip
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps([one for one in predictions if one["video_id"] in kept]))
    whole = annotations_from_document(truth, "gt.json")
    assert score_teta("teta", whole, path, videos=kept) == score_teta(
        "teta", annotations_from_document(part, "gt.json"), path
    )


def scene(seed: int) -> tuple[list[list[reference.Step]], int]:
    """Videos with few values of overlap, so that many pairs are equally good."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(1, 5))
    values = rng.choice(np.array([0, 0.2, 0.5, 0.5, 0.75, 1.0, 0.9]), 4) if seed % 2 else np.linspace(0, 1, 41)
    videos = []
    for _ in range(rng.integers(1, 4)):
        steps: list[reference.Step] = []
        kinds = rng.integers(0, classes, 12)
        for _ in range(rng.integers(1, 5)):
            g = rng.permutation(12)[: rng.integers(1, 12)]
            p = rng.permutation(14)[: rng.integers(0, 14)]
            found = [(int(t), int(rng.integers(-1, classes))) for t in p]
            steps.append(([(int(t), int(kinds[t])) for t in g], found, rng.choice(values, (len(g), len(p)))))
        videos.append(steps)
    return videos, classes


def as_steps(videos: list[list[reference.Step]]) -> Steps:
    flat = [step for video in videos for step in video]

    def offsets(lengths: list[int]) -> Any:
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

    truths, found = [one for g, _, _ in flat for one in g], [one for _, p, _ in flat for one in p]
    overlaps = [s.T.reshape(-1) for _, _, s in flat]
    return Steps(
        offsets([len(video) for video in videos]),
        offsets([len(g) for g, _, _ in flat]), np.array([t for t, _ in truths]), np.array([c for _, c in truths]),
        offsets([len(p) for _, p, _ in flat]), np.array([t for t, _ in found], np.int64),
        np.array([c for _, c in found], np.int64), offsets([len(g) for g, p, _ in flat for _ in p])[:-1],
        np.concatenate(overlaps),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_against_the_reference(seed: int) -> None:
    videos, classes = scene(seed)
    for exhaustive in (True, False):
        wanted = reference.counts(videos, classes, exhaustive)
        found = count_steps(as_steps(videos), classes, exhaustive)
        for name in ("loc_tp", "loc_fn", "loc_fp", "cls_tp", "cls_fn", "cls_fp", "cls_fp_repaired"):
            assert np.array_equal(getattr(found, name), wanted[name]), name
        for at, name in enumerate(("assoc_a", "assoc_re", "assoc_pr")):
            assert np.allclose(found.assoc[at], wanted[name], rtol=0, atol=1e-12), name


def test_nothing_met() -> None:
    met = concatenate_objects([])
    assert len(met.step) == len(met.overlap) == 0
