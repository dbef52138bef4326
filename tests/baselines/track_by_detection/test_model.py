"""Labels, scores and ranks of tracks; CLIP-VIS and OV2Seg as segmenters; the contract of models; the card.

Tests of `baselines/track_by_detection/card.py` and `baselines/track_by_detection/segmenters.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from track_scenes import HEIGHT, LOOKS, WIDTH, WORDS, Scene, Thing, moving, pixels, region

from harness import plugins
from harness.baselines.track_by_detection.config import TrackByDetectionConfig, TrackingConfig
from harness.baselines.track_by_detection.model import TrackByDetection
from harness.baselines.track_by_detection.plugin import PLUGIN
from harness.errors import UserError
from harness.testing import check_model
from harness.types import Dataset, LoadContext, ModelPlugin, Track

REST = moving((40, 40, 80, 80), (0, 0), 4)


def tracks(things: list[Thing], **settings: object) -> list[Track]:
    scene = Scene(things)
    return TrackByDetection(scene, TrackingConfig(**settings)).predict(scene.video, WORDS)


def test_the_label_is_the_category_with_the_highest_mean_score() -> None:
    """A single frame says dog with the highest score of all."""
    scores = [(0.5, 0.1, 0.0), (0.6, 0.2, 0.0), (0.0, 0.9, 0.0), (0.7, 0.0, 0.0)]
    (track,) = tracks([Thing(REST, scores=lambda f: scores[f])])
    assert track.video_id == 5
    assert track.category_id == 7
    assert track.score == pytest.approx(0.45)


def test_frames_where_it_is_not_found_do_not_count() -> None:
    scores = [(0.2, 0.8, 0.0), (0.9, 0.0, 0.9), (0.2, 0.6, 0.0), (0.0, 0.0, 0.05)]
    boxes = [REST[0], None, REST[2], REST[3]]
    (track,) = tracks([Thing(boxes, scores=lambda f: scores[f])])
    assert (track.category_id, track.score) == (3, pytest.approx(0.7))
    assert [mask is not None for mask in track.masks] == [True, False, True, False]


def test_masks_are_those_of_the_object_at_full_size() -> None:
    (track,) = tracks([Thing(moving((12, 8, 52, 68), (8, 4), 5))])
    for f, mask in enumerate(track.masks):
        assert mask is not None
        assert mask.size == (HEIGHT, WIDTH)
        differs = pixels(mask) ^ region((12 + 8 * f, 8 + 4 * f, 52 + 8 * f, 68 + 4 * f))
        assert differs.sum() <= 4  # corners are rounded


def blinking(count: int, frames: int) -> list[Thing]:
    """Objects seen for two frames each, at places apart, with scores of their own."""
    things = []
    for i in range(count):
        box = (4.0 + 24 * (i % 5), 4.0 + 30 * (i // 5 % 3), 22.0 + 24 * (i % 5), 28.0 + 30 * (i // 5 % 3))
        shown = [box if f in (i % frames, i % frames + 1) else None for f in range(frames)]
        score = float(np.random.default_rng(i).uniform(0.2, 1))
        things.append(Thing(shown, LOOKS[i % 8], lambda f, score=score: (0.1, score, 0.0)))
    return things


def test_the_best_tracks_are_reported_in_order() -> None:
    things = blinking(30, 24)
    everything = tracks(things, max_age=0, tracks_per_video=100)
    assert len(everything) == 30
    assert [t.score for t in everything] == sorted((t.score for t in everything), reverse=True)
    assert tracks(things, max_age=0, tracks_per_video=4) == everything[:4]


def test_short_tracks_are_left_out() -> None:
    things = [Thing(REST), Thing([(4.0, 4.0, 30.0, 30.0), None, None, None])]
    assert len(tracks(things)) == 2
    assert len(tracks(things, min_frames=2)) == 1


@pytest.mark.parametrize("tracker", ["mask_iou", "sort", "embedding"])
def test_a_video_without_objects(tracker: str) -> None:
    assert tracks([Thing([None] * 4)], tracker=tracker) == []


def test_it_is_a_plugin() -> None:
    assert isinstance(plugins.model("track-by-detection"), ModelPlugin)
    assert "Detic + SORT: LV-VIS AP 12.8" in PLUGIN.card["published"]
    assert "GLEE" in PLUGIN.card["published"]


@pytest.mark.parametrize("tracker", ["mask_iou", "sort", "embedding"])
def test_contract_with_clipvis(tracker: str, clipvis: Path) -> None:
    settings = {"tracker": tracker, "score_threshold": 0, "clipvis": {"short_edge": 64, "window": 2}}
    check_model("track-by-detection", settings, checkpoint=clipvis)


def context(dataset: Dataset, checkpoint: Path | None) -> LoadContext:
    return LoadContext(dataset, checkpoint=checkpoint)


@pytest.fixture
def shapes() -> Dataset:
    return plugins.dataset("shapes").open(Path(), "val")


def text_file(folder: Path, dataset: Dataset) -> Path:
    path = folder / "words.npy"
    rows = np.random.default_rng(1).standard_normal((len(dataset.categories), 16))
    np.save(path, rows.astype(np.float32))
    return path


def test_the_windows_of_the_segmenter_change_nothing(clipvis: Path, shapes: Dataset) -> None:
    found = []
    for window in (1, 4):
        settings = {"score_threshold": 0, "clipvis": {"short_edge": 64, "window": window}}
        model = PLUGIN.load(TrackByDetectionConfig.model_validate(settings), context(shapes, clipvis))
        found.append(model.predict(shapes.videos[0], shapes.vocabulary))
    assert [t.category_id for t in found[0]] == [t.category_id for t in found[1]]
    # CLIP multiplies similarities by up to 100, so a rounding of 1e-6 in a batch of another size is 1e-4 of a score
    assert [t.score for t in found[0]] == pytest.approx([t.score for t in found[1]], rel=1e-3)


def test_a_frame_scores_as_a_still_image_of_clipvis(clipvis: Path, shapes: Dataset) -> None:
    """The best category of each query, with the mask's confidence at stride 4 in place of that at full size."""
    settings = {"clipvis": {"short_edge": 64, "padding_counts": False}}
    model = PLUGIN.load(TrackByDetectionConfig.model_validate(settings), context(shapes, clipvis))
    video, words = shapes.videos[0], shapes.vocabulary
    frame = next(iter(model.segmenter.frames(video, words)))
    detected = model.segmenter.model.predict_image(video.frames[0], words, detections=8 * len(words.categories))
    best: dict[bytes, float] = {}
    for one in detected:
        best[one.mask.counts] = max(best.get(one.mask.counts, 0.0), one.score)
    quality = sorted(best.values(), reverse=True)[:3]
    mine = frame.scores.amax(1).sort(descending=True).values[:3].tolist()
    assert mine == pytest.approx(quality, rel=0.05)


