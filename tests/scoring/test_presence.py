"""False alarms on words that are known to be absent: which pairs those are, and how they are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vis_documents import document, perfect

from harness.cli.main import build
from harness.formats.youtube_vis import annotations_from_document, read_annotations
from harness.plugins import opened
from harness.scoring.match_table import read_table, write_table
from harness.scoring.presence import THRESHOLDS, Presence, is_lower_better, presence_metrics, rates_of
from harness.scoring.score import Score, score_results

GOLDEN = Path(__file__).parents[1] / "data" / "protocols"


def many(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Five videos, six categories, some annotated, with random tracks."""
    rng = np.random.default_rng(seed)
    made, one = document(), document()["annotations"][0]
    videos = [{**made["videos"][0], "id": v, "file_names": [f"v{v}/{f}.jpg" for f in range(2)]} for v in range(5)]
    categories = [{"id": c, "name": f"c{c}", "partition": c % 4} for c in range(1, 7)]
    pairs = [(v, c) for v in range(5) for c in range(1, 7)]
    annotated = [pairs[i] for i in rng.choice(len(pairs), 9, replace=False)]
    annotations = [{**one, "id": i + 1, "video_id": v, "category_id": c} for i, (v, c) in enumerate(annotated)]
    tracks = [
        {"video_id": v, "category_id": c, "score": float(rng.random()), "segmentations": one["segmentations"]}
        for v, c in (pairs[i] for i in rng.integers(0, len(pairs), 25))
    ]
    return {"videos": videos, "categories": categories, "annotations": annotations}, tracks


def by_hand(absent: set[tuple[int, int]], truth: dict[str, Any], tracks: list[dict[str, Any]], at: float) -> Presence:
    present = {(a["video_id"], a["category_id"]) for a in truth["annotations"]}
    found = {(t["video_id"], t["category_id"]) for t in tracks if t["score"] >= at}
    absent = absent - present
    return Presence(len(present & found), len(absent & found), len(absent - found), len(present - found))


def scored(folder: Path, truth: dict[str, Any], tracks: list[dict[str, Any]], protocol: str = "ytvis") -> Score:
    (folder / "results.json").write_text(json.dumps(tracks))
    return score_results(protocol, annotations_from_document(truth, "truth"), folder / "results.json")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("form", ["exhaustive", "exhaustive with exceptions", "listed", "asked"])
def test_counts_are_those_by_hand(form: str, seed: int, tmp_path: Path) -> None:
    truth, tracks = many(seed)
    everything = {(v["id"], c["id"]) for v in truth["videos"] for c in truth["categories"]}
    if form.startswith("exhaustive"):
        truth["exhaustive"], absent = True, everything
        if form.endswith("exceptions"):
            truth["videos"][1]["not_exhaustive_category_ids"] = [1, 2, 3]
            absent = everything - {(1, 1), (1, 2), (1, 3)}
    elif form == "listed":
        for video in truth["videos"]:
            video["neg_category_ids"] = [2, 4, 99]
        absent = {(v, c) for v, c in everything if c in (2, 4)}
    else:
        absent = {(v, c) for v, c in everything if (v + c) % 2}
        truth["video_np_pairs"] = [{"video_id": v, "category_id": c} for v, c in sorted(absent)]
    score = scored(tmp_path, truth, tracks, "lvvis")
    presence = score.record()["slices"]["presence"]
    assert score.matches is not None
    write_table(tmp_path / "table", score.matches)
    by_video = read_table(tmp_path / "table").presence
    assert by_video is not None
    for place, video in enumerate(score.matches.video_ids.tolist()):
        kept = [one for one in tracks if one["video_id"] == video]
        own = {**truth, "annotations": [one for one in truth["annotations"] if one["video_id"] == video]}
        one = by_hand({pair for pair in absent if pair[0] == video}, own, kept, 0.5)
        assert by_video[place].tolist() == [one.tp, one.fp, one.tn, one.fn]
    total = by_hand(absent, truth, tracks, 0.5)
    assert rates_of(by_video.sum(0)).tolist() == pytest.approx([total.mcc, total.false_positive_rate])
    wanted = by_hand(absent, truth, tracks, 0.5)
    assert {key: presence[key] for key in wanted.record()} == wanted.record()
    for threshold in THRESHOLDS:
        one = by_hand(absent, truth, tracks, threshold)
        found = presence["by_threshold"][str(threshold)]
        assert (found["IL_MCC"], found["IL_FPR"]) == (one.mcc, one.false_positive_rate)
    groups = presence["by_group"]
    for key in ("IL_TP", "IL_FP", "IL_TN", "IL_FN"):  # every category is base or novel
        assert groups["base"][key] + groups["novel"][key] == presence[key]


