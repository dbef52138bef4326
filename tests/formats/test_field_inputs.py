"""Small inputs after what people report: each scores as the official tool scores it, or is refused in one line.

``expected.csv`` has, per case and protocol, what the official tool gave when it was run on the case, and what is right
here. Cases on which it aborts and that are unambiguous score too: they are named below.

Tests of `harness/formats/foreign.py`.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations
from harness.scoring.score import Score, score_results

FOLDER = Path(__file__).parent.parent / "data" / "field_inputs"
SCORED_THOUGH_OFFICIAL_ABORTS = {"bom_ann", "bom_pred", "jsonl", "id_str_pred", "empty"}
UNDEFINED = {
    "area_nan": "areas hold a value that is not finite",
    "areas_missing": 'has no "areas"',
    "areas_scalar": "areas is not a list of numbers",
    "catid_2_63": "category ids are text or beyond 64 bits",
    "iscrowd_missing": 'has no "iscrowd"',
    "partition_str": "has no partition that is an integer",
    "unicode_long": "the official lvvis tool reads groups at position id - 1",
}
"""Cases on which the official tool aborts: its numbers are undefined with that reason, the corrected ones are there."""
WARNINGS = {
    "ann_id_str": {"id is text": 4},
    "area_nan": {"areas hold a value that is not finite": 1},
    "cat_name_int": {"name of a category is a number": 1},
    "catid_2_63": {"id is beyond 64 bits": 12},
    "height_float": {"size or length of a video is a decimal number": 2},
    "id_2_63": {"id is beyond 64 bits": 11},
    "id_float_both": {"id is a decimal number": 11},
    "id_float_pred": {"id is a decimal number": 5},
    "id_str": {"id is text": 11},
    "id_str_pred": {"id is text": 5},
    "iscrowd_bool": {"iscrowd is true or false": 4},
    "len_float": {"size or length of a video is a decimal number": 2},
    "size_float": {"size of a mask is a decimal number": 13},
    "truth_size_float": {"size of a mask is a decimal number": 10},
    "video_name_int": {"name of a video is a number": 2},
}
"""Kinds and counts of what is read as what it stands for."""
UNREAD = ("occl_float", "occl_str", "partition_str", "syn_str", "info_nan", "file_names_nested", "file_names_string",
          "names_fewer_than_length")  # fmt: skip
"""Cases whose odd field scoring by ytvis does not read."""


def rows() -> list[dict[str, str]]:
    with (FOLDER / "expected.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def score(case: str, protocol: str, strict: bool = False) -> Score:
    folder = FOLDER / case
    return score_results(protocol, read_annotations(folder / "ann.json"), folder / "results.json", strict)


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row['case']}-{row['protocol']}")
def test_expected(row: dict[str, str]) -> None:
    expected, case = row["expected AP"], row["case"]
    if row["official"].startswith("aborts") and case in UNDEFINED:
        found = score(case, row["protocol"])
        assert UNDEFINED[case] in found.metrics.undefined["AP"]
        assert found.corrected.values["AP"] == pytest.approx(0.8333, abs=5e-5)
        with pytest.raises(UserError, match=r"\A[^\n]+\Z"):
            score(case, row["protocol"], strict=True)
        return
    if case == "dup_cat" or (expected.startswith(("see", "refused")) and case not in SCORED_THOUGH_OFFICIAL_ABORTS):
        with pytest.raises(UserError, match=r"\A[^\n]+\Z"):
            score(case, row["protocol"])
        return
    found = score(case, row["protocol"])
    value = found.metrics.values["AP"]
    if case == "empty":  # the official tool aborts on an empty list: no official number, and the corrected one is 0
        assert (value, found.corrected.values["AP"]) == (None, 0)
    elif case in SCORED_THOUGH_OFFICIAL_ABORTS:
        assert value is not None
        assert round(value, 4) == 0.8333
    else:
        assert value == (None if expected == "null" else pytest.approx(float(expected), abs=5e-5))


@pytest.mark.parametrize("case", WARNINGS)
def test_what_stands_for_something_is_counted_and_strict_refuses_it(case: str) -> None:
    found = [w for w in score(case, "ytvis").record()["warnings"] if w["kind"] in WARNINGS[case]]
    assert {w["kind"]: w["count"] for w in found} == WARNINGS[case]
    assert all(case in w["first"] for w in found)
    with pytest.raises(UserError, match="turn off strict"):
        score(case, "ytvis", strict=True)


@pytest.mark.parametrize("case", UNREAD)
def test_fields_that_a_protocol_does_not_read_may_have_any_form(case: str) -> None:
    plain = score("0", "ytvis", strict=True).record()
    assert score(case, "ytvis", strict=True).record() == plain


@pytest.mark.parametrize(("case", "words"), [
    ("occl_str", "has no occlusion"), ("occl_float", "occlusion 0.1 is unknown"),
])  # fmt: skip
def test_tracks_without_occlusion_have_corrected_numbers(case: str, words: str) -> None:
    found = score(case, "ovis")
    assert set(found.metrics.values.values()) == {None}
    assert all("aborts" in reason and words in reason for reason in found.metrics.undefined.values())
    assert found.corrected.values["AP"] == pytest.approx(0.8333, abs=5e-5)
    assert any(w["kind"].startswith("annotation without a known occlusion") for w in found.warnings)
    with pytest.raises(UserError):
        score(case, "ovis", strict=True)


@pytest.mark.parametrize(("case", "protocol", "expected"), [
    ("crash_no_annotations", "ytvis", None), ("crash_null_truth", "ytvis", 0.0), ("foreign", "ytvis", 0.0),
    ("crash_no_annotations", "lvvis", None), ("crash_null_truth", "lvvis", None), ("foreign", "lvvis", None),
])  # fmt: skip
def test_minimal(case: str, protocol: str, expected: float | None) -> None:
    folder = FOLDER / "minimal"
    found = score_results(protocol, read_annotations(folder / f"{case}_gt.json"), folder / f"{case}_dt.json")
    assert found.metrics.values["AP"] == expected
    if protocol == "lvvis" and case != "crash_no_annotations":
        assert "no category is novel" in found.aborts


@pytest.mark.parametrize(("case", "words"), [
    ("segm_singular", 'has "segmentation" but no "segmentations"'),
    ("per_frame", "record 0: holds one frame"),
    ("wrapped_results", 'a list under "results"; write that list alone'),
    ("wrapped_dict", 'a list under "annotations"; write that list alone'),
    ("nested_lists", "is a list of lists"),
    ("bytes_repr_pred", "decode() them before"),
    ("score_str", 'score is "0.8"'),
    ("score_null", "score is null"),
    ("score_nan", "score is nan"),
    ("score_inf", "score is inf"),
    ("ann_id_word", 'id is "sav_1"'),
])  # fmt: skip
def test_refusals_name_the_fault(case: str, words: str) -> None:
    with pytest.raises(UserError) as refusal:
        score(case, "ytvis")
    assert words in str(refusal.value)


def test_categories_show_their_own_ids() -> None:
    found: list[Any] = [row["id"] for row in score("catid_2_63", "ytvis").per_category]
    stated = [category["id"] for category in json.loads((FOLDER / "catid_2_63" / "ann.json").read_text())["categories"]]
    assert found == sorted(stated)
