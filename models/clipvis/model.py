"""CLIP-VIS as a model of the harness: it processes a video in windows and returns tracks as run-length encodings.

Each window takes decoding and resizing (ahead), network, matching and classification. Then the tracks are selected, and
only their masks are encoded. Masks of a whole video never exist at full size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.frames import Image
from harness.models.clipvis.classifier import QueryClassifier
from harness.models.clipvis.config import ClipVisConfig
from harness.models.clipvis.network import ClipVisNetwork
from harness.models.clipvis.postprocess import FrameScores, TrackScoreAccumulator, frame_scores, image_scores
from harness.models.clipvis.query_matching import QueryMatcher
from harness.models.mask2former.pixel_decoder import FeatureMaps
from harness.models.mask2former.transformer_decoder import DecoderOutput
from harness.models.shared.detections import ImageDetection, choose_masks, image_detections, tracks_of_detections
from harness.models.shared.folded_norms import with_folded_norms
from harness.models.shared.half_weights import with_half_weights
from harness.models.shared.mask_buffer import MaskBuffer
from harness.models.shared.overlap import on_device
from harness.models.shared.preprocess import Geometry, geometry, normalise, padding_maps, resize
from harness.models.shared.text_classifier import (
    TextClassifier,
    build_text_classifier,
    cached_text_classifier,
    frame_groups,
    tower_digest,
)
from harness.models.shared.track_selection import mask_score
from harness.models.shared.windows import Stages, WindowedModel
from harness.types import LoadedWeights, Track, Video, Vocabulary

TOWER = "clip_model.visual."
"""CLIP's image tower in the backbone; the text tower runs once per vocabulary."""


