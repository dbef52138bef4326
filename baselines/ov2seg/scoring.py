"""Scores of a video's tracks, their selection, and suppressed frames (docs/ov2seg.md, *Scores*).

Windows are processed one by one. Sums per slot and class are kept, and a few numbers per frame and slot; scores that
only selected tracks need are kept in `DeferredScores`; masks are kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from harness.baselines.ov2seg.config import Ov2SegConfig
from harness.models.shared.spill_buffer import DeferredScores
from harness.models.shared.track_selection import SUPPRESSION_RATIO, TrackSelection, best, mask_score, mask_sums

CLASS_TEMPERATURE = 50.0
"""Factor of the cosine similarity of an embedding and a text (docs/ov2seg.md, *Classes*)."""


class FrameLogits(NamedTuple):
    """The outputs of the network for the queries of f frames, in the network's order."""

    class_logits: Tensor
    """``(f, Q, C)``."""
    object_logits: Tensor
    """``(f, Q, 2)``: object, no object."""
    confidence: Tensor
    """``(f, Q)``: sum of sigmoid(logit) over the positive cells of the mask."""
    area: Tensor
    """``(f, Q)``: their number."""
    source: tuple[Tensor, ...]
    """The input of the class logits, embeddings ``(f, Q, embed_dim)``; or nothing."""


def frame_logits(
    class_logits: Tensor,
    object_logits: Tensor,
    mask_logits: Tensor,
    inside: Tensor | None = None,
    source: tuple[Tensor, ...] = (),
) -> FrameLogits:
    """The outputs from ``(f, Q, C)``, ``(f, Q, 2)`` and ``(f, Q, h, w)``, on their device.

    Mask scores count cells where ``inside`` ``(h, w)`` is true.
    """
    return FrameLogits(class_logits.float(), object_logits.float(), *mask_sums(mask_logits, inside), source)


class VideoScores:
    """Accumulates the scores of each frame on the CPU, with queries in the order of their slots.

    ``again`` recomputes the class logits of frames from the ``source`` of their outputs; without it they are
    stored. Close it after use.
    """

    def __init__(self, config: Ov2SegConfig, again: Callable[[Tensor], Tensor] | None = None) -> None:
        self.config = config
        self.frames = 0
        self._logits: Tensor | None = None  # (Q, C), summed in the order of frames
        self._object_logits: Tensor | None = None  # (Q, 2), likewise

        def scores_again(order: Tensor, objects: Tensor, *embeddings: Tensor) -> Tensor:
            assert again is not None
            return class_scores(_by_slot(again(*embeddings), order), objects, config)

        self._scores = DeferredScores(scores_again if again else None)
        self._confidence: list[Tensor] = []  # (frames, Q)
        self._area: list[Tensor] = []  # (frames, Q)

    def close(self) -> None:
        """Delete the scores of frames, also those on disk."""
        self._scores.close()

    def add(self, order: Tensor, outputs: FrameLogits) -> None:
        """Add the outputs of a window, on the CPU; ``order`` ``(f, Q)`` is the query of each slot."""
        logits, objects = _by_slot(outputs.class_logits, order), _by_slot(outputs.object_logits, order)
        for one, its_objects in zip(logits, objects, strict=True):
            self._logits = one if self._logits is None else self._logits + one
            self._object_logits = its_objects if self._object_logits is None else self._object_logits + its_objects
        self._confidence.append(_by_slot(outputs.confidence, order))
        self._area.append(_by_slot(outputs.area, order))
        source = (order, objects, *outputs.source) if outputs.source else ()
        self._scores.add(class_scores(logits, objects, self.config), *source)
        self.frames += len(order)

    def select(self, class_logits: Tensor | None = None) -> TrackSelection:
        """Score all slots and classes and select the best, at most ``detections_per_video``.

        A video's logits are the means of its frames'; ``class_logits`` ``(Q, C)`` replaces those of the classes.
        """
        assert self._logits is not None
        assert self._object_logits is not None
        mean = self._logits / self.frames if class_logits is None else class_logits.float().cpu()
        of_video = class_scores(mean, self._object_logits / self.frames, self.config)
        top, slots, labels = best(of_video, self.config.detections_per_video)
        return TrackSelection(slots, labels, top, self._suppressed(slots, labels, top))

    def mask_scores(self, selection: TrackSelection) -> Tensor:
        """Mean confidence of each selected track's positive cells where it is not suppressed, ``(k,)`` in [0, 1]."""
        confidence, area = torch.cat(self._confidence).T[selection.slots], torch.cat(self._area).T[selection.slots]
        return video_mask_score(confidence, area, ~selection.suppressed, self.config)

    def _suppressed(self, slots: Tensor, labels: Tensor, top: Tensor) -> Tensor:
        """Frames that lose their mask, ``(k, F)``: their own score is below a tenth of the video's."""
        if not self.config.suppress_frames:
            return torch.zeros(len(slots), self.frames, dtype=torch.bool)
        return self._scores.of(slots, labels) < SUPPRESSION_RATIO * top[:, None]


def _by_slot(values: Tensor, order: Tensor) -> Tensor:
    """Values of queries ``(f, Q, ...)`` on the CPU in the order of their slots."""
    return values.float().cpu()[torch.arange(len(order))[:, None], order]


def class_scores(class_logits: Tensor, object_logits: Tensor, config: Ov2SegConfig) -> Tensor:
    """sqrt(p o) of class probability and object probability, ``(..., Q, C)`` in [0, 1].

    ``class_logits`` ``(..., Q, C)``, ``object_logits`` ``(..., Q, 2)``. Without the object score sqrt(p).
    """
    if config.sigmoid_of_classes:
        p = class_logits.sigmoid()
    else:  # the zero column is the class without an object
        p = torch.nn.functional.pad(class_logits, (0, 1)).softmax(-1)[..., :-1]
    return (p * object_logits.softmax(-1)[..., :1]).sqrt() if config.object_score else p.sqrt()


def video_mask_score(confidence: Tensor, area: Tensor, kept: Tensor, config: Ov2SegConfig) -> Tensor:
    """Mask scores ``(k,)`` from each frame's summed confidence and area ``(k, F)``, where ``kept`` is true."""
    if config.mask_score_over_video:
        return mask_score((confidence * kept).sum(1), (area * kept).sum(1))
    shown = kept & (area > 0)
    return mask_score((mask_score(confidence, area) * shown).sum(1), shown.sum(1))
