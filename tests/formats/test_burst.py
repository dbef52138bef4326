"""Conversion of BURST's form, against the official converter's output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.formats.burst import ClassSplit, convert, convert_file, frame_number, read
from harness.formats.segmentations import decode
from harness.formats.youtube_vis import read_annotations
from harness.scoring.score import score_results


def test_conversion_is_the_official_one(golden: Path) -> None:
    folder = golden / "burst_convert"
    split = decode((folder / "class_split.json").read_bytes(), ClassSplit, "class_split.json")
    converted = convert(read(folder / "all_classes.json"), split, "all_classes.json")
    assert json.loads(json.dumps(converted)) == json.loads((folder / "gt.json").read_text())


def test_the_own_form_is_scored_like_the_converted_file(golden: Path, tmp_path: Path) -> None:
    folder = golden / "burst_convert"
    (tmp_path / "info").mkdir()
    shutil.copy(folder / "class_split.json", tmp_path / "info/class_split.json")
    shutil.copy(folder / "all_classes.json", tmp_path / "all_classes.json")
    own, converted = read_annotations(tmp_path / "all_classes.json"), read_annotations(folder / "gt.json")
    scores = [score_results("burst", a, folder / "results.json").metrics.values for a in (own, converted)]
    assert scores[0] == scores[1]


def test_classes_without_a_split_file_follow_the_challenge(golden: Path, tmp_path: Path) -> None:
    path = tmp_path / "all_classes.json"
    shutil.copy(golden / "burst_convert/all_classes.json", path)
    splits = {c["name"]: c["split"] for c in convert_file(path)["categories"]}
    assert splits["c13"] == "common"
    assert splits["c3"] == "uncommon"


@pytest.mark.parametrize(("path", "number"), [("a/frame0030.jpg", 30), ("b/x_y_0007.png", 7), ("12.jpg", 12)])
def test_frame_numbers(path: str, number: int) -> None:
    assert frame_number(path) == number


def test_a_frame_without_a_number_is_refused() -> None:
    with pytest.raises(UserError, match=r"first\.jpg"):
        frame_number("seq/first.jpg")
