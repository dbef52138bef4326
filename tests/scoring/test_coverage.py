"""Predictions that leave videos out, hold tracks twice or hold too many: counted, the first one named."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import SmallModel, box, make_run, make_video, truth_of
from vis_documents import box as vis_box
from vis_documents import document, perfect

from harness.errors import UserError
from harness.formats import results
from harness.formats.youtube_vis import annotations_from_document
from harness.run_folder.store import PredictionStore
from harness.runner import execute
from harness.scoring.coverage import BEYOND_CAP, NO_PREDICTION, NOTHING_FOUND, TWIN
from harness.scoring.score import Score, score_results, score_store
from harness.types import Track

OVER_PAIR, OVER_VIDEO = BEYOND_CAP.format(100, "video and category"), BEYOND_CAP.format(100, "video")
TRUTH = annotations_from_document(document(), "gt.json")


def scored(folder: Path, tracks: list[dict[str, Any]], protocol: str = "ytvis", strict: bool = False) -> Score:
    path = folder / "results.json"
    path.write_text(json.dumps(tracks))
    return score_results(protocol, TRUTH, path, strict)


def warnings_of(score: Score) -> dict[str, tuple[int, str]]:
    return {w["kind"]: (w["count"], w["first"].rpartition("/")[2]) for w in score.warnings}


def test_videos_without_any_prediction(tmp_path: Path) -> None:
    half = perfect(document())[:1]
    assert warnings_of(scored(tmp_path, half)) == {NO_PREDICTION: (1, "gt.json, video 2")}
    with pytest.raises(UserError, match=r"gt\.json, video 2: video without any prediction"):
        scored(tmp_path, half, strict=True)


def test_tracks_of_foreign_categories_are_predictions(tmp_path: Path) -> None:
    one, other = perfect(document())
    assert warnings_of(scored(tmp_path, [one, other | {"category_id": 99}])).keys() == {
        "category not in the annotations, track dropped"
    }


def test_every_track_twice_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results.read_blocks, "__defaults__", (256,))
    whole = perfect(document())
    assert warnings_of(scored(tmp_path, whole)) == {}
    assert warnings_of(scored(tmp_path, whole * 3)) == {TWIN: (4, "results.json, record 2")}
    with pytest.raises(UserError, match=r"record 2: track repeated"):
        scored(tmp_path, whole * 2, strict=True)


def test_what_only_looks_like_a_twin_is_none(tmp_path: Path) -> None:
    one, other = perfect(document())
    masks = one["segmentations"]
    tracks = [
        one,
        other,
        one | {"score": 0.8},
        one | {"category_id": 2},
        one | {"segmentations": masks[::-1]},  # text of the same size, and the same area
        one | {"video_id": 2},
    ]
    assert warnings_of(scored(tmp_path, tracks)) == {}


def test_tracks_without_a_pixel_repeat_nothing(tmp_path: Path) -> None:
    """As models have them that give a fixed number of tracks."""
    one, other = perfect(document())
    empty = [{**mask, "counts": vis_box(20, 30, 0, 0, 0, 0)["counts"]} for mask in one["segmentations"]]
    tracks = [one | {"score": 0.0, "segmentations": masks} for masks in (empty, [None, None])] * 2
    assert warnings_of(scored(tmp_path, [one, other, *tracks], strict=True)) == {}
    run = make_run(
        tmp_path, SmallModel(tracks=lambda v: [track(v, 0.5)] + [Track(v, 1, 0.0, (box(0, 0, 0, 0),) * 3)] * 9)
    )
    assert execute(run, strict=True).record["warnings"] == []


def test_twins_of_categories_without_truth_count_where_their_masks_are_known(tmp_path: Path) -> None:
    store = PredictionStore(tmp_path / "predictions")
    for video in range(1, 5):
        store.write_video(make_video(video), [Track(video, 2, 0.5, truth_of(video))] * 2)
    assert warnings_of(score_store("ytvis", make_run(tmp_path).dataset.annotations, store))[TWIN][0] == 4


def test_tracks_beyond_the_cap(tmp_path: Path) -> None:
    one, other = perfect(document())
    many = [one | {"score": 0.9 - k / 1000} for k in range(103)]
    assert warnings_of(scored(tmp_path, [*many[::-1], other])) == {OVER_PAIR: (3, "results.json, record 0")}
    assert warnings_of(scored(tmp_path, [*many[:100], other])) == {}
    several = [*many[:60], *(track | {"category_id": 2} for track in many[:60]), other]
    assert warnings_of(scored(tmp_path, several)) == {}
    assert warnings_of(scored(tmp_path, several, "ytvis-corrected")) == {OVER_VIDEO: (20, "results.json, record 50")}
    with pytest.raises(UserError, match="not counted"):
        scored(tmp_path, [*many, other], strict=True)


def track(video: int, score: float, shift: int = 0) -> Track:
    return Track(video, 1, score, (box(video, shift, 5, 6), None, truth_of(video)[2]))


def test_a_store_tells_what_a_model_has_not_found_from_what_was_not_run(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    store = PredictionStore(tmp_path / "predictions")
    store.write_video(make_video(1), [])
    store.write_video(make_video(2), [track(2, 0.5), track(2, 0.5, 1), track(2, 0.5), track(2, 0.5)])
    score = score_store("ytvis", run.dataset.annotations, store)
    assert warnings_of(score) == {
        NOTHING_FOUND: (1, "small dataset, video 1"),
        NO_PREDICTION: (2, "small dataset, video 3"),
        TWIN: (2, "predictions, video 2, track 2"),
    }
    with pytest.raises(UserError, match="video 3: video without any prediction"):
        score_store("ytvis", run.dataset.annotations, store, strict=True)


def test_a_strict_run_may_find_nothing_in_a_video(tmp_path: Path) -> None:
    model = SmallModel(tracks=lambda video: [] if video == 2 else [track(video, 0.5)])
    outcome = execute(make_run(tmp_path, model), strict=True)
    assert outcome.exit_code == 0
    assert [(w["kind"], w["count"]) for w in outcome.record["warnings"]] == [(NOTHING_FOUND, 1)]
    twins = SmallModel(tracks=lambda video: [track(video, 0.5)] * 2)
    refused = execute(make_run(tmp_path / "twins", twins), strict=True)
    assert refused.exit_code == 2
    assert TWIN in refused.messages[0]


TRACKS = st.tuples(st.integers(1, 3), st.sampled_from([0.0, 0.5, 0.7]), st.integers(0, 2))


@given(st.lists(TRACKS, max_size=12))
def test_twins_are_those_that_a_plain_count_finds(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[int, float, int]]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    annotations = make_run(folder).dataset.annotations
    store = PredictionStore(folder / "predictions")
    for video in range(1, 5):
        store.write_video(make_video(video), [track(*one) for one in [(4, 1.0, 0), *found] if one[0] == video])
    expected = sum(count - 1 for count in Counter(found).values())
    for score in (score_store("ytvis", annotations, store), from_results(folder, found, annotations)):
        assert warnings_of(score).get(TWIN, (0,))[0] == expected


def from_results(folder: Path, found: list[tuple[int, float, int]], annotations: Any) -> Score:
    tracks = [
        {"video_id": t.video_id, "category_id": 1, "score": t.score,
         "segmentations": [m and {"size": list(m.size), "counts": m.counts.decode()} for m in t.masks]}
        for t in (track(*one) for one in [(4, 1.0, 0), *found])
    ]  # fmt: skip
    (folder / "results.json").write_text(json.dumps(tracks))
    return score_results("ytvis", annotations, folder / "results.json")
