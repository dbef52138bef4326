"""BURST's official tasks: every number of the benchmark's own tools, each quirk, and what faulty files get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vis_documents import box

from harness.errors import UserError
from harness.scoring.burst_tasks import evaluate
from harness.scoring.hota import ALPHAS, Step, combine, hota
from harness.scoring.track_map import Tracks, VideoPairs, track_map

GOLDEN = Path(__file__).parents[1] / "data" / "protocols"
TOGETHER = {"cls_comb_cls_av": "class averaged", "cls_comb_det_av": "detection averaged"}


def cases() -> list[Any]:
    listed = json.loads((GOLDEN / "manifest.json").read_text())["cases"]
    return [pytest.param(c["case"], t, id=f"{c['case']}-{t}") for c in listed for t in c["burst_tasks"]]


@pytest.mark.parametrize(("case", "task"), cases())
def test_official_numbers(golden: Path, case: str, task: str) -> None:
    folder = golden / case
    expected = json.loads((folder / "expected.json").read_text())["burst_official"][task]
    assert expected["error"] is None
    score = evaluate(f"burst-{task.replace('_', '-')}", folder / "gt", folder / "predictions.json")
    for key, row in expected["table"].items():
        for group, percent in row.items():
            assert score.metrics[f"{key}_{group}"] == pytest.approx(percent / 100, abs=1e-11)
    assert len(score.classes) == len(expected["classes"])
    for name, families in expected["classes"].items():
        mine = score.classes[TOGETHER.get(name, name)]
        if task == "open_world":
            mine, families = mine["object"], families["object"]
        assert mine.keys() == families.keys()
        for family, values in families.items():
            for key, official in values.items():
                found = mine[family][key]
                if family == "Count":
                    assert found == official, (name, key)
                elif found is None:
                    assert set(official) == {-1.0}, (name, key)
                else:
                    np.testing.assert_allclose(found, official, rtol=0, atol=1e-9, err_msg=f"{name} {key}")


def test_record_has_both_numbers_and_reasons(golden: Path) -> None:
    folder = golden / "burst_same_boxes_thin_masks"
    record = evaluate("burst-class-guided", folder / "gt", folder / "predictions.json").record()
    assert record["protocol"] == {"name": "burst-class-guided", "version": "1"}
    assert record["metrics"]["HOTA_all"] == pytest.approx(1)  # boxes agree, masks do not
    assert record["metrics"]["AP_all"] == 0
    assert record["corrected"]["HOTA_all"] < 0.9
    assert set(record["undefined"]["metrics"]) == {k for k, v in record["metrics"].items() if v is None}


def test_corrected_numbers_ignore_empty_masks(golden: Path) -> None:
    bare, padded = golden / "burst_exemplar", golden / "burst_null_masks"
    scores = [evaluate("burst-class-guided", f / "gt", f / "predictions.json") for f in (bare, padded)]
    assert scores[0].metrics["HOTA_all"] == pytest.approx(0.5062, abs=1e-4)
    assert scores[1].metrics["HOTA_all"] == pytest.approx(0.4597, abs=1e-4)
    assert scores[0].corrected == scores[1].corrected


def test_a_predicted_track_zero_blocks_when_corrected(golden: Path) -> None:
    folder = golden / "burst_track_id_zero"
    score = evaluate("burst-class-guided", folder / "gt", folder / "predictions.json")
    assert score.metrics["AP_all"] == pytest.approx(0.03850, abs=1e-5)
    assert score.corrected["AP_all"] == pytest.approx(0.03388, abs=1e-5)


def test_hota_of_a_perfect_and_of_a_switched_track() -> None:
    one, two = np.array([1]), np.array([2])
    same = np.ones((1, 1))
    perfect = hota([Step(one, one, same)] * 2).values()
    assert all((perfect[k] == 1).all() for k in ("HOTA", "DetA", "AssA", "LocA", "OWTA"))
    switched = hota([Step(one, one, same), Step(one, two, same)]).values()
    assert (switched["DetA"] == 1).all()
    assert (switched["AssA"] == 0.5).all()  # each half agrees with half of the truth
    nothing = hota([Step(one, np.empty(0, np.int64), np.zeros((1, 0)))])
    assert (nothing.fn == 1).all()
    assert (combine([nothing, nothing]).values()["LocA"] == 1).all()
    assert len(ALPHAS) == 19


def test_track_map_counts_what_is_not_exhaustively_annotated_as_neither() -> None:
    truth = Tracks(np.array([1]), np.array([100.0]), np.array([5.0]))
    found = Tracks(np.array([1, 2]), np.array([100.0, 90.0]), np.array([5.0, 5.0]))
    iou, scores = np.array([[0.0], [0.97]]), np.array([0.9, 0.8])
    strict = track_map([VideoPairs(truth, found, scores, iou, True)], True)
    lenient = track_map([VideoPairs(truth, found, scores, iou, False)], True)
    assert strict["AP_all"] == pytest.approx(np.full(10, 0.5))
    assert lenient["AP_all"] == pytest.approx(np.ones(10))
    assert strict["AP_area_l"] is None


def sequence(**changes: Any) -> dict[str, Any]:
    mask = {"rle": box(20, 30, 2, 2, 9, 9)["counts"]}
    return {
        "id": 1, "dataset": "d", "seq_name": "s", "height": 20, "width": 30, "annotated_image_paths": ["frame0001.jpg"],
        "segmentations": [{"7": mask}], "track_category_ids": {"7": 13}, **changes,
    }  # fmt: skip


def written(folder: Path, truth: dict[str, Any], predicted: dict[str, Any], split: str = "val") -> tuple[Path, Path]:
    for name in ("all", "common", "uncommon"):
        (folder / f"{name}_classes.json").write_text(json.dumps({"split": "val", "sequences": [truth]}))
    out = folder / "predictions.json"
    out.write_text(json.dumps({"split": split, "sequences": [predicted]}))
    return folder, out


def test_a_perfect_file_scores_one(tmp_path: Path) -> None:
    score = evaluate("burst-class-guided", *written(tmp_path, sequence(), sequence()))
    assert score.metrics["HOTA_all"] == pytest.approx(1)
    assert score.metrics["HOTA_common"] == pytest.approx(1)
    assert score.metrics["HOTA_uncommon"] is None
    assert score.record()["undefined"]["metrics"]["HOTA_uncommon"] == "no uncommon class is annotated"


@pytest.mark.parametrize(
    ("changes", "task", "words"),
    [
        ({"segmentations": [{"7": {"rle": "~~"}}]}, "burst-class-guided", "track 7: counts are not"),
        ({"segmentations": [{"x": {"rle": "3"}}]}, "burst-class-guided", 'track "x": is not numbered'),
        ({"segmentations": []}, "burst-class-guided", "0 segmentations for 1"),
        ({"track_category_ids": {}}, "burst-class-guided", "has no category"),
        ({"track_category_ids": "many"}, "burst-class-guided", "track_category_ids"),
        (
            {"segmentations": [{"8": {"rle": "hl0"}}], "track_category_ids": {"8": 13}},
            "burst-exemplar-guided",
            "track 8",
        ),
        ({}, "burst-open-wrld", 'did you mean "burst-open-world"'),
    ],
)
def test_faulty_predictions_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], task: str, words: str) -> None:
    with pytest.raises(UserError) as refusal:
        evaluate(task, *written(tmp_path, sequence(), sequence(**changes)))
    assert words in str(refusal.value)


def test_other_splits_missing_files_and_strange_frames(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='split "test"'):
        evaluate("burst-class-guided", *written(tmp_path, sequence(), sequence(), split="test"))
    with pytest.raises(UserError, match="all_classes"):
        evaluate("burst-class-guided", tmp_path / "nowhere", tmp_path / "predictions.json")
    more = sequence(annotated_image_paths=["frame0001.jpg", "frame0002.jpg"])
    more["segmentations"] = more["segmentations"] * 2
    score = evaluate("burst-class-guided", *written(tmp_path, sequence(), more))
    assert score.metrics["HOTA_all"] == pytest.approx(1)
    assert score.record()["warnings"][0]["count"] == 1
