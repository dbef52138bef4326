"""The videos that show what a summary names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from harness.reports.evidence import (
    Examined,
    ScoredTrack,
    evidence,
    videos_of_bins,
    videos_of_kinds,
    videos_of_members,
)
from harness.reports.summary import Mention
from harness.reports.viewer import chosen
from harness.scoring.analysis import Verdicts
from harness.scoring.calibration import Bin

RED, STAR = Mention("red", 1), Mention("star", 2)
WRONG, MISSED = Mention("classification", kind="classification"), Mention("missed", kind="missed")


def truth(id: int, video: int, category: int, iscrowd: int = 0) -> Any:
    return SimpleNamespace(id=id, video_id=video, category_id=category, is_crowd=bool(iscrowd))


TRUTHS: Any = [truth(1, 1, 1), truth(2, 1, 1), truth(3, 2, 1), truth(4, 2, 2), truth(5, 3, 2), truth(6, 3, 2, 1)]


def examined(label: str, *tracks: tuple[int, str, int | None]) -> Examined:
    """A run by its tracks: video, kind, object."""
    videos, kinds, objects = zip(*tracks, strict=True) if tracks else ((), (), ())
    rows = len(tracks)
    return Examined(label, Verdicts(videos, tuple(range(rows)), kinds, objects, (1,) * rows, (1.0,) * rows))


GOOD = examined("good", (1, "hit", 1), (1, "hit", 2), (2, "hit", 3), (2, "classification", 4), (3, "hit", 5))
BAD = examined("bad", (1, "hit", 1), (1, "background", None), (2, "classification", 3), (2, "classification", 4))


def test_a_category_is_shown_where_the_better_run_finds_more_and_a_kind_where_the_worse_errs_more() -> None:
    shows = evidence([RED, STAR, WRONG, MISSED], TRUTHS, GOOD, BAD, [1, 2, 3])
    assert [(one.named.text, one.video_id, one.reason) for one in shows] == [
        ("red", 1, "objects of red found, of 2: good 2, bad 1"),
        ("star", 3, "objects of star found, of 1: good 1, bad 0"),
        ("classification", 2, "errors of the kind classification: bad 2, good 1"),
        ("missed", 1, "errors of the kind missed: bad 1, good 0"),
    ]


def test_what_no_video_shows_is_left_out() -> None:
    assert evidence([RED], TRUTHS, BAD, GOOD, [1, 2, 3]) == []
    assert evidence([RED, WRONG], TRUTHS, GOOD, BAD, [3]) == []
    assert evidence([RED], TRUTHS, examined("empty"), None, [1]) == []


def test_a_single_run_is_shown_by_its_errors() -> None:
    [one] = evidence([WRONG], TRUTHS, BAD, None, [1, 2, 3])
    assert (one.video_id, one.reason) == (2, "errors of the kind classification: bad 2")


def test_kinds_lead_to_the_video_with_most_of_them() -> None:
    kinds = ("classification", "missed", "background", "duplicate")
    found = videos_of_kinds(kinds, TRUTHS, [GOOD.verdicts, BAD.verdicts], [1, 2, 3])
    assert found == {"classification": 2, "missed": 1, "background": 1}


def test_the_viewer_is_filled_with_what_the_summary_names_first() -> None:
    shows = evidence([RED, STAR, WRONG, MISSED], TRUTHS, GOOD, BAD, [1, 2, 3])
    quality = [{v: v / 10 for v in range(1, 10)}] * 2
    made = chosen(["bad", "good"], quality, {5: 0.02}, range(1, 10), 6, shows)
    assert [(one.video_id, one.group, one.mark) for one in made[:3]] == [
        (1, "Named above", "red, missed"),
        (3, "Named above", "star"),
        (2, "Named above", "classification"),
    ]
    assert [one.video_id for one in made[3:]] == [5, 4, 9]
    assert [one.video_id for one in chosen(["bad", "good"], quality, {}, range(1, 10), 2, shows)] == [1, 3]


def test_a_bin_of_scores_and_a_slice_lead_to_the_video_with_most_of_them() -> None:
    bins = [Bin(low / 10, (low + 1) / 10, 0, None, None) for low in range(10)]
    tracks = [
        ScoredTrack(1, 5, 0.05),
        ScoredTrack(2, 5, 0.31),
        ScoredTrack(2, 5, 0.39),
        ScoredTrack(1, 5, 0.35),
        ScoredTrack(3, 6, 1.0),
    ]
    found = videos_of_bins(bins, tracks, {5, 6})
    assert {place: video for place, video in enumerate(found) if video is not None} == {0: 1, 3: 2, 9: 3}
    assert videos_of_bins(bins, tracks, {6})[0] is None
    records = [truth(1, 7, 5), truth(2, 8, 5), truth(3, 8, 5), truth(4, 9, 5)]
    assert videos_of_members({"small": [1, 2, 3], "large": [4]}, records, [7, 8]) == {"small": 8}
