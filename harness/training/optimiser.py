"""The optimiser: AdamW without weight decay for norms and embeddings, full-model gradient clipping."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from harness.training.config import TrainingConfig

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)


def build_optimiser(
    module: nn.Module, config: TrainingConfig, rates: Mapping[str, float] | None = None
) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters.

    Parameters of normalisation layers and of embedding tables have no weight decay. QUIRK: a level embedding that is a
    plain parameter has. ``rates`` has factors of the learning rate by prefix of a name (``{"backbone.": 0.1}``).
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    seen: set[int] = set()
    for prefix, owner in module.named_modules():
        decay = 0.0 if isinstance(owner, (*NORMS, nn.Embedding)) else config.weight_decay
        for name, parameter in owner.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            full = f"{prefix}.{name}" if prefix else name
            scale = next((s for start, s in (rates or {}).items() if full.startswith(start)), 1.0)
            groups.setdefault((decay, scale), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": list(p), "weight_decay": decay, "scale": scale} for (decay, scale), p in groups.items()],
        lr=config.learning_rate,
        betas=(0.9, 0.999),
    )


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of each group to ``rate`` times the group's scale."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]
