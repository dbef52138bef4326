"""Mask HOTA and Fixed AP: the official numbers, what is corrected, and what odd input gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.formats.youtube_vis import read_annotations
from harness.scoring.mask_hota import METRICS
from harness.scoring.protocols import choose_protocol
from harness.scoring.score import Score, score_results

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
    for name in METRICS:
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
        for name in METRICS:
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
