"""A training so small that its steps take no time: it learns the mean brightness of random images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.training.config import TrainingConfig
from harness.training.processes import TrainingProcesses
from harness.training.types import TrainingSample

ALONE = TrainingProcesses(0, 1, "cpu")
CONFIG = TrainingConfig(
    iterations=12, batch_size=2, learning_rate=0.01, milestones=(6,), log_every=1, checkpoint_every=4, clip_norm=1.0
)


class Regression(nn.Module):
    """Learns the mean brightness of its samples, with noise from torch's generator as criteria have."""

    noise = 0.1

    def __init__(self, breaks_at: int | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.calls, self.breaks_at = 0, breaks_at

    def forward(self, samples: Sequence[TrainingSample]) -> dict[str, Tensor]:
        pixels = torch.stack([torch.from_numpy(s.image).float().mean((0, 1)) / 255 for s in samples])
        error = (self.layer(pixels) - pixels.mean(1, keepdim=True) - self.noise * torch.rand(len(samples), 1)) ** 2
        self.calls += 1
        loss = error.mean() * (float("nan") if self.calls == self.breaks_at else 1.0)
        return {"loss_error": loss, "total": loss}

    def rates(self) -> Mapping[str, float]:
        return {}

    def export(self, path: Path, facts: Mapping[str, str]) -> None:
        save_file(self.state_dict(), path, dict(facts))


def batches(first: int) -> Iterator[Sequence[TrainingSample]]:
    step = first
    while True:
        random = np.random.default_rng(step)
        images = random.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
        yield [TrainingSample(image, np.zeros((0, 4, 4), bool), np.zeros(0, np.int64)) for image in images]
        step += 1
