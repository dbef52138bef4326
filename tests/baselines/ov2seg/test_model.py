"""OV2Seg on whole videos: the golden clip from frames to tracks; a tiny one with windows, memory, flags, odd input.

Tests of `baselines/ov2seg/card.py` and `baselines/ov2seg/config.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import ov2seg_golden
import pytest
import torch
from begun_windows import wait_until_decoded
from pycocotools import mask as coco
from torch import Tensor

from harness.baselines.ov2seg.checkpoint import used
from harness.baselines.ov2seg.config import Ov2SegConfig
from harness.baselines.ov2seg.decoder import OpenVocabularyOutput
from harness.baselines.ov2seg.model import Ov2Seg
from harness.baselines.ov2seg.network import Ov2SegArchitecture, Ov2SegNetwork
from harness.baselines.ov2seg.scoring import CLASS_TEMPERATURE, VideoScores, class_scores, frame_logits
from harness.baselines.ov2seg.text_classifier import SourcedClassifier
from harness.errors import UserError
from harness.frames import Image
from harness.masks import Rle
from harness.models.shared.mask_encoding import column_major
from harness.models.shared.preprocess import Geometry, normalise, resize
from harness.models.shared.text_classifier import TextClassifier, class_logits
from harness.types import Category, Track, Video, Vocabulary

WORDS = Vocabulary((Category(7, "red circle"), Category(3, "blue square"), Category(12, "dog")))
SMALL: dict[str, Any] = {"short_edge": 64, "long_edge": 128, "detections_per_video": 6}


def sourced(rows: Tensor) -> SourcedClassifier:
    unit = torch.nn.functional.normalize(rows, dim=-1)
    return SourcedClassifier(TextClassifier(unit, torch.arange(len(rows))), "made up by the test", True)


def made_up(vocabulary: Vocabulary) -> SourcedClassifier:
    """Embeddings that follow from the names' length and place."""
    draw = torch.Generator().manual_seed(len(vocabulary.categories))
    return sourced(torch.randn(len(vocabulary.categories), 16, generator=draw))


def iou(rle: Rle, expected: dict[str, object]) -> float:
    found = {"size": list(rle.size), "counts": rle.counts}
    if not coco.area(found) and not coco.area(expected):
        return 1.0
    return float(coco.iou([found], [expected], [False])[0, 0])


@torch.no_grad()
def test_golden_clip() -> None:
    golden = ov2seg_golden.tensors("e2e")
    frames = golden["frames"].numpy()
    network = ov2seg_golden.released_network()
    words = Vocabulary(tuple(Category(i, f"class {i}") for i in range(1, 12)))
    config = Ov2SegConfig(short_edge=ov2seg_golden.MANIFEST["config"]["min_size_test"])
    model = Ov2Seg(network, lambda _: sourced(golden["text_raw"]), config)
    sizes = model.geometry(*frames.shape[1:3])
    resized = [resize(frame, sizes.resized) for frame in frames]
    assert np.array_equal(np.stack(resized[: len(golden["resized"])]), golden["resized"].numpy())

    output = model.forward(resized, sizes)
    logits = class_logits(output.class_embeddings, model.text_classifier(words), CLASS_TEMPERATURE)
    ov2seg_golden.close(logits, golden["raw.pred_logits"][..., :-1], atol=2e-4)
    assert not golden["raw.pred_logits"][..., -1].any()
    ov2seg_golden.close(output.object_logits, golden["raw.pred_object_logits"], atol=2e-4)
    if "raw.pred_masks_first_last" in golden:
        ov2seg_golden.close(output.embeddings[[0, -1]], golden["raw.pred_embds_first_last"], atol=2e-4)
        ov2seg_golden.close(output.mask_logits[[0, -1]], golden["raw.pred_masks_first_last"], atol=2e-4)

    tracks = model.predict(Video(1, "golden", *frames.shape[1:3], list(frames)), words)
    ov2seg_golden.close(torch.tensor([t.score for t in tracks]), golden["final.scores_sorted"], atol=2e-5)
    assert [t.category_id - 1 for t in tracks] == golden["final.classes_sorted"].tolist()
    for track, written in zip(tracks, ov2seg_golden.results(), strict=True):
        assert track.category_id == written["category_id"]
        assert track.score == pytest.approx(written["score"], abs=2e-5)
        assert all(iou(m, w) >= 0.99 for m, w in zip(track.masks, written["segmentations"], strict=True) if m)
        assert all(m is not None for m in track.masks)


