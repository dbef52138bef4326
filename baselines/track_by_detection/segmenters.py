"""The per-frame outputs of video models as segmenters, CLIP-VIS and OV2Seg without their tracking; image models.

A candidate's score for a category is the model's score of a still image, times the mean confidence of its mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor

from harness.baselines.ov2seg import scoring as ov2seg_scoring
from harness.baselines.ov2seg.model import Ov2Seg
from harness.baselines.track_by_detection.detections import SegmentedFrame
from harness.models.clipvis.classifier import QueryClassifier
from harness.models.clipvis.model import ClipVis
from harness.models.clipvis.postprocess import image_scores
from harness.models.shared.preprocess import Geometry, padding_maps
from harness.models.shared.text_classifier import class_logits, frame_groups
from harness.models.shared.track_selection import mask_score, mask_sums
from harness.models.shared.windows import Stages
from harness.types import LoadedWeights, Video, Vocabulary

if TYPE_CHECKING:
    from harness.baselines.detectron2_adapter.model import Detectron2Model

V = TypeVar("V", bound=ClipVis | Ov2Seg)
M = TypeVar("M", bound="ClipVis | Ov2Seg | Detectron2Model")


class _OfModel(Generic[M]):
    """Facts on a segmenter's weights and vocabulary are its model's."""

    def __init__(self, model: M) -> None:
        self.model = model

    @property
    def loaded_weights(self) -> LoadedWeights | None:
        """The model's."""
        return self.model.loaded_weights

    def facts(self) -> dict[str, str]:
        """The model's."""
        return self.model.facts()


class _OfVideoModel(_OfModel[V]):
    """A segmenter whose stages and sizes are those of a video model."""

    @property
    def stage(self) -> Stages:
        """The model's."""
        return self.model.stage

    @stage.setter
    def stage(self, stage: Stages) -> None:
        self.model.stage = stage

    def geometry(self, height: int, width: int) -> Geometry:
        """Sizes of frames at each step of the model."""
        return self.model.geometry(height, width)


class ClipVisSegmenter(_OfVideoModel[ClipVis]):
    """CLIP-VIS on single frames, with the embeddings of its queries."""

    def __init__(self, model: ClipVis) -> None:
        super().__init__(model)
        config = model.config
        self._classify = QueryClassifier(
            model.network.backbone, config.project_empty_masks, config.zero_empty_logits, config.class_token_is_key
        )

    def frames(self, video: Video, vocabulary: Vocabulary) -> Iterator[SegmentedFrame]:
        """The queries of each frame (docs/clipvis.md, *Scores*, of an image)."""
        model = self.model
        classifier = model.text_classifier(vocabulary)
        sizes = model.geometry(video.height, video.width)
        at_32, at_4 = None, None
        if not model.config.padding_counts:
            at_32, at_4 = (~outside for outside in padding_maps(sizes, (32, 4), model.device))
        for output, dense in model.outputs(video, sizes):
            frames, queries = output.embeddings.shape[:2]
            for part in frame_groups(frames, queries, classifier.weights.shape[0]):
                masks, embeddings = output.mask_logits[part], output.embeddings[part]
                with model.stage("classification"):
                    p = self._classify(dense[part], masks, classifier, at_32).softmax(-1)
                    quality = mask_quality(masks, at_4)
                for i, ious in enumerate(output.ious[part]):
                    found = image_scores(p[i], ious[:, 0], output.object_logits[part][i], model.config)
                    yield SegmentedFrame(found * quality[i], masks[i], embeddings[i])


class Ov2SegSegmenter(_OfVideoModel[Ov2Seg]):
    """OV2Seg on single frames, with the embeddings of its queries."""

    def __init__(self, model: Ov2Seg) -> None:
        self.model = model

    def frames(self, video: Video, vocabulary: Vocabulary) -> Iterator[SegmentedFrame]:
        """The queries of each frame (docs/ov2seg.md, *Images*)."""
        model = self.model
        classifier = model.text_classifier(vocabulary)
        sizes = model.geometry(video.height, video.width)
        inside = None if model.config.padding_counts else ~padding_maps(sizes, (4,), model.device)[0]
        for output in model.outputs(video, sizes):
            frames, queries = output.embeddings.shape[:2]
            for part in frame_groups(frames, queries, classifier.weights.shape[0]):
                masks = output.mask_logits[part]
                with model.stage("classification"):
                    logits = class_logits(output.class_embeddings[part], classifier, ov2seg_scoring.CLASS_TEMPERATURE)
                    found = ov2seg_scoring.class_scores(logits, output.object_logits[part], model.config)
                    if model.config.mask_score:
                        found = found * mask_quality(masks, inside)
                for one in zip(found, masks, output.embeddings[part], strict=True):
                    yield SegmentedFrame(*one)


class Detectron2Segmenter(_OfModel["Detectron2Model"]):
    """A detectron2 model of images: its objects, with its own scores, as candidates of one class each."""

    def __init__(self, model: Detectron2Model) -> None:
        super().__init__(model)
        self.stage: Stages = lambda name: nullcontext()

    def geometry(self, height: int, width: int) -> Geometry:
        """The model resizes by itself: its masks have the size of the video."""
        return Geometry((height, width), (height, width), (height, width))

    def frames(self, video: Video, vocabulary: Vocabulary) -> Iterator[SegmentedFrame]:
        """The objects of each frame; without words there are none."""
        if not vocabulary.categories:
            return
        for found in self.model.images(video, vocabulary):
            scores = torch.zeros(len(found.labels), len(vocabulary.categories))
            for row, (label, score) in enumerate(zip(found.labels, found.scores, strict=True)):
                scores[row, label] = score
            yield SegmentedFrame(scores, torch.from_numpy(found.masks), torch.zeros(len(found.labels), 1))


def mask_quality(mask_logits: Tensor, inside: Tensor | None) -> Tensor:
    """Mean confidence of the positive cells of masks ``(f, Q, h, w)``, as a factor ``(f, Q, 1)`` in [0, 1]."""
    quality = mask_score(*mask_sums(mask_logits, inside))
    return torch.as_tensor(quality)[..., None]
