"""Miniatures: the real models with small numbers, trained on generated data, their weights shipped in the package."""

from __future__ import annotations

from pathlib import Path

DATASET = "shapes"
"""What the miniatures were trained for."""


def weights(model: str, dataset: str) -> Path | None:
    """The weights of a model's miniature for a dataset; ``None`` where there are none."""
    path = Path(__file__).parent / f"{model}_{dataset}.safetensors"
    return path if dataset == DATASET and path.is_file() else None
