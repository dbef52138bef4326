"""OV2Seg's losses: object, class by sigmoid over a sample of classes, mask and dice (section 3.4; docs/ov2seg.md)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from harness.baselines.ov2seg.decoder import OpenVocabularyOutput, OpenVocabularyPrediction
from harness.baselines.ov2seg.scoring import CLASS_TEMPERATURE
from harness.models.mask2former.criterion_config import CriterionConfig
from harness.models.mask2former.mask_criterion import (
    dice_loss,
    mask_loss,
    object_loss,
    objects_per_process,
    sample_pairs,
)
from harness.models.mask2former.mask_matcher import Matched, match_image
from harness.models.mask2former.point_sampling import Uniform, uniform_on

CLASS_COST, CLASS_SCALE = 2.0, 1.7
CLASS_WEIGHTS = (1.0, 0.4)
"""Weights of object and no object. QUIRK: the configured no-object weight 0.1 is never used."""
SAMPLED_CLASSES = 50
"""Number of classes in the class loss. QUIRK: the label of unmatched queries counts as one of them."""


class Ov2SegCriterion:
    """The losses of a batch, against text embeddings ``text`` ``(C, embed_dim)``, unit rows.

    ``frequency`` ``(C,)`` are numbers of images; classes without any are never sampled. ``uniform`` draws points.
    """

    def __init__(
        self, text: Tensor, frequency: Tensor, config: CriterionConfig | None = None, uniform: Uniform | None = None
    ) -> None:
        self.text, self.frequency = text, frequency
        self.config, self.uniform = config or CriterionConfig(), uniform

    def __call__(
        self, output: OpenVocabularyOutput, masks: Sequence[Tensor], categories: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Losses by name, before weighting: ``loss_*`` of the last prediction, ``loss_*_i`` of the earlier ones.

        ``masks`` holds ``(objects, H, W)`` per image, ``categories`` ``(objects,)``: rows of ``text``.
        """
        targets = objects_per_process(sum(len(m) for m in masks), output.mask_logits.device)
        last = OpenVocabularyPrediction(output.object_logits, output.class_embeddings, output.mask_logits)
        losses: dict[str, Tensor] = {}
        for suffix, prediction in [("", last), *((f"_{i}", p) for i, p in enumerate(output.auxiliary))]:
            uniform = self.uniform or uniform_on(prediction.mask_logits.device)
            logits = self.class_logits(prediction.class_embeddings)
            matched = self.match(prediction, logits, masks, categories, uniform)
            pairs = sample_pairs(prediction.mask_logits, masks, matched, self.config, uniform)
            weights = prediction.object_logits.new_tensor(CLASS_WEIGHTS)
            each = {
                "loss_object_ce": object_loss(prediction.object_logits, matched, weights),
                "loss_class": self._class_loss(logits, matched, categories),
                "loss_mask": mask_loss(pairs, targets),
                "loss_dice": dice_loss(pairs, targets),
            }
            losses |= {f"{name}{suffix}": loss for name, loss in each.items()}
        return losses

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        """Weighted sum of all losses; earlier predictions weigh as much as the last."""
        config = self.config
        weights = {
            "loss_object_ce": config.object_weight,
            "loss_class": CLASS_COST,
            "loss_mask": config.mask_weight,
            "loss_dice": config.dice_weight,
        }
        named = ((name.rstrip("0123456789").rstrip("_"), loss) for name, loss in losses.items())
        return torch.stack([weights[name] * loss for name, loss in named]).sum()

    def class_logits(self, embeddings: Tensor) -> Tensor:
        """Logits ``(B, Q, C)`` of class embeddings ``(B, Q, embed_dim)``."""
        return CLASS_TEMPERATURE * functional.normalize(embeddings.float(), dim=-1) @ self.text.T

    def match(
        self,
        prediction: OpenVocabularyPrediction,
        logits: Tensor,
        masks: Sequence[Tensor],
        categories: Sequence[Tensor],
        uniform: Uniform,
    ) -> list[Matched]:
        """Match objects with queries; the object score counts through the score of the object's class only."""
        scores = (logits.sigmoid() * prediction.object_logits.float().softmax(-1)[..., :1]).sqrt().detach()
        return [
            match_image(mask_logits, wanted, -CLASS_COST * score[:, classes], self.config.points, uniform)
            for mask_logits, wanted, score, classes in zip(
                prediction.mask_logits, masks, scores, categories, strict=True
            )
        ]

    def _class_loss(self, logits: Tensor, matched: Sequence[Matched], categories: Sequence[Tensor]) -> Tensor:
        """Binary cross entropy of the matched queries over the sampled classes, divided by batch times queries."""
        image = torch.cat([torch.full_like(pairs.queries, i) for i, pairs in enumerate(matched)])
        query = torch.cat([pairs.queries for pairs in matched])
        wanted = torch.cat([c[pairs.targets] for c, pairs in zip(categories, matched, strict=True)])
        sampled = self._sampled_classes(wanted)
        chosen = logits[image, query][:, sampled]
        one_hot = (wanted[:, None] == sampled[None, :]).to(chosen.dtype)
        loss = functional.binary_cross_entropy_with_logits(chosen, one_hot, reduction="sum")
        return CLASS_SCALE * loss / (logits.shape[0] * logits.shape[1])

    def _sampled_classes(self, present: Tensor) -> Tensor:
        """The classes of the batch and others, drawn by the square root of their frequency: one less than 50."""
        there: Tensor = present.unique()  # type: ignore[no-untyped-call]
        weights = self.frequency.to(present.device, torch.float32).sqrt()
        weights[there] = 0
        missing = min(SAMPLED_CLASSES - 1 - len(there), int((weights > 0).sum()))
        if missing <= 0:
            return there
        return torch.cat((there, torch.multinomial(weights, missing))).sort().values