@torch.no_grad()
def test_golden_clip_between_network_and_tracks() -> None:
    """Aligned logits, scores, picks, and the masks of the best five at stride 4 and at full size."""
    golden = ov2seg_golden.tensors("e2e")
    frames = golden["frames"].numpy()
    config = Ov2SegConfig(short_edge=ov2seg_golden.MANIFEST["config"]["min_size_test"])
    model = Ov2Seg(ov2seg_golden.released_network(), lambda _: sourced(golden["text_raw"]), config)
    sizes = model.geometry(*frames.shape[1:3])
    output = model.forward([resize(frame, sizes.resized) for frame in frames], sizes)
    classifier = sourced(golden["text_raw"]).classifier
    logits = class_logits(output.class_embeddings, classifier, CLASS_TEMPERATURE)
    order = model.matcher().match(output.embeddings)
    at = torch.arange(len(order))[:, None]
    of_video, objects = logits[at, order].mean(0), output.object_logits[at, order].mean(0)
    ov2seg_golden.close(of_video, golden["out.logits"][:, :-1], atol=1e-4)
    ov2seg_golden.close(objects, golden["out.object_logits"], atol=1e-4)
    ov2seg_golden.close(class_scores(of_video, objects, config), golden["score.class_score_matrix"], atol=2e-5)
    with closing(VideoScores(config)) as evidence:
        evidence.add(order, frame_logits(logits, output.object_logits, output.mask_logits))
        selection = evidence.select()
        final = selection.scores * evidence.mask_scores(selection)
    assert torch.equal(selection.slots, golden["score.pick_query"])
    assert torch.equal(selection.labels, golden["score.pick_class"])
    assert torch.equal(selection.suppressed, golden["score.frame_suppressed"].bool())
    ov2seg_golden.close(selection.scores, golden["score.pick_score"], atol=2e-5)
    ov2seg_golden.close(final, golden["score.final_score"], atol=2e-5)
    masks = output.mask_logits[at, order].transpose(0, 1)  # (slots, frames, h, w)
    ov2seg_golden.close(masks[selection.slots[:5]], golden["score.final_masks_top5"], atol=2e-4)
    if "final.mask_logits_fullres_top5" in golden:
        best = masks[selection.slots[final.argsort(descending=True)[:5]]]
        full = torch.stack([column_major(track, sizes) for track in best]).view(5, 6, 80, 54).transpose(2, 3)
        ov2seg_golden.close(full, golden["final.mask_logits_fullres_top5"], atol=1e-2)  # kept in half precision


@torch.no_grad()
def test_golden_input_of_the_network() -> None:
    from harness.baselines.ov2seg.model import IMAGENET_MEAN, IMAGENET_STD

    golden = ov2seg_golden.tensors("e2e")
    found = normalise(golden["resized"][:1], (64, 64), IMAGENET_MEAN, IMAGENET_STD)
    ov2seg_golden.close(found, golden["network_input_0"], atol=1e-6)


class Moving:
    """Frames of a bright block that moves over noise, drawn when they are asked for."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, frame_index: int, /) -> Image:
        noise = np.random.default_rng(frame_index).integers(0, 90, (50, 70, 3), dtype=np.uint8)
        left = 3 * frame_index % 50
        noise[10:35, left : left + 20] = (250, 40, 30)
        return noise


def video(frames: int) -> Video:
    return Video(5, "moving", 50, 70, Moving(frames))


@pytest.fixture(scope="module")
def tiny(tiny_state: dict[str, Tensor], architecture: Ov2SegArchitecture) -> Ov2SegNetwork:
    network = Ov2SegNetwork(architecture)
    network.load_state_dict(used(tiny_state))
    return network.eval()


def predict(network: Ov2SegNetwork, frames: int = 7, **settings: Any) -> list[Track]:
    return Ov2Seg(network, made_up, Ov2SegConfig(**SMALL | settings)).predict(video(frames), WORDS)


class FrameByFrame(Ov2Seg):
    """Runs the network on single frames, so that a window's size does not touch its rounding."""

    def forward(self, frames: list[Image], sizes: Geometry) -> OpenVocabularyOutput:
        alone = [super(FrameByFrame, self).forward([frame], sizes) for frame in frames]
        return OpenVocabularyOutput(*(torch.cat([output[i] for output in alone]) for i in range(4)), ())


def test_tracks_of_a_video(tiny: Ov2SegNetwork) -> None:
    tracks = predict(tiny)
    assert len(tracks) == 6
    assert [t.score for t in tracks] == sorted((t.score for t in tracks), reverse=True)
    assert {t.category_id for t in tracks} <= {7, 3, 12}
    assert all(0 <= t.score <= 1 and len(t.masks) == 7 and t.video_id == 5 for t in tracks)
    masks = [rle for track in tracks for rle in track.masks if rle is not None]
    assert len(masks) == 6 * 7  # never absent, at most all-zero
    assert {rle.size for rle in masks} == {(50, 70)}
    assert max(int(coco.area({"size": list(rle.size), "counts": rle.counts})) for rle in masks) > 0


