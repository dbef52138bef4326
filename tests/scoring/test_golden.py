"""Every number of the official tools: arrays bit for bit, means within 1e-12, aborts as errors or undefined.

Tests of `harness/scoring/average_precision.py`, `harness/scoring/match.py`, `harness/scoring/metrics.py`,
`harness/scoring/overlap.py`, `harness/scoring/protocols.py` and `harness/scoring/score.py`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import golden_arrays, golden_names

from harness.errors import UserError
from harness.formats.results import read_blocks
from harness.formats.youtube_vis import read_annotations
from harness.scoring.average_precision import Curves
from harness.scoring.from_results import read_batch
from harness.scoring.match import IOU_THRESHOLDS, RECALL_POINTS, match_tracks
from harness.scoring.overlap import GroundTruthArrays, MaskRules, Overlaps, concatenate, overlap
from harness.scoring.protocols import BURST, OFFICIAL, ApProtocol
from harness.scoring.score import Score, curves_of, score_results, select
from harness.warnings import Warnings

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
OVIS_NAMES = (*NAMES[:6], "APso", "APmo", "APho", *NAMES[6:], "ARso", "ARmo", "ARho")
PER_CATEGORY = {"AP_small": "APs", "AP_medium": "APm", "AP_large": "APl"}
GOLDEN = Path(__file__).parents[1] / "data" / "protocols"
DEDUP = replace(BURST, name="burst_dedup", quirks=replace(BURST.quirks, truth_reusable=False))
IDFIX = replace(DEDUP, name="burst_dedup_idfix", quirks=replace(DEDUP.quirks, id_zero_unseen=False))
REFUSED = {"foreign_video": "unknown video"}
"""Cases on which an official tool aborts and that are refused; in others its numbers are undefined, with the reason."""
VARIANTS = {**OFFICIAL, DEDUP.name: DEDUP, IDFIX.name: IDFIX}


def cases() -> list[Any]:
    """(case, protocol) of every AP case in the manifest."""
    manifest = json.loads((GOLDEN / "manifest.json").read_text())
    return [pytest.param(c["case"], p, id=f"{c['case']}-{p}") for c in manifest["cases"] for p in c["protocols"]]


def arrays(prefix: str) -> list[str]:
    return golden_names(GOLDEN, f"*/{prefix}*.npz")


def evaluate(folder: Path, one: ApProtocol) -> Score:
    """Score with a protocol that need not be among the named ones."""
    return score_results(one, read_annotations(folder / "gt.json"), folder / "results.json")


def overlaps_of(folder: Path, floor: float = 0.5) -> tuple[GroundTruthArrays, Overlaps]:
    truths = GroundTruthArrays(read_annotations(folder / "gt.json"))
    rules = (MaskRules(True, True),)
    parts = [
        overlap(truths, read_batch(b, truths, "results.json", Warnings()), rules, floor, "results.json")
        for b in read_blocks(folder / "results.json")
    ]
    return truths, concatenate(parts)


def close(value: float | None, official: float) -> bool:
    return value is None if official == -1 else value is not None and abs(value - official) <= 1e-12


@pytest.mark.parametrize(("case", "name"), cases())
def test_official_numbers(golden: Path, case: str, name: str) -> None:
    folder = golden / case
    expected = json.loads((folder / "expected.json").read_text())["protocols"][name]
    if expected["error"] and case in REFUSED:
        with pytest.raises(UserError, match=REFUSED[case]):
            evaluate(folder, VARIANTS[name])
        return
    if expected["error"]:
        score = evaluate(folder, VARIANTS[name])
        assert set(score.metrics.values.values()) == {None}
        assert set(score.metrics.undefined) == set(score.metrics.values)
        assert all("aborts" in reason for reason in score.metrics.undefined.values())
        assert score.corrected.values["AP"] is not None
        return
    score = evaluate(folder, VARIANTS[name])
    names = OVIS_NAMES if name == "ovis" else NAMES
    for suffix in ("", "_b", "_n", "_c", "_u"):
        for key, official in zip(
            names, expected.get(f"stats{suffix}", ()), strict=bool(expected.get(f"stats{suffix}"))
        ):
            if suffix and name == "ytvis":
                continue
            value = score.metrics.values[key + suffix[1:]]
            assert close(value, official), (key + suffix, value, official)
    rows = {row["id"]: row for row in score.per_category}
    for category, numbers in expected["per_category"].items():
        for key, official in numbers.items():
            assert close(rows[int(category)][PER_CATEGORY.get(key, key)], official), (category, key)


@pytest.mark.parametrize("file", arrays("arrays_"))
def test_official_arrays_bit_for_bit(golden: Path, file: str) -> None:
    path = golden / file
    expected = golden_arrays(path)
    one = VARIANTS[path.stem.removeprefix("arrays_")]
    truths, overlaps = overlaps_of(path.parent)
    curves = curves_of(one, truths, overlaps, 0, precision_caps=(1, 10, 100), with_scores=True)
    np.testing.assert_array_equal(truths.category_ids, expected["cat_ids"])
    np.testing.assert_array_equal(expected["iou_thrs"], IOU_THRESHOLDS)
    np.testing.assert_array_equal(expected["rec_thrs"], RECALL_POINTS)
    defined = dense_defined(curves, len(truths.category_ids))
    for name, mine in (("precision", curves.precision), ("scores", curves.scores)):
        out = np.full(expected[name].shape, -1.0)
        out[:, :, curves.category] = mine[..., :4, :]
        out = np.where(defined[None, None, :, :, None], out, -1.0)
        np.testing.assert_array_equal(out, expected[name], err_msg=name)
    out = np.full(expected["recall"].shape, -1.0)
    out[:, curves.category] = curves.recall[..., :4, :]
    np.testing.assert_array_equal(np.where(defined[None, :, :, None], out, -1.0), expected["recall"])


def dense_defined(curves: Curves, categories: int) -> np.ndarray:
    """Whether a cell (category, area range) has positives."""
    out = np.zeros((categories, 4), bool)
    out[curves.category] = curves.positives[:, :4] > 0
    return out


@pytest.mark.parametrize("file", arrays("iou_match_"))
def test_official_ious_and_matches(golden: Path, file: str) -> None:
    path = golden / file
    expected = golden_arrays(path)
    truths, overlaps = overlaps_of(path.parent, floor=0.0)
    selection = select(VARIANTS["lvvis"], truths)
    checked = 0
    for key in expected:
        if not key.startswith("iou_"):
            continue
        video, category = (int(part[1:]) for part in key.split("_")[1:])
        official = expected[key]
        mine = np.flatnonzero(
            (truths.video_ids[overlaps.video] == video) & (truths.category_ids[overlaps.category] == category)
        )
        mine = mine[np.argsort(-overlaps.score[mine], kind="stable")][:100]
        entries = np.array(
            [e for e, r in enumerate(selection.row)
             if truths.video_ids[truths.video[r]] == video and truths.category_ids[truths.category[r]] == category],
            np.int64,
        )  # fmt: skip
        iou = np.zeros((len(mine), len(entries)))
        for i, t in enumerate(mine):
            for j, e in enumerate(entries):
                at = overlaps.offset[t] + truths.local[selection.row[e]]
                union = overlaps.union[0, at]
                iou[i, j] = overlaps.intersection[at] / union if union else 0.0
        np.testing.assert_array_equal(iou, official.reshape(iou.shape), err_msg=key)
        checked += iou.size
        name = key.removeprefix("iou_")
        if f"dtm_{name}" not in expected or not len(mine) or not len(entries):
            continue
        found = np.empty((10, len(mine)), np.int64)
        taken = np.empty((10, len(entries)), np.int64)
        match_tracks(iou, selection.ignored[entries], selection.reusable[entries], IOU_THRESHOLDS, found, taken)
        ids = np.array([truths.truth.records[r].id for r in selection.row[entries]])
        np.testing.assert_array_equal(np.where(found >= 0, ids[found], 0), expected[f"dtm_{name}"], err_msg=key)
        order = [ids.tolist().index(i) for i in expected[f"gtid_{name}"]]
        official_taken = expected[f"gtm_{name}"]
        taken_ids = np.where(taken >= 0, overlaps.record[mine][taken] + 1, 0)
        np.testing.assert_array_equal(taken_ids[:, order], official_taken, err_msg=key)
    assert checked > 0


@pytest.mark.parametrize(
    "case",
    ["ytvis2019_split_all_present", "ytvis2019_split_some_absent", "ytvis2021_split_all_present",
     "ytvis2021_split_some_absent"],
)  # fmt: skip
def test_ytvis_base_and_novel(golden: Path, case: str) -> None:
    expected = json.loads((golden / case / "expected.json").read_text())["splits"]
    score = evaluate(golden / case, OFFICIAL["ytvis"])
    for official, mine in (("by_id_7_or_6", "by_id"), ("by_name_list", "by_name")):
        got = score.metrics.splits[mine]
        assert got["novel_ids"] == expected[official]["novel_ids"]
        for side in ("base", "novel"):
            want, have = expected[official][side], got[side]
            for key, value in zip(NAMES, want["server_stats"], strict=True):
                assert close(have["server"][key], value), (official, side, key)
            assert have["categories"] == want["categories"]
            assert have["categories_with_truth"] == want["categories_with_truth"]
            assert have["AP"] == pytest.approx(want["AP_direct_mean_over_categories_with_truth"], abs=1e-12)
            assert have["AP_rescaled"] == pytest.approx(want["AP_rescaled_by_40"], abs=1e-12)
            assert have["AP_rescaled_by_present"] == pytest.approx(want["AP_rescaled_by_present"], abs=1e-12)
    by_id = score.metrics.splits["by_id"]
    assert score.metrics.values["APb"] == by_id["base"]["AP"]
    assert score.metrics.values["APn"] == by_id["novel"]["AP"]
