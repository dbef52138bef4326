"""OV2Seg as a model of the harness: it processes a video in windows and returns tracks as run-length encodings.

Each window takes decoding and resizing (ahead), network, matching and classification. Then the tracks are selected, and
only their masks are encoded. Masks of a whole video never exist at full size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from functools import partial

import torch
from torch import Tensor

from harness.baselines.ov2seg.config import Ov2SegConfig
from harness.baselines.ov2seg.decoder import OpenVocabularyOutput
from harness.baselines.ov2seg.memory_tracking import MemoryMatcher
from harness.baselines.ov2seg.network import Ov2SegNetwork
from harness.baselines.ov2seg.scoring import (
    CLASS_TEMPERATURE,
    FrameLogits,
    VideoScores,
    class_scores,
    frame_logits,
    video_mask_score,
)
from harness.baselines.ov2seg.text_classifier import SourcedClassifier
from harness.frames import Image
from harness.models.mask2former.pixel_decoder import FeatureMaps
from harness.models.shared.detections import ImageDetection, choose_masks, image_detections, tracks_of_detections
from harness.models.shared.folded_norms import with_folded_norms
from harness.models.shared.half_weights import with_half_weights
from harness.models.shared.mask_buffer import MaskBuffer
from harness.models.shared.overlap import on_device
from harness.models.shared.preprocess import Geometry, geometry, normalise, padding_maps, resize
from harness.models.shared.text_classifier import TextClassifier, class_logits, frame_groups
from harness.models.shared.windows import Stages, WindowedModel
from harness.types import LoadedWeights, Track, Video, Vocabulary

log = logging.getLogger(__name__)

IMAGENET_MEAN = (123.675, 116.280, 103.530)
IMAGENET_STD = (58.395, 57.120, 57.375)
"""ImageNet's constants on the 0..255 scale, RGB."""


