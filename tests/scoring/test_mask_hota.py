"""Mask HOTA and Fixed AP: the official numbers, what is corrected, and what odd input gets.

Tests of `harness/scoring/clear.py` and `harness/scoring/frame_use.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hota_reference import class_scores, scene
from pycocotools import mask as coco
from vis_documents import box, document, perfect

from harness.errors import UserError
from harness.formats.youtube_vis import annotations_from_document, read_annotations
from harness.masks import Rle
from harness.run_folder.store import PredictionStore
from harness.scoring.hota import combine
from harness.scoring.mask_hota import EMPTY_MASKS, MASK_HOTA_METRICS, SAME_FOLDER, SAME_NAME
from harness.scoring.protocols import choose_protocol, expand_protocols
from harness.scoring.score import TRACK_OF_UNKNOWN_VIDEO, Score, score_by_protocols, score_results, score_store
from harness.types import Track, Video

DATA = Path(__file__).parents[1] / "data"
CASES = sorted(p.name for p in (DATA / "hota_masks").iterdir())
NO_NUMBERS = ("other_size", "polygons")


def score_case(case: str, threshold: float | None = None) -> Score:
    folder = DATA / "hota_masks" / case
    return score_results(
        choose_protocol("hota", threshold), read_annotations(folder / "gt.json"), folder / "predictions.json"
    )


def expected(case: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / "hota_masks" / case / "expected.json").read_text())
    return found


def official(case: str, side: str) -> dict[str, Any]:
    """The numbers of TrackEval, or of its copy, which reads compressed truth."""
    found: dict[str, Any] = expected(case)["sam3_copy" if case == "compressed_truth" else side]
    return found


def assert_equal(values: dict[str, float | None], given: dict[str, Any], end: str) -> None:
    for name in MASK_HOTA_METRICS:
        value = values[name + end]
        assert value is not None
        assert value == pytest.approx(given["values"][name], abs=1e-12), name + end


@pytest.mark.parametrize("case", [c for c in CASES if c not in NO_NUMBERS])
def test_official_numbers(case: str) -> None:
    score, given = score_case(case), official(case, "trackeval")
    assert_equal(score.metrics.values, given["class_averaged"], "")
    assert_equal(score.metrics.values, given["detection_averaged"], "_det")
    assert score.metrics.undefined == {}
    rows = {str(row["id"]): row for row in score.per_category}
    for number, of_class in given["classes"].items():
        for name in MASK_HOTA_METRICS:
            if rows[number]["truths"]:
                assert rows[number][name] == pytest.approx(of_class["values"][name], abs=1e-12)


@pytest.mark.parametrize("case", [c for c in CASES if c not in (*NO_NUMBERS, "compressed_truth", "same_folder")])
def test_corrected_counts_categories_with_truth(case: str) -> None:
    score, given = score_case(case), official(case, "trackeval_classes_with_truth")
    assert_equal(score.corrected.values, given["class_averaged"], "")
    assert_equal(score.corrected.values, given["detection_averaged"], "_det")


CUTS = [
    (case, int(cut))
    for case in sorted(p.name for p in (DATA / "fixed_ap").iterdir())
    for cut in json.loads((DATA / "fixed_ap" / case / "expected.json").read_text())["fixed"]
]


@pytest.mark.parametrize(("case", "cut"), CUTS)
def test_fixed_ap(case: str, cut: int) -> None:
    folder = DATA / "fixed_ap" / case
    given = json.loads((folder / "expected.json").read_text())["fixed"][str(cut)]
    chosen = choose_protocol("ytvis-fixed", tracks_per_category=cut)
    score = score_results(chosen, read_annotations(folder / "gt.json"), folder / "predictions.json")
    for name in ("AP", "AP50", "AP75", "AR"):
        assert score.metrics.values[name] == pytest.approx(given[name], abs=1e-12), name
    rows = {str(row["id"]): row["AP"] for row in score.per_category}
    assert rows == {k: v if v is None else pytest.approx(v, abs=1e-12) for k, v in given["per_category"].items()}
    assert score.counts["tracks_kept"] == given["kept"]
    assert score.counts["categories_with_fewer_tracks"] == given["categories_with_fewer"]
    assert score.record()["protocol"] == {"name": "ytvis-fixed", "version": "1", "tracks_per_category": cut}


@pytest.mark.parametrize(("case", "given"), json.loads((DATA / "hota_masks_clear.json").read_text()).items())
def test_clear_and_identity_equal_trackeval(case: str, given: dict[str, float]) -> None:
    """What TrackEval gives with metrics CLEAR and Identity on the same files."""
    values = score_case(case).metrics.values
    assert {key: values[key] for key in given} == pytest.approx(given, abs=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_equal_to_a_plain_reference(tmp_path: Path, seed: int) -> None:
    made, predictions = scene(seed)
    file = tmp_path / "results.json"
    file.write_text(json.dumps(predictions))
    score = score_results("hota", annotations_from_document(made, "made"), file)
    classes = class_scores(made, predictions)
    owned = {a["category_id"] for a in made["annotations"]}
    sides = ((score.metrics, list(classes.values())), (score.corrected, [classes[i] for i in classes if i in owned]))
    for metrics, parts in sides:
        if not parts:
            assert metrics.undefined["HOTA"] == "no annotated track: the videos have no annotations"
            continue
        pooled = combine(parts).values()
        for name in MASK_HOTA_METRICS:
            mean = np.mean([part.values()[name].mean() for part in parts])
            assert metrics.values[name] == pytest.approx(mean, abs=1e-12), name
            assert metrics.values[f"{name}_det"] == pytest.approx(pooled[name].mean(), abs=1e-12), name


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_a_threshold_keeps_scores_from_it_on(threshold: float) -> None:
    given = official(f"ordinary_score_{round(100 * threshold)}", "trackeval")
    score = score_case("ordinary", threshold)
    assert_equal(score.metrics.values, given["class_averaged"], "")
    assert score.record()["protocol"]["score_threshold"] == threshold
    assert score.counts["tracks"] + score.counts["tracks_below_threshold"] == 12
    assert not any("score threshold" in w["kind"] for w in score.warnings)
    assert any("score threshold" in w["kind"] for w in score_case("ordinary").warnings)


def test_polygons_are_drawn_as_coco_draws_them() -> None:
    drawn = score_case("polygons")
    folder = DATA / "hota_masks" / "polygons"
    made, predictions = (json.loads((folder / f"{name}.json").read_text()) for name in ("gt", "predictions"))
    assert any(isinstance(m, list) for a in made["annotations"] for m in a["segmentations"])
    classes = class_scores(compressed(made), predictions)
    mean = np.mean([one.values()["HOTA"].mean() for one in classes.values()])
    assert drawn.metrics.values["HOTA"] == pytest.approx(mean, abs=1e-12)


def test_a_mask_of_another_size_aborts_the_official_tool_only() -> None:
    score = score_case("other_size")
    assert set(score.metrics.values.values()) == {None}
    assert "the official tool aborts: " in score.metrics.undefined["HOTA"]
    assert "has a mask of another size than annotation" in score.metrics.undefined["HOTA"]
    assert score.corrected.values["HOTA"] is not None


def test_of_videos_in_one_folder_the_official_tool_sees_the_last() -> None:
    score = score_case("same_folder")
    [warning] = [w for w in score.warnings if w["kind"] == SAME_FOLDER]
    assert warning["count"] == 1
    assert warning["first"].endswith("gt.json, video 1")
    folder = DATA / "hota_masks" / "same_folder"
    made, predictions = (json.loads((folder / f"{name}.json").read_text()) for name in ("gt", "predictions"))
    classes = class_scores(compressed(made), predictions)
    owned = {a["category_id"] for a in made["annotations"]}
    mean = np.mean([classes[i].values()["HOTA"].mean() for i in owned])
    assert score.corrected.values["HOTA"] == pytest.approx(mean, abs=1e-12)
    assert score.corrected.values["HOTA"] != pytest.approx(score.metrics.values["HOTA"], abs=1e-3)


def compressed(made: dict[str, Any]) -> dict[str, Any]:
    """A document with all masks compressed."""
    for track in made["annotations"]:
        track["segmentations"] = [
            m and {"size": list(size), "counts": coco.merge(coco.frPyObjects(m, *size))["counts"].decode()}
            if isinstance(m, list)
            else m and {"size": m["size"], "counts": coco.frPyObjects(m, *m["size"])["counts"].decode()}
            for size in ((track["height"], track["width"]),)
            for m in track["segmentations"]
        ]
    return made


Change = Callable[[dict[str, Any], list[dict[str, Any]]], Any]
ABORTS: dict[str, tuple[Change, str]] = {
    "a track with too few masks": (
        lambda gt, p: p[0]["segmentations"].pop(), r"record 0: has 1 masks for the 2 frames of its video"
    ),
    "a track of a category without truth, with too few masks": (
        lambda gt, p: (gt["annotations"].pop(), p[1]["segmentations"].pop()), "record 1: has 1 masks for the 2 frames"
    ),
    "a track without masks": (
        lambda gt, p: (p[1].update(segmentations=0), gt["annotations"].pop()), "segmentations is not a list"
    ),
    "an annotation with too few masks": (
        lambda gt, p: gt["annotations"][1]["segmentations"].pop(), "annotation 2 has 1 masks for the 2 frames"
    ),
    "an id twice": (
        lambda gt, p: gt["annotations"].append(gt["annotations"][0]), "annotation 1 occurs twice in frame 0"
    ),
    "no category": (lambda gt, p: gt.update(categories=[], annotations=[]), "lists no category"),
    "no video": (lambda gt, p: gt.update(videos=[], annotations=[]), "lists no video"),
    "an annotated mask of another size": (
        lambda gt, p: gt["annotations"][0]["segmentations"].__setitem__(0, box(25, 30, 2, 2, 12, 12)),
        "another size than annotation 1 in frame 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ABORTS)
def test_where_the_official_tool_aborts_the_reason_stands_for_its_numbers(tmp_path: Path, name: str) -> None:
    change, reason = ABORTS[name]
    truth, predictions = document(), perfect(document())
    change(truth, predictions)
    file = tmp_path / "results.json"
    file.write_text(json.dumps(predictions))
    annotations = annotations_from_document(truth, "made")
    score = score_results("hota", annotations, file)
    assert set(score.metrics.values.values()) == {None}
    assert re.search(reason, score.metrics.undefined["IDF1_det"])
    with pytest.raises(UserError):
        score_results("hota", annotations, file, strict=True)


def test_what_the_official_tool_lives_with(tmp_path: Path) -> None:
    """Masks after the last frame, an unlisted category, an unknown video, two categories of one name."""
    truth, predictions = document(), perfect(document())
    before = score_document(tmp_path, truth, predictions)
    assert before.metrics.values["HOTA"] == 1
    predictions[0]["segmentations"].append(predictions[0]["segmentations"][0])
    predictions.append({**predictions[0], "category_id": 9})
    predictions.append({**predictions[0], "video_id": 9})
    after = score_document(tmp_path, truth, predictions)
    assert after.metrics.values == before.metrics.values
    kinds = {w["kind"]: w["first"] for w in after.warnings}
    assert kinds[TRACK_OF_UNKNOWN_VIDEO].endswith("record 3: unknown video 9")
    with pytest.raises(UserError, match="record 3: unknown video 9"):
        score_results("lvvis", annotations_from_document(truth, "made"), tmp_path / "results.json")
    truth["categories"][1]["name"] = "cat"
    predictions[0]["segmentations"] = [None, None]
    named = score_document(tmp_path, truth, predictions)
    assert named.metrics.values["HOTA"] == 1  # the class that is found
    assert named.corrected.values["HOTA"] == 0.5
    assert SAME_NAME in {w["kind"] for w in named.warnings}


def test_groups_are_those_that_the_categories_state(tmp_path: Path) -> None:
    truth, predictions = document(), perfect(document())
    predictions[1]["segmentations"] = [None, predictions[1]["segmentations"][1]]
    score = score_document(tmp_path, truth, predictions)
    assert score.metrics.values["HOTAb"] == 1
    assert score.metrics.values["DetRen"] == 0.5
    assert score.metrics.values["DetRen_det"] == 0.5
    truth["categories"][1]["partition"] = 0
    score = score_document(tmp_path, truth, predictions)
    assert score.metrics.undefined["HOTAn"] == "no novel category among those that count"
    del truth["categories"][1]["partition"]
    assert "HOTAb" not in score_document(tmp_path, truth, predictions).metrics.values


def test_empty_masks_are_objects_and_told(tmp_path: Path) -> None:
    predictions = perfect(document())
    predictions[0]["segmentations"] = [predictions[0]["segmentations"][0], box(20, 30, 0, 0, 0, 0)]
    score = score_document(tmp_path, document(), predictions)
    assert score.metrics.values["DetPr_det"] == 0.75
    assert {w["kind"]: w["count"] for w in score.warnings}[EMPTY_MASKS] == 1


def score_document(folder: Path, truth: dict[str, Any], predictions: list[dict[str, Any]]) -> Score:
    file = folder / "results.json"
    file.write_text(json.dumps(predictions))
    return score_results("hota", annotations_from_document(truth, "made"), file)


@pytest.mark.parametrize("seed", range(6))
def test_several_protocols_at_once_give_what_each_gives_alone(tmp_path: Path, seed: int) -> None:
    made, predictions = scene(seed)
    file = tmp_path / "results.json"
    file.write_text(json.dumps(predictions))
    annotations = annotations_from_document(made, "made")
    chosen = [choose_protocol(name) for name in ("ytvis", "hota", "ytvis-fixed", "lvvis", "burst-corrected")]
    for one, together in zip(chosen, score_by_protocols(chosen, annotations, file), strict=True):
        if isinstance(together, UserError):
            with pytest.raises(UserError, match=re.escape(str(together))):
                score_results(one, annotations, file)
        else:
            assert json.dumps(together.record()) == json.dumps(score_results(one, annotations, file).record())


def test_a_store_gives_what_the_results_file_gives(tmp_path: Path) -> None:
    made, predictions = scene(3)
    predictions.sort(key=lambda p: p["video_id"])
    file = tmp_path / "results.json"
    file.write_text(json.dumps(predictions))
    annotations = annotations_from_document(made, "made")
    store = PredictionStore(tmp_path / "store")
    for video in annotations.videos:
        tracks = [
            Track(video.id, p["category_id"], p["score"],
                  tuple(m and Rle(tuple(m["size"]), m["counts"].encode()) for m in p["segmentations"]))
            for p in predictions if p["video_id"] == video.id
        ]  # fmt: skip
        frames: Any = range(video.length)
        store.write_video(Video(video.id, video.name, video.height, video.width, frames), tracks)
    for name in ("hota", "ytvis-fixed"):
        of_file, of_store = score_results(name, annotations, file), score_store(name, annotations, store)
        assert of_store.metrics == of_file.metrics
        assert of_store.corrected == of_file.corrected


def test_names_that_stand_for_others() -> None:
    assert expand_protocols(["lvvis", "hota", "fixed-ap"], None) == ["lvvis", "hota", "lvvis-fixed"]
    assert expand_protocols(["fixed-ap"], "ovis") == ["ovis-fixed"]
    assert expand_protocols(["all", "ovis"], "lvvis", ["hota"]) == ["lvvis", "lvvis-fixed", "hota", "ovis"]
    assert expand_protocols(["all"], "teta-tao", []) == ["teta-tao"]
    with pytest.raises(UserError, match="protocol fixed-ap: needs a dataset; name a dataset"):
        expand_protocols(["hota", "fixed-ap"], None)
    with pytest.raises(UserError, match="protocol all: needs a dataset; name a dataset, or the protocols"):
        expand_protocols(["all"], None)
