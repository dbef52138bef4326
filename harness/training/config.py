"""Training settings: schedule, optimiser, augmentation and sampling. Defaults are those of CLIP-VIS on LVIS."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingConfig(BaseModel):
    """Schedule, optimiser, augmentation and sampling (CLIP-VIS, section 4.1; docs/clipvis.md, *Training*)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    iterations: int = Field(default=368_750, ge=1)
    """Steps of the optimiser."""
    batch_size: int = Field(default=8, ge=1)
    """Images per step, over all processes and accumulated parts."""
    accumulate: int = Field(default=1, ge=1)
    """Number of parts into which the images of a step are split, to save memory; losses are means over a part."""
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip_norm: float = Field(default=0.01, gt=0)
    """Largest L2 norm of the gradient over all parameters; a larger gradient is scaled down."""
    milestones: tuple[int, ...] = (327_778, 355_092)
    """Steps after which the learning rate is divided by ten."""
    warm_up: int = Field(default=10, ge=0)
    """Steps over which the learning rate rises linearly from ``warm_up_factor`` times its value."""
    warm_up_factor: float = Field(default=1.0, gt=0, le=1)

    augmentation: Literal["jitter", "shortest_edge"] | None = None
    """``jitter``: large-scale jitter and crop; ``shortest_edge``: one size. Default: jitter for image sets."""
    image_size: int = Field(default=1024, ge=32)
    """Height and width of the crops of ``jitter``."""
    min_scale: float = Field(default=0.1, gt=0)
    max_scale: float = Field(default=2.0, gt=0)
    """``jitter`` resizes an image to fit a square of ``image_size`` times a factor from this range."""
    short_edge: int = Field(default=800, ge=32)
    long_edge: int = Field(default=1333, ge=32)
    """``shortest_edge`` resizes as inference does, to these limits."""
    repeat_threshold: float = Field(default=0.001, ge=0)
    """Images with categories in less than this share of the images are repeated; 0: no repeats."""
    vocabulary_size: int | None = Field(default=None, ge=1)
    """Train on objects of this many categories only, the most frequent ones. Default: all."""

    log_every: int = Field(default=20, ge=1)
    """Steps between lines of the log."""
    checkpoint_every: int = Field(default=5_000, ge=1)
    """Steps between checkpoints, from which a stopped training resumes."""
    validate_every: int = Field(default=0, ge=0)
    """Steps between validations on the dataset of ``--validate``; 0: at the end only."""

    def rate(self, step: int) -> float:
        """Learning rate of step ``step``, counted from 0."""
        passed = sum(step >= milestone for milestone in self.milestones)
        rate = self.learning_rate * 0.1**passed
        if step < self.warm_up:
            rate *= self.warm_up_factor + (1 - self.warm_up_factor) * step / self.warm_up
        return rate