class Ov2Seg(WindowedModel[OpenVocabularyOutput]):
    """Finds the tracks of a video for any vocabulary (`harness.types.Model`).

    ``classifier_of`` returns the text classifier of a vocabulary; it is called when the vocabulary changes, and its
    source is logged. ``precision`` is ``fp32``, ``bf16`` or ``fp16`` (autocast; for the pixel decoder see there).
    ``stage(name)`` is entered around each stage of the work, for timing.
    """

    def __init__(
        self,
        network: Ov2SegNetwork,
        classifier_of: Callable[[Vocabulary], SourcedClassifier],
        config: Ov2SegConfig | None = None,
        device: str = "cpu",
        precision: str = "fp32",
        stage: Stages = lambda name: nullcontext(),
    ) -> None:
        self.config = config or Ov2SegConfig()
        super().__init__(self.config.window, device, precision, stage)
        self.network = network.to(device).eval()
        self._backbone = with_half_weights(with_folded_norms(network.backbone), self.dtype)
        self._predictor = with_half_weights(network.sem_seg_head.predictor, self.dtype)
        self._graphed_decoders = self.graphed(self._decoders, self.config.graphs)
        self.classifier_of = classifier_of
        self.short_edge = self.config.short_edge or network.short_edge
        self._vocabulary: tuple[str, SourcedClassifier] | None = None
        self._logged_digest: str | None = None  # digest of the vocabulary whose classifier's source is in the log

    @property
    def loaded_weights(self) -> LoadedWeights | None:
        """How the weights were loaded, see `harness.types.Model`."""
        return self.network.loaded_weights

    def facts(self) -> dict[str, str]:
        """Facts for the run's record, see `harness.types.Model`."""
        if self._vocabulary is None:
            return {"words": "none"}
        classifier, source, _ = self._vocabulary[1]
        return {"words": f"{classifier.classes}, {source}"}

    @torch.inference_mode()
    def predict(self, video: Video, vocabulary: Vocabulary) -> list[Track]:
        """Return the tracks of ``video``, best first, one mask per frame (all-zero where the object is absent)."""
        sizes = self.geometry(video.height, video.width)
        return self.retry_with_smaller_window(lambda: self._predict(video, vocabulary, sizes), len(video.frames), sizes)

    def _predict(self, video: Video, vocabulary: Vocabulary, sizes: Geometry) -> list[Track]:
        config, classifier = self.config, self.text_classifier(vocabulary)
        self._tell_source()
        matcher = self.matcher()
        inside = self._inside(sizes)

        def classify_again(embeddings: Tensor) -> Tensor:
            return class_logits(embeddings.to(self.device), classifier, CLASS_TEMPERATURE)

        def tracks() -> list[Track]:
            if not video_scores.frames:
                return []
            remembered = self._classes_of_memory(matcher, classifier) if config.classify_memory else None
            return self._tracks(video, vocabulary, video_scores, masks, remembered)

        with (
            self.float32_policy(),
            closing(VideoScores(config, classify_again)) as video_scores,
            closing(MaskBuffer(sizes, config.mask_memory_mb << 20, config.mask_score_at_output)) as masks,
            closing(self.consumer(matcher.match, video_scores.add, masks.add)) as consumer,
        ):
            for output in self.outputs(video, sizes):
                present = () if config.remember_absent_frames else ((output.mask_logits > 0).any((2, 3)),)
                found = self._classified(output, classifier, inside)
                consumer.take(output.mask_logits, (output.embeddings, *present), found)
            return consumer.finish(tracks, partial(self.begin_next, sizes))

    def _classified(
        self, output: OpenVocabularyOutput, classifier: TextClassifier, inside: Tensor | None
    ) -> Iterator[tuple[slice, FrameLogits]]:
        """Yield the logits of a window's frames, on the device; large vocabularies take a few frames at a time."""
        frames, queries = output.embeddings.shape[:2]
        for part in frame_groups(frames, queries, classifier.weights.shape[0]):
            with self.stage("classification"):
                embeddings, objects = output.class_embeddings[part], output.object_logits[part]
                logits = class_logits(embeddings, classifier, CLASS_TEMPERATURE)
                found = frame_logits(logits, objects, output.mask_logits[part], inside, (embeddings,))
            yield part, found

    @torch.inference_mode()
    def predict_image(self, image: Image, vocabulary: Vocabulary, detections: int = 100) -> list[ImageDetection]:
        """Objects of one RGB image, best first; mask scores at the image's size (docs/ov2seg.md, *Images*)."""
        sizes = self.geometry(image.shape[0], image.shape[1])
        with self.memory_errors(1, sizes), self.float32_policy():
            classifier = self.text_classifier(vocabulary)
            output = self.forward([resize(image, sizes.resized)], sizes)
            logits = class_logits(output.class_embeddings[0], classifier, CLASS_TEMPERATURE)
            found = class_scores(logits, output.object_logits[0], self.config)
            return image_detections(found, output.mask_logits[0], sizes, detections)

    def text_classifier(self, vocabulary: Vocabulary) -> TextClassifier:
        """Text embeddings of ``vocabulary``, from the last call or from ``classifier_of``."""
        if self._vocabulary is None or self._vocabulary[0] != vocabulary.digest:
            with self.stage("text"), self.float32_policy():
                self._vocabulary = (vocabulary.digest, self.classifier_of(vocabulary))
        return self._vocabulary[1].classifier

    def _tell_source(self) -> None:
        """Log once which text classifier is used."""
        assert self._vocabulary is not None
        digest, (classifier, source, is_published) = self._vocabulary
        if self._logged_digest == digest:
            return
        self._logged_digest = digest
        log.info("text classifier of %s categories: %s", classifier.classes, source)
        if not is_published:
            log.warning(
                "the text classifier is %s; published numbers need the released one (text_classifier=FILE)",
                source,
            )

    def matcher(self) -> MemoryMatcher:
        """Return a new matcher for one video."""
        return MemoryMatcher(
            self.config.memory_weight,
            normalise_memory=self.config.normalise_memory,
            remember_absent_frames=self.config.remember_absent_frames,
        )

    def geometry(self, height: int, width: int) -> Geometry:
        """Sizes of frames of ``height`` and ``width`` pixels at each step of the model."""
        return geometry(height, width, self.short_edge, self.config.long_edge)

    def forward(self, frames: list[Image], sizes: Geometry) -> OpenVocabularyOutput:
        """Run the network on resized frames ``(h, w, 3)``: output per frame in float32."""
        images = normalise(on_device(frames, self.device), sizes.padded, IMAGENET_MEAN, IMAGENET_STD)
        paddings = None if self.config.padding_counts else padding_maps(sizes, (32, 16, 8), self.device)
        mixed = self.dtype != torch.float32
        with self.float32_policy(), torch.autocast(self.device.type, dtype=self.dtype, enabled=mixed):
            with self.stage("backbone"):
                features = self._backbone(images)
            if self._graphed_decoders is not None:
                with self.stage("decoder"):
                    output = self._graphed_decoders(features, paddings)
            else:
                with self.stage("pixel_decoder"):
                    pixels = self.network.sem_seg_head.pixel_decoder(features, paddings)
                with self.stage("decoder"):
                    output = self._predictor(pixels, paddings)
        return OpenVocabularyOutput(
            output.object_logits.float(),
            output.class_embeddings.float(),
            output.mask_logits.float(),
            output.embeddings.float(),
            output.auxiliary,
        )

    def _decoders(self, features: FeatureMaps, paddings: list[Tensor] | None) -> OpenVocabularyOutput:
        """The network behind the backbone, as one function."""
        pixels = self.network.sem_seg_head.pixel_decoder(features, paddings)
        output: OpenVocabularyOutput = self._predictor(pixels, paddings)
        return output

    def _classes_of_memory(self, matcher: MemoryMatcher, classifier: TextClassifier) -> Tensor:
        """Class logits ``(Q, C)`` of the slots' memory after the last frame."""
        assert matcher.memory is not None
        embeddings = self.network.sem_seg_head.predictor.class_embed(matcher.memory.to(self.device))
        return class_logits(embeddings, classifier, CLASS_TEMPERATURE)

    def _inside(self, sizes: Geometry) -> Tensor | None:
        """Map of the image without padding at stride 4; ``None`` if padding counts."""
        return None if self.config.padding_counts else ~padding_maps(sizes, (4,), self.device)[0]

    def _tracks(
        self,
        video: Video,
        vocabulary: Vocabulary,
        video_scores: VideoScores,
        masks: MaskBuffer,
        remembered: Tensor | None,
    ) -> list[Track]:
        """Select the tracks and encode their masks."""
        with self.stage("postprocessing"):
            selection = video_scores.select(remembered)
        with self.stage("encoding"):
            chosen = choose_masks(selection, masks)
        final = selection.scores
        if self.config.mask_score and self.config.mask_score_at_output:
            found, own = chosen.masks, chosen.position
            kept = ~selection.suppressed
            final = final * video_mask_score(found.confidence[own], found.area[own], kept, self.config)
        elif self.config.mask_score:
            final = final * video_scores.mask_scores(selection)
        return tracks_of_detections(video.id, vocabulary.categories, selection, chosen, final)
