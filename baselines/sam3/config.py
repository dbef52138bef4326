"""Configuration of SAM 3; the checkpoint's own configuration decides about objects and tracks."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Sam3Config(BaseModel):
    """Settings of the plugin."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    words_at_once: int = Field(default=8, ge=1)
    """Words detected at once and tracked in one session; bounds memory."""
    detections_per_video: int = Field(default=100, ge=1)
    """Tracks reported per video, the best ones."""
    detection_threshold: float | None = Field(default=None, ge=0, le=1)
    """Objects of a frame with a lower score are left out (default: the checkpoint's, 0.5 as released)."""
    new_object_threshold: float | None = Field(default=None, ge=0, le=1)
    """An object that matches no track starts one if it scores at least this (default: the checkpoint's, 0.7)."""
    max_objects: int | None = Field(default=None, ge=1)
    """Objects tracked per session at most, the best ones (default: the checkpoint's, in effect no limit)."""