@pytest.mark.parametrize("tracker", ["mask_iou", "sort", "embedding"])
def test_ov2seg(tracker: str, ov2seg: Path, shapes: Dataset, tmp_path: Path) -> None:
    settings = {
        "segmenter": "ov2seg",
        "tracker": tracker,
        "score_threshold": 0,
        "ov2seg": {"short_edge": 64, "text_classifier": str(text_file(tmp_path, shapes))},
    }
    model = PLUGIN.load(TrackByDetectionConfig.model_validate(settings), context(shapes, ov2seg))
    video = shapes.videos[0]
    found = model.predict(video, shapes.vocabulary)
    assert found
    assert all(len(track.masks) == len(video.frames) and 0 <= track.score <= 1 for track in found)
    assert found == model.predict(video, shapes.vocabulary)


@pytest.mark.parametrize("segmenter", ["clipvis", "ov2seg"])
def test_weights_are_asked_for(segmenter: str, shapes: Dataset) -> None:
    config = TrackByDetectionConfig.model_validate({"segmenter": segmenter})
    with pytest.raises(UserError, match=f"{segmenter}: has no weights; give its checkpoint"):
        PLUGIN.load(config, context(shapes, None))


def test_shipped_weights_are_the_default_segmenters(
    shapes: Dataset, clipvis: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.models.miniatures.weights", lambda model, dataset: clipvis)
    assert PLUGIN.shipped_weights("shapes") == clipvis
    with pytest.raises(UserError, match="segmenter ov2seg: has no weights"):
        PLUGIN.load(TrackByDetectionConfig(segmenter="ov2seg"), context(shapes, clipvis))


def test_stages_are_timed() -> None:
    scene = Scene([Thing(REST)])
    model = TrackByDetection(scene)
    entered: list[str] = []

    def stage(name: str) -> torch.autograd.profiler.record_function:
        entered.append(name)
        return torch.autograd.profiler.record_function(name)

    model.stage = stage
    model.predict(scene.video, WORDS)
    assert entered[:3] == ["detection", "encoding", "matching"]
