"""Outputs of detectron2's video models as tracks, by hand-made outputs; detectron2 itself plays no part in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco
from torch.nn.functional import interpolate

from harness.baselines.detectron2_adapter.outputs import tracks_of_outputs
from harness.errors import UserError
from harness.masks import Rle
from harness.types import Track

FRAMES, HEIGHT, WIDTH = 3, 6, 8


def masks(objects: int = 2, frames: int = FRAMES) -> torch.Tensor:
    """Random masks ``(objects, frames, height, width)``."""
    generator = torch.Generator().manual_seed(objects + frames)
    return torch.rand(objects, frames, HEIGHT, WIDTH, generator=generator) > 0.5


def read(outputs: Any, frames: int = FRAMES) -> list[Track]:
    return tracks_of_outputs(7, frames, outputs, lambda label: 100 + label)


def decoded(mask: Rle | None) -> np.ndarray:
    assert mask is not None
    return coco.decode({"size": list(mask.size), "counts": mask.counts})


def of_frame(found: torch.Tensor, ids: Any, scores: list[float], labels: list[int], name: str = "ID") -> Any:
    return SimpleNamespace(pred_masks=found, scores=torch.tensor(scores), pred_classes=labels, **{name: ids})


@pytest.mark.parametrize(
    "kind",
    [
        list,
        lambda m: m,
        lambda m: m.numpy(),
        lambda m: list(m.to(torch.uint8)),
        lambda m: m.float(),
        lambda m: [SimpleNamespace(tensor=one.half()) for one in m],
    ],
)
def test_the_usual_dictionary(kind: Any) -> None:
    given = masks()
    tracks = read({"pred_scores": [0.5, 0.25], "pred_labels": [3, 1], "pred_masks": kind(given), "image_size": (6, 8)})
    assert [(t.video_id, t.category_id, t.score) for t in tracks] == [(7, 103, 0.5), (7, 101, 0.25)]
    for track, expected in zip(tracks, given.numpy(), strict=True):
        assert len(track.masks) == FRAMES
        for mask, pixels in zip(track.masks, expected, strict=True):
            np.testing.assert_array_equal(decoded(mask), pixels)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda o, s: [{"instances": o, "interpolate_meta": s}],
        lambda o, s: {
            "pred_scores": o.scores,
            "pred_labels": o.pred_classes,
            "pred_masks": list(o.pred_masks),
            "interpolate_meta": s,
        },
    ],
)
def test_logits_become_masks_as_in_the_official_evaluators(wrap: Any) -> None:
    """Resized to the padded image (32x32), cut to the image (24x30), resized to the video (48x60), positive."""
    logits = torch.randn(2, 25, 8, 8, generator=torch.Generator().manual_seed(3))
    logits[1, 4] = -1
    found = SimpleNamespace(pred_masks=logits, scores=torch.tensor([0.5, 0.25]), pred_classes=torch.tensor([3, 1]))
    tracks = read(wrap(found, ((24, 30), 48, 60, (32, 32))), 25)
    for track, given in zip(tracks, logits, strict=True):
        large = interpolate(given[None], size=(32, 32), mode="bilinear", align_corners=False)[:, :, :24, :30]
        expected = interpolate(large, size=(48, 60), mode="bilinear", align_corners=False)[0] > 0
        for mask, pixels in zip(track.masks, expected.numpy(), strict=True):
            np.testing.assert_array_equal(decoded(mask), pixels)
    assert decoded(tracks[1].masks[4]).sum() == 0


def test_nothing_found() -> None:
    assert read({"pred_scores": [], "pred_labels": [], "pred_masks": []}) == []
    assert read([of_frame(masks(0)[:, t], [], [], []) for t in range(FRAMES)]) == []


def test_a_frame_without_the_object_has_an_empty_mask() -> None:
    given = masks(1)
    given[0, 1] = False
    (track,) = read({"pred_scores": [1.0], "pred_labels": [0], "pred_masks": list(given)})
    assert decoded(track.masks[1]).sum() == 0


@pytest.mark.parametrize("wrap", [lambda o: o, lambda o: [o], lambda o: {"instances": o}, lambda o: [{"instances": o}]])
def test_instances_of_a_whole_video(wrap: Any) -> None:
    given = masks()
    found = SimpleNamespace(pred_masks=given, scores=torch.tensor([0.5, 0.25]), pred_classes=torch.tensor([3, 1]))
    usual = {"pred_scores": [0.5, 0.25], "pred_labels": [3, 1], "pred_masks": list(given)}
    assert read(wrap(found)) == read(usual)


@pytest.mark.parametrize("name", ["ID", "pred_ids", "track_ids"])
def test_instances_of_frames_are_put_together_by_their_ids(name: str) -> None:
    given = masks(3, 1)[:, 0]
    tracks = read(
        [
            of_frame(given[:2], [5, 9], [0.9, 0.5], [1, 2], name),
            of_frame(given[:0], [], [], [], name),
            of_frame(given[1:], torch.tensor([9, 5]), [0.7, 0.6], [3, 1], name),
        ]
    )
    assert [t.category_id for t in tracks] == [101, 103]
    assert [t.score for t in tracks] == pytest.approx([0.75, 0.6], abs=1e-7)
    assert [m is None for m in tracks[0].masks] == [False, True, False]
    np.testing.assert_array_equal(decoded(tracks[0].masks[2]), given[2])
    np.testing.assert_array_equal(decoded(tracks[1].masks[2]), given[1])


def test_a_video_of_one_frame_in_each_form() -> None:
    given = masks(2, 1)
    usual = read({"pred_scores": [0.5, 0.25], "pred_labels": [3, 1], "pred_masks": list(given)}, 1)
    whole = SimpleNamespace(pred_masks=given, scores=[0.5, 0.25], pred_classes=[3, 1])
    frame = of_frame(given[:, 0], [0, 1], [0.5, 0.25], [3, 1])
    assert usual == read(whole, 1) == read([whole], 1) == read([frame], 1) == read({"instances": frame}, 1)


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ({"pred_scores": [1.0], "pred_labels": [0, 1], "pred_masks": list(masks())}, "2 masks, 1 scores and 2 labels"),
        (
            {"pred_scores": [1.0], "pred_labels": [0], "pred_masks": [masks(1)[0].float() - 0.5]},
            "masks are float32 from -0.5 to 0.5, not 0 and 1; threshold them in the model, or give outputs=",
        ),
        ({"sem_seg": masks()}, "not understood .KeyError: 'pred_labels'.; it needs pred_masks"),
        (None, "not understood .AttributeError"),
        ([of_frame(masks()[:, 0], [0, 1], [1, 1], [0, 0])] * 2, "Instances of 2 frames for 3 frames"),
        (
            [SimpleNamespace(pred_masks=masks()[:, 0], scores=[1, 1], pred_classes=[0, 0])] * 3,
            "do not say which objects are the same; give them a field ID",
        ),
    ],
)
def test_other_outputs_are_refused(outputs: Any, says: str) -> None:
    with pytest.raises(UserError, match=f"detectron2, video 7: .*{says}"):
        read(outputs)
