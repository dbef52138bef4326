"""Settings of the losses, without torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class CriterionConfig(BaseModel):
    """Weights of the losses, and numbers of sampled points."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    object_weight: float = Field(default=2.0, ge=0)
    """Weight of the cross entropy of object and no object."""
    mask_weight: float = Field(default=5.0, ge=0)
    """Weight of the binary cross entropy of masks."""
    dice_weight: float = Field(default=5.0, ge=0)
    """Weight of the dice loss of masks."""
    iou_weight: float = Field(default=2.0, ge=0)
    """Weight of the error of the predicted mask IoU."""
    points: int = Field(default=12_544, ge=4)
    """Points at which masks are compared (112 x 112)."""
    oversample: float = Field(default=3.0, ge=1)
    """Candidates per point, of which the most uncertain are kept."""
    importance: float = Field(default=0.75, ge=0, le=1)
    """Share of the points that is chosen by uncertainty."""
