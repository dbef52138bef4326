"""Scores of a video's tracks, their selection, and what is suppressed (spec, sections 7 and 8).

A video is seen window by window. Of each frame stay a class distribution, two scores and two sums per query; masks are
kept elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from harness.models.clipvis.config import ClipVisConfig

SUPPRESSION_RATIO = 0.1
"""A frame that scores below this share of its track's score loses its mask."""


class Selection(NamedTuple):
    """The reported tracks of a video, best first; k tracks, F frames."""

    slots: Tensor
    """``(k,)``: query slot of each track; a slot may appear with several labels."""
    labels: Tensor
    """``(k,)``: position of the track's class in the vocabulary."""
    scores: Tensor
    """``(k,)``: S, before the mask score."""
    suppressed: Tensor
    """``(k, F)`` boolean: frames whose mask is taken away."""


@dataclass
class VideoEvidence:
    """What is kept of each frame, on the CPU, queries in the order of their slots."""

    config: ClipVisConfig
    probabilities: list[Tensor] = field(default_factory=list)
    """Per window ``(frames, Q, C)``: class distribution p."""
    object_logits: list[Tensor] = field(default_factory=list)
    """Per window ``(frames, Q, 2)``."""
    ious: list[Tensor] = field(default_factory=list)
    """Per window ``(frames, Q)``: u."""
    confidence: list[Tensor] = field(default_factory=list)
    """Per window ``(frames, Q)``: sum of sigmoid(logit) over the positive cells of the mask."""
    area: list[Tensor] = field(default_factory=list)
    """Per window ``(frames, Q)``: number of positive cells."""

    def add(
        self,
        order: Tensor,
        class_logits: Tensor,
        object_logits: Tensor,
        ious: Tensor,
        mask_logits: Tensor,
        inside: Tensor | None = None,
    ) -> None:
        """Take in a window as the network gave it: ``(f, Q, C)``, ``(f, Q, 2)``, ``(f, Q, 1)``, ``(f, Q, h, w)``.

        ``order`` ``(f, Q)`` is the query of each slot. Mask scores count cells where ``inside`` ``(h, w)`` is true.
        """
        frames = torch.arange(len(order))[:, None]
        confidence, area = mask_sums(mask_logits, inside)
        self.probabilities.append(class_logits.float().softmax(-1).cpu()[frames, order])
        self.object_logits.append(object_logits.float().cpu()[frames, order])
        self.ious.append(ious[..., 0].float().cpu()[frames, order])
        self.confidence.append(confidence.cpu()[frames, order])
        self.area.append(area.cpu()[frames, order])

    def select(self) -> Selection:
        """Score all queries and classes and take the best, at most ``detections_per_video``."""
        p, u = torch.cat(self.probabilities), torch.cat(self.ious)
        logits, area = torch.cat(self.object_logits), torch.cat(self.area)
        present = None if self.config.score_absent_frames else area > 0
        scores = video_scores(p, u, logits, self.config, present)
        top, slots, labels = best(scores, self.config.detections_per_video)
        suppressed = suppression(p[:, slots, labels].T, logits[:, slots].transpose(0, 1), top, self.config)
        return Selection(slots, labels, top, suppressed)

    def mask_scores(self, selection: Selection) -> Tensor:
        """Mean confidence of each selected track's positive cells over the video, ``(k,)`` in [0, 1]."""
        kept = ~selection.suppressed
        confidence, area = torch.cat(self.confidence).T[selection.slots], torch.cat(self.area).T[selection.slots]
        return mask_score((confidence * kept).sum(1), (area * kept).sum(1))


def video_scores(
    p: Tensor, u: Tensor, object_logits: Tensor, config: ClipVisConfig, present: Tensor | None = None
) -> Tensor:
    """S(q, c) = sqrt(mean over frames of sqrt(p u) * o), ``(Q, C)`` in [0, 1].

    ``p`` ``(F, Q, C)`` class distribution, ``u`` ``(F, Q)`` predicted IoU, ``object_logits`` ``(F, Q, 2)``; o is the
    object probability of the mean logits. Where ``present`` ``(F, Q)`` is given the mean runs over those frames, and
    over all where there are none. Ablations leave a factor out.
    """
    per_frame = (p * u[..., None] if config.mask_iou_score else p).sqrt()
    if present is None:
        mean = per_frame.mean(0)
    else:
        weight = torch.where(present.any(0), present, True)[..., None].to(p.dtype)
        mean = (per_frame * weight).sum(0) / weight.sum(0)
    if config.object_score:
        mean = mean * object_logits.mean(0).softmax(-1)[:, :1]
    return mean.sqrt()


def image_scores(p: Tensor, u: Tensor, object_logits: Tensor, config: ClipVisConfig) -> Tensor:
    """S(q, c) = sqrt(p u o) of one image, ``(Q, C)`` in [0, 1]: one root of the product (QUIRK).

    ``p`` ``(Q, C)``, ``u`` ``(Q,)``, ``object_logits`` ``(Q, 2)``.
    """
    if not config.image_single_root:
        return video_scores(p[None], u[None], object_logits[None], config)
    product = p * u[:, None] if config.mask_iou_score else p
    return (product * object_logits.softmax(-1)[:, :1] if config.object_score else product).sqrt()


def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``k`` largest of ``(Q, C)``, or all if there are fewer: scores, queries, labels, ``(k,)`` each, best first.

    Equal scores come in the order of queries, then labels, so that a result does not depend on the machine.
    """
    ordered, index = scores.flatten().sort(descending=True, stable=True)
    return ordered[:k], index[:k] // scores.shape[1], index[:k] % scores.shape[1]


def suppression(p: Tensor, object_logits: Tensor, scores: Tensor, config: ClipVisConfig) -> Tensor:
    """Frames that lose their mask: v_t < 0.1 S, v_t = sqrt(sigmoid(p_t) * object probability), ``(k, F)`` boolean.

    ``p`` ``(k, F)`` is each track's class probability per frame, ``object_logits`` ``(k, F, 2)``, ``scores`` ``(k,)``.
    """
    if not config.suppress_frames:
        return torch.zeros(p.shape, dtype=torch.bool)
    certainty = p.sigmoid() if config.sigmoid_of_probability else p
    value = (certainty * object_logits.softmax(-1)[..., 0]).sqrt()
    return value < SUPPRESSION_RATIO * scores[:, None]


def mask_sums(mask_logits: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sum of sigmoid(logit) over the positive cells of each mask ``(..., h, w)``, and their number."""
    positive = mask_logits > 0 if inside is None else (mask_logits > 0) & inside
    confidence = (mask_logits.float().sigmoid() * positive).sum((-2, -1))
    return confidence, positive.sum((-2, -1)).to(confidence.dtype)


def mask_score(confidence: Tensor, area: Tensor) -> Tensor:
    """Mean confidence of positive cells; 0 where there are none."""
    return confidence / (area + 1e-6)
