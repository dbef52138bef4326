"""Fixed AP against a slow implementation of its definition, on random data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fixed_ap_reference import RANGES, Rules, fixed_ap, presence, random_data, with_further_fields

from harness.formats.youtube_vis import read_annotations
from harness.scoring.protocols import choose_protocol
from harness.scoring.score import Score, score_results

CUTS = (1, 3, 10_000)


def scored(name: str, most: int, truth: dict[str, Any], results: list[dict[str, Any]], folder: Path) -> Score:
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    chosen = choose_protocol(name, None, most)
    return score_results(chosen, read_annotations(folder / "gt.json"), folder / "results.json")


def same(score: Score, expected: dict[str, float | None], suffix: str, results: list[Any], place: Any) -> None:
    for key, value in expected.items():
        if results or value is None:  # the official tool aborts on an empty list
            found = score.metrics.values[key + suffix]
            assert found == (value if value is None else pytest.approx(value, abs=1e-12)), (*place, key + suffix)


@pytest.mark.parametrize("seed", range(8))
def test_random_data(seed: int, tmp_path: Path) -> None:
    truth, results = random_data(seed)
    for name, crowds in (("ytvis-fixed", True), ("lvvis-fixed", False)):
        for most in CUTS:
            score = scored(name, most, truth, results, tmp_path)
            same(score, fixed_ap(truth, results, most, Rules(crowds)), "", results, (name, most))


@pytest.mark.parametrize("seed", range(12))
def test_random_data_of_ovis(seed: int, tmp_path: Path) -> None:
    """Occlusion too: truth outside a range is ignored, and tracks never are."""
    truth, results = random_data(seed)
    truth = with_further_fields(seed, truth)
    for most in CUTS:
        score = scored("ovis-fixed", most, truth, results, tmp_path)
        same(score, fixed_ap(truth, results, most, Rules()), "", results, (seed, most))
        for name, bounds in RANGES.items():
            expected = fixed_ap(truth, results, most, Rules(occlusion=bounds))
            of_range = {name: expected["AP"], f"AR{name[2:]}": expected["AR"]}
            same(score, of_range, "", results, (seed, most))


@pytest.mark.parametrize("seed", range(12))
def test_random_data_of_burst(seed: int, tmp_path: Path) -> None:
    """Its groups, a truth that is found again and again, ids from 0; and words that a video lists as absent."""
    truth, results = random_data(seed)
    truth = with_further_fields(seed, truth)
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = 0
    groups = {
        "": {category["id"] for category in truth["categories"]},
        "b": {category["id"] for category in truth["categories"] if category["frequency"] in "cf"},
        "n": {category["id"] for category in truth["categories"] if category["frequency"] == "r"},
        "c": {category["id"] for category in truth["categories"] if category["split"] == "common"},
        "u": {category["id"] for category in truth["categories"] if category["split"] == "uncommon"},
    }
    for most in CUTS:
        score = scored("burst-fixed", most, truth, results, tmp_path)
        for suffix, members in groups.items():
            rules = Rules(False, reusable=True, members=frozenset(members))
            same(score, fixed_ap(truth, results, most, rules), suffix, results, (seed, most))
        counts = presence(truth, results)
        if any(set(v["neg_category_ids"]) - set(v["not_exhaustive_category_ids"]) for v in truth["videos"]):
            found = score.record()["slices"]["presence"]
            assert tuple(found[key] for key in ("IL_TP", "IL_FP", "IL_TN", "IL_FN")) == counts, (seed, most)
            tp, fp, tn, fn = counts
            product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
            assert found["IL_MCC"] == pytest.approx((tp * tn - fp * fn) / (product**0.5 + 1e-6), abs=1e-12)
            assert found["IL_FPR"] == pytest.approx(fp / (fp + tn + 1e-6), abs=1e-12)