@pytest.mark.parametrize("window", [1, 3])
def test_windows_do_not_change_results(window: int, tiny: Ov2SegNetwork) -> None:
    whole, parts = (
        FrameByFrame(tiny, made_up, Ov2SegConfig(**SMALL, window=w)).predict(video(7), WORDS) for w in (7, window)
    )
    assert [t.score for t in parts] == pytest.approx([t.score for t in whole], abs=1e-5)
    assert sorted((t.category_id, t.masks) for t in parts) == sorted((t.category_id, t.masks) for t in whole)


@pytest.mark.parametrize("window", [2, 10])
def test_memory_does_not_change_results(window: int, tiny: Ov2SegNetwork) -> None:
    assert predict(tiny, window=window, mask_memory_mb=0) == predict(tiny, window=window)


@pytest.mark.parametrize("settings", [{}, {"mask_memory_mb": 0}, {"remember_absent_frames": False}])
def test_work_beside_the_network_changes_no_byte(
    settings: dict[str, Any], tiny: Ov2SegNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = predict(tiny, frames=23, window=3, **settings)
    monkeypatch.setattr(Ov2Seg, "overlap", False)
    assert predict(tiny, frames=23, window=3, **settings) == beside


@pytest.mark.parametrize("settings", [{}, {"classify_memory": True}])
def test_beginning_with_the_next_video_changes_no_byte(
    settings: dict[str, Any], tiny: Ov2SegNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_next, begun = Ov2Seg.begin_next, []

    def begin(self: Ov2Seg, sizes: Geometry, is_done: Callable[[], bool]) -> None:
        wait_until_decoded(self)
        begin_next(self, sizes, lambda: False)
        begun.extend(len(each.outputs) for each in self._expected)

    config, videos = Ov2SegConfig(**SMALL, window=3, **settings), [video(7), video(4), video(9)]
    monkeypatch.setattr(Ov2Seg, "begin_next", begin)
    model, found = Ov2Seg(tiny, made_up, config), []
    for number, each in enumerate(videos):
        model.expect(videos[number : number + 2])
        found.append(model.predict(each, WORDS))
    model.expect(())
    assert begun == [2, 2]
    monkeypatch.setattr(Ov2Seg, "overlap", False)
    assert found == [Ov2Seg(tiny, made_up, config).predict(each, WORDS) for each in videos]


def test_one_frame_and_none(tiny: Ov2SegNetwork) -> None:
    assert all(len(track.masks) == 1 for track in predict(tiny, frames=1))
    assert predict(tiny, frames=0) == []


def test_fewer_candidates_than_asked_for(tiny: Ov2SegNetwork) -> None:
    assert len(predict(tiny, frames=2, detections_per_video=1000)) == 10 * 3


def test_frames_of_differing_size(tiny: Ov2SegNetwork) -> None:
    frames = [np.zeros((50, 70, 3), np.uint8), np.zeros((50, 71, 3), np.uint8)]
    with pytest.raises(UserError, match=r"video 5 \(moving\), frame 1: is 71x50, the video is 70x50"):
        Ov2Seg(tiny, made_up, Ov2SegConfig(**SMALL)).predict(Video(5, "moving", 50, 70, frames), WORDS)


FLAGS: list[dict[str, Any]] = [
    {"memory_weight": 1.0},
    {"object_score": False},
    {"mask_score": False},
    {"padding_counts": False},
    {"normalise_memory": True},
    {"remember_absent_frames": False},
    {"classify_memory": True},
    {"sigmoid_of_classes": False},
    {"suppress_frames": False},
    {"mask_score_over_video": False},
    {"mask_score_at_output": True},
]


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: next(iter(flag)))
def test_each_setting_gives_sound_tracks(flag: dict[str, Any], tiny: Ov2SegNetwork) -> None:
    """Every quirk and ablation runs through the whole model; its effect is tested where it is coded."""
    tracks = predict(tiny, **flag)
    assert len(tracks) == 6
    assert all(0 <= track.score <= 1 for track in tracks)
    assert predict(tiny, **flag, mask_memory_mb=0) == tracks


@pytest.mark.parametrize(
    "flag", ["object_score", "mask_score", "padding_counts", "classify_memory", "sigmoid_of_classes",
             "mask_score_over_video", "mask_score_at_output"],
)  # fmt: skip
def test_settings_reach_the_scores(flag: str, tiny: Ov2SegNetwork) -> None:
    official = Ov2SegConfig().model_dump()[flag]
    assert [t.score for t in predict(tiny, **{flag: not official})] != [t.score for t in predict(tiny)]


def test_mask_score_is_a_factor(tiny: Ov2SegNetwork) -> None:
    with_it, without = predict(tiny, detections_per_video=30), predict(tiny, detections_per_video=30, mask_score=False)
    without_by_track = {(t.category_id, t.masks): t.score for t in without}
    assert all(t.score <= without_by_track[t.category_id, t.masks] for t in with_it)


@pytest.mark.parametrize(("precision", "near"), [("bf16", 0.15), ("fp16", 0.05)])
def test_mixed_precision_is_near(precision: str, near: float, tiny: Ov2SegNetwork) -> None:
    """Random weights leave attention masks near zero: a bfloat16 backbone alone moves scores by up to 0.13."""
    model = Ov2Seg(tiny, made_up, Ov2SegConfig(**SMALL), precision=precision)
    found = [track.score for track in model.predict(video(4), WORDS)]
    assert found == pytest.approx([track.score for track in predict(tiny, frames=4)], abs=near)


def test_image(tiny: Ov2SegNetwork) -> None:
    model = Ov2Seg(tiny, made_up, Ov2SegConfig(**SMALL))
    found = model.predict_image(Moving(1)[0], WORDS, detections=4)
    assert len(found) == 4
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    assert all(d.mask.size == (50, 70) and 0 <= d.label < 3 for d in found)
    of_video = predict(tiny, 1, mask_score_at_output=True, suppress_frames=False, detections_per_video=4)
    assert [d.score for d in found] == pytest.approx([t.score for t in of_video], abs=1e-5)
    assert [d.mask for d in found] == [t.masks[0] for t in of_video]


def test_long_video_keeps_to_its_budget(tiny: Ov2SegNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 frames with a budget of 1 MB: mask logits beyond it are gone as soon as they are runs."""
    from harness.models.shared import mask_buffer

    held: list[int] = []
    add = mask_buffer.MaskBuffer.add

    def watched(self: mask_buffer.MaskBuffer, logits: Tensor, order: Tensor) -> None:
        add(self, logits, order)
        held.append(sum(w.logits.nbytes for w in self._windows if w.logits is not None))

    monkeypatch.setattr(mask_buffer.MaskBuffer, "add", watched)
    tracks = predict(tiny, frames=300, mask_memory_mb=1, short_edge=32, window=50)
    assert len(held) == 6
    assert max(held) <= 1 << 20
    assert all(len(track.masks) == 300 for track in tracks)


def test_the_log_says_where_the_text_classifier_is_from(tiny: Ov2SegNetwork, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[Vocabulary] = []

    def computed(vocabulary: Vocabulary) -> SourcedClassifier:
        asked.append(vocabulary)
        return made_up(vocabulary)._replace(source="computed with a tower", is_published=False)

    model = Ov2Seg(tiny, computed, Ov2SegConfig(**SMALL))
    with caplog.at_level(logging.INFO, "harness"):
        for _ in range(3):
            model.predict(video(1), WORDS)
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.INFO] == [
        "text classifier of 3 categories: computed with a tower"
    ]
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "published numbers need the released one" in warning
    assert asked == [WORDS]


def test_plugin(saved: Path, tmp_path: Path) -> None:
    from small_runs import make_dataset

    from harness.baselines.ov2seg.plugin import PLUGIN
    from harness.types import LoadContext, ModelPlugin

    assert isinstance(PLUGIN, ModelPlugin)
    np.save(tmp_path / "words.npy", np.random.default_rng(1).standard_normal((2, 16)).astype(np.float32))
    config = PLUGIN.Config(**SMALL, text_classifier=tmp_path / "words.npy")
    dataset = make_dataset(1)
    model = PLUGIN.load(config, LoadContext(dataset, checkpoint=saved))
    assert model.predict(video(3), dataset.vocabulary) == model.predict(video(3), dataset.vocabulary)
    with pytest.raises(UserError, match="give its checkpoint"):
        PLUGIN.load(config, LoadContext(dataset))
    with pytest.raises(UserError, match="does not exist"):
        PLUGIN.load(PLUGIN.Config(text_classifier=tmp_path / "no.npy"), LoadContext(dataset, checkpoint=saved))


def test_contract(saved: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What any model must keep: odd sizes, one frame, other and empty vocabularies, determinism, memory."""
    from harness.baselines.ov2seg.plugin import PLUGIN
    from harness.testing import check_model

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check_model(PLUGIN, {**SMALL, "clip_model": "tiny-vit", "clip_pretrained": str(clip)}, checkpoint=saved)


def test_card() -> None:
    from harness.baselines.ov2seg.plugin import PLUGIN

    r50, swin = PLUGIN.card["variants"]
    assert r50["published_ap"]["LV-VIS val"] == 14.2
    assert swin["published_ap"] == {
        "LV-VIS val": 21.1,
        "LV-VIS test": 16.4,
        "OVIS val": 17.5,
        "YouTube-VIS 2019 val": 37.6,
        "YouTube-VIS 2021 val": 33.9,
    }
    assert (r50["lvvis_val_APb_APn"], swin["lvvis_val_APb_APn"]) == ("17.2, 11.9", "27.5, 16.3")
