"""The optimiser: which parameters are not decayed."""

from __future__ import annotations

import torch
from torch import nn

from harness.training.config import TrainingConfig
from harness.training.optimiser import build_optimiser


def test_norms_and_embeddings_are_not_decayed() -> None:
    module = nn.ModuleDict({"linear": nn.Linear(2, 2), "norm": nn.LayerNorm(2), "table": nn.Embedding(3, 2)})
    module["backbone"] = nn.Linear(2, 2)
    module["frozen"] = nn.Linear(2, 2).requires_grad_(False)
    module.register_parameter("level_embed", nn.Parameter(torch.zeros(3, 2)))
    optimiser = build_optimiser(module, TrainingConfig(), {"backbone.": 0.1})
    decay = {id(p): g["weight_decay"] for g in optimiser.param_groups for p in g["params"]}
    scale = {id(p): g["scale"] for g in optimiser.param_groups for p in g["params"]}
    found = {name: (decay.get(id(p)), scale.get(id(p))) for name, p in module.named_parameters()}
    assert found == {
        "linear.weight": (0.05, 1.0),
        "linear.bias": (0.05, 1.0),
        "norm.weight": (0.0, 1.0),
        "norm.bias": (0.0, 1.0),
        "table.weight": (0.0, 1.0),
        "backbone.weight": (0.05, 0.1),
        "backbone.bias": (0.05, 0.1),
        "frozen.weight": (None, None),
        "frozen.bias": (None, None),
        "level_embed": (0.05, 1.0),
    }
