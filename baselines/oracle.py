"""Oracle: the truth with controlled errors, to test the whole harness without a network.

Each setting of `OracleConfig` produces one kind of error. Random choices depend on the seed, the video and the track
only, not on the order of videos or on other settings.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from harness.errors import UserError
from harness.formats.youtube_vis import GroundTruth, TruthTrack
from harness.masks import Rle
from harness.types import LoadContext, Track, Video, Vocabulary

_Masks = tuple[Rle | None, ...]


class OracleConfig(BaseModel):
    """The amounts of errors; all at 0 gives the truth itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drop_tracks: float = Field(
        0.1, ge=0, le=1, description="Probability that an object is not found at all: a miss, lowers recall."
    )
    erode_px: int = Field(
        1, ge=-64, le=64, description="Pixels by which masks shrink (negative: grow): loose masks, lowers overlap."
    )
    drop_frames: float = Field(
        0.05, ge=0, le=1, description="Probability per frame that an object's mask is absent: a broken track."
    )
    switch_identity: float = Field(
        0.1, ge=0, le=1, description="Probability that a track swaps places with another one from some frame on."
    )
    wrong_label: float = Field(
        0.1, ge=0, le=1, description="Probability that a track gets another category of the vocabulary."
    )
    duplicate: float = Field(
        0.1, ge=0, le=1, description="Probability that a track is reported twice: a false positive at half the score."
    )
    score_noise: float = Field(
        0.3, ge=0, le=1, description="Share of randomness in the score: 0 ranks right before wrong, 1 ranks at random."
    )


@dataclass(frozen=True)
class Oracle:
    """A model that reads the truth."""

    config: OracleConfig
    truth: GroundTruth
    seed: int

    def predict(self, video: Video, vocabulary: Vocabulary) -> Iterator[Track]:
        """Yield the degraded truth of a video; objects of categories outside the vocabulary are left out."""
        asked = [category.id for category in vocabulary.categories]
        tracks = self.truth.tracks_of(video.id)
        switched = self._switch(video, [_fit(track.masks, len(video.frames)) for track in tracks])
        for index, (track, masks) in enumerate(zip(tracks, switched, strict=True)):
            if track.category_id in asked and not self._happens("drop_tracks", video, index):
                yield from self._reported(video, index, track, masks, asked)

    def _reported(
        self, video: Video, index: int, track: TruthTrack, masks: _Masks, asked: list[int]
    ) -> Iterator[Track]:
        drawn = self._rng("drop_frames", video, index)
        kept = tuple(m if drawn.random() >= self.config.drop_frames else None for m in masks)
        shrunk = tuple(None if m is None else erode(m, self.config.erode_px) for m in kept)
        if not any(shrunk):
            return
        category_id, confidence = track.category_id, 1.0
        others = [c for c in asked if c != category_id]
        if others and self._happens("wrong_label", video, index):
            category_id, confidence = self._rng("other_label", video, index).choice(others), 0.5
        yield Track(video.id, category_id, self._score("score", confidence, video, index), shrunk)
        if self._happens("duplicate", video, index):
            yield Track(video.id, category_id, self._score("second_score", confidence / 2, video, index), shrunk)

    def _switch(self, video: Video, tracks: list[_Masks]) -> list[_Masks]:
        """Let tracks swap their masks with another track's from a random frame after the first one on."""
        for index in range(len(tracks)):
            if len(tracks) < 2 or len(tracks[index]) < 2 or not self._happens("switch_identity", video, index):
                continue
            rng = self._rng("switch_with", video, index)
            other = rng.choice([i for i in range(len(tracks)) if i != index])
            begin = rng.randrange(1, len(tracks[index]))
            one, two = tracks[index], tracks[other]
            tracks[index], tracks[other] = one[:begin] + two[begin:], two[:begin] + one[begin:]
        return tracks

    def _score(self, purpose: str, confidence: float, video: Video, index: int) -> float:
        noise = self.config.score_noise
        return (1 - noise) * confidence + noise * self._rng(purpose, video, index).random()

    def _happens(self, setting: str, video: Video, index: int) -> bool:
        return bool(self._rng(setting, video, index).random() < getattr(self.config, setting))

    def _rng(self, purpose: str, video: Video, index: int) -> random.Random:
        return random.Random(f"{self.seed}/{video.id}/{index}/{purpose}")


def _fit(masks: _Masks, frames: int) -> _Masks:
    """One entry per frame of the video, for annotations of any length."""
    return masks[:frames] + (None,) * (frames - len(masks))


def erode(mask: Rle, pixels: int) -> Rle | None:
    """Shrink a mask by ``pixels`` (city-block distance; negative: grow); ``None`` if nothing is left.

    The border of the image counts as background.
    """
    from pycocotools import mask as coco
    from scipy import ndimage

    encoded = {"size": list(mask.size), "counts": mask.counts}
    left, top, width, height = (int(n) for n in coco.toBbox(encoded))
    if width == 0 or height == 0:
        return None
    if pixels == 0:
        return mask
    # Only the box around the object can change: the rest of the image is left out of the work.
    room = max(0, -pixels)
    rows = slice(max(0, top - room), min(mask.size[0], top + height + room))
    columns = slice(max(0, left - room), min(mask.size[1], left + width + room))
    image = coco.decode(encoded)
    change = ndimage.binary_erosion if pixels > 0 else ndimage.binary_dilation
    image[rows, columns] = change(image[rows, columns], iterations=abs(pixels)).astype(np.uint8)
    if not image.any():
        return None
    return Rle(mask.size, coco.encode(np.asfortranarray(image))["counts"])


class OraclePlugin:
    """The plugin ``oracle``."""

    name = "oracle"
    version = "1"
    summary = "The truth degraded by stated, seeded amounts; needs no weights"
    Config = OracleConfig
    card: ClassVar[dict[str, str]] = {
        "paper": "none: it is not a method but a test of the harness",
        "weights": "none; it reads the truth of the dataset",
        "licence": "Apache-2.0",
    }

    def load(self, config: OracleConfig, context: LoadContext) -> Oracle:
        """Raises `UserError` if the dataset's truth is withheld."""
        dataset = context.dataset
        if not dataset.videos:
            raise UserError("model oracle", "needs a dataset, whose truth it reads", "give a dataset with public truth")
        if dataset.truth is None:
            hint = "run the oracle on a split with public truth"
            raise UserError(f"{dataset.name} {dataset.split}", "has no public truth for the oracle", hint)
        return Oracle(config, dataset.truth, context.seed)


PLUGIN = OraclePlugin()
