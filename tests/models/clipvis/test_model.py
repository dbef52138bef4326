"""A tiny CLIP-VIS on whole videos: windows, memory, flags, odd videos and vocabularies, a GPU that is too small.

Tests of `models/clipvis/config.py`, `models/clipvis/plugin.py`, `models/shared/detections.py`,
`models/shared/mask_buffer.py` and `models/shared/windows.py`.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from begun_windows import wait_until_decoded
from pycocotools import mask as coco
from torch import Tensor

from harness.errors import UserError
from harness.frames import Image
from harness.masks import Rle
from harness.models.backbones.clip import ClipBackbone
from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.model import ClipVis
from harness.models.clipvis.network import ClipVisNetwork
from harness.models.clipvis.plugin import PLUGIN
from harness.models.mask2former.pixel_decoder import PixelDecoder
from harness.models.mask2former.transformer_decoder import DecoderOutput, MaskedTransformerDecoder
from harness.models.shared import mask_buffer
from harness.models.shared.preprocess import Geometry
from harness.types import Category, Model, ModelPlugin, Track, Video, Vocabulary

WORDS = Vocabulary((Category(7, "red circle"), Category(3, "blue square,box"), Category(12, "dog")))
SMALL: dict[str, Any] = {"short_edge": 64, "long_edge": 128, "detections_per_video": 6}


class Moving:
    """Frames of a bright block that moves over noise, drawn when they are asked for."""

    def __init__(self, frames: int, height: int = 50, width: int = 70) -> None:
        self.frames, self.height, self.width = frames, height, width

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, frame_index: int, /) -> Image:
        noise = np.random.default_rng(frame_index).integers(0, 90, (self.height, self.width, 3), dtype=np.uint8)
        left = 3 * frame_index % (self.width - 20)
        noise[10:35, left : left + 20] = (250, 40, 30)
        return noise


def video(frames: int) -> Video:
    return Video(5, "moving", 50, 70, Moving(frames))


def predict(network: ClipVisNetwork, frames: int = 7, **settings: Any) -> list[Track]:
    return ClipVis(network, ClipVisConfig(**SMALL | settings)).predict(video(frames), WORDS)


class FrameByFrame(ClipVis):
    """Runs the network on single frames, so that a window's size does not touch its rounding."""

    def forward(self, frames: list[Image], sizes: Geometry) -> tuple[DecoderOutput, Tensor]:
        alone = [super(FrameByFrame, self).forward([frame], sizes) for frame in frames]
        heads = (torch.cat([output[i] for output, _ in alone]) for i in range(4))
        return DecoderOutput(*heads, ()), torch.cat([dense for _, dense in alone])


def near(one: list[Track], other: list[Track]) -> bool:
    """Equal but for the rounding of sums in scores, which may swap tracks of equal scores."""
    scores = np.array([[track.score for track in tracks] for tracks in (one, other)])
    masks = [sorted((track.category_id, track.masks) for track in tracks) for tracks in (one, other)]
    return bool(np.abs(scores[0] - scores[1]).max() < 1e-5) and masks[0] == masks[1]


def _area(rle: Rle) -> int:
    return int(coco.area({"size": list(rle.size), "counts": rle.counts}))


def test_tracks_of_a_video(tiny: ClipVisNetwork) -> None:
    tracks = predict(tiny)
    assert len(tracks) == 6
    assert [t.score for t in tracks] == sorted((t.score for t in tracks), reverse=True)
    assert {t.category_id for t in tracks} <= {7, 3, 12}
    assert all(0 <= t.score <= 1 and len(t.masks) == 7 and t.video_id == 5 for t in tracks)
    areas = [_area(rle) for track in tracks for rle in track.masks if rle is not None]
    assert len(areas) == 6 * 7  # never absent, at most all-zero
    assert max(areas) > 0
    assert {r.size for t in tracks for r in t.masks if r is not None} == {(50, 70)}


@pytest.mark.parametrize("window", [1, 3, 100])
def test_windows_do_not_change_results(window: int, tiny: ClipVisNetwork) -> None:
    whole, parts = (FrameByFrame(tiny, ClipVisConfig(**SMALL, window=w)).predict(video(7), WORDS) for w in (7, window))
    assert near(parts, whole)


@pytest.mark.parametrize("window", [2, 10])
def test_memory_does_not_change_results(window: int, tiny: ClipVisNetwork) -> None:
    assert predict(tiny, window=window, mask_memory_mb=0) == predict(tiny, window=window)