class ClipVis(WindowedModel[tuple[DecoderOutput, Tensor]]):
    """Finds the tracks of a video for any vocabulary (`harness.types.Model`).

    ``precision`` is ``fp32``, ``bf16`` or ``fp16`` (autocast; for the pixel decoder see there). ``text_cache`` is
    the folder of cached text embeddings. ``stage(name)`` is entered around each stage of the work, for timing.
    """

    def __init__(
        self,
        network: ClipVisNetwork,
        config: ClipVisConfig | None = None,
        device: str = "cpu",
        precision: str = "fp32",
        text_cache: Path | None = None,
        stage: Stages = lambda name: nullcontext(),
    ) -> None:
        self.config = config or ClipVisConfig()
        super().__init__(self.config.window, device, precision, stage)
        self.network = network.to(device).eval()
        if self.config.channels_last:
            self.network.backbone.to(memory_format=torch.channels_last)
        parts = (
            with_half_weights(with_folded_norms(network.backbone, TOWER), self.dtype, TOWER),
            network.sem_seg_head.pixel_decoder,  # stays in float32
            with_half_weights(network.sem_seg_head.predictor, self.dtype),
        )
        self._parts: list[Callable[..., Any]] = [torch.compile(p) if self.config.compile else p for p in parts]
        self._graphed_decoders = self.graphed(self._decoders, self.config.graphs)
        self.short_edge = self.config.short_edge or network.short_edge
        self.text_cache = text_cache
        self._vocabulary: tuple[str, TextClassifier] | None = None
        self._classify = QueryClassifier(
            network.backbone,
            self.config.project_empty_masks,
            self.config.zero_empty_logits,
            self.config.class_token_is_key,
        )

    @property
    def loaded_weights(self) -> LoadedWeights | None:
        """How the weights were loaded, see `harness.types.Model`; CLIP's may be from another file."""
        return self.network.loaded_weights

    def facts(self) -> dict[str, str]:
        """Facts for the run's record, see `harness.types.Model`."""
        count = 0 if self._vocabulary is None else self._vocabulary[1].classes
        return {"words": f"{count}, encoded by the text tower of CLIP"}

    @torch.inference_mode()
    def predict(self, video: Video, vocabulary: Vocabulary) -> list[Track]:
        """Return the tracks of ``video``, best first, one mask per frame (all-zero where the object is absent)."""
        sizes = self.geometry(video.height, video.width)
        return self.retry_with_smaller_window(lambda: self._predict(video, vocabulary, sizes), len(video.frames), sizes)

    def _predict(self, video: Video, vocabulary: Vocabulary, sizes: Geometry) -> list[Track]:
        config, classifier = self.config, self.text_classifier(vocabulary)
        matcher = self.matcher()
        inside = self._inside(sizes)

        def classify_again(features: Tensor, empty: Tensor) -> Tensor:
            return self._classify.logits(features.to(self.device), empty.to(self.device), classifier)

        def tracks() -> list[Track]:
            return self._tracks(video, vocabulary, track_scores, masks) if track_scores.frames else []

        with (
            self.float32_policy(),
            closing(TrackScoreAccumulator(config, classify_again)) as track_scores,
            closing(MaskBuffer(sizes, config.mask_memory_mb << 20, config.mask_score_at_output)) as masks,
            closing(self.consumer(matcher.match, track_scores.add, masks.add)) as consumer,
        ):
            for output, dense in self.outputs(video, sizes):
                found = self._classified(output, dense, classifier, inside)
                consumer.take(output.mask_logits, (output.embeddings,), found)
            return consumer.finish(tracks, partial(self.begin_next, sizes))

    def _classified(
        self, output: DecoderOutput, dense: Tensor, classifier: TextClassifier, inside: tuple[Tensor, Tensor] | None
    ) -> Iterator[tuple[slice, FrameScores]]:
        """Yield the scores of a window's frames, on the device; large vocabularies take a few frames at a time."""
        stride32, stride4 = inside or (None, None)
        frames, queries = output.embeddings.shape[:2]
        for part in frame_groups(frames, queries, classifier.weights.shape[0]):
            with self.stage("classification"):
                masks = output.mask_logits[part]
                source = self._classify.features(dense[part], masks, stride32)
                logits = self._classify.logits(*source, classifier)
                objects, ious = output.object_logits[part], output.ious[part]
                found = frame_scores(logits, objects, ious, masks, stride4, source)
            yield part, found

    @torch.inference_mode()
    def predict_image(self, image: Image, vocabulary: Vocabulary, detections: int = 100) -> list[ImageDetection]:
        """Objects of one RGB image, best first: the image model's scores (docs/clipvis.md, *Scores*)."""
        config = self.config
        sizes = self.geometry(image.shape[0], image.shape[1])
        with self.memory_errors(1, sizes), self.float32_policy():
            classifier = self.text_classifier(vocabulary)
            output, dense = self.forward([resize(image, sizes.resized)], sizes)
            inside = self._inside(sizes)
            logits = self._classify(dense, output.mask_logits, classifier, inside[0] if inside else None)[0]
            scores = image_scores(logits.softmax(-1), output.ious[0, :, 0], output.object_logits[0], config)
            return image_detections(scores, output.mask_logits[0], sizes, detections)

    def text_classifier(self, vocabulary: Vocabulary) -> TextClassifier:
        """Text embeddings of ``vocabulary``: from the last call, from the cache on disk, or computed."""
        if self._vocabulary is None or self._vocabulary[0] != vocabulary.digest:
            names = [category.name for category in vocabulary.categories]
            backbone, clean = self.network.backbone, self.config.clean_names
            with self.stage("text"), self.float32_policy():
                if self.text_cache is None:
                    built = build_text_classifier(backbone, names, clean=clean, device=self.device)
                else:
                    digest = tower_digest(backbone)
                    built = cached_text_classifier(self.text_cache, digest, backbone, names, clean=clean)
            self._vocabulary = (vocabulary.digest, built)
        return self._vocabulary[1]

    def matcher(self) -> QueryMatcher:
        """Return a new matcher for one video."""
        config = self.config
        previous = config.matching == "previous_frame"
        return QueryMatcher(
            1 if previous else config.memory_length,
            1 if previous else config.topk,
            recency_weights=config.recency_weights,
            recency_weights_select=config.recency_weights_select,
            full_topk_required=config.full_topk_required,
        )

    def geometry(self, height: int, width: int) -> Geometry:
        """Sizes of frames of ``height`` and ``width`` pixels at each step of the model."""
        return geometry(height, width, self.short_edge, self.config.long_edge)

    def forward(self, frames: list[Image], sizes: Geometry) -> tuple[DecoderOutput, Tensor]:
        """Run the network on resized frames ``(h, w, 3)``: output per frame in float32, and the dense CLIP feature."""
        images = normalise(on_device(frames, self.device), sizes.padded)
        paddings = None if self.config.padding_counts else padding_maps(sizes, (32, 16, 8), self.device)
        backbone, pixel_decoder, decoder = self._parts
        mixed = self.dtype != torch.float32
        with self.float32_policy(), torch.autocast(self.device.type, dtype=self.dtype, enabled=mixed):
            with self.stage("backbone"):
                features = backbone(images)
            if self._graphed_decoders is not None:
                with self.stage("decoder"):
                    output = self._graphed_decoders(features, paddings)
            else:
                with self.stage("pixel_decoder"):
                    pixels = pixel_decoder(features, paddings)
                with self.stage("decoder"):
                    output = decoder(pixels, paddings)
        whole = DecoderOutput(
            output.object_logits.float(),
            output.ious.float(),
            output.mask_logits.float(),
            output.embeddings.float(),
            output.auxiliary,
        )
        return whole, features.res5.float()

    def _decoders(self, features: FeatureMaps, paddings: list[Tensor] | None) -> DecoderOutput:
        """The network behind the backbone, as one function."""
        _, pixel_decoder, decoder = self._parts
        output: DecoderOutput = decoder(pixel_decoder(features, paddings), paddings)
        return output

    @torch.inference_mode()
    def classify(self, frames: list[Image], classifier: TextClassifier, sizes: Geometry) -> Tensor:
        """Class logits ``(frames, queries, classes)`` of resized frames, queries as the network orders them."""
        output, dense = self.forward(frames, sizes)
        inside = self._inside(sizes)
        with self.float32_policy():
            return self._classify(dense, output.mask_logits, classifier, inside[0] if inside else None)

    def _inside(self, sizes: Geometry) -> tuple[Tensor, Tensor] | None:
        """Maps of the image without padding at strides 32 and 4; ``None`` if padding counts."""
        if self.config.padding_counts:
            return None
        outside = padding_maps(sizes, (32, 4), self.device)
        return ~outside[0], ~outside[1]

    def _tracks(
        self, video: Video, vocabulary: Vocabulary, track_scores: TrackScoreAccumulator, masks: MaskBuffer
    ) -> list[Track]:
        """Select the tracks and encode their masks."""
        with self.stage("postprocessing"):
            selection = track_scores.select()
        with self.stage("encoding"):
            chosen = choose_masks(selection, masks)
        if self.config.mask_score_at_output:
            kept, found, own = ~selection.suppressed, chosen.masks, chosen.position
            quality = mask_score((found.confidence[own] * kept).sum(1), (found.area[own] * kept).sum(1))
        else:
            quality = track_scores.mask_scores(selection)
        return tracks_of_detections(video.id, vocabulary.categories, selection, chosen, selection.scores * quality)
