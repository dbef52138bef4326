"""OV2Seg's losses: the class loss looks at matched queries and sampled classes only; matching counts both scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from harness.baselines.ov2seg.criterion import SAMPLED_CLASSES, Ov2SegCriterion
from harness.baselines.ov2seg.decoder import OpenVocabularyOutput, OpenVocabularyPrediction
from harness.models.mask2former.criterion_config import CriterionConfig

CONFIG = CriterionConfig(points=64)
TEXT = torch.eye(4)


def made(objects: Tensor, embeddings: Tensor, masks: Tensor, earlier: int = 0) -> OpenVocabularyOutput:
    each = (objects, embeddings, masks)
    return OpenVocabularyOutput(*each, torch.empty(0), tuple(OpenVocabularyPrediction(*each) for _ in range(earlier)))


def halves(queries: int) -> tuple[Tensor, Tensor]:
    """Two objects, left and right half; query 0 draws the right one, query 1 the left one, the others nothing."""
    wanted = torch.zeros(2, 32, 32)
    wanted[0, :, :16], wanted[1, :, 16:] = 1, 1
    masks = torch.full((1, queries, 8, 8), -9.0)
    masks[0, 0, :, 4:], masks[0, 1, :, :4] = 9, 9
    return masks, wanted


def test_perfect_predictions_cost_nothing_but_rounding() -> None:
    masks, wanted = halves(3)
    objects = torch.tensor([[[20.0, -20], [20, -20], [-20, 20]]])
    embeddings = torch.tensor([[[-1.0, -1, 5, -1], [5, -1, -1, -1], [0.1, 0.1, 0.1, 0.1]]])
    # points all over the image: those that are sought where masks are uncertain lie on the border, which is soft
    torch.manual_seed(0)
    everywhere = CriterionConfig(points=512, oversample=1, importance=0)
    criterion = Ov2SegCriterion(TEXT, torch.ones(4), everywhere)
    losses = criterion(made(objects, embeddings, masks), [wanted], [torch.tensor([0, 2])])
    assert losses["loss_object_ce"] < 1e-6
    assert losses["loss_class"] < 1e-3
    assert losses["loss_mask"] < 0.15
    weights = {"loss_object_ce": 2, "loss_class": 2, "loss_mask": 5, "loss_dice": 5}
    expected = sum(weight * losses[name].item() for name, weight in weights.items())
    assert criterion.total(losses) == pytest.approx(expected, rel=1e-5)


def test_the_class_loss_is_that_of_matched_queries() -> None:
    masks, wanted = halves(3)
    objects = torch.zeros(1, 3, 2)
    embeddings = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    criterion = Ov2SegCriterion(TEXT, torch.ones(4), CONFIG)
    losses = criterion(made(objects, embeddings, masks), [wanted], [torch.tensor([1, 3])])
    logits = 50 * functional.normalize(embeddings, dim=-1)[0, [1, 0]]
    target = functional.one_hot(torch.tensor([1, 3]), 4).float()
    expected = 1.7 * functional.binary_cross_entropy_with_logits(logits, target, reduction="sum") / 3
    torch.testing.assert_close(losses["loss_class"], expected)


def test_two_like_masks_are_told_apart_by_their_class() -> None:
    masks = torch.full((1, 2, 8, 8), 9.0)
    embeddings = torch.tensor([[[0.0, 1, 0, 0], [1.0, 0, 0, 0]]])
    criterion = Ov2SegCriterion(TEXT, torch.ones(4), CONFIG)
    output = made(torch.zeros(1, 2, 2), embeddings, masks)
    prediction = OpenVocabularyPrediction(output.object_logits, output.class_embeddings, output.mask_logits)
    logits = criterion.class_logits(embeddings)
    matched = criterion.match(
        prediction, logits, [torch.ones(1, 32, 32)], [torch.tensor([0])], lambda n, p: torch.rand(n, p, 2)
    )
    assert matched[0].queries.tolist() == [1]


def test_classes_without_images_are_never_sampled() -> None:
    frequency = torch.ones(200)
    frequency[100:] = 0
    criterion = Ov2SegCriterion(torch.eye(200), frequency, CONFIG)
    sampled = criterion._sampled_classes(torch.tensor([3, 150]))
    assert len(sampled) == SAMPLED_CLASSES - 1
    assert {3, 150} <= set(sampled.tolist())
    assert [c for c in sampled.tolist() if c >= 100] == [150]


def test_an_image_without_objects() -> None:
    masks, _ = halves(3)
    output = made(torch.zeros(1, 3, 2, requires_grad=True), torch.randn(1, 3, 4), masks, earlier=2)
    criterion = Ov2SegCriterion(TEXT, torch.ones(4), CONFIG)
    losses = criterion(output, [torch.zeros(0, 32, 32)], [torch.zeros(0, dtype=torch.int64)])
    assert losses["loss_class"] == losses["loss_mask_1"] == 0
    criterion.total(losses).backward()
