"""Each quirk by itself: switching one off gives the effect measured for it; a corrected protocol has them off."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from vis_documents import box, document, perfect

from harness.formats.youtube_vis import annotations_from_document
from harness.scoring.protocols import BURST, FIXED, LVVIS, OFFICIAL, PROTOCOLS, YTVIS, ApProtocol
from harness.scoring.quirks import Quirks
from harness.scoring.score import Score, score_results


def without(one: ApProtocol, *quirks: str) -> ApProtocol:
    return replace(one, quirks=replace(one.quirks, **dict.fromkeys(quirks, False)))


def score(golden: Path, case: str, one: ApProtocol) -> dict[str, float | None]:
    from harness.formats.youtube_vis import read_annotations

    folder = golden / case
    return score_results(one, read_annotations(folder / "gt.json"), folder / "results.json").metrics.values


@pytest.mark.parametrize(
    ("case", "one", "quirk", "metric", "official", "repaired"),
    [
        ("ordinary", BURST, "truth_reusable", "AP", 0.6190, 0.5254),
        ("ordinary", BURST, "truth_reusable", "AR100", 1.378, 0.636),
        ("many_dets", BURST, "truth_reusable", "AP", 0.1431, 0.0475),
        ("gt_id_zero", LVVIS, "id_zero_unseen", "AP", 0.7322, 0.8531),
        ("area_edges", LVVIS, "areas_cut_to_int", "APm", 0.5333, 0.4917),
        ("ids_gap_silent", LVVIS, "groups_by_position", "APb", 0.2592, 0.2525),
        ("ids_zero_based", LVVIS, "groups_by_position", "APb", 0.2399, 0.3025),
        ("ids_zero_based", LVVIS, "groups_by_position", "APn", 0.2778, 0.2361),
        ("crowd_ignore", LVVIS, "crowd_counts", "AP", 0.7267, 0.6309),
        ("crowd_ignore", LVVIS, "crowd_counts", "AR100", 1.185, 0.912),
        ("length_mismatch", LVVIS, "shorter_list_wins", "AP", 0.5615, 0.4252),
        ("size_mismatch", LVVIS, "wrong_size_vanishes", "AP", 0.4744, 0.3161),
        ("gt_track_all_none", LVVIS, "empty_truth_counts", "AP", 0.2525, 0.5000),
        ("many_dets", LVVIS, "cap_per_category", "AR100", 0.825, 0.619),
        ("gt_id_repeated", LVVIS, "repeated_id_replaces", "AP", 0.8548, 0.9628),
    ],
)
def test_one_quirk_off(
    golden: Path, case: str, one: ApProtocol, quirk: str, metric: str, official: float, repaired: float
) -> None:
    digits = 3 if metric == "AR100" else 4
    assert score(golden, case, one)[metric] == pytest.approx(official, abs=0.51 * 10**-digits)
    assert score(golden, case, without(one, quirk))[metric] == pytest.approx(repaired, abs=0.51 * 10**-digits)


def test_burst_areas_are_zero_and_come_from_masks_when_corrected(golden: Path) -> None:
    official, repaired = (score(golden, "area_edges", one) for one in (BURST, without(BURST, "areas_are_zero")))
    assert official["APs"] == official["AP"]
    assert official["APm"] is None
    assert repaired["APm"] is not None


def test_perfect_detections_score_exactly_one_without_epsilon(tmp_path: Path) -> None:
    assert of(document(), perfect(document()), tmp_path, LVVIS).metrics.values["AP"] == pytest.approx(1, abs=1e-12)
    assert of(document(), perfect(document()), tmp_path, LVVIS).metrics.values["AP"] != 1
    assert (
        of(document(), perfect(document()), tmp_path, without(LVVIS, "epsilon_in_precision")).metrics.values["AP"] == 1
    )


def of(truth: dict[str, Any], results: list[dict[str, Any]], folder: Path, one: ApProtocol) -> Score:
    path = folder / "results.json"
    path.write_text(json.dumps(results))
    return score_results(one, annotations_from_document(truth, "gt"), path)


def test_absent_categories_cost_nothing_unless_asked(tmp_path: Path) -> None:
    truth = document()
    truth["categories"].append({"id": 3, "name": "zebra", "partition": 0})
    stray = {"video_id": 1, "category_id": 3, "score": 1.0, "segmentations": [box(20, 30, 0, 0, 5, 5)] * 2}
    free = of(truth, [*perfect(truth), stray], tmp_path, LVVIS)
    assert free.metrics.values["AP"] == pytest.approx(1)
    assert free.counts["tracks_of_absent_categories"] == 1
    charged = of(truth, [*perfect(truth), stray], tmp_path, without(LVVIS, "absent_categories_free"))
    assert charged.metrics.values["AP"] == pytest.approx(2 / 3)


def test_corrected_score_ignores_the_order_of_the_file(golden: Path, tmp_path: Path) -> None:
    folder = golden / "score_ties"
    truth, results = (json.loads((folder / f"{n}.json").read_text()) for n in ("gt", "results"))
    orders = [results, results[::-1], results[::2] + results[1::2], sorted(results, key=lambda r: r["category_id"])]
    scores = [of(truth, order, tmp_path, PROTOCOLS["lvvis-corrected"]).metrics.values for order in orders]
    assert all(s == scores[0] for s in scores)
    official = {of(truth, order, tmp_path, LVVIS).metrics.values["AP"] for order in orders}
    assert len(official) > 1


def test_corrected_siblings_have_all_quirks_off_but_the_one_that_has_no_repair() -> None:
    assert set(PROTOCOLS) == {n + f + s for n in OFFICIAL for f in ("", "-fixed") for s in ("", "-corrected")}
    for name in (*OFFICIAL, *FIXED):
        quirks = PROTOCOLS[f"{name}-corrected"].quirks
        on = {f.name for f in fields(Quirks) if getattr(quirks, f.name)}
        assert on == {"absent_categories_free"}


def test_corrected_numbers_stand_beside_the_official_ones(golden: Path) -> None:
    from harness.formats.youtube_vis import read_annotations

    folder = golden / "gt_track_all_none"
    record = score_results(YTVIS, read_annotations(folder / "gt.json"), folder / "results.json").record()
    assert record["metrics"]["AP"] == pytest.approx(0.2525, abs=1e-4)
    assert record["corrected"]["AP"] == pytest.approx(0.5)
    assert record["protocol"] == {"name": "ytvis", "version": "1"}


def test_occlusion_numbers_ignore_what_is_larger_than_the_area_range_all(tmp_path: Path) -> None:
    truth = document()
    for record in truth["annotations"]:
        record["occlusion"] = ["no_occlusion", "no_occlusion"]
    results = tmp_path / "results.json"
    results.write_text(json.dumps(perfect(truth)[:1]))
    scored = score_results(OFFICIAL["ovis"], annotations_from_document(truth, "truth.json"), results).metrics.values
    assert (scored["AP"], scored["APso"]) == (pytest.approx(0.5), pytest.approx(0.5))
    truth["annotations"][1]["areas"] = [1e10, 1e10]  # the file is believed; the bound is inclusive
    scored = score_results(OFFICIAL["ovis"], annotations_from_document(truth, "truth.json"), results).metrics.values
    assert (scored["AP"], scored["APso"]) == (pytest.approx(0.5), pytest.approx(0.5))
    truth["annotations"][1]["areas"] = [1e10, 1e10 + 2]
    scored = score_results(OFFICIAL["ovis"], annotations_from_document(truth, "truth.json"), results).metrics.values
    assert (scored["AP"], scored["APso"]) == (pytest.approx(1), pytest.approx(1))


def test_masks_behind_the_truths_last_listed_frame_do_not_exist(tmp_path: Path) -> None:
    """For the IoU, official or corrected: a truth that lists two of four frames is found by a track of four."""
    truth = document(4)
    results = perfect(truth)
    for annotation in truth["annotations"]:
        annotation["segmentations"], annotation["areas"] = annotation["segmentations"][:2], annotation["areas"][:2]
    for name in ("ytvis", "ytvis-corrected"):
        assert of(truth, results, tmp_path, PROTOCOLS[name]).metrics.values["AP"] == pytest.approx(1)
    # a track that lists fewer frames than the truth has absent masks there, once corrected
    short = [{**r, "segmentations": r["segmentations"][:1]} for r in results]
    assert of(truth, short, tmp_path, PROTOCOLS["ytvis"]).metrics.values["AP"] == pytest.approx(1)
    assert of(truth, short, tmp_path, PROTOCOLS["ytvis-corrected"]).metrics.values["AP"] < 0.5


def test_a_mask_of_another_size_counts_if_the_truths_has_the_same(tmp_path: Path) -> None:
    small = box(10, 15, 1, 1, 9, 14)
    truth = document()
    for annotation in truth["annotations"]:
        annotation["segmentations"] = [annotation["segmentations"][0], small]
    results = deepcopy(perfect(truth))
    for name in ("ytvis", "ytvis-corrected"):
        assert of(truth, results, tmp_path, PROTOCOLS[name]).metrics.values["AP"] == pytest.approx(1)
    # where the truth has no mask, one that is not of the video's size is absent: no area of it enters the union
    for annotation in truth["annotations"]:
        annotation["segmentations"][1] = None
    assert of(truth, results, tmp_path, PROTOCOLS["ytvis"]).metrics.values["AP"] < 0.5
    assert of(truth, results, tmp_path, PROTOCOLS["ytvis-corrected"]).metrics.values["AP"] == pytest.approx(1)
    # and one of the video's size is absent where the truth's is of another: the truth's area counts as missed
    for annotation, result in zip(truth["annotations"], results, strict=True):
        annotation["segmentations"][1], result["segmentations"][1] = small, box(20, 30, 1, 1, 9, 14)
    assert of(truth, results, tmp_path, PROTOCOLS["ytvis"]).metrics.values["AP"] == pytest.approx(1)
    assert of(truth, results, tmp_path, PROTOCOLS["ytvis-corrected"]).metrics.values["AP"] < 0.5


@pytest.mark.parametrize("name", ["ytvis", "ytvis-corrected"])
def test_ties_at_the_cap_of_100_tracks(tmp_path: Path, name: str) -> None:
    """Official: those first in the file stay. Corrected: those that overlap a truth best, wherever they stand."""
    truth = document()
    missed = {"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [box(20, 30, 15, 15, 20, 20)] * 2}
    last = of(truth, [*[missed] * 100, *perfect(truth)], tmp_path, PROTOCOLS[name])
    first = of(truth, [*perfect(truth), *[missed] * 100], tmp_path, PROTOCOLS[name])
    assert first.metrics.values["AR100"] == pytest.approx(1)
    assert last.metrics.values["AR100"] == pytest.approx(0.5 if name == "ytvis" else 1)
