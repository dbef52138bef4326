"""SA-Co/VEval: every number of the official tools, what they abort on, and an independent reference.

Tests of `harness/scoring/phrase_overlap.py`, `harness/scoring/phrase_tracks.py`, `harness/scoring/phrase_units.py` and
`harness/scoring/veval_aborts.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import veval_reference as reference
from vis_documents import box

from harness.errors import OfficialAbortError, UserError
from harness.formats.youtube_vis import read_annotations
from harness.scoring.veval import HOTA_NAMES, UNASKED, UNASKED_LOW, VevalScore, score_veval

NAMED = os.environ.get("HARNESS_GOLDEN")
GOLDEN = Path(NAMED) / "veval" if NAMED else Path(__file__).parents[1] / "data" / "veval"
CGF1 = {
    "cgF1": "cgf1_micro_50_95", "cgF1_50": "cgf1_micro_50", "cgF1_75": "cgf1_micro_75",
    "pmF1": "positive_micro_f1_50_95", "pmF1_50": "positive_micro_f1_50", "pmF1_75": "positive_micro_f1_75",
    "IL_MCC": "ilmcc_50_95",
}  # fmt: skip
HOTA = {f"p{name}": name for name in HOTA_NAMES}
AP = {"pAP": "50_95", "pAP50": "50", "pAP75": "75"}
KEYS = {
    "cgf1": ("_demo_", CGF1, 1e-12),
    "phrase_hota": ("_all_phrase_", HOTA, 1e-9),
    "phrase_ap": ("_phrase_ap_", AP, 1e-12),
}
CASES = [c["case"] for c in json.loads((GOLDEN / "manifest.json").read_text())["cases"]]


def score_case(case: str) -> VevalScore:
    folder = GOLDEN / case
    return score_veval(read_annotations(folder / "gt.json"), folder / "predictions.json")


def expected_of(case: str) -> Any:
    return json.loads((GOLDEN / case / "expected.json").read_text())


def test_all_cases_are_there() -> None:
    assert len(CASES) == 30


@pytest.mark.parametrize("case", [c for c in CASES if c != "unknown_video"])
def test_official_numbers(case: str) -> None:
    score, official = score_case(case), expected_of(case)["official"]
    reasons = score.undefined["metrics"]
    assert set(reasons) == {key for key, value in score.metrics.items() if value is None}
    for kind, suffix in (("mask", ""), ("bbox", "_box")):
        for part, (infix, names, tolerance) in KEYS.items():
            wanted = official[part][kind]
            for key, name in names.items():
                found = score.metrics[key + suffix]
                if "error" in wanted:
                    assert found is None, key
                    assert "aborts" in reasons[key + suffix]
                    continue
                number = wanted["dataset_results"].get(f"video_{kind}{infix}{name}")
                if number is None or number == -1:
                    assert found is None, key
                    assert "aborts" not in reasons[key + suffix]
                else:
                    assert found == pytest.approx(number, rel=0, abs=1e-6 if suffix else tolerance), key


@pytest.mark.parametrize("case", [c for c in CASES if c != "unknown_video"])
def test_official_counts(case: str) -> None:
    score, official = score_case(case), expected_of(case)["official"]["cgf1"]["mask"]
    if "error" in official or not official["dataset_results"]:
        assert "presence" not in score.slices
        return
    arrays, everything = official["per_threshold"], official["all_metrics"]
    names = {"TP": "TPs", "FP": "FPs", "pFP": "positive_micro_FPs", "FN": "FNs"}
    assert score.slices["per_threshold"] == {mine: arrays[name] for mine, name in names.items()}
    presence = score.slices["presence"]
    assert {key: presence[f"IL_{key}"] for key in ("TP", "FP", "TN", "FN")} == official["pairs_by_presence"]
    for key in ("IL_precision", "IL_recall", "IL_F1", "IL_FPR", "IL_MCC"):
        assert presence[key] == pytest.approx(everything[key], rel=0, abs=1e-15)
    for suffix, at in (("", ""), ("_50", "@0.5"), ("_75", "@0.75")):
        macro = score.slices["pmF1_macro"][f"pmF1{suffix}"]
        wanted = everything[f"positive_macro_F1{at}"]
        assert macro is None if wanted == -1 else macro == pytest.approx(wanted, rel=0, abs=1e-12)


@pytest.mark.parametrize("case", [c for c in CASES if c != "unknown_video"])
def test_corrected_numbers(case: str) -> None:
    score, corrected = score_case(case), expected_of(case)["corrected"]
    for part, name in (("cgf1", "cgf1_without_scores_below_0.5"), ("phrase_hota", "phrase_hota_from_0.5_upwards")):
        infix, names, tolerance = KEYS[part]
        if "error" in corrected[name]:
            kinds = [warning["kind"] for warning in score.warnings]
            assert any(kind.startswith("corrected: ") for kind in kinds)
            assert all(score.corrected[key] is not None for key in names)
            continue
        for key, own in names.items():
            number = corrected[name]["dataset_results"].get(f"video_mask{infix}{own}")
            found = score.corrected[key]
            assert found is None if number is None else found == pytest.approx(number, rel=0, abs=tolerance)
    for key in AP:  # nothing of phrase AP is corrected
        if "aborts" not in score.undefined["metrics"].get(key, ""):
            assert score.corrected[key] == score.metrics[key]


@pytest.mark.parametrize("case", ["ordinary", "many_masklets", "other_size", "empty_masks", "score_half", "mixed"])
def test_official_numbers_of_every_pair(case: str) -> None:
    score, official = score_case(case), expected_of(case)["official"]
    rows = {(row["video_id"], row["category_id"]): row for row in score.per_pair}
    for kind, suffix in (("mask", ""), ("bbox", "_box")):
        for part in ("cgf1", "phrase_hota"):
            for wanted in official[part][kind].get("video_np_results", []):
                row = rows[wanted["video_id"], wanted["category_id"]]
                for key, number in wanted.items():
                    if not key.endswith("_id"):
                        name = key.removeprefix(f"{kind}_").replace("_50_95", "") + suffix
                        assert row[name] == pytest.approx(number, rel=0, abs=1e-6 if suffix else 1e-9), key


def test_a_prediction_of_an_unknown_video_is_refused() -> None:
    with pytest.raises(UserError, match=r"record 12: unknown video 77; some known: 0, 1, 2"):
        score_case("unknown_video")


@pytest.mark.parametrize("seed", range(60))
def test_against_the_reference(seed: int, tmp_path: Path) -> None:
    truth, predictions = reference.scene(seed)
    score = scored(tmp_path, truth, predictions)
    if predictions:
        wanted = {**reference.cgf1(truth, predictions), **reference.phrase_ap(truth, predictions)}
        for key, number in wanted.items():
            assert score.metrics[key] == (None if number is None else pytest.approx(number, rel=0, abs=1e-12)), key
    for key, number in reference.cgf1(truth, predictions, without_low=True).items():
        assert score.corrected[key] == pytest.approx(number, rel=0, abs=1e-12), key
    if truth["annotations"]:
        for numbers, from_half in ((score.metrics, False), (score.corrected, True)):
            for key, number in reference.phrase_hota(truth, predictions, from_half).items():
                assert numbers[key] == pytest.approx(number, rel=0, abs=1e-9), key


def scored(folder: Path, truth: dict[str, Any], predictions: list[dict[str, Any]], strict: bool = False) -> VevalScore:
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "predictions.json").write_text(json.dumps(predictions))
    return score_veval(read_annotations(folder / "gt.json"), folder / "predictions.json", strict)


def files() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Two videos, two phrases; each phrase is in one video and asked of both."""
    masks = [box(20, 30, 2, 2, 12, 12), box(20, 30, 2, 3, 12, 13)]
    found = {"segmentations": masks, "bboxes": [[2.0, 2.0, 10.0, 10.0], [3.0, 2.0, 10.0, 10.0]], "areas": [100, 100]}
    videos = [{"id": v, "height": 20, "width": 30, "file_names": [f"v{v}/{f}.jpg" for f in range(2)]} for v in (1, 2)]
    document = {
        "videos": videos,
        "categories": [{"id": p, "name": f"phrase {p}"} for p in (1, 2)],
        "annotations": [{"id": v, "video_id": v, "category_id": v, "iscrowd": 0, **found} for v in (1, 2)],
        "video_np_pairs": [{"video_id": v, "category_id": p} for v in (1, 2) for p in (1, 2)],
    }
    predictions = [{"video_id": v, "category_id": v, "score": 0.9, **found} for v in (1, 2)]
    copy: tuple[dict[str, Any], list[dict[str, Any]]] = json.loads(json.dumps([document, predictions]))
    return copy


