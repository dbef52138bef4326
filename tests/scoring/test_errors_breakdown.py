"""Errors by kind: cases to check by hand, the oracle's dials, and AP before any repair.

Tests of `harness/scoring/analysis.py`, `harness/scoring/error_kinds.py` and `harness/scoring/matched_tracks.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from analysis_scenes import CAT, DOG, NONE, YAK, Box, NoFrames, Thing, annotated, stored

from harness.baselines.oracle import Oracle, OracleConfig
from harness.datasets.shapes import PLUGIN as SHAPES
from harness.errors import UserError
from harness.formats.youtube_vis import Annotations, read_annotations
from harness.masks import Rle
from harness.run_folder.store import PredictionStore
from harness.scoring.analysis import Analysis, analyse
from harness.scoring.errors_breakdown import (
    BACKGROUND,
    BOTH,
    CLASSIFICATION,
    DUPLICATE,
    FALSE_NEGATIVES,
    FALSE_POSITIVES,
    IDENTITY,
    KINDS,
    LOCALISATION,
    MISSED,
    TEMPORAL,
    Example,
)
from harness.scoring.score import score_store
from harness.types import Track, Video

GOLDEN = Path(__file__).parents[1] / "data" / "protocols"

LEFT: Box = (0, 0, 10, 10)
RIGHT: Box = (20, 0, 30, 10)
ELSEWHERE: Box = (0, 12, 10, 20)
FRAMES = 10
ON_CAT: list[Box | None] = [LEFT] * FRAMES
ON_DOG: list[Box | None] = [RIGHT] * FRAMES
TRUTH = (Thing(CAT, ON_CAT), Thing(DOG, ON_DOG))
"""A cat on the left (annotation 1) and a dog on the right (annotation 2), in all ten frames."""


def seen(box: Box, first: int, last: int) -> list[Box | None]:
    """A box in the frames ``first`` to ``last``, exclusive."""
    return [box if first <= f < last else None for f in range(FRAMES)]


def analysed(folder: Path, tracks: Sequence[Thing], truth: Sequence[Thing] = TRUTH, **options: Any) -> Analysis:
    videos = max(t.video for t in (*truth, *tracks))
    annotations = annotated(truth, videos, FRAMES)
    protocol = options.pop("protocol", "lvvis")
    return analyse(protocol, annotations, stored(folder, annotations, tracks), **options)


@pytest.mark.parametrize(
    ("track", "kind", "truth_id"),
    [
        pytest.param(Thing(CAT, ON_CAT), "hit", 1, id="right"),
        pytest.param(Thing(DOG, ON_CAT), CLASSIFICATION, 1, id="a dog where the cat is"),
        pytest.param(Thing(NONE, ON_CAT), CLASSIFICATION, 1, id="a category without truth where the cat is"),
        pytest.param(Thing(CAT, [(0, 0, 4, 10)] * FRAMES), LOCALISATION, 1, id="IoU 0.4"),
        pytest.param(Thing(CAT, [(0, 0, 1, 10)] * FRAMES), LOCALISATION, 1, id="IoU 0.1"),
        pytest.param(Thing(CAT, [(0, 0, 1, 9)] * FRAMES), BACKGROUND, None, id="IoU 0.09"),
        pytest.param(Thing(CAT, [ELSEWHERE] * FRAMES), BACKGROUND, None, id="on nothing"),
        pytest.param(Thing(CAT, seen(LEFT, 2, 6)), TEMPORAL, 1, id="four frames of ten"),
        pytest.param(Thing(CAT, [(0, 0, 9, 10), *[None] * 9]), TEMPORAL, 1, id="one frame, IoU 0.09 in all"),
        pytest.param(Thing(CAT, [LEFT] * 4 + [RIGHT] * 6), IDENTITY, 1, id="from the cat to the dog"),
        pytest.param(Thing(CAT, [RIGHT] * 8 + [LEFT] * 2), IDENTITY, 1, id="from the dog to the cat"),
        pytest.param(Thing(CAT, [LEFT] * 4 + [ELSEWHERE] * 6), LOCALISATION, 1, id="from the cat to nothing"),
        pytest.param(Thing(DOG, [(0, 0, 4, 10)] * FRAMES), BOTH, 1, id="a dog, IoU 0.4 with the cat"),
        pytest.param(Thing(YAK, [LEFT] * 2 + [RIGHT] * 8), CLASSIFICATION, 2, id="a yak that is mostly on the dog"),
        pytest.param(Thing(YAK, [LEFT] * 4 + [RIGHT] * 6), BOTH, 2, id="a yak on the cat and on the dog"),
        pytest.param(Thing(YAK, seen(LEFT, 2, 6)), BOTH, 1, id="a yak for four frames of the cat"),
    ],
)  # fmt: skip
def test_the_kind_of_a_single_track(tmp_path: Path, track: Thing, kind: str, truth_id: int | None) -> None:
    found = analysed(tmp_path, [track])
    assert found.verdicts.of_video(1) == {0: (kind, truth_id)}
    counts = {name: one.count for name, one in found.errors.kinds.items() if one.count and name != MISSED}
    assert counts == ({} if kind == "hit" else {kind: 1})


def test_additional_frames_are_an_error_of_temporal_extent(tmp_path: Path) -> None:
    short = Thing(CAT, seen(LEFT, 0, 4))
    found = analysed(tmp_path, [Thing(CAT, ON_CAT)], [short])
    assert found.verdicts.of_video(1) == {0: (TEMPORAL, 1)}


def test_a_track_that_only_touches_its_object_has_switched_nothing(tmp_path: Path) -> None:
    # on the dog throughout, by a mask that reaches over to the cat beside it: IoU 1/6 with the cat, 5/6 with the dog
    truth = [Thing(CAT, [(0, 0, 10, 10)] * FRAMES), Thing(DOG, [(10, 0, 30, 10)] * FRAMES)]
    found = analysed(tmp_path, [Thing(CAT, [(5, 0, 30, 10)] * FRAMES)], truth)
    assert found.verdicts.of_video(1) == {0: (LOCALISATION, 1)}


def test_a_second_track_of_a_found_object_is_a_duplicate(tmp_path: Path) -> None:
    found = analysed(tmp_path, [Thing(CAT, ON_CAT, 0.5), Thing(CAT, ON_CAT, 0.9)])
    assert found.verdicts.of_video(1) == {0: (DUPLICATE, 1), 1: ("hit", 1)}


def test_the_pieces_of_a_broken_track_are_errors_of_identity(tmp_path: Path) -> None:
    pieces = [Thing(CAT, seen(LEFT, 0, 4), 0.9), Thing(CAT, seen(LEFT, 4, 7), 0.8), Thing(CAT, seen(LEFT, 7, 10), 0.7)]
    found = analysed(tmp_path, pieces)
    assert found.verdicts.of_video(1) == dict.fromkeys(range(3), (IDENTITY, 1))
    assert found.errors.kinds[IDENTITY].truths == 1


def test_the_rest_of_a_found_track_is_an_error_of_identity(tmp_path: Path) -> None:
    found = analysed(tmp_path, [Thing(CAT, seen(LEFT, 0, 6), 0.9), Thing(CAT, seen(LEFT, 6, 10), 0.8)])
    assert found.verdicts.of_video(1) == {0: ("hit", 1), 1: (IDENTITY, 1)}


def test_pieces_of_one_object_in_the_same_frames_are_no_broken_track(tmp_path: Path) -> None:
    found = analysed(tmp_path, [Thing(CAT, seen(LEFT, 0, 4), 0.9), Thing(CAT, seen(LEFT, 3, 7), 0.8)])
    assert found.verdicts.of_video(1) == {0: (TEMPORAL, 1), 1: (TEMPORAL, 1)}


def test_pieces_of_another_category_are_no_pieces(tmp_path: Path) -> None:
    found = analysed(tmp_path, [Thing(CAT, seen(LEFT, 0, 4), 0.9), Thing(DOG, seen(LEFT, 4, 10), 0.8)])
    assert found.verdicts.of_video(1) == {0: (TEMPORAL, 1), 1: (CLASSIFICATION, 1)}


def test_what_each_repair_is_worth(tmp_path: Path) -> None:
    # cat: a false positive before the hit, AP 1/2; dog: nothing found, AP 0
    tracks = [Thing(CAT, [ELSEWHERE] * FRAMES, 0.9), Thing(CAT, ON_CAT, 0.8)]
    errors = analysed(tmp_path, tracks).errors
    assert errors.ap50 == pytest.approx(0.25)
    assert (errors.truths, errors.found, errors.tracks, errors.hits) == (2, 1, 2, 1)
    worth = {name: one.dap50 for name, one in (errors.kinds | errors.summaries).items() if one.count}
    assert worth == {
        BACKGROUND: pytest.approx(0.25),  # cat 1
        MISSED: pytest.approx(0.25),  # no dog is left to find: AP is the cat's
        FALSE_POSITIVES: pytest.approx(0.25),
        FALSE_NEGATIVES: pytest.approx(0.25),
    }
    assert errors.kinds[BACKGROUND].examples == (Example(1, 0, None, 0.9),)
    assert errors.kinds[MISSED].examples == (Example(1, None, 2, None),)


def test_of_two_tracks_that_claim_an_object_the_better_one_gets_it(tmp_path: Path) -> None:
    tracks = [Thing(DOG, ON_CAT, 0.6), Thing(YAK, ON_CAT, 0.7), Thing(CAT, [ELSEWHERE] * FRAMES, 0.65)]
    errors = analysed(tmp_path, tracks, [TRUTH[0]]).errors
    kind = errors.kinds[CLASSIFICATION]
    assert (kind.count, kind.free, kind.truths) == (2, 2, 1)
    assert kind.dap50 == pytest.approx(1)  # the yak comes before the false positive, the dog would come behind it
    assert [(e.track, e.score) for e in kind.examples] == [(1, 0.7), (0, 0.6)]
    assert errors.kinds[MISSED].count == 0


def test_the_best_claim_counts_across_kinds(tmp_path: Path) -> None:
    tracks = [Thing(DOG, ON_CAT, 0.6), Thing(CAT, [(0, 0, 4, 10)] * FRAMES, 0.7)]
    errors = analysed(tmp_path, tracks, [TRUTH[0]]).errors
    assert errors.kinds[LOCALISATION].dap50 == pytest.approx(1)
    assert errors.kinds[LOCALISATION].truths == 1
    assert errors.kinds[CLASSIFICATION].dap50 == pytest.approx(0)
    assert errors.kinds[CLASSIFICATION].truths == 0


def test_a_claim_on_a_found_object_is_only_removed(tmp_path: Path) -> None:
    tracks = [Thing(CAT, [(0, 0, 4, 10)] * FRAMES, 0.9), Thing(CAT, ON_CAT, 0.8)]
    errors = analysed(tmp_path, tracks, [TRUTH[0]]).errors
    assert errors.ap50 == pytest.approx(0.5)
    assert (errors.kinds[LOCALISATION].dap50, errors.kinds[LOCALISATION].truths) == (pytest.approx(0.5), 0)


def test_every_threshold_has_its_own_kinds(tmp_path: Path) -> None:
    # IoU 0.7: a hit at 0.5 to 0.7 (five thresholds), an error of localisation at 0.75 to 0.95 (five)
    errors = analysed(tmp_path, [Thing(CAT, [(0, 0, 7, 10)] * FRAMES)], [TRUTH[0]]).errors
    assert (errors.ap50, errors.ap) == (pytest.approx(1), pytest.approx(0.5))
    assert (errors.kinds[LOCALISATION].dap50, errors.kinds[LOCALISATION].dap) == (0, pytest.approx(0.5))


def test_nothing_is_left_to_average_where_everything_is_missed(tmp_path: Path) -> None:
    errors = analysed(tmp_path, [Thing(NONE, [ELSEWHERE] * FRAMES)]).errors
    assert errors.ap50 == 0
    assert errors.kinds[MISSED].dap50 is None
    assert (errors.kinds[BACKGROUND].count, errors.kinds[BACKGROUND].free) == (1, 1)


def test_tracks_beyond_the_cap_take_no_part(tmp_path: Path) -> None:
    tracks = [Thing(CAT, [ELSEWHERE] * FRAMES, 0.9)] * 100 + [Thing(CAT, ON_CAT, 0.1)]
    found = analysed(tmp_path, tracks)
    assert found.errors.tracks == 100
    assert 100 not in found.verdicts.of_video(1)
    assert found.errors.kinds[MISSED].count == 2


def test_crowds_are_nobodys_error_where_the_protocol_ignores_them(tmp_path: Path) -> None:
    annotations = annotated([Thing(CAT, ON_CAT), Thing(DOG, ON_DOG)], iscrowd=1)
    store = stored(tmp_path, annotations, [Thing(CAT, ON_CAT)])
    found = analyse("ytvis", annotations, store)
    assert found.verdicts.of_video(1) == {0: ("ignored", 1)}
    assert found.errors.ap50 is None
    assert all(kind.count == 0 for kind in found.errors.kinds.values())


def test_only_the_videos_asked_for_count(tmp_path: Path) -> None:
    truth = [Thing(CAT, ON_CAT, 1.0, v) for v in (1, 2)]
    tracks = [Thing(CAT, ON_CAT, 0.9, 1), Thing(DOG, ON_CAT, 0.9, 2)]
    found = analysed(tmp_path, tracks, truth, videos=[2])
    assert (found.errors.truths, found.errors.kinds[CLASSIFICATION].count) == (1, 1)
    assert found.verdicts.of_video(1) == {}


def test_without_tracks_everything_is_missed(tmp_path: Path) -> None:
    found = analysed(tmp_path, [])
    assert (found.errors.ap50, found.errors.truths, found.errors.found, found.errors.tracks) == (0, 2, 0, 0)
    assert {kind.kind: kind.count for kind in found.errors.kinds.values() if kind.count} == {MISSED: 2}
    assert [one.truths for one in found.slices["area"].slices] == [2, 0, 0]
    assert found.calibration["all"].error is None


def test_a_store_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no predictions"):
        analyse("lvvis", annotated(TRUTH, 1, FRAMES), PredictionStore(tmp_path / "nothing"))


DIALS = {
    "wrong_label": (0.1, CLASSIFICATION),
    "erode_px": (4, LOCALISATION),
    "switch_identity": (0.1, IDENTITY),
    "drop_frames": (0.5, TEMPORAL),
    "duplicate": (0.5, DUPLICATE),
    "drop_tracks": (0.1, MISSED),
}
"""Each dial of the oracle by itself, and the kind of error that it makes."""


@pytest.mark.parametrize("dial", DIALS)
def test_a_dial_of_the_oracle_shows_as_its_kind_of_error(tmp_path: Path, dial: str) -> None:
    amount, kind = DIALS[dial]
    off: dict[str, Any] = dict.fromkeys(DIALS, 0)
    found = oracle(tmp_path, OracleConfig(**{**off, "score_noise": 1, dial: amount}))
    worth = {name: one.dap50 or 0 for name, one in found.errors.kinds.items()}
    rest = {name: value for name, value in worth.items() if name != kind}
    assert worth[kind] > 0.04
    if dial == "switch_identity":
        # a track that leaves its object in the first frames is, by far the most of it, on another one: a wrong category
        assert rest.pop(CLASSIFICATION) < worth[kind] / 2
    assert max(rest.values()) < 0.02


def oracle(folder: Path, config: OracleConfig) -> Analysis:
    dataset = SHAPES.open(Path(), "val")
    assert dataset.truth is not None
    store, model = PredictionStore(folder), Oracle(config, dataset.truth, 0)
    for video in dataset.videos:
        store.write_video(video, list(model.predict(video, dataset.vocabulary)))
    return analyse("lvvis", dataset.annotations, store)


def test_every_error_and_every_truth_has_one_kind(tmp_path: Path) -> None:
    config = OracleConfig(switch_identity=0.5, erode_px=3, drop_frames=0.3)
    found = oracle(tmp_path, config)
    errors = found.errors
    tracks = {name: one.count for name, one in errors.kinds.items() if name != MISSED}
    assert sum(tracks.values()) == errors.tracks - errors.hits == errors.summaries[FALSE_POSITIVES].count
    assert sum(one.truths for one in errors.kinds.values()) == errors.truths - errors.found
    assert errors.summaries[FALSE_NEGATIVES].count == errors.truths - errors.found
    told = {kind: found.verdicts.kind.count(kind) for kind in KINDS if kind != MISSED}
    assert told == tracks
    assert json.dumps(found.record()) == json.dumps(oracle(tmp_path, config).record())


CASES = ("area_edges", "crowd_ignore", "duplicates", "empty_videos", "gt_id_repeated", "gt_id_zero",
         "gt_track_all_none", "many_dets", "missing_masks", "mixed", "score_ties", "scores_odd", "twin_gt")  # fmt: skip
"""Golden cases whose tracks a run can have written."""


def store_of(folder: Path, annotations: Annotations, results: Path) -> PredictionStore:
    """The store of a results file."""
    store = PredictionStore(folder)
    records = json.loads(results.read_text())
    for one in annotations.videos:
        tracks = [
            Track(one.id, r["category_id"], r["score"], tuple(m and rle(m) for m in r["segmentations"]))
            for r in records
            if r["video_id"] == one.id
        ]
        store.write_video(Video(one.id, one.name, one.height, one.width, NoFrames(one.length)), tracks)
    return store


def rle(mask: dict[str, Any]) -> Rle:
    return Rle(tuple(mask["size"]), mask["counts"].encode())


@pytest.mark.parametrize("case", CASES)
def test_before_any_repair_stands_the_protocols_own_ap(tmp_path: Path, case: str) -> None:
    annotations = read_annotations(GOLDEN / case / "gt.json")
    store = store_of(tmp_path, annotations, GOLDEN / case / "results.json")
    scored = 0
    for name in ("lvvis", "lvvis-corrected", "ytvis", "ytvis-corrected", "ovis", "burst"):
        try:
            score = score_store(name, annotations, store)
        except UserError:  # a field that the protocol needs is not in the file
            with pytest.raises(UserError):
                analyse(name, annotations, store)
            continue
        analysis = analyse(name, annotations, store)
        expected = (score.metrics if analysis.protocol == name else score.corrected).values
        assert (analysis.errors.ap50, analysis.errors.ap) == (expected["AP50"], expected["AP"])
        if analysis.protocol != name:  # the official tool aborts on the truth
            assert analysis.protocol == f"{name}-corrected"
            assert score.metrics.values["AP"] is None
        scored += 1
    assert scored
