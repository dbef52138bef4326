"""Open-vocabulary classification of queries: CLIP features under a mask against text embeddings (docs/clipvis.md)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harness.models.backbones.clip import ClipBackbone
from harness.models.shared.text_classifier import TextClassifier, class_logits


def pooling_masks(mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize mask logits ``(B, Q, h, w)`` to the dense features and binarise them; boolean ``(B, Q, *size)``."""
    return functional.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False) > 0


def mask_pool(dense: Tensor, masks: Tensor) -> Tensor:
    """Mean of ``dense`` ``(B, channels, h, w)`` under masks ``(B, Q, h, w)``: ``(B, Q, channels)``, zero if empty."""
    m = masks.to(dense.dtype)
    return torch.einsum("bqhw,bchw->bqc", m, dense) / (m.sum((2, 3)) + 1e-8)[..., None]


@dataclass(frozen=True)
class QueryClassifier:
    """Computes class logits of queries from dense CLIP features and masks; the flags are those of `ClipVisConfig`."""

    backbone: ClipBackbone
    project_empty_masks: bool = True
    zero_empty_logits: bool = True
    class_token_is_key: bool = False

    def __call__(
        self, dense: Tensor, mask_logits: Tensor, classifier: TextClassifier, inside: Tensor | None = None
    ) -> Tensor:
        """Classify queries; returns float32 ``(B, Q, classes)``.

        ``dense`` is ``(B, channels, h, w)``, ``mask_logits`` ``(B, Q, H, W)``. Cells where ``inside`` ``(h, w)`` is
        false are not pooled.
        """
        return self.logits(*self.features(dense, mask_logits, inside), classifier)

    def logits(self, features: Tensor, empty: Tensor, classifier: TextClassifier) -> Tensor:
        """Class logits ``(B, Q, classes)`` from the result of `features`."""
        logits = class_logits(features, classifier, self.backbone.logit_scale)
        zeroed = self.zero_empty_logits if self.backbone.is_resnet else not self.project_empty_masks
        # overwritten, not multiplied: the features of an empty mask may be NaN
        return logits.masked_fill(empty[..., None], 0.0) if zeroed else logits

    def features(self, dense: Tensor, mask_logits: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """CLIP features of the queries ``(B, Q, embed_dim)``, not normalised, and which masks are empty ``(B, Q)``."""
        dense = dense.float()
        masks = pooling_masks(mask_logits.float(), (dense.shape[-2], dense.shape[-1]))
        if inside is not None:
            masks = masks & inside
        empty = ~masks.flatten(2).any(-1)
        if not self.backbone.is_resnet:
            return self.backbone.project(mask_pool(dense, masks)), empty
        if not self.zero_empty_logits:
            everywhere = torch.ones_like(masks[:1, :1]) if inside is None else inside
            masks = masks | (empty[..., None, None] & everywhere)
        return self.backbone.attention_pool(dense, masks, inside, self.class_token_is_key), empty
