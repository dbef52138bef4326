"""Selection of the tracks of a video, and scores of their masks."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

SUPPRESSION_RATIO = 0.1
"""A frame that scores below this share of its track's score loses its mask."""


class TrackSelection(NamedTuple):
    """The reported tracks of a video, best first; k tracks, F frames."""

    slots: Tensor
    """``(k,)``: query slot of each track; a slot may appear with several labels."""
    labels: Tensor
    """``(k,)``: position of the track's class in the vocabulary."""
    scores: Tensor
    """``(k,)``: S, before the mask score."""
    suppressed: Tensor
    """``(k, F)`` boolean: frames whose mask is removed."""


def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``k`` largest of ``(Q, C)``, or all if there are fewer: scores, queries, labels, ``(k,)`` each, best first.

    Ties are ordered by query, then label, so that the result does not depend on the machine.
    """
    ordered, index = scores.flatten().sort(descending=True, stable=True)
    return ordered[:k], index[:k] // scores.shape[1], index[:k] % scores.shape[1]


def mask_sums(mask_logits: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sum of sigmoid(logit) over the positive cells of each mask ``(..., h, w)``, and their number."""
    positive = mask_logits > 0 if inside is None else (mask_logits > 0) & inside
    confidence = (mask_logits.float().sigmoid() * positive).sum((-2, -1))
    return confidence, positive.sum((-2, -1)).to(confidence.dtype)


def mask_score(confidence: Tensor, area: Tensor) -> Tensor:
    """Mean confidence of positive cells; 0 where there are none."""
    return confidence / (area + 1e-6)
