"""Matcher and losses: the golden vectors with their recorded draws, and what the formulas promise.

Tests of `models/mask2former/criterion_config.py`, `models/mask2former/mask_matcher.py`,
`models/mask2former/point_sampling.py` and `models/shared/training_batch.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from clipvis_golden import cases, facts, tensors
from torch import Tensor

from harness.models.mask2former.mask_criterion import CriterionConfig, MaskCriterion, iou_loss
from harness.models.mask2former.mask_matcher import match_image
from harness.models.mask2former.point_sampling import uncertain_points
from harness.models.mask2former.transformer_decoder import DecoderOutput, Prediction

WEIGHTS = torch.tensor([1.0, 0.4])


def replay(vector: dict[str, Tensor]) -> Callable[[int, int], Tensor]:
    """Hand out the recorded draws in their order; a call that asks for another shape fails."""
    draws = (vector[name] for name in sorted(name for name in vector if name.startswith("rand_")))

    def uniform(rows: int, points: int) -> Tensor:
        drawn = next(draws)
        assert drawn.shape == (rows, points, 2)
        return drawn

    return uniform


def output_of(vector: dict[str, Tensor], layers: int) -> DecoderOutput:
    for i in range(layers):
        for name in (f"obj_{i}", f"iou_{i}", f"masks_{i}"):
            vector[name].requires_grad_(True)
    predictions = [Prediction(vector[f"obj_{i}"], vector[f"iou_{i}"], vector[f"masks_{i}"]) for i in range(layers)]
    return DecoderOutput(*predictions[-1], torch.empty(0), tuple(predictions[:-1]))


@pytest.mark.parametrize("name", cases("h_losses"))
def test_golden_losses_and_gradients(name: str) -> None:
    vector, known = tensors(name), facts(name)
    layers = known["layers"]
    config = CriterionConfig(
        points=known["num_points"], oversample=known["oversample_ratio"], importance=known["importance_sample_ratio"]
    )
    criterion = MaskCriterion(config, replay(vector))
    output = output_of(vector, layers)
    losses = criterion(output, [vector["gt_masks_0"], vector["gt_masks_1"]], WEIGHTS)
    expected = {key.removeprefix("loss:"): value for key, value in vector.items() if key.startswith("loss:")}
    assert losses.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, rtol=1e-5, atol=0, msg=lambda text, key=key: f"{key}: {text}")
    total = criterion.total(losses)
    torch.testing.assert_close(total, vector["total_weighted"], rtol=1e-5, atol=0)
    total.backward()
    for i in range(layers):
        for kind in ("obj", "iou", "masks"):
            torch.testing.assert_close(vector[f"{kind}_{i}"].grad, vector[f"grad_{kind}_{i}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", cases("h_losses"))
def test_golden_assignments(name: str) -> None:
    vector, known = tensors(name), facts(name)
    uniform = replay(vector)
    for layer in (known["layers"] - 1, *range(known["layers"] - 1)):
        for image in range(2):
            cost = -2 * vector[f"obj_{layer}"][image].softmax(-1)[:, :1]
            logits = vector[f"masks_{layer}"][image]
            matched = match_image(logits, vector[f"gt_masks_{image}"], cost, known["num_points"], uniform)
            assert matched.queries.tolist() == vector[f"match_src_{layer}_{image}"].tolist()
            assert matched.targets.tolist() == vector[f"match_tgt_{layer}_{image}"].tolist()
        pairs = sum(len(vector[f"gt_masks_{image}"]) for image in range(2))
        kept = int(known["importance_sample_ratio"] * known["num_points"])
        uniform(pairs, int(known["oversample_ratio"] * known["num_points"]))  # skip what the losses drew
        uniform(pairs, known["num_points"] - kept)


def test_an_image_without_objects_teaches_that_there_is_none() -> None:
    logits = torch.zeros(1, 4, 2, requires_grad=True)
    masks, ious = torch.zeros(1, 4, 8, 8, requires_grad=True), torch.full((1, 4, 1), 0.5, requires_grad=True)
    criterion = MaskCriterion(CriterionConfig(points=16))
    output = DecoderOutput(logits, ious, masks, torch.empty(0), ())
    losses = criterion(output, [torch.zeros(0, 32, 32)], WEIGHTS)
    assert losses["loss_object_ce"].item() == pytest.approx(0.6931, abs=1e-4)
    assert all(losses[name].item() == 0 for name in ("loss_mask", "loss_dice", "loss_iou"))
    criterion.total(losses).backward()
    assert (logits.grad[..., 1] < 0).all()


def test_masks_without_overlap_leave_the_iou_alone() -> None:
    predicted = torch.tensor([0.9, 0.2], requires_grad=True)
    loss = iou_loss(predicted, torch.full((2, 5), -3.0), torch.tensor([[1.0] * 5, [0.0] * 5]))
    assert loss.item() == 0
    loss.backward()
    assert predicted.grad.tolist() == [0, 0]


def test_infinite_predictions_are_matched_all_the_same() -> None:
    logits = torch.full((3, 4, 4), float("nan"))
    logits[1] = 5.0
    matched = match_image(logits, torch.ones(1, 8, 8), torch.zeros(3, 1), 9, lambda n, p: torch.rand(n, p, 2))
    assert matched.queries.tolist() == [1]


def test_points_gather_where_the_mask_is_uncertain() -> None:
    columns = torch.linspace(-10, 10, 32).expand(1, 32, 32).contiguous()
    random = torch.Generator().manual_seed(0)
    points = uncertain_points(columns, 400, 3.0, 0.75, lambda n, p: torch.rand(n, p, 2, generator=random))
    assert points.shape == (1, 400, 2)
    near = ((points[..., 0] - 0.5).abs() < 0.15).float().mean()
    assert near > 0.7
