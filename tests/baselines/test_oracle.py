"""The oracle: the truth where all dials are at 0, and one kind of error per dial."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from pydantic import ValidationError

from harness.baselines.oracle import PLUGIN, erode
from harness.datasets.shapes import PLUGIN as SHAPES
from harness.errors import UserError
from harness.masks import Rle
from harness.scoring.score import score_results
from harness.types import Dataset, LoadContext, Track, Vocabulary

EXACT = {
    "drop_tracks": 0, "erode_px": 0, "drop_frames": 0, "switch_identity": 0, "wrong_label": 0, "duplicate": 0,
    "score_noise": 0,
}  # fmt: skip
DATASET: Dataset = SHAPES.open(Path(), "val")
Predicted = dict[int, list[Track]]


def predict(seed: int = 0, reverse: bool = False, **dials: Any) -> Predicted:
    """Tracks by video, with all dials at 0 but the given ones."""
    model = PLUGIN.load(PLUGIN.Config(**EXACT | dials), LoadContext(DATASET, seed=seed))
    videos = DATASET.videos[::-1] if reverse else DATASET.videos
    return {v.id: list(model.predict(v, DATASET.vocabulary)) for v in videos}


def flat(predicted: Predicted) -> list[Track]:
    return [track for video_id in sorted(predicted) for track in predicted[video_id]]


def truth() -> list[Track]:
    return [Track(v.id, t.category_id, 1.0, t.masks) for v in DATASET.videos for t in DATASET.truth.tracks_of(v.id)]


def metrics(tmp_path: Path, predicted: Predicted) -> dict[str, float]:
    records = [
        {
            "video_id": t.video_id, "category_id": t.category_id, "score": t.score,
            "segmentations": [m and {"size": list(m.size), "counts": m.counts.decode()} for m in t.masks],
        }
        for t in flat(predicted)
    ]  # fmt: skip
    path = tmp_path / "results.json"
    path.write_text(json.dumps(records))
    found: dict[str, float] = score_results("lvvis", DATASET.annotations, path).record()["metrics"]
    return found


def test_without_degradation_it_is_the_truth(tmp_path: Path) -> None:
    assert flat(predict()) == truth()
    assert metrics(tmp_path, predict())["AP"] == pytest.approx(1, abs=1e-12)


def test_the_default_is_neither_perfect_nor_hopeless(tmp_path: Path) -> None:
    model = PLUGIN.load(PLUGIN.Config(), LoadContext(DATASET))
    found = metrics(tmp_path, {v.id: list(model.predict(v, DATASET.vocabulary)) for v in DATASET.videos})
    assert all(0.1 < found[key] < 0.95 for key in ("AP", "AP50", "APb", "APn", "AR10"))


def test_the_order_of_videos_does_not_matter_and_the_seed_does() -> None:
    dials = {**PLUGIN.Config().model_dump()}
    assert predict(seed=3, **dials) == predict(seed=3, reverse=True, **dials)
    assert predict(seed=3, **dials) != predict(seed=4, **dials)


def test_one_dial_does_not_change_the_choices_of_another() -> None:
    missed = {(t.video_id, t.masks) for t in truth()} - {(t.video_id, t.masks) for t in flat(predict(drop_tracks=0.5))}
    also = {(t.video_id, t.masks) for t in truth()} - {
        (t.video_id, t.masks) for t in flat(predict(drop_tracks=0.5, wrong_label=0.5, score_noise=1))
    }
    assert missed == also
    assert 5 < len(missed) < len(truth()) - 5


def test_dropped_tracks_lower_recall_only(tmp_path: Path) -> None:
    assert flat(predict(drop_tracks=1)) == []
    some = predict(drop_tracks=0.3)
    assert set(flat(some)) < set(truth())
    assert metrics(tmp_path, some)["AR100"] < 1


def test_dropped_frames_leave_the_other_masks_as_they_are() -> None:
    assert flat(predict(drop_frames=1)) == []
    for whole, broken in zip(truth(), flat(predict(drop_frames=0.2)), strict=True):
        assert all(b is None or b == w for w, b in zip(whole.masks, broken.masks, strict=True))
    assert flat(predict(drop_frames=0.2)) != truth()


def test_switched_identities_keep_every_frames_masks() -> None:
    switched = predict(switch_identity=1)
    assert flat(switched) != truth()
    for video in DATASET.videos:
        tracks = DATASET.truth.tracks_of(video.id)
        assert [t.category_id for t in switched[video.id]] == [t.category_id for t in tracks]
        assert switched[video.id][0].masks[0] == tracks[0].masks[0]
        for frame_index in range(len(video.frames)):
            before = {t.masks[frame_index] for t in tracks}
            assert before == {t.masks[frame_index] for t in switched[video.id]}


def test_wrong_labels_keep_the_masks_and_rank_lower() -> None:
    for right, wrong in zip(truth(), flat(predict(wrong_label=1)), strict=True):
        assert (wrong.video_id, wrong.masks, wrong.score) == (right.video_id, right.masks, 0.5)
        assert wrong.category_id != right.category_id


def test_duplicates_repeat_each_track_at_half_the_score() -> None:
    doubled = flat(predict(duplicate=1))
    assert doubled[0::2] == truth()
    assert doubled[1::2] == [replace(t, score=0.5) for t in truth()]


def test_noise_makes_scores_chance() -> None:
    scores = [t.score for t in flat(predict(score_noise=1))]
    assert len(set(scores)) == len(scores)
    assert min(scores) < 0.3
    assert max(scores) > 0.7
    assert all(0.75 <= t.score <= 1 for t in flat(predict(score_noise=0.25)))


def test_erosion_lowers_the_overlap(tmp_path: Path) -> None:
    found = [metrics(tmp_path, predict(erode_px=n))["AP"] for n in (0, 1, 2)]
    assert found[0] > found[1] > found[2]
    assert metrics(tmp_path, predict(erode_px=-2))["AP"] < found[0]


def test_only_the_categories_asked_for_are_found() -> None:
    model = PLUGIN.load(PLUGIN.Config(**EXACT | {"wrong_label": 1}), LoadContext(DATASET))
    vocabulary = Vocabulary(DATASET.categories[:4])
    found = [t for v in DATASET.videos for t in model.predict(v, vocabulary)]
    assert {t.category_id for t in found} == {1, 2, 3, 4}
    assert len(found) == sum(t.category_id <= 4 for t in truth())


def test_withheld_truth_is_refused() -> None:
    withheld = replace(DATASET, annotations=replace(DATASET.annotations, truth=None))
    with pytest.raises(UserError, match="no public truth"):
        PLUGIN.load(PLUGIN.Config(), LoadContext(withheld))


@pytest.mark.parametrize("wrong", [{"drop_track": 0.1}, {"drop_tracks": 1.5}, {"erode_px": 0.5}, {"duplicate": -1}])
def test_the_configuration_is_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        PLUGIN.Config(**wrong)


def encoded(mask: np.ndarray) -> Rle:
    height, width = mask.shape
    return Rle((height, width), coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"])


def decoded(mask: Rle) -> np.ndarray:
    return coco.decode({"size": list(mask.size), "counts": mask.counts}).astype(bool)


def shrunk(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Erosion by definition: a pixel stays if it and its four neighbours are set; outside is background."""
    for _ in range(pixels):
        p = np.pad(mask, 1)
        mask = p[1:-1, 1:-1] & p[:-2, 1:-1] & p[2:, 1:-1] & p[1:-1, :-2] & p[1:-1, 2:]
    return mask


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    for _ in range(pixels):
        p = np.pad(mask, 1)
        mask = p[1:-1, 1:-1] | p[:-2, 1:-1] | p[2:, 1:-1] | p[1:-1, :-2] | p[1:-1, 2:]
    return mask


@settings(max_examples=60)
@given(st.integers(0, 2**63), st.integers(1, 14), st.integers(1, 14), st.floats(0, 1), st.integers(-3, 3))
def test_erosion_and_dilation_by_definition(seed: int, height: int, width: int, fill: float, pixels: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < fill
    expected = shrunk(mask, pixels) if pixels >= 0 else grown(mask, -pixels)
    found = erode(encoded(mask), pixels)
    assert (found is None) == (not expected.any())
    if found is not None:
        np.testing.assert_array_equal(decoded(found), expected)
