"""Protocols by name: names that mean several, settings, and one result per protocol."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.formats.youtube_vis import Annotations, annotations_from_document
from harness.scoring.dispatch import (
    PROTOCOL_NAMES,
    Settings,
    check_settings,
    expand_names,
    further_protocols,
    note_of,
    protocol_name,
    score_all,
    undefined_record,
)

MASK = {"size": [2, 2], "counts": "04"}  # all four pixels
DOCUMENT: dict[str, Any] = {
    "videos": [{"id": 1, "width": 2, "height": 2, "length": 1}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 1, "video_id": 1, "category_id": 1, "iscrowd": 0, "areas": [4], "segmentations": [MASK]}],
}


def truth_with(**lists: Any) -> Annotations:
    return annotations_from_document(DOCUMENT | lists, "truth")


def test_a_name_of_tracks_is_returned() -> None:
    assert [protocol_name(name) for name in PROTOCOL_NAMES] == list(PROTOCOL_NAMES)
    with pytest.raises(UserError, match='protocol "hotta": is unknown; did you mean "hota"'):
        protocol_name("hotta")


def test_names_for_several_protocols() -> None:
    assert expand_names(["fixed-ap", "lvvis-fixed"], "lvvis") == ["lvvis-fixed"]
    assert expand_names(["all"], "lvvis") == ["lvvis", "lvvis-fixed", "hota", "teta"]
    assert "veval" in expand_names(["all"], "lvvis", further_protocols(truth_with(video_np_pairs=[])))
    assert further_protocols(truth_with()) == ()
    with pytest.raises(UserError, match='protocol "al": is unknown'):
        expand_names(["al"], "lvvis")


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["ytvis"], Settings(score_threshold=0.5), "score_threshold: is a setting of hota; add hota to the protocols"),
        (["hota"], Settings(score_threshold=math.nan), "score_threshold: is nan; write a finite number"),
        (["hota"], Settings(tracks_per_category=5), "tracks_per_category: is a setting of Fixed AP; add fixed-ap"),
    ],
)
def test_settings_of_no_protocol_are_refused(names: list[str], settings: Settings, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_settings(names, settings)
    assert str(caught.value).startswith(message)


def test_each_protocol_gives_its_result_or_its_error(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps([{"video_id": 1, "category_id": 1, "score": 0.9, "segmentations": [MASK]}]))
    truth = annotations_from_document(DOCUMENT, "truth")
    found = score_all(["ytvis", "hota", "lvvis"], truth, lambda: file)
    assert list(found) == ["ytvis", "hota", "lvvis"]
    ytvis, hota = found["ytvis"], found["hota"]
    assert not isinstance(ytvis, UserError)
    assert not isinstance(hota, UserError)
    assert ytvis.record()["metrics"]["AP"] == pytest.approx(1)
    assert hota.record()["metrics"]["HOTA"] == pytest.approx(1)
    assert note_of(hota) == ""
    lvvis = found["lvvis"]
    assert not isinstance(lvvis, UserError)
    assert lvvis.record()["metrics"]["AP"] is None  # the categories have no partition, which the official tool needs
    assert "has no partition" in lvvis.record()["undefined"]["metrics"]["AP"]
    assert lvvis.record()["corrected"]["AP"] == pytest.approx(1)


def test_a_record_without_numbers_says_why() -> None:
    record = undefined_record("hota", "the truth is withheld")
    assert record["metrics"]["HOTA"] is None
    assert record["undefined"]["metrics"]["HOTA"] == "the truth is withheld"