def test_without_such_data_nothing_is_said(tmp_path: Path) -> None:
    truth, tracks = many(0)
    assert "presence" not in scored(tmp_path, truth, tracks).record()["slices"]
    truth["exhaustive"] = "yes"  # says nothing
    truth["videos"][0]["neg_category_ids"] = [99]
    assert "presence" not in scored(tmp_path, truth, tracks).record()["slices"]


def test_presence_is_over_the_scored_videos_only(tmp_path: Path) -> None:
    truth, tracks = many(1)
    truth["exhaustive"] = True
    (tmp_path / "results.json").write_text(json.dumps([t for t in tracks if t["video_id"] == 2]))
    annotations = annotations_from_document(truth, "truth")
    score = score_results("ytvis", annotations, tmp_path / "results.json", videos=[2])
    assert sum(score.presence[f"IL_{key}"] for key in ("TP", "FP", "TN", "FN")) == 6


def test_bursts_lists_have_the_numbers_of_its_own_file() -> None:
    """The converted file keeps the lists of the original one, though its categories are numbered anew."""
    folder = GOLDEN / "burst_convert"
    scores = [
        score_results("burst", read_annotations(folder / name), folder / "results.json")
        for name in ("gt.json", "all_classes.json")
    ]
    source = json.loads((folder / "all_classes.json").read_text())
    position = {c["id"]: at for at, c in enumerate(source["categories"], 1)}
    present = {(s["id"], position[c]) for s in source["sequences"] for c in s["track_category_ids"].values()}
    absent = {(s["id"], position[c]) for s in source["sequences"] for c in s["neg_category_ids"] if c in position}
    absent -= {(s["id"], position.get(c)) for s in source["sequences"] for c in s["not_exhaustive_category_ids"]}
    for score in scores:
        assert score.presence["IL_FP"] + score.presence["IL_TN"] == len(absent - present)
        assert score.presence["IL_TP"] + score.presence["IL_FN"] == len(present)


def test_ids_in_other_forms(tmp_path: Path) -> None:
    truth, tracks = many(2)
    for video in truth["videos"]:
        video["neg_category_ids"] = [2, 4]
    wanted = scored(tmp_path, truth, tracks).presence
    for category in truth["categories"]:
        category["id"] = str(category["id"])
    for record in (*truth["annotations"], *tracks):
        record["category_id"] = str(record["category_id"])
    assert scored(tmp_path, truth, tracks).presence == wanted


def test_what_is_generated_is_annotated_in_full() -> None:
    absence = opened("shapes", Path(), "val").annotations.absence
    assert absence is not None
    assert absence.exhaustive


def test_the_command_line_says_how_often_a_word_is_seen_that_is_not_there(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    truth = document()
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps([*perfect(truth), {**perfect(truth)[0], "category_id": 2}]))
    arguments = ["eval", "--protocol", "lvvis", "--annotations", str(tmp_path / "gt.json"), "--predictions",
                 str(tmp_path / "results.json")]  # fmt: skip
    assert "is a word there" not in CliRunner().invoke(build(), arguments).stdout
    shown = CliRunner().invoke(build(), [*arguments, "--exhaustive"]).stdout
    assert "found in 50.0 % of 2 pairs without it" in " ".join(shown.split())


def test_rates_are_metrics_by_name() -> None:
    rates = {"IL_MCC": 0.5, "IL_FPR": 0.25, "IL_recall": 1.0}
    scored = {"slices": {"presence": {**rates, "threshold": 0.5, "by_threshold": {"0.5": rates, "0.9": rates}}}}
    of_phrases = {"slices": {"presence": rates}}  # veval has IL_MCC among its metrics
    found = presence_metrics({"protocols": [of_phrases, {"slices": {}}, scored]})
    assert found["presence@0.9/IL_FPR"] == 0.25
    assert set(found) == {f"presence@{t}/{name}" for t in ("0.5", "0.9") for name in rates}
    assert presence_metrics({"protocols": [of_phrases]}) == {}
    assert [is_lower_better(name) for name in ("presence@0.5/IL_FPR", "IL_FPR@0.5", "IL_MCC@0.5", "AP")] == [
        True, True, False, False
    ]  # fmt: skip
