"""Weights from names: every tensor of a model is drawn from a generator keyed by its full name, so no file is needed.

The golden vectors of CLIP-VIS were made with these weights. The draw is float64 and rounded once.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

GAINS = {
    "object_embed.layers.2.weight": 6.0,
    "iou_head.layers.2.weight": 3.0,
    "mask_embed.layers.2.weight": 0.5,
}


def draw(name: str, shape: tuple[int, ...], salt: str = "") -> NDArray[np.float64]:
    """Standard normal numbers that depend on ``name``, ``salt`` and ``shape`` alone."""
    key = zlib.crc32((name + salt).encode())
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape)


def value(name: str, shape: tuple[int, ...], salt: str = "") -> NDArray[np.float64] | None:
    """The recipe's value of one tensor; ``None`` where it stays as constructed."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "empty_object_weight":
        return None
    if leaf == "logit_scale":
        return np.full(shape, math.log(100.0))
    n = draw(name, shape, salt)
    if leaf == "running_mean":
        return 0.1 * n
    if leaf == "running_var":
        return 1.0 + 0.1 * np.abs(n)
    if name.endswith(("token_embedding.weight", "query_feat.weight", "query_embed.weight", "sampling_offsets.bias")):
        return n
    if leaf == "positional_embedding" or name.endswith(("level_embed", "level_embed.weight")):
        return 0.5 * n
    if leaf == "text_projection":
        return n / math.sqrt(shape[0])
    if leaf == "gamma" or name.endswith("bn3.weight"):
        return 0.3 * (1.0 + 0.1 * n)
    if len(shape) <= 1:
        return 1.0 + 0.1 * n if leaf == "weight" else 0.05 * n
    return n * (_gain(name, leaf, len(shape)) / math.sqrt(math.prod(shape[1:])))


def _gain(name: str, leaf: str, dimensions: int) -> float:
    if leaf == "in_proj_weight":
        return 2.0
    if ".transformer_" in name and name.endswith("out_proj.weight"):
        return 0.3
    if ".transformer_ffn_layers." in name and name.endswith("linear2.weight"):
        return 0.5
    named = next((gain for end, gain in GAINS.items() if name.endswith(end)), None)
    return named if named is not None else math.sqrt(2.0) if dimensions == 4 else 1.0


@torch.no_grad()
def fill(tensors: Mapping[str, Tensor], prefix: str = "", salt: str = "") -> None:
    """Overwrite floating-point tensors in place; ``prefix`` completes the names of a part of the model."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            drawn = value(prefix + name, tuple(tensor.shape), salt)
            if drawn is not None:
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(drawn)).to(tensor.dtype).reshape(tensor.shape))


def filled(module: M, prefix: str = "", salt: str = "") -> M:
    """``module`` with the recipe's weights, ready for evaluation."""
    fill(module.state_dict(), prefix, salt)
    return module.eval()


def state(names: Mapping[str, Tensor], prefix: str = "", salt: str = "") -> dict[str, Tensor]:
    """The recipe's tensors for names and shapes that may lie on the meta device; a complete checkpoint."""
    made = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in names.items()}
    fill(made, prefix, salt)
    if "criterion.empty_object_weight" in made:
        made["criterion.empty_object_weight"] = torch.tensor([1.0, 0.4])
    return made
