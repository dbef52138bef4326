"""Miniatures: tiny variants of the real models, trained on generated data, with weights in the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATASET = "shapes"
"""The dataset that the miniatures were trained on."""
CARD_FILE = "card.json"
"""File with the provenance and the metrics of the shipped weights."""
BACKBONES = {"clipvis": "miniature ConvNeXt", "ov2seg": "miniature ResNet"}
"""What tables call the miniatures' backbones."""


def weights(model: str, dataset: str) -> Path | None:
    """The weights of a model's miniature for a dataset; ``None`` if there are none."""
    path = Path(__file__).parent / f"{model}_{dataset}.safetensors"
    return path if dataset == DATASET and path.is_file() else None


def settings(model: str, dataset: str) -> dict[str, Any]:
    """The training settings of a model's miniature; empty if there is none."""
    from harness.config import read_yaml

    path = Path(__file__).parent / f"{model}_{dataset}.yaml"
    return read_yaml(path) if dataset == DATASET and path.is_file() else {}


def miniature_card(model: str) -> dict[str, Any]:
    """The miniature in a model's card: backbone, training data, seed, machine, commands, times, metrics (fractions)."""
    path = Path(__file__).parent / CARD_FILE
    if not path.is_file():
        return {}
    read = json.loads(path.read_bytes())
    one = read["models"].get(model)
    if one is None:
        return {}
    shared = {key: read[key] for key in ("dataset", "seed", "command")}
    named = {"backbone": BACKBONES[model], "trained_on": DATASET}
    own = {key: one[key] for key in ("made_on", "seconds", "sha256", "commands", "metrics") if one[key] is not None}
    return {**named, **shared, **own}
