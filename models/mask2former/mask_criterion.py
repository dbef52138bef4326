"""Losses of class-agnostic masks: object, mask, dice and mask IoU, after every layer (CLIP-VIS, section 3.2).

Formulas and quirks: docs/clipvis.md, *Training*. Targets have no class: the object score
learns only whether a query is matched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from harness.models.mask2former.criterion_config import CriterionConfig
from harness.models.mask2former.mask_matcher import Matched, match_image
from harness.models.mask2former.point_sampling import Uniform, sample, uncertain_points, uniform_on
from harness.models.mask2former.transformer_decoder import DecoderOutput, Prediction

OBJECT, NO_OBJECT = 0, 1
OBJECT_COST = 2.0
"""Weight of the object score in the cost of a pair."""


class MaskCriterion:
    """The losses of a batch. ``uniform`` draws the points; the default is torch's generator of the outputs' device."""

    def __init__(self, config: CriterionConfig | None = None, uniform: Uniform | None = None) -> None:
        self.config = config or CriterionConfig()
        self.uniform = uniform

    def __call__(self, output: DecoderOutput, masks: Sequence[Tensor], class_weights: Tensor) -> dict[str, Tensor]:
        """Losses by name, before weighting: ``loss_*`` of the last prediction, ``loss_*_i`` of the earlier ones.

        ``masks`` holds one tensor ``(objects, H, W)`` per image, 0 or 1, at the size of the padded input.
        ``class_weights`` ``(2,)`` weighs object and no object. Each prediction is matched separately.
        """
        targets = objects_per_process(sum(len(m) for m in masks), output.mask_logits.device)
        last = Prediction(output.object_logits, output.ious, output.mask_logits)
        losses: dict[str, Tensor] = {}
        for suffix, prediction in [("", last), *((f"_{i}", p) for i, p in enumerate(output.auxiliary))]:
            matched = self.match(prediction, masks)
            each = {"loss_object_ce": object_loss(prediction.object_logits, matched, class_weights)}
            each |= self._mask_losses(prediction, masks, matched, targets)
            losses |= {f"{name}{suffix}": loss for name, loss in each.items()}
        return losses

    def match(self, prediction: Prediction, masks: Sequence[Tensor]) -> list[Matched]:
        """Match the objects of each image with its queries.

        QUIRK: the official configuration also has a cost of the predicted IoU, which is never used.
        """
        uniform = self._uniform(prediction.mask_logits)
        label_cost = -OBJECT_COST * prediction.object_logits.detach().float().softmax(-1)[..., :1]
        return [
            match_image(logits, wanted, cost, self.config.points, uniform)
            for logits, wanted, cost in zip(prediction.mask_logits, masks, label_cost, strict=True)
        ]

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Weighted sum of all losses; earlier predictions weigh as much as the last."""
        config = self.config
        weights = {
            "loss_object_ce": config.object_weight,
            "loss_mask": config.mask_weight,
            "loss_dice": config.dice_weight,
            "loss_iou": config.iou_weight,
        }
        return torch.stack(
            [weights[name.rstrip("0123456789").rstrip("_")] * loss for name, loss in losses.items()]
        ).sum()

    def _mask_losses(
        self, prediction: Prediction, masks: Sequence[Tensor], matched: list[Matched], targets: float
    ) -> dict[str, Tensor]:
        pairs = sample_pairs(prediction.mask_logits, masks, matched, self.config, self._uniform(prediction.mask_logits))
        ious = prediction.ious[pairs.image, pairs.query, 0].float()
        return {
            "loss_mask": mask_loss(pairs, targets),
            "loss_dice": dice_loss(pairs, targets),
            "loss_iou": iou_loss(ious, pairs.logits.detach(), pairs.wanted),
        }

    def _uniform(self, logits: Tensor) -> Uniform:
        return self.uniform or uniform_on(logits.device)


class SampledPairs(NamedTuple):
    """Masks of the matched pairs of a batch at sampled points."""

    image: Tensor
    """``(N,)``: which image of the batch."""
    query: Tensor
    """``(N,)``."""
    logits: Tensor
    """``(N, P)`` float32."""
    wanted: Tensor
    """``(N, P)`` float32, between 0 and 1: soft near borders."""


def sample_pairs(
    mask_logits: Tensor, masks: Sequence[Tensor], matched: Sequence[Matched], config: CriterionConfig, uniform: Uniform
) -> SampledPairs:
    """Masks ``(B, Q, h, w)`` and targets ``(objects, H, W)`` of the matched pairs, where the masks are uncertain."""
    image = torch.cat([torch.full_like(pairs.queries, i) for i, pairs in enumerate(matched)])
    query = torch.cat([pairs.queries for pairs in matched])
    logits = mask_logits[image, query].float()
    wanted = torch.cat([m[pairs.targets] for m, pairs in zip(masks, matched, strict=True)]).float()
    with torch.autocast(logits.device.type, enabled=False):
        points = uncertain_points(logits.detach(), config.points, config.oversample, config.importance, uniform)
        return SampledPairs(image, query, sample(logits[:, None], points)[:, 0], sample(wanted[:, None], points)[:, 0])


def mask_loss(pairs: SampledPairs, targets: float) -> Tensor:
    """Binary cross entropy ``()``: mean over points, summed over pairs, divided by the number of targets."""
    with torch.autocast(pairs.logits.device.type, enabled=False):
        each = functional.binary_cross_entropy_with_logits(pairs.logits, pairs.wanted, reduction="none").mean(1)
    return each.sum() / targets


def dice_loss(pairs: SampledPairs, targets: float) -> Tensor:
    """Dice loss ``()``, smoothed by one, summed over pairs, divided by the number of targets."""
    scores = pairs.logits.sigmoid()
    overlap = 2 * (scores * pairs.wanted).sum(1)
    return (1 - (overlap + 1) / (scores.sum(1) + pairs.wanted.sum(1) + 1)).sum() / targets


def object_loss(object_logits: Tensor, matched: Sequence[Matched], class_weights: Tensor) -> Tensor:
    """Cross entropy ``()`` of ``(B, Q, 2)``: matched queries are objects, the others are not; weighted mean."""
    wanted = torch.full(object_logits.shape[:2], NO_OBJECT, dtype=torch.int64, device=object_logits.device)
    for row, pairs in zip(wanted, matched, strict=True):
        row[pairs.queries] = OBJECT
    return functional.cross_entropy(object_logits.float().transpose(1, 2), wanted, class_weights.float())


def iou_loss(predicted: Tensor, logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean error ``()`` of the predicted IoUs ``(N,)``; the true ones are taken at points, ``(N, P)`` each.

    QUIRK: at the points of the mask loss, most of them near the border, not over the whole mask; only pairs that
    overlap count, and their number divides. Without any the loss is zero, with a gradient of zero.
    """
    binary = (logits.sigmoid() > 0.5).to(wanted.dtype)
    overlap = (binary * wanted).sum(1)
    iou = overlap / (binary.sum(1) + wanted.sum(1) - overlap)
    counted = iou > 0  # false where it is 0 / 0
    error = (predicted - torch.where(counted, iou, predicted.detach())).abs()
    return (error * counted).sum() / counted.sum().clamp(min=1)


def objects_per_process(objects: int, device: torch.device) -> float:
    """Number of objects of all processes divided by the number of processes, at least one."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return max(float(objects), 1.0)
    total = torch.tensor(float(objects), device=device)
    distributed.all_reduce(total)
    return max(total.item() / distributed.get_world_size(), 1.0)