Change = Callable[[dict[str, Any], list[dict[str, Any]]], object]
CGF1_OF_ALL = ("cgF1", "cgF1_box")
HOTA_OF_ALL = ("pHOTA", "pHOTA_box")
AP_OF_ALL = ("pAP", "pAP_box")
ABORTS: dict[str, tuple[Change, tuple[str, ...], str]] = {
    "a record without boxes": (
        lambda gt, p: p[1].pop("bboxes"), (*CGF1_OF_ALL, *HOTA_OF_ALL, *AP_OF_ALL), "record 1 has no bboxes"
    ),
    "no boxes, a frame without a mask": (
        lambda gt, p: [r.pop("bboxes") for r in p] and p[0]["segmentations"].__setitem__(0, None),
        (*CGF1_OF_ALL, *HOTA_OF_ALL, *AP_OF_ALL),
        "record 0 has ",
    ),
    "no boxes, every mask there": (
        lambda gt, p: [r.pop("bboxes") for r in p], HOTA_OF_ALL, "has no bboxes or no areas"
    ),
    "no areas": (lambda gt, p: [r.pop("areas") for r in p], HOTA_OF_ALL, "has no bboxes or no areas"),
    "lists of unequal length": (lambda gt, p: p[1]["areas"].pop(), HOTA_OF_ALL, "lists of unequal length"),
    "a box without a mask": (
        lambda gt, p: p[1]["segmentations"].__setitem__(0, None), HOTA_OF_ALL, "a box in a frame without a mask"
    ),
    "an annotation without areas": (lambda gt, p: gt["annotations"][0].pop("areas"), ("pHOTA", *AP_OF_ALL), "no areas"),
    "an annotation without iscrowd": (
        lambda gt, p: gt["annotations"][0].pop("iscrowd"), (*HOTA_OF_ALL, *AP_OF_ALL), "annotation 1 has no iscrowd"
    ),
    "an annotation without boxes": (
        lambda gt, p: gt["annotations"][1].pop("bboxes"), ("cgF1_box", "pHOTA_box", "pAP_box"), "no bboxes"
    ),
    "a video without files": (
        lambda gt, p: gt["videos"][0].update(file_names=None, length=2), HOTA_OF_ALL, "no file_names"
    ),
    "an annotation that is too short": (
        lambda gt, p: [gt["annotations"][1][k].pop() for k in ("segmentations", "bboxes", "areas")],
        HOTA_OF_ALL,
        "annotation 2 has fewer frames than its video",
    ),
    "one id twice in a frame": (
        lambda gt, p: gt["annotations"].append({**gt["annotations"][0]}), HOTA_OF_ALL, "shares its id"
    ),
    "a box of negative area": (
        lambda gt, p: p[0]["bboxes"].__setitem__(0, [12, 2, -10, 10]), ("cgF1_box", "pAP_box"), "a box of negative area"
    ),
    "tags, none of which is challenging": (
        lambda gt, p: [a.update(tags=["other"]) for a in gt["annotations"]], HOTA_OF_ALL, "has the tag"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ABORTS)
def test_what_an_evaluator_aborts_on_is_a_reason_for_its_numbers_only(name: str, tmp_path: Path) -> None:
    change, keys, reason = ABORTS[name]
    truth, predictions = files()
    change(truth, predictions)
    score = scored(tmp_path, truth, predictions)
    aborted = {key for key in (*CGF1_OF_ALL, *HOTA_OF_ALL, *AP_OF_ALL) if score.metrics[key] is None}
    assert aborted == set(keys)
    assert all("aborts" in score.undefined["metrics"][key] for key in keys)
    assert reason in score.undefined["metrics"][keys[-1]]
    assert not score.undefined["corrected"]
    assert any(warning["kind"].startswith("corrected: ") for warning in score.warnings)
    with pytest.raises(UserError):
        scored(tmp_path, truth, predictions, strict=True)


def test_with_strict_an_abort_is_an_error(tmp_path: Path) -> None:
    truth, predictions = files()
    for record in predictions:
        record.pop("areas")
    with pytest.raises(OfficialAbortError, match=r"record 0 has no bboxes or no areas \(KeyError\)"):
        scored(tmp_path, truth, predictions, strict=True)


def test_boxes_of_masks_stand_in_for_those_that_records_lack(tmp_path: Path) -> None:
    truth, predictions = files()
    wanted = scored(tmp_path, truth, predictions)
    for record in predictions:
        del record["bboxes"], record["areas"]
    assert scored(tmp_path, truth, predictions).corrected == wanted.corrected


def test_without_boxes_in_the_truth_only_masks_are_scored(tmp_path: Path) -> None:
    truth, predictions = files()
    for annotation in truth["annotations"]:
        del annotation["bboxes"]
    score = scored(tmp_path, truth, predictions)
    assert not any(key.endswith("_box") for key in score.metrics)
    assert score.metrics["pHOTA"] == 1


@pytest.mark.parametrize("write", [str, lambda i: f"video {i}", float])
def test_ids_as_text(write: Callable[[int], Any], tmp_path: Path) -> None:
    truth, predictions = files()
    wanted = scored(tmp_path, truth, predictions)
    for record in (*truth["annotations"], *truth["video_np_pairs"], *predictions):
        record["video_id"] = write(record["video_id"])
    for video in truth["videos"]:
        video["id"] = write(video["id"])
    found = scored(tmp_path, truth, predictions)
    assert found.metrics == wanted.metrics
    assert found.slices == wanted.slices
    assert {row["video_id"] for row in found.per_pair} <= {1, 2, *map(write, (1, 2))}


def test_phrases_as_text_that_nobody_listed(tmp_path: Path) -> None:
    truth, predictions = files()
    predictions += [{**predictions[0], "category_id": 7, "score": s} for s in (0.9, 0.1)]
    wanted = scored(tmp_path, truth, predictions)
    for record in (*truth["annotations"], *truth["video_np_pairs"], *predictions):
        record["category_id"] = f"p{record['category_id']}"
    for category in truth["categories"]:
        category["id"] = f"p{category['id']}"
    found = scored(tmp_path, truth, predictions)
    assert found.metrics == wanted.metrics
    assert {row["category_id"] for row in found.per_pair} == {"p1", "p2", "p7"}


def test_ids_of_truth_and_predictions_in_other_forms_are_counted(tmp_path: Path) -> None:
    truth, predictions = files()
    wanted = scored(tmp_path, truth, predictions)
    for record in (*truth["video_np_pairs"], *predictions):
        record["video_id"] = str(record["video_id"])
    found = scored(tmp_path, truth, predictions)
    assert found.metrics == wanted.metrics
    assert "id is text" in [warning["kind"] for warning in found.warnings]


def test_predictions_of_phrases_that_nobody_asked_are_counted(tmp_path: Path) -> None:
    truth, predictions = files()
    odd = [{**predictions[0], "category_id": 9}, {**predictions[0], "category_id": 8, "score": 0.1}]
    score = scored(tmp_path, truth, predictions + odd)
    kinds = {warning["kind"]: warning for warning in score.warnings}
    assert kinds[UNASKED]["count"] == kinds[UNASKED_LOW]["count"] == 1
    assert kinds[UNASKED]["first"].endswith("record 2")
    assert (score.slices["presence"]["IL_FP"], score.slices["presence"]["IL_TN"]) == (1, 3)
    assert score.corrected["IL_MCC"] != score.metrics["IL_MCC"]
    with pytest.raises(UserError, match="not asked"):
        scored(tmp_path, truth, predictions + odd, strict=True)


def test_repeated_pairs_count_once(tmp_path: Path) -> None:
    truth, predictions = files()
    wanted = scored(tmp_path, truth, predictions)
    truth["video_np_pairs"] *= 2
    found = scored(tmp_path, truth, predictions)
    assert found.metrics == wanted.metrics
    assert [w["count"] for w in found.warnings if w["kind"].startswith("pair repeated")] == [4]


BAD = {
    "a pair of an unknown video": (
        lambda gt, p: gt["video_np_pairs"][1].update(video_id=9), r"video_np_pairs\[1\]: unknown video 9"
    ),
    "a box of three numbers": (
        lambda gt, p: p[1]["bboxes"].__setitem__(1, [1, 2, 3]), r"record 1, frame 1: bboxes holds"
    ),
    "a score that is text": (lambda gt, p: p[0].update(score="high"), r"record 0: score is \"high\""),
    "no masks": (lambda gt, p: p[0].pop("segmentations"), "record 0"),
    "broken masks": (lambda gt, p: p[1]["segmentations"][0].update(counts="0"), r"record 1, frame 0: counts"),
    "areas as text": (lambda gt, p: gt["annotations"][0].update(areas=["a"]), "annotation 1: areas is not a list"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    change, message = BAD[name]
    truth, predictions = files()
    change(truth, predictions)
    with pytest.raises(UserError, match=message):
        scored(tmp_path, truth, predictions)