@pytest.mark.parametrize("settings", [{}, {"mask_memory_mb": 0}, {"window": 1, "mask_score_at_output": True}])
def test_work_beside_the_network_changes_no_byte(
    settings: dict[str, Any], tiny: ClipVisNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = predict(tiny, frames=23, **{"window": 3} | settings)
    monkeypatch.setattr(ClipVis, "overlap", False)
    assert predict(tiny, frames=23, **{"window": 3} | settings) == beside


def test_decoding_into_the_next_video_changes_no_byte(tiny: ClipVisNetwork) -> None:
    """Also where its frames have another size, and where there are fewer of them than are decoded ahead."""
    model, videos = ClipVis(tiny, ClipVisConfig(**SMALL, window=3)), [video(11), video(2), video(9)]
    found = []
    for number, each in enumerate(videos):
        model.expect(videos[number : number + 2])
        found.append(model.predict(each, WORDS))
    model.expect(())
    assert found == [ClipVis(tiny, ClipVisConfig(**SMALL, window=3)).predict(each, WORDS) for each in videos]


@pytest.mark.parametrize("settings", [{}, {"mask_memory_mb": 0}, {"mask_score_at_output": True}])
def test_beginning_with_the_next_video_changes_no_byte(
    settings: dict[str, Any], tiny: ClipVisNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[tuple[int, int]] = []  # the video that is asked for, and the frames of a window
    begin_next, forward, now = ClipVis.begin_next, ClipVis.forward, 0

    def begin(self: ClipVis, sizes: Geometry, is_done: Callable[[], bool]) -> None:
        wait_until_decoded(self)
        begin_next(self, sizes, lambda: False)

    def noted(self: ClipVis, frames: list[Image], sizes: Geometry) -> tuple[DecoderOutput, Tensor]:
        windows.append((now, len(frames)))
        return forward(self, frames, sizes)

    config, videos = ClipVisConfig(**SMALL | {"window": 3} | settings), [video(11), video(4), video(2), video(9)]
    monkeypatch.setattr(ClipVis, "begin_next", begin)
    monkeypatch.setattr(ClipVis, "forward", noted)
    model, found = ClipVis(tiny, config), []
    for now, each in enumerate(videos):
        model.expect(videos[now : now + 2])
        found.append(model.predict(each, WORDS))
    model.expect(())
    assert windows == [(0, 3)] * 3 + [(0, 2)] + [(0, 3), (0, 1)] + [(1, 2)] + [(2, 3)] * 2 + [(3, 3)]
    monkeypatch.setattr(ClipVis, "overlap", False)
    assert found == [ClipVis(tiny, config).predict(each, WORDS) for each in videos]


def test_an_error_beside_the_network_is_raised_as_it_is(tiny: ClipVisNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no thread stays."""
    before = threading.active_count()

    def broken(self: mask_buffer.MaskBuffer, logits: Tensor, order: Tensor) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(mask_buffer.MaskBuffer, "add", broken)
    with pytest.raises(OSError, match="No space left"):
        predict(tiny, frames=23, window=2)
    assert threading.active_count() == before


def test_one_frame(tiny: ClipVisNetwork) -> None:
    assert all(len(track.masks) == 1 for track in predict(tiny, frames=1))


def test_no_frames(tiny: ClipVisNetwork) -> None:
    assert predict(tiny, frames=0) == []


def test_fewer_candidates_than_asked_for(tiny: ClipVisNetwork) -> None:
    assert len(predict(tiny, frames=2, detections_per_video=1000)) == 10 * 3


def test_frames_of_differing_size(tiny: ClipVisNetwork) -> None:
    frames = [np.zeros((50, 70, 3), np.uint8), np.zeros((50, 71, 3), np.uint8)]
    with pytest.raises(UserError, match=r"video 5 \(moving\), frame 1: is 71x50, the video is 70x50"):
        ClipVis(tiny, ClipVisConfig(**SMALL)).predict(Video(5, "moving", 50, 70, frames), WORDS)


@pytest.mark.parametrize("names", [(), ("cat", "cat")])
def test_bad_vocabularies(names: tuple[str, ...], tiny: ClipVisNetwork) -> None:
    words = Vocabulary(tuple(Category(i, name) for i, name in enumerate(names)))
    with pytest.raises(UserError, match="vocabulary"):
        ClipVis(tiny, ClipVisConfig(**SMALL)).predict(video(2), words)


FLAGS: list[dict[str, Any]] = [
    {"matching": "previous_frame"},
    {"object_score": False},
    {"mask_iou_score": False},
    {"memory_length": 1, "topk": 1},
    {"short_edge": 96},
    {"channels_last": True},
    {"padding_counts": False},
    {"recency_weights": False},
    {"recency_weights_select": True},
    {"full_topk_required": False},
    {"clean_names": True},
    {"zero_empty_logits": False},
    {"class_token_is_key": True},
    {"score_absent_frames": False},
    {"sigmoid_of_probability": False},
    {"suppress_frames": False},
    {"mask_score_at_output": True},
]


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: next(iter(flag)))
def test_each_setting_gives_sound_tracks(flag: dict[str, Any], tiny: ClipVisNetwork) -> None:
    """Every quirk and ablation runs through the whole model; its effect is tested where it is coded."""
    tracks = predict(tiny, **flag)
    assert len(tracks) == 6
    assert all(0 <= track.score <= 1 for track in tracks)
    assert predict(tiny, **flag, mask_memory_mb=0) == tracks


@pytest.mark.parametrize("flag", ["object_score", "mask_iou_score", "padding_counts", "class_token_is_key"])
def test_settings_reach_the_scores(flag: str, tiny: ClipVisNetwork) -> None:
    official = ClipVisConfig().model_dump()[flag]
    assert [t.score for t in predict(tiny, **{flag: not official})] != [t.score for t in predict(tiny)]


def test_padding_left_out_is_not_looked_at(tiny: ClipVisNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """With padding_counts off no score depends on what the decoder's masks hold in the padding."""
    model = ClipVis(tiny, ClipVisConfig(**SMALL, padding_counts=False))
    expected = model.predict(video(3), WORDS)
    forward, changed = model.forward, []

    def dirty(frames: list[Image], sizes: Any) -> Any:
        output, dense = forward(frames, sizes)
        masks = output.mask_logits.clone()
        masks[..., -(-sizes.resized[1] // 4) :] = 50.0  # 64x90 in 64x96: the last column
        changed.append(not torch.equal(masks, output.mask_logits))
        return output._replace(mask_logits=masks), dense

    monkeypatch.setattr(model, "forward", dirty)
    found = model.predict(video(3), WORDS)
    assert changed == [True]
    assert [t.score for t in found] == pytest.approx([t.score for t in expected], abs=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_is_near(precision: str, tiny: ClipVisNetwork) -> None:
    model = ClipVis(tiny, ClipVisConfig(**SMALL), precision=precision)
    scores = [track.score for track in model.predict(video(4), WORDS)]
    # a cell of an attention mask that is 0 within rounding moves a score of random weights by more than rounding
    assert scores == pytest.approx([track.score for track in predict(tiny, frames=4)], abs=0.08)


def test_what_torch_compiles(tiny: ClipVisNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three parts of the network, each once; a stand-in for the compiler, which takes minutes."""
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda part: compiled.append(part) or part)
    assert predict(tiny, compile=True) == predict(tiny)
    assert [type(part) for part in compiled] == [ClipBackbone, PixelDecoder, MaskedTransformerDecoder]
    assert compiled[1:] == [tiny.sem_seg_head.pixel_decoder, tiny.sem_seg_head.predictor]


def test_image(tiny: ClipVisNetwork) -> None:
    found = ClipVis(tiny, ClipVisConfig(**SMALL)).predict_image(Moving(1)[0], WORDS, detections=4)
    assert len(found) == 4
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    assert all(d.mask.size == (50, 70) and 0 <= d.label < 3 for d in found)


def test_stages_are_told(tiny: ClipVisNetwork) -> None:
    stages: set[str] = set()

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        stages.add(name)
        yield

    ClipVis(tiny, ClipVisConfig(**SMALL), stage=stage).predict(video(2), WORDS)
    network = {"backbone", "pixel_decoder", "decoder"}
    assert stages == network | {"text", "decode", "matching", "classification", "postprocessing", "encoding"}


def test_a_full_gpu_halves_the_window_once(tiny: ClipVisNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a GPU that holds three frames: six shrink to three with a warning; one that holds two fails."""

    def limited(model: ClipVis, limit: int) -> ClipVis:
        forward = model.forward

        def on_small_gpu(frames: list[Image], sizes: Any) -> Any:
            if len(frames) > limit:
                raise torch.OutOfMemoryError
            return forward(frames, sizes)

        monkeypatch.setattr(model, "forward", on_small_gpu)
        return model

    config = ClipVisConfig(**SMALL, window=6)
    with pytest.warns(UserWarning, match="window shrunk to 3 frames"):
        tracks = limited(FrameByFrame(tiny, config), 3).predict(video(7), WORDS)
    assert near(tracks, FrameByFrame(tiny, config).predict(video(7), WORDS))
    with (
        pytest.warns(UserWarning, match="window shrunk"),
        pytest.raises(UserError, match=r"enough memory for 3 frames of 64x96.*lower window"),
    ):
        limited(ClipVis(tiny, config), 2).predict(video(7), WORDS)


NETWORK = ["backbone", "pixel_decoder", "decoder"]
STAGES = ["text", "decode", *NETWORK, "matching", "classification", "postprocessing", "encoding"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_gpu_full_in_any_stage_halves_the_window_once(tiny: ClipVisNetwork, stage: str) -> None:
    """Memory runs out: the window is halved and the tracks are the same; a second time it is an error."""
    config, left = ClipVisConfig(**SMALL, window=6), [1]

    @contextmanager
    def full(name: str) -> Iterator[None]:
        if name == stage and left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError
        yield

    with pytest.warns(UserWarning, match="window shrunk to 3 frames"):
        tracks = FrameByFrame(tiny, config, stage=full).predict(video(7), WORDS)
    assert near(tracks, FrameByFrame(tiny, config).predict(video(7), WORDS))
    for failures in (2, 1000):
        left[0] = failures
        with (
            pytest.warns(UserWarning, match="window shrunk"),
            pytest.raises(UserError, match=r"enough memory for 3 frames of 64x96.*lower window"),
        ):
            ClipVis(tiny, config, stage=full).predict(video(7), WORDS)


def test_a_short_video_is_halved_too(tiny: ClipVisNetwork) -> None:
    """Half a window that is longer than the video would change nothing."""
    entered = [0]

    @contextmanager
    def full(name: str) -> Iterator[None]:
        entered[0] += name == "classification"
        if name == "classification" and entered[0] == 1:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        yield

    with pytest.warns(UserWarning, match="window shrunk to 2 frames"):
        ClipVis(tiny, ClipVisConfig(**SMALL, window=10), stage=full).predict(video(4), WORDS)


def test_memory_of_a_failed_attempt_is_free_before_the_next(
    tiny: ClipVisNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masks and features are released without the garbage collector, so that the GPU has their memory again."""
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    entered = [0]
    forward = ClipVis.forward

    def watched(self: ClipVis, frames: list[Image], sizes: Geometry) -> Any:
        output, dense = forward(self, frames, sizes)
        made.extend(weakref.ref(each) for each in (output.mask_logits, output.embeddings, dense))
        return output, dense

    @contextmanager
    def full(name: str) -> Iterator[None]:
        entered[0] += name == "encoding"
        if name == "encoding" and entered[0] == 3:  # the last of all
            raise torch.OutOfMemoryError
        yield

    monkeypatch.setattr(ClipVis, "forward", watched)
    model = ClipVis(tiny, ClipVisConfig(**SMALL, window=6), stage=full)
    shrink = model._shrink

    def shrunk(frames: int, sizes: Geometry) -> None:
        alive.append(sum(each() is not None for each in made))
        shrink(frames, sizes)

    monkeypatch.setattr(model, "_shrink", shrunk)
    gc.disable()
    try:
        with pytest.warns(UserWarning, match="window shrunk"):
            model.predict(video(7), WORDS)
    finally:
        gc.enable()
    assert alive == [0]


def test_a_gpu_too_small_for_one_image_is_one_error(tiny: ClipVisNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(frames: list[Image], sizes: Geometry) -> Any:
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported")

    model = ClipVis(tiny, ClipVisConfig(**SMALL))
    monkeypatch.setattr(model, "forward", full)
    with pytest.raises(UserError, match=r"enough memory for 1 frame of 64x96.*lower window"):
        model.predict_image(Moving(1)[0], WORDS)


def test_long_video_keeps_to_its_budget(tiny: ClipVisNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 frames with a budget of 1 MB: mask logits beyond it are gone as soon as they are runs."""
    held: list[int] = []
    add = mask_buffer.MaskBuffer.add

    def watched(self: mask_buffer.MaskBuffer, logits: Tensor, order: Tensor) -> None:
        add(self, logits, order)
        held.append(sum(w.logits.nbytes for w in self._windows if w.logits is not None))

    monkeypatch.setattr(mask_buffer.MaskBuffer, "add", watched)
    tracks = predict(tiny, frames=1000, mask_memory_mb=1, short_edge=32, window=50)
    assert len(held) == 20
    assert max(held) <= 1 << 20
    assert all(len(track.masks) == 1000 for track in tracks)


def test_plugin(saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from harness.types import LoadContext

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert isinstance(PLUGIN, ModelPlugin)
    config = PLUGIN.Config(**SMALL)
    model: Model = PLUGIN.load(config, LoadContext(dataset=None, checkpoint=saved))  # type: ignore[arg-type]
    assert list(model.predict(video(3), WORDS)) == list(model.predict(video(3), WORDS))
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 1
    with pytest.raises(UserError, match="give its checkpoint"):
        PLUGIN.load(config, LoadContext(dataset=None))  # type: ignore[arg-type]
