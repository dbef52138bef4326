"""Track by detection as a model of the harness: segment a frame, select objects, link them, encode their masks."""

from __future__ import annotations

import torch

from harness.baselines.track_by_detection.config import TrackingConfig
from harness.baselines.track_by_detection.detections import Segmenter, detections
from harness.baselines.track_by_detection.tracks import VideoTracks
from harness.models.shared.mask_encoding import encode_masks
from harness.models.shared.windows import Stages
from harness.types import LoadedWeights, Track, Video, Vocabulary


class TrackByDetection:
    """Finds the tracks of a video for any vocabulary (`harness.types.Model`), with any `Segmenter`."""

    def __init__(self, segmenter: Segmenter, config: TrackingConfig | None = None) -> None:
        self.segmenter, self.config = segmenter, config or TrackingConfig()

    @property
    def stage(self) -> Stages:
        """Entered around each stage of the work, for timing."""
        return self.segmenter.stage

    @stage.setter
    def stage(self, stage: Stages) -> None:
        self.segmenter.stage = stage

    @property
    def loaded_weights(self) -> LoadedWeights | None:
        """How the segmenter's weights were loaded, if known, see `harness.types.Model`."""
        return getattr(self.segmenter, "loaded_weights", None)

    def facts(self) -> dict[str, str]:
        """The segmenter's facts for the run's record, see `harness.types.Model`."""
        facts = getattr(self.segmenter, "facts", None)
        return {} if facts is None else dict(facts())

    @torch.inference_mode()
    def predict(self, video: Video, vocabulary: Vocabulary) -> list[Track]:
        """Return the tracks of ``video``, best first; ``None`` in the frames where a track was not found.

        Memory holds one frame, or one window of the segmenter, and run-length encodings of earlier frames.
        """
        sizes = self.segmenter.geometry(video.height, video.width)
        tracks = VideoTracks(self.config)
        for frame in self.segmenter.frames(video, vocabulary):
            with self.stage("detection"):
                found = detections(frame, sizes, self.config)
            with self.stage("encoding"):
                encoded = encode_masks(found.mask_logits, sizes)
                areas = encoded.area.tolist()
                masks = [rle if area else None for rle, area in zip(encoded.rles, areas, strict=True)]
            with self.stage("matching"):
                tracks.add(found, masks)
        return tracks.result(video, vocabulary.categories)
