"""Scores of a video's tracks, their selection, and suppressed frames (docs/clipvis.md, *Scores*).

Windows are processed one by one. Each frame gives an object score and two sums per query; its class distribution, or
the input to compute it again, is kept in `DeferredScores`; masks are kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from harness.models.clipvis.config import ClipVisConfig
from harness.models.shared.spill_buffer import DeferredScores
from harness.models.shared.track_selection import SUPPRESSION_RATIO, TrackSelection, best, mask_score, mask_sums


class FrameScores(NamedTuple):
    """Scores of the queries of f frames, from the outputs of the network and in its order."""

    distributions: Tensor
    """``(f, Q, C)``: probability of each class."""
    object_logits: Tensor
    """``(f, Q, 2)``: object, no object."""
    ious: Tensor
    """``(f, Q)``: predicted mask IoU in [0, 1]."""
    confidence: Tensor
    """``(f, Q)``: sum of sigmoid(logit) over the positive cells of the mask."""
    area: Tensor
    """``(f, Q)``: their number."""
    source: tuple[Tensor, ...]
    """The input of class logits, features ``(f, Q, embed_dim)`` and whether masks are empty ``(f, Q)``; or nothing."""


def frame_scores(
    class_logits: Tensor,
    object_logits: Tensor,
    ious: Tensor,
    mask_logits: Tensor,
    inside: Tensor | None = None,
    source: tuple[Tensor, ...] = (),
) -> FrameScores:
    """The scores from ``(f, Q, C)``, ``(f, Q, 2)``, ``(f, Q, 1)`` and ``(f, Q, h, w)``, on their device.

    Mask scores count cells where ``inside`` ``(h, w)`` is true.
    """
    confidence, area = mask_sums(mask_logits, inside)
    objects = object_logits.float()
    return FrameScores(_distributions(class_logits), objects, ious[..., 0].float(), confidence, area, source)


class TrackScoreAccumulator:
    """Accumulates the scores of each frame on the CPU, with queries in the order of their slots.

    Scores are summed frame by frame; class distributions are kept until tracks are selected. ``again`` recomputes the
    class logits of frames from the ``source`` of their scores; without it they are stored. Close it after use.
    """

    def __init__(self, config: ClipVisConfig, again: Callable[[Tensor, Tensor], Tensor] | None = None) -> None:
        self.config = config
        self.frames = 0
        self._scores = ScoreSums(config)
        self._distributions = DeferredScores(
            None if again is None else lambda order, *source: _by_slot(_distributions(again(*source)), order)
        )
        self._object_logits: list[Tensor] = []  # (frames, Q, 2)
        self._confidence: list[Tensor] = []  # (frames, Q)
        self._area: list[Tensor] = []  # (frames, Q)

    def close(self) -> None:
        """Delete the distributions, also those on disk."""
        self._distributions.close()

    def add(self, order: Tensor, scores: FrameScores) -> None:
        """Add the scores of a window, on the CPU; ``order`` ``(f, Q)`` is the query of each slot."""
        p = _by_slot(scores.distributions, order)
        self._object_logits.append(_by_slot(scores.object_logits, order))
        self._confidence.append(_by_slot(scores.confidence, order))
        self._area.append(_by_slot(scores.area, order))
        self._scores.add(p, _by_slot(scores.ious, order), self._area[-1] > 0)
        self._distributions.add(p, *((order, *scores.source) if scores.source else ()))
        self.frames += len(order)

    def select(self) -> TrackSelection:
        """Score all queries and classes and select the best, at most ``detections_per_video``."""
        logits = torch.cat(self._object_logits)
        scores = self._scores.result(logits)
        top, slots, labels = best(scores, self.config.detections_per_video)
        p = self._distributions.of(slots, labels)
        return TrackSelection(slots, labels, top, suppression(p, logits[:, slots].transpose(0, 1), top, self.config))

    def mask_scores(self, selection: TrackSelection) -> Tensor:
        """Mean confidence of each selected track's positive cells over the video, ``(k,)`` in [0, 1]."""
        kept = ~selection.suppressed
        confidence, area = torch.cat(self._confidence).T[selection.slots], torch.cat(self._area).T[selection.slots]
        return mask_score((confidence * kept).sum(1), (area * kept).sum(1))


