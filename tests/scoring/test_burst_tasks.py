"""BURST's official tasks: every number of the benchmark's own tools, each quirk, and what faulty files get.

Tests of `harness/scoring/burst_comparison.py` and `harness/scoring/burst_tracks.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from burst_reference import numbers, scene
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco
from vis_documents import box

from harness.errors import UserError
from harness.scoring import burst_tasks
from harness.scoring.burst_tasks import (
    BURST_TASKS,
    CORRECTED_RULES,
    OFFICIAL_RULES,
    BurstScore,
    score_task,
    score_tasks,
)
from harness.scoring.coverage import TWIN

GOLDEN = Path(__file__).parents[1] / "data" / "protocols"
TOGETHER = {"cls_comb_cls_av": "class averaged", "cls_comb_det_av": "detection averaged"}


def cases() -> list[Any]:
    listed = json.loads((GOLDEN / "manifest.json").read_text())["cases"]
    return [pytest.param(c["case"], t, id=f"{c['case']}-{t}") for c in listed for t in c["burst_tasks"]]


@pytest.mark.parametrize(("case", "task"), cases())
def test_official_numbers(golden: Path, case: str, task: str) -> None:
    folder = golden / case
    expected = json.loads((folder / "expected.json").read_text())["burst_official"][task]
    score = score_task(f"burst-{task.replace('_', '-')}", folder / "gt", folder / "predictions.json")
    if expected["error"] is not None:
        assert set(score.metrics.values()) == {None}
        assert all(reason.startswith("the tool aborts: ") for reason in score.undefined["metrics"].values())
        return
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
    record = score_task("burst-class-guided", folder / "gt", folder / "predictions.json").record()
    assert record["protocol"] == {"name": "burst-class-guided", "version": "2"}
    assert record["metrics"]["HOTA_all"] == pytest.approx(1)  # boxes agree, masks do not
    assert record["metrics"]["AP_all"] == 0
    assert record["corrected"]["HOTA_all"] < 0.9
    assert set(record["undefined"]["metrics"]) == {k for k, v in record["metrics"].items() if v is None}


def test_corrected_numbers_ignore_empty_masks(golden: Path) -> None:
    bare, padded = golden / "burst_exemplar", golden / "burst_null_masks"
    scores = [score_task("burst-class-guided", f / "gt", f / "predictions.json") for f in (bare, padded)]
    assert scores[0].metrics["HOTA_all"] == pytest.approx(0.5062, abs=1e-4)
    assert scores[1].metrics["HOTA_all"] == pytest.approx(0.4597, abs=1e-4)
    assert scores[0].corrected == scores[1].corrected


def test_a_predicted_track_zero_blocks_when_corrected(golden: Path) -> None:
    folder = golden / "burst_track_id_zero"
    score = score_task("burst-class-guided", folder / "gt", folder / "predictions.json")
    assert score.metrics["AP_all"] == pytest.approx(0.03850, abs=1e-5)
    assert score.corrected["AP_all"] == pytest.approx(0.03388, abs=1e-5)


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


@pytest.mark.parametrize("name", [f.name for f in fields(OFFICIAL_RULES)])
def test_each_quirk_can_be_switched_off_alone(golden: Path, name: str) -> None:
    case, task, key = {
        "boxes_for_masks": ("burst_same_boxes_thin_masks", "burst-class-guided", "HOTA_all"),
        "empty_masks_count": ("burst_null_masks", "burst-class-guided", "HOTA_all"),
        "track_zero_reusable": ("burst_track_id_zero", "burst-class-guided", "AP_all"),
        "open_world_is_class_one": ("burst_tasks", "burst-open-world", "OWTA_all"),
        "exemplar_ids_of_predictions": ("burst_exemplar_class_agnostic", "burst-exemplar-guided", "HOTA_all"),
        "frames_in_file_order": ("burst_frames_unsorted_small", "burst-class-guided", "AP_all"),
        "aborts": ("burst_exemplar_no_track_category", "burst-exemplar-guided", "HOTA_all"),
    }[name]
    folder = golden / case
    switched = replace(OFFICIAL_RULES, **{name: False})
    scores = [score_task(task, folder / "gt", folder / "predictions.json", r) for r in (OFFICIAL_RULES, switched)]
    changed = {k for k, v in scores[0].metrics.items() if v != scores[1].metrics[k]}
    if name == "open_world_is_class_one":
        assert not changed  # no video of the case has a flag for class 1; the next test sets one
    else:
        assert key in changed
        of_tracks_only = name in ("track_zero_reusable", "frames_in_file_order")
        assert all(k.startswith("AP") for k in changed) == of_tracks_only


def test_the_open_world_obeys_the_flags_of_class_one_unless_corrected(golden: Path, tmp_path: Path) -> None:
    folder = golden / "burst_tasks"
    for path in (folder / "gt").iterdir():
        document = json.loads(path.read_text())
        for listed in document["sequences"]:
            listed["not_exhaustive_category_ids"] = [1]
        (tmp_path / path.name).write_text(json.dumps(document))
    score = score_task("burst-open-world", tmp_path, folder / "predictions.json")
    assert score.metrics["OWTA_all"] == pytest.approx(0.7668, abs=1e-4)
    repaired = score_task("burst-open-world", tmp_path, folder / "predictions.json", replace(OFFICIAL_RULES, **{
        "open_world_is_class_one": False,
    }))  # fmt: skip
    assert repaired.metrics["OWTA_all"] == pytest.approx(0.7492, abs=1e-4)


def test_several_tasks_read_the_predictions_once(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = golden / "burst_merged_distractors"
    files = folder / "gt", folder / "predictions.json"
    alone = {task: score_task(task, *files).record() for task in BURST_TASKS}
    read: list[Path] = []
    original = burst_tasks.read_burst_predictions

    def counted(reader: Any, *others: Any) -> Any:
        read.append(reader.path)
        return original(reader, *others)

    monkeypatch.setattr(burst_tasks, "read_burst_predictions", counted)
    together = score_tasks(BURST_TASKS, *files)
    assert {task: one.record() for task, one in together.items() if isinstance(one, BurstScore)} == alone
    assert read == [files[1]]


def test_a_task_that_fails_leaves_the_others(golden: Path, tmp_path: Path) -> None:
    folder = golden / "burst_merged_distractors"
    shutil.copy(folder / "gt" / "all_classes.json", tmp_path)
    outcomes = score_tasks(BURST_TASKS, tmp_path, folder / "predictions.json")
    assert "common_classes.json" in str(outcomes["burst-open-world"])
    alone = score_task("burst-class-guided", tmp_path, folder / "predictions.json")
    guided = outcomes["burst-class-guided"]
    assert isinstance(guided, BurstScore)
    assert guided.record() == alone.record()


def test_a_mask_that_another_truth_changes_is_compared_for_itself(golden: Path, tmp_path: Path) -> None:
    folder = golden / "burst_merged_distractors"
    for name in ("all", "common", "uncommon"):
        shutil.copy(folder / "gt" / f"{name}_classes.json", tmp_path)
    before = score_task("burst-open-world", tmp_path, folder / "predictions.json")
    path = tmp_path / "uncommon_classes.json"
    truth = json.loads(path.read_text())
    first = next(one for one in truth["sequences"] if any(one["segmentations"]))
    every_pixel = coco.encode(np.ones((first["height"], first["width"]), np.uint8, order="F"))["counts"].decode()
    for frame in first["segmentations"]:
        for mask in frame.values():
            mask["rle"] = every_pixel
    path.write_text(json.dumps(truth))
    after = score_task("burst-open-world", tmp_path, folder / "predictions.json")
    changed = {key for key in before.metrics if before.metrics[key] != after.metrics[key]}
    assert changed
    assert all(key.endswith("_uncommon") for key in changed)


def test_rules_may_be_the_corrected_ones(golden: Path) -> None:
    folder = golden / "burst_tasks"
    for task in BURST_TASKS[::2]:
        score = score_task(task, folder / "gt", folder / "predictions.json", CORRECTED_RULES)
        assert score.metrics == score.corrected


def test_a_perfect_file_scores_one(tmp_path: Path) -> None:
    score = score_task("burst-class-guided", *written(tmp_path, sequence(), sequence()))
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
        score_task(task, *written(tmp_path, sequence(), sequence(**changes)))
    assert words in str(refusal.value)


def test_other_splits_missing_files_and_strange_frames(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='split "test"'):
        score_task("burst-class-guided", *written(tmp_path, sequence(), sequence(), split="test"))
    with pytest.raises(UserError, match="all_classes"):
        score_task("burst-class-guided", tmp_path / "nowhere", tmp_path / "predictions.json")
    more = sequence(annotated_image_paths=["frame0001.jpg", "frame0002.jpg"])
    more["segmentations"] = more["segmentations"] * 2
    paths = written(tmp_path, sequence(), more)
    score = score_task("burst-class-guided", *paths)
    assert score.metrics["HOTA_all"] == pytest.approx(1)
    assert score.record()["warnings"] == [
        {
            "kind": "mask in a frame that is not annotated, left out",
            "count": 1,
            "first": f"{paths[1]}, val/d/s/frame0002.jpg, track 7",
        }
    ]
    with pytest.raises(UserError, match=r"frame0002\.jpg, track 7: mask in a frame that is not annotated"):
        score_task("burst-class-guided", *paths, strict=True)


def test_masks_of_unknown_sequences_and_classes_are_left_out_and_counted(tmp_path: Path) -> None:
    elsewhere = score_task("burst-open-world", *written(tmp_path, sequence(), sequence(seq_name="other")))
    assert elsewhere.metrics["OWTA_all"] == 0
    assert [(w["kind"], w["count"]) for w in elsewhere.warnings] == [
        ("mask in a sequence that the truth does not have, left out", 1),
        ("video without any prediction", 1),
    ]
    foreign = sequence(track_category_ids={"7": 99999})
    score = score_task("burst-class-guided", *written(tmp_path, sequence(), foreign))
    assert score.metrics["HOTA_all"] == 0
    assert score.warnings[0]["first"].endswith("predictions.json, class 99999")


def test_repeated_tracks_and_masks_beyond_the_cap_are_counted(tmp_path: Path) -> None:
    mask = sequence()["segmentations"][0]["7"]
    names = [str(n) for n in range(7, 10)]
    twins = sequence(segmentations=[dict.fromkeys(names, mask)], track_category_ids=dict.fromkeys(names, 13))
    for task in ("burst-class-guided", "burst-open-world"):
        (warning,) = score_task(task, *written(tmp_path, sequence(), twins)).warnings
        assert (warning["kind"], warning["count"]) == (TWIN, 2)
        assert warning["first"].endswith("predictions.json, val-d-s, track 8")
    nothing = {**mask, "rle": box(20, 30, 0, 0, 0, 0)["counts"]}
    empty = sequence(
        segmentations=[{"7": mask, "8": nothing, "9": nothing}], track_category_ids=dict.fromkeys(names, 13)
    )
    assert score_task("burst-class-guided", *written(tmp_path, sequence(), empty)).warnings == []
    others = sequence(
        segmentations=[{n: {**mask, "score": int(n) / 10} for n in names}],
        track_category_ids=dict.fromkeys(names, 13),
    )
    assert score_task("burst-class-guided", *written(tmp_path, sequence(), others)).warnings == []
    names = [str(n) for n in range(1, 303)]
    many = sequence(
        segmentations=[{n: {**mask, "score": int(n) / 1000} for n in names}],
        track_category_ids=dict.fromkeys(names, 13),
    )
    (warning,) = score_task("burst-class-guided", *written(tmp_path, sequence(), many)).warnings
    assert (warning["kind"], warning["count"]) == ("mask beyond the best 300 of its image, left out", 2)


def moving(track: int, lefts: list[int], **changes: Any) -> dict[str, Any]:
    """A sequence of one track: a 10 x 10 box, further right from frame to frame."""
    masks = [{str(track): {"rle": box(20, 60, 0, left, 10, left + 10)["counts"], **changes}} for left in lefts]
    paths = [f"frame{f}.jpg" for f in range(len(lefts))]
    return sequence(width=60, annotated_image_paths=paths, segmentations=masks, track_category_ids={str(track): 13})


def test_numbers_by_hand(tmp_path: Path) -> None:
    # the first frame is hit, the second missed: shared 100 of 100 + 200 pixels
    score = score_task("burst-class-guided", *written(tmp_path, moving(1, [0, 20]), moving(9, [0, 40])))
    assert score.metrics["DetA_all"] == pytest.approx(1 / 3)
    assert score.metrics["AssA_all"] == pytest.approx(1 / 3)  # one shared frame of three
    assert score.metrics["HOTA_all"] == pytest.approx(1 / 3)
    assert score.metrics["AP_all"] == 0
    # half the box is shared in each frame: IoU 50 / 150, above six of the nineteen thresholds
    score = score_task("burst-class-guided", *written(tmp_path, moving(1, [0, 20]), moving(9, [5, 25])))
    assert score.metrics["DetA_all"] == pytest.approx(6 / 19)
    # nine tenths are shared: IoU 90 / 110 = 0.818, above seven of the ten thresholds
    score = score_task("burst-class-guided", *written(tmp_path, moving(1, [0, 20]), moving(9, [1, 21])))
    assert score.metrics["AP_all"] == pytest.approx(0.7)


def exemplars(*tracks: tuple[int, int, int | None]) -> dict[str, Any]:
    """A sequence of two frames with a box per track: its id, its left edge, and its class if it states one."""
    masks = {str(t): {"rle": box(20, 60, 0, left, 10, left + 10)["counts"]} for t, left, _ in tracks}
    classes = {str(t): category for t, _, category in tracks if category is not None}
    paths = ["frame1.jpg", "frame2.jpg"]
    return sequence(width=60, annotated_image_paths=paths, segmentations=[masks] * 2, track_category_ids=classes)


def test_an_exemplars_class_is_the_predictions_own_for_burst_and_the_truths_for_trackeval(tmp_path: Path) -> None:
    truth, other = exemplars((1, 0, 13), (2, 20, 13)), exemplars((1, 0, 13), (2, 20, 4))
    score = score_task("burst-exemplar-guided", *written(tmp_path, truth, other))
    assert score.metrics["DetA_all"] == pytest.approx(0.5)  # one of two is found in class 13
    assert score.trackeval == score.corrected
    assert score.corrected["HOTA_all"] == pytest.approx(1)
    assert score.record()["trackeval"] == score.trackeval
    assert score.record()["undefined"]["trackeval"].keys() == score.record()["undefined"]["metrics"].keys()
    guided = score_task("burst-class-guided", *written(tmp_path, truth, other))
    assert guided.metrics == score.metrics  # the two differ in what is filtered, and nothing is here
    assert guided.trackeval is None
    assert "trackeval" not in guided.record()


def test_an_exemplar_that_the_truth_lacks_ends_trackeval_only(tmp_path: Path) -> None:
    paths = written(tmp_path, exemplars((1, 0, 13)), exemplars((1, 0, 13), (2, 20, 13)))
    score = score_task("burst-exemplar-guided", *paths)
    assert score.metrics["DetA_all"] == score.corrected["DetA_all"] == pytest.approx(0.5)  # one hit, one false alarm
    assert [w["kind"] for w in score.warnings] == [
        "mask of a track that the truth does not have, kept with its own id and class in corrected"
    ]
    assert score.trackeval is not None
    assert set(score.trackeval.values()) == {None}
    reason = score.undefined["trackeval"]["HOTA_all"]
    assert reason.startswith("the tool aborts: ")
    assert "frame1.jpg, track 2: is not a track of the truth" in reason


@pytest.mark.parametrize(("task", "key", "left"), [
    ("burst-class-guided", "DetA_all", 0.5),
    ("burst-exemplar-guided", "DetA_all", 1.0),
    ("burst-open-world", "DetRe_all", 1.0),
])  # fmt: skip
def test_a_track_without_a_class_ends_the_official_tool_only(tmp_path: Path, task: str, key: str, left: float) -> None:
    paths = written(tmp_path, exemplars((1, 0, 13), (2, 20, 13)), exemplars((1, 0, 13), (2, 20, None)))
    score = score_task(task, *paths)
    assert set(score.metrics.values()) == {None}
    assert "frame1.jpg, track 2: has no category" in score.undefined["metrics"][key]
    assert score.corrected[key] == pytest.approx(left)
    warned = [w for w in score.warnings if w["kind"] == "mask without a category, left out"]
    assert [w["count"] for w in warned] == ([2] if task == "burst-class-guided" else [])
    if score.trackeval is not None:
        assert score.trackeval[key] == pytest.approx(1)
    with pytest.raises(UserError, match="track 2: has no category"):
        score_task(task, *paths, strict=True)


def test_a_tracks_class_is_that_of_its_first_frame_in_the_file_or_by_number(tmp_path: Path) -> None:
    truth = moving(1, [0, 20])
    predicted = moving(9, [20, 0])
    predicted["annotated_image_paths"] = ["frame1.jpg", "frame0.jpg"]
    predicted["segmentations"][0]["9"]["category_id"] = 4
    score = score_task("burst-class-guided", *written(tmp_path, truth, predicted))
    assert (score.metrics["AP_all"], score.corrected["AP_all"]) == (0, pytest.approx(1))


def test_sequences_without_predictions_are_counted(tmp_path: Path) -> None:
    folder, out = written(tmp_path, sequence(), sequence(segmentations=[{}]))
    score = score_task("burst-class-guided", folder, out)
    assert score.warnings == [{"kind": "video without any prediction", "count": 1, "first": f"{out}, val-d-s"}]
    assert set(score.metrics.values()) <= {0.0, None}
    for task in BURST_TASKS:
        out.write_text(json.dumps({"split": "val", "sequences": []}))
        (missing,) = [w for w in score_task(task, folder, out).warnings if "without any" in w["kind"]]
        assert (missing["count"], missing["first"]) == (1, f"{out}, val-d-s")
    with pytest.raises(UserError, match="video without any prediction"):
        score_task("burst-class-guided", folder, out, strict=True)


def test_masks_outside_the_annotated_frames_need_neither_class_nor_exemplar(tmp_path: Path) -> None:
    more = sequence(annotated_image_paths=["frame0001.jpg", "frame0002.jpg"])
    more["segmentations"] = [*more["segmentations"], {"9": more["segmentations"][0]["7"]}]
    for task in BURST_TASKS:
        score = score_task(task, *written(tmp_path, sequence(), more))
        values = score.metrics | score.corrected | (score.trackeval or {})
        assert all(v == pytest.approx(1) for k, v in values.items() if k.endswith("_all"))


@pytest.mark.parametrize("seed", range(24))
def test_random_scenes_agree_with_a_slow_evaluator(tmp_path: Path, seed: int) -> None:
    truth, predicted = scene(seed)
    (tmp_path / "all_classes.json").write_text(json.dumps(truth))
    (tmp_path / "predictions.json").write_text(json.dumps(predicted))
    guided = score_task("burst-class-guided", tmp_path, tmp_path / "predictions.json")
    exemplar = score_task("burst-exemplar-guided", tmp_path, tmp_path / "predictions.json")
    for found, by_exemplar, ids_of_truth in (
        (guided.metrics, False, False),
        (exemplar.metrics, True, False),
        (exemplar.trackeval, True, True),
    ):
        assert found == pytest.approx(numbers(truth, predicted, by_exemplar, ids_of_truth), abs=1e-9)


def test_numbers_do_not_depend_on_the_number_of_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, document in zip(("all_classes", "predictions"), scene(5), strict=True):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    records = []
    for cores in (1, 3):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        score = score_task("burst-class-guided", tmp_path, tmp_path / "predictions.json")
        classes = {k: {f: str(v) for f, v in families.items()} for k, families in score.classes.items()}
        records.append(json.dumps([score.record(), classes]))
    assert records[0] == records[1]


def test_masks_of_another_size_than_the_truths_are_refused(tmp_path: Path) -> None:
    """They have no overlap: pycocotools never returns from comparing them."""
    masks = [{"7": {"rle": box(21, 30, 2, 2, 9, 9)["counts"]}}]
    paths = written(tmp_path, sequence(), sequence(height=21, segmentations=masks))
    for task in BURST_TASKS:
        with pytest.raises(UserError, match=r"sequence 1 \(s\): has frames of 21x30 pixels, the truth of 20x30"):
            score_task(task, *paths)
    paths = written(tmp_path, sequence(), sequence(height=30, width=20))  # as many pixels: the truth's size counts
    assert score_task("burst-class-guided", *paths).metrics["HOTA_all"] == pytest.approx(1)


def test_the_order_of_frames_in_a_file_changes_official_numbers_only(golden: Path, tmp_path: Path) -> None:
    """Two tracks of equal score: the one whose first frame is first ranks first, by the file or by frame number."""
    folder = golden / "burst_frames_unsorted_small"
    score = score_task("burst-class-guided", folder / "gt", folder / "predictions.json")
    assert score.metrics["AP_all"] == pytest.approx(0.2272277227722772, abs=1e-12)
    truth = json.loads((folder / "gt" / "all_classes.json").read_text())
    predicted = json.loads((folder / "predictions.json").read_text())
    for document in (truth, predicted):
        for listed in document["sequences"]:
            order = sorted(range(len(listed["segmentations"])), key=listed["annotated_image_paths"].__getitem__)
            for key in ("annotated_image_paths", "segmentations"):
                listed[key] = [listed[key][i] for i in order]
    (tmp_path / "all_classes.json").write_text(json.dumps(truth))
    (tmp_path / "predictions.json").write_text(json.dumps(predicted))
    by_number = score_task("burst-class-guided", tmp_path, tmp_path / "predictions.json")
    assert by_number.metrics["AP_all"] != pytest.approx(score.metrics["AP_all"], abs=0.1)
    assert by_number.corrected == score.corrected


def test_a_track_twice_in_a_frame_is_refused_also_in_two_sequences_of_one_name(tmp_path: Path) -> None:
    folder, out = written(tmp_path, sequence(), sequence())
    out.write_text(json.dumps({"split": "val", "sequences": [sequence(), sequence(id=2)]}))
    with pytest.raises(UserError, match=r"val/d/s/frame0001.jpg, track 7: occurs twice"):
        score_task("burst-class-guided", folder, out)
    apart = sequence(id=2, segmentations=[{"8": {"rle": box(20, 30, 12, 12, 15, 15)["counts"]}}])
    apart["track_category_ids"] = {"8": 4}
    out.write_text(json.dumps({"split": "val", "sequences": [sequence(), apart]}))
    assert score_task("burst-class-guided", folder, out).metrics["HOTA_all"] == pytest.approx(1)


def test_predictions_without_a_split_are_of_the_truths_the_truth_needs_one(tmp_path: Path) -> None:
    folder, out = written(tmp_path, sequence(), sequence())
    out.write_text(json.dumps({"sequences": [sequence()]}))
    assert score_task("burst-class-guided", folder, out).metrics["HOTA_all"] == pytest.approx(1)
    (folder / "all_classes.json").write_text(json.dumps({"sequences": [sequence()]}))
    with pytest.raises(UserError, match=r"all_classes.json: names no split"):
        score_task("burst-class-guided", folder, out)


def test_an_exemplar_without_masks_is_left_out_by_trackeval_and_counted(golden: Path) -> None:
    folder = golden / "burst_exemplar_guided_1_24"
    score = score_task("burst-exemplar-guided", folder / "gt", folder / "predictions.json")
    kind = "mask of an exemplar that has no annotated mask, left out in corrected and trackeval"
    warned = {w["kind"]: w for w in score.warnings}[kind]
    assert warned["count"] == 1
    assert warned["first"].endswith("predictions.json, val/BDD/s1/frame0030.jpg, track 7")


def test_a_track_that_names_no_exemplar_may_find_an_object_when_corrected(golden: Path) -> None:
    folder = golden / "burst_exemplar_unknown_track"
    score = score_task("burst-exemplar-guided", folder / "gt", folder / "predictions.json")
    assert score.metrics["HOTA_all"] == score.corrected["HOTA_all"] == pytest.approx(1)


def test_a_truths_mask_has_the_class_of_its_track(tmp_path: Path) -> None:
    truth = sequence()
    truth["segmentations"][0]["7"]["category_id"] = 4  # counts in predictions only
    assert score_task("burst-class-guided", *written(tmp_path, truth, sequence())).metrics["HOTA_all"] == pytest.approx(
        1
    )


def test_truths_go_by_frame_number_too_when_corrected(tmp_path: Path) -> None:
    """A track that overlaps two objects equally finds the later one, here the one that another track needs."""
    truth = exemplars((1, 0, 13), (2, 0, 13))
    mask = truth["segmentations"][0]["1"]
    truth["segmentations"] = [{"1": mask}, {"2": mask}]
    predicted = exemplars((1, 0, 13), (2, 0, 13))
    predicted["segmentations"] = [{"1": mask | {"score": 0.9}}, {"1": mask | {"score": 0.9}, "2": mask}]
    predicted["segmentations"][1]["2"] = mask | {"score": 0.5}
    scores = []
    for order in ((0, 1), (1, 0)):
        listed = {key: [truth[key][i] for i in order] for key in ("annotated_image_paths", "segmentations")}
        scores.append(score_task("burst-class-guided", *written(tmp_path, truth | listed, predicted)))
    assert scores[0].metrics["AP_all"] != scores[1].metrics["AP_all"]
    assert scores[0].corrected == scores[1].corrected


@given(
    st.sampled_from(sorted(sequence())),
    st.none() | st.integers() | st.text(max_size=4) | st.lists(st.integers() | st.text(max_size=3), max_size=2)
    | st.dictionaries(st.text("07x", max_size=3), st.integers() | st.dictionaries(st.just("rle"), st.text(max_size=4))),
    st.sampled_from(BURST_TASKS),
)  # fmt: skip
def test_any_other_value_is_scored_or_refused(key: str, value: Any, task: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), sequence(), sequence(**{key: value}))
        refusal, numbers = "", [-1.0]
        try:
            score = score_task(task, *paths)
            numbers = [v for v in (score.metrics | score.corrected).values() if v is not None]
        except UserError as error:
            refusal = error.where
    assert "predictions.json" in refusal or all(0 <= v <= 1 + 1e-12 for v in numbers)
