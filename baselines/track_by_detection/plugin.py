"""The plugin of track by detection. It is fast to import: networks are imported when the model is loaded."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.baselines.detectron2_adapter.config import Detectron2Config
from harness.baselines.detectron2_adapter.plugin import PLUGIN as DETECTRON2
from harness.baselines.ov2seg.plugin import PLUGIN as OV2SEG
from harness.baselines.track_by_detection.config import TrackByDetectionConfig
from harness.errors import UserError
from harness.models.clipvis.plugin import PLUGIN as CLIPVIS
from harness.types import LoadContext

if TYPE_CHECKING:
    from harness.baselines.track_by_detection.model import TrackByDetection


class TrackByDetectionPlugin:
    """The entry point ``track-by-detection``."""

    name = "track-by-detection"
    summary = "Objects of single frames, by CLIP-VIS, OV2Seg or detectron2, linked by mask IoU, SORT or embeddings"
    Config = TrackByDetectionConfig

    @property
    def version(self) -> str:
        """Also changes with the segmenters, which may then find other objects."""
        return f"1 (clipvis {CLIPVIS.version}, ov2seg {OV2SEG.version})"

    @cached_property
    def card(self) -> dict[str, Any]:
        """Papers, published numbers, where weights are."""
        from harness.baselines.track_by_detection.card import card

        return card()

    def load(self, config: TrackByDetectionConfig, context: LoadContext) -> TrackByDetection:
        """Load the segmenter from ``context.checkpoint``; raises `UserError` as its own plugin does."""
        from harness.baselines.track_by_detection.model import TrackByDetection
        from harness.baselines.track_by_detection.segmenters import (
            ClipVisSegmenter,
            Detectron2Segmenter,
            Ov2SegSegmenter,
        )

        if config.segmenter == "clipvis":
            return TrackByDetection(ClipVisSegmenter(CLIPVIS.load(config.clipvis, context)), config)
        if context.checkpoint is not None and context.checkpoint == self.shipped_weights(context.dataset.name):
            hint = f"give its checkpoint, a file (`harness models show {config.segmenter}`)"
            raise UserError(f"segmenter {config.segmenter}", "has no weights", hint)
        if config.segmenter == "detectron2":
            chosen = _detectron2(config)
            if config.tracker == "embedding":
                what = "compares embeddings, which image models of detectron2 do not give"
                raise UserError("tracker embedding", what, "set tracker=mask_iou or tracker=sort")
            return TrackByDetection(Detectron2Segmenter(DETECTRON2.load(chosen, context)), config)
        return TrackByDetection(Ov2SegSegmenter(OV2SEG.load(config.ov2seg, context)), config)

    def depends_on(self, config: TrackByDetectionConfig, checkpoint: Path | None) -> dict[str, Any]:
        """The segmenter's dependencies."""
        if config.segmenter == "detectron2":
            adapter = {"adapter_version": DETECTRON2.version}
            return {**adapter, **DETECTRON2.depends_on(_detectron2(config), checkpoint)}
        if config.segmenter == "clipvis":
            return dict(CLIPVIS.depends_on(config.clipvis, checkpoint))
        return dict(OV2SEG.depends_on(config.ov2seg, checkpoint))

    def scores_are_relative(self, config: TrackByDetectionConfig) -> bool:
        """As for the segmenter."""
        return config.segmenter == "clipvis" and CLIPVIS.scores_are_relative(config.clipvis)

    def shipped_weights(self, dataset: str) -> Path | None:
        """The default segmenter's."""
        return CLIPVIS.shipped_weights(dataset)

    def doctor(self) -> dict[str, Any]:
        """The implementation of deformable attention on this machine, which decides the speed."""
        return CLIPVIS.doctor()


def _detectron2(config: TrackByDetectionConfig) -> Detectron2Config:
    if config.detectron2 is None:
        hint = "set detectron2.config_file=FILE, and the project's other settings (docs/detectron2-projects.md)"
        raise UserError("segmenter detectron2", "has no config", hint)
    return config.detectron2


PLUGIN = TrackByDetectionPlugin()
"""The plugin."""
