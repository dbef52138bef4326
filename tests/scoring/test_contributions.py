"""What each video contributes to the error of HOTA and phrase metrics: equal to scoring without it, safe in its file.

Tests of `harness/scoring/marked_file.py`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import veval_reference
from hypothesis import given
from hypothesis import strategies as st
from workload import Workload, make

from harness.errors import UserError
from harness.formats.youtube_vis import Annotations, read_annotations
from harness.scoring.contributions import VideoContributions, read_contributions, write_contributions
from harness.scoring.mask_hota import MASK_HOTA_METRICS
from harness.scoring.score import Score, score_results
from harness.scoring.veval import score_veval


def without(annotations: Annotations, results: Path, video: int) -> Score:
    others = [one for one in annotations.listed_videos if one != video]
    found = [one for one in json.loads(results.read_text()) if one["video_id"] != video]
    results.with_name("others.json").write_text(json.dumps(found))
    return score_results("hota", annotations, results.with_name("others.json"), videos=others)


@pytest.mark.parametrize("seed", [1, 5])
def test_contributions_are_those_of_scoring_without_each_video(tmp_path: Path, seed: int) -> None:
    gt, results = make(tmp_path, Workload(videos=7, frames=4, categories=6, tracks=15, height=90, width=160), seed)
    document = json.loads(gt.read_text())
    single = next(one["video_id"] for one in document["annotations"] if one["category_id"] == 5)
    document["annotations"] = [
        one
        for one in document["annotations"]  # one category in a single video, one without truth
        if one["category_id"] < 5 or (one["category_id"], one["video_id"]) == (5, single)
    ]
    gt.write_text(json.dumps(document))
    annotations = read_annotations(gt)
    whole = score_results("hota", annotations, results)
    stored = whole.contributions
    assert stored is not None
    videos = stored.video_ids.tolist()
    fewer = {video: without(annotations, results, video) for video in videos}
    truth: dict[int, set[int]] = {category.id: set() for category in annotations.categories}
    for one in document["annotations"]:
        truth[one["category_id"]].add(one["video_id"])
    assert {len(truth[5]), len(truth[6])} == {1, 0}
    rows = {row["id"]: row for row in whole.per_category}
    for suffix, group in (("", None), ("b", "base"), ("n", "novel")):
        members = [i for i, row in rows.items() if group is None or row["groups"] == group]
        n = len(set().union(*(truth[i] for i in members)))
        for name in MASK_HOTA_METRICS:
            mean, pooled = (whole.metrics.values[f"{name}{suffix}{end}"] for end in ("", "_det"))
            for place, video in enumerate(videos):
                added = 0.0
                for i in members:
                    if len(truth[i]) > 1:
                        left = {row["id"]: row for row in fewer[video].per_category}[i][name]
                        added += np.sqrt((len(truth[i]) - 1) / len(truth[i])) * (rows[i][name] - left)
                    elif truth[i] == {video}:
                        added += rows[i][name] - mean
                fall = np.sqrt((n - 1) / n) * (pooled - fewer[video].metrics.values[f"{name}{suffix}_det"])
                for key, expected in ((f"{name}{suffix}", added / len(members)), (f"{name}{suffix}_det", fall)):
                    at = stored.names.index(key)
                    assert stored.contributions[at, place] == pytest.approx(expected, abs=1e-12), (key, video)
                    assert stored.values[at] == whole.metrics.values[key]
                    assert stored.with_truth[at] == n


def joined(seeds: list[int]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Several scenes as one: their ids are moved apart, their phrases are not."""
    document: dict[str, Any] = {"videos": [], "categories": {}, "annotations": [], "video_np_pairs": []}
    predictions = []
    for number, seed in enumerate(seeds):
        truth, found = veval_reference.scene(seed)
        for video in truth["videos"]:
            names = [f"{number}_{name}" for name in video["file_names"]]
            document["videos"].append({**video, "id": 10 * number + video["id"], "file_names": names})
        for one in (*truth["annotations"], *truth["video_np_pairs"], *found):
            one["video_id"] += 10 * number
            one["id"] = one.get("id", 0) + 1000 * number
        document["categories"] |= {one["id"]: one for one in truth["categories"]}
        for key in ("annotations", "video_np_pairs"):
            document[key] += truth[key]
        predictions += found
    return {**document, "categories": list(document["categories"].values())}, predictions


@pytest.mark.parametrize("seed", range(8))
def test_contributions_to_phrase_metrics_are_those_of_scoring_without_each_video(tmp_path: Path, seed: int) -> None:
    truth, predictions = joined([4 * seed + number for number in range(4)])
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(predictions))
    annotations = read_annotations(tmp_path / "gt.json")
    whole = score_veval(annotations, tmp_path / "results.json")
    stored, compared = whole.contributions, 0
    assert stored is not None
    assert set(stored.names) >= {"cgF1", "pmF1_75", "IL_MCC", "pHOTA"}
    for place, video in enumerate(annotations.listed_videos):
        others = [one for one in annotations.listed_videos if one != video]
        stated = annotations.stated_video(video)
        found = [one for one in predictions if one["video_id"] != stated]
        (tmp_path / "others.json").write_text(json.dumps(found))
        left = score_veval(annotations, tmp_path / "others.json", videos=others).metrics
        for key, value, n, added in zip(
            stored.names, stored.values, stored.with_truth, stored.contributions[:, place], strict=True
        ):
            assert value == whole.metrics[key]
            if left.get(key) is not None:
                compared += 1
                assert added == pytest.approx(np.sqrt((n - 1) / n) * (value - left[key]), abs=1e-9), (key, video)
    assert compared > 10


def made(metrics: int = 3, videos: int = 4) -> VideoContributions:
    random = np.random.default_rng(0)
    names = tuple(f"M{number}" for number in range(metrics))
    added = random.normal(size=(metrics, videos))
    return VideoContributions("d" * 64, np.arange(videos), names, random.random(metrics), np.arange(metrics), added)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = made()
    write_contributions(tmp_path / "a", one)
    read = read_contributions(tmp_path / "a")
    write_contributions(tmp_path / "b", read)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (read.annotations, read.names) == (one.annotations, one.names)
    for name in ("video_ids", "values", "with_truth", "contributions"):
        assert np.array_equal(getattr(read, name), getattr(one, name)), name
    with pytest.raises(UserError, match="does not exist"):
        read_contributions(tmp_path / "none")


@given(at=st.integers(0, 10_000), byte=st.integers(1, 255))
def test_any_damaged_byte_is_seen(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    path = tmp_path_factory.mktemp("contributions") / "file"
    write_contributions(path, made())
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= byte
    path.write_bytes(data)
    with pytest.raises(UserError):
        read_contributions(path)


@pytest.mark.parametrize(
    "odd",
    [
        replace(made(), names=("M0", "M0", "M1")),
        replace(made(), names=("M0", "M1")),
        replace(made(), values=np.zeros(2)),
        replace(made(), with_truth=np.array([0, 1, 5])),
        replace(made(), with_truth=np.array([0, 1, -1])),
        replace(made(), video_ids=np.arange(5)),
        replace(made(), contributions=np.full((3, 4), np.inf)),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, odd: VideoContributions) -> None:
    write_contributions(tmp_path / "file", odd)
    with pytest.raises(UserError, match="do not fit each other"):
        read_contributions(tmp_path / "file")