def _distributions(class_logits: Tensor) -> Tensor:
    return class_logits.float().softmax(-1)


def _by_slot(values: Tensor, order: Tensor) -> Tensor:
    """Values of queries ``(f, Q, ...)`` on the CPU in the order of their slots."""
    return values.cpu()[torch.arange(len(order))[:, None], order]


class ScoreSums:
    """S(q, c) = sqrt(mean over frames of sqrt(p u) * o), ``(Q, C)`` in [0, 1], summed frame by frame.

    o is the object probability of the mean logits. The mean is over all frames (QUIRK), or over those with a mask if a
    query has any. Ablations leave a factor out.
    """

    def __init__(self, config: ClipVisConfig) -> None:
        self.config = config
        self._all: Tensor | float = 0.0  # (Q, C)
        self._present: Tensor | float = 0.0  # (Q, C)
        self._frames, self._frames_present = 0, torch.zeros(())  # of the video; (Q,)

    def add(self, p: Tensor, u: Tensor, present: Tensor) -> None:
        """Add frames: ``p`` ``(f, Q, C)`` class distribution, ``u`` ``(f, Q)`` IoU, ``present`` ``(f, Q)``."""
        per_frame = (p * u[..., None] if self.config.mask_iou_score else p).sqrt()
        self._all = self._all + per_frame.sum(0)
        self._frames += len(p)
        if not self.config.score_absent_frames:
            self._present = self._present + (per_frame * present[..., None]).sum(0)
            self._frames_present = self._frames_present + present.sum(0)

    def result(self, object_logits: Tensor) -> Tensor:
        """The scores; ``object_logits`` is ``(F, Q, 2)``."""
        mean = torch.as_tensor(self._all / self._frames)
        if not self.config.score_absent_frames:
            seen = self._frames_present[:, None]
            mean = torch.where(seen > 0, self._present / seen.clamp(min=1), mean)
        if self.config.object_score:
            mean = mean * object_logits.mean(0).softmax(-1)[:, :1]
        return mean.sqrt()


def image_scores(p: Tensor, u: Tensor, object_logits: Tensor, config: ClipVisConfig) -> Tensor:
    """S(q, c) = sqrt(p u o) of one image, ``(Q, C)`` in [0, 1]: one root of the product (QUIRK).

    ``p`` ``(Q, C)``, ``u`` ``(Q,)``, ``object_logits`` ``(Q, 2)``.
    """
    if not config.image_single_root:
        sums = ScoreSums(config)
        sums.add(p[None], u[None], torch.ones(1, len(u), dtype=torch.bool))
        return sums.result(object_logits[None])
    product = p * u[:, None] if config.mask_iou_score else p
    return (product * object_logits.softmax(-1)[:, :1] if config.object_score else product).sqrt()


def suppression(p: Tensor, object_logits: Tensor, scores: Tensor, config: ClipVisConfig) -> Tensor:
    """Frames that lose their mask: v_t < 0.1 S, v_t = sqrt(sigmoid(p_t) * object probability), ``(k, F)`` boolean.

    ``p`` ``(k, F)`` is each track's class probability per frame, ``object_logits`` ``(k, F, 2)``, ``scores`` ``(k,)``.
    """
    if not config.suppress_frames:
        return torch.zeros(p.shape, dtype=torch.bool)
    probability = p.sigmoid() if config.sigmoid_of_probability else p
    value = (probability * object_logits.softmax(-1)[..., 0]).sqrt()
    return value < SUPPRESSION_RATIO * scores[:, None]
