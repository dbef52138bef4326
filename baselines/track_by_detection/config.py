"""Configuration of the track-by-detection baselines: segmenter, tracker, and their settings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.baselines.detectron2_adapter.config import Detectron2Config
from harness.baselines.ov2seg.config import Ov2SegConfig
from harness.models.clipvis.config import ClipVisConfig


class TrackingConfig(BaseModel):
    """Settings of everything after the segmenter."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    tracker: Literal["mask_iou", "sort", "embedding"] = "mask_iou"
    """How objects are linked: by the overlap of their masks, by that of predicted boxes, or by query embeddings."""

    score_threshold: float = Field(default=0.1, ge=0, le=1)
    """Objects of a frame with a lower best class score are left out."""
    detections_per_frame: int = Field(default=50, ge=1)
    """Objects taken from a frame, the best ones."""
    duplicate_iou: float = Field(default=0.7, ge=0, le=1)
    """An object is left out whose mask overlaps a better one of its frame by more than this IoU; 1 keeps all."""

    iou_threshold: float = Field(default=0.3, ge=0, le=1)
    """``mask_iou`` and ``sort``: a track continues only with an object of at least this IoU."""
    embedding_cost: float = Field(default=0.5, ge=0, le=2)
    """``embedding``: a track continues only with an object of at most this 1 - cosine; 2, as in MinVIS, is no limit."""
    max_age: int = Field(default=5, ge=0)
    """A track that was not found in more frames in a row than this has ended."""
    min_frames: int = Field(default=1, ge=1)
    """Tracks found in fewer frames are not reported."""
    tracks_per_video: int = Field(default=50, ge=1)
    """Tracks reported per video, the best ones."""


class TrackByDetectionConfig(TrackingConfig):
    """Settings of the plugin: those of tracking, and the segmenter with its own."""

    segmenter: Literal["clipvis", "ov2seg", "detectron2"] = "clipvis"
    """Model whose outputs for single frames are tracked; the checkpoint is for it."""
    clipvis: ClipVisConfig = Field(default_factory=ClipVisConfig)
    """Keys of segmenter ``clipvis``, as `harness models show clipvis` explains them: ``--set clipvis.short_edge=360``;
    those about tracks have no effect."""
    ov2seg: Ov2SegConfig = Field(default_factory=Ov2SegConfig)
    """Keys of segmenter ``ov2seg``, likewise."""
    detectron2: Detectron2Config | None = None
    """Keys of segmenter ``detectron2``, a model of images, as `harness models show detectron2` explains them."""
