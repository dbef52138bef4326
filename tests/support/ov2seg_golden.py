"""Golden vectors of OV2Seg: those in the tree, or all of them where HARNESS_GOLDEN names the folder of goldens.

In the tree, ``e2e`` lacks its largest tensors, and ``network`` is absent.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import weight_recipe
from golden_files import golden_names, golden_tensors
from torch import Tensor

from harness.baselines.ov2seg.network import Ov2SegArchitecture, Ov2SegNetwork

NAMED = os.environ.get("HARNESS_GOLDEN")
TREE = Path(__file__).parents[1] / "data" / "ov2seg"
FOLDER = Path(NAMED) / "ov2seg" if NAMED else TREE
MANIFEST: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text())
RELEASED: dict[str, list[int]] = json.loads((TREE / "state_dict_r50.json").read_text())
"""Shapes of the released R50 video model by name."""

OBJECT_OUT = "sem_seg_head.predictor.object_embed.layers.1.weight"
OBJECT_GAIN = 6.0


def cases(prefix: str) -> list[str]:
    """Names of the vectors at hand that start with ``prefix``."""
    return [name.removesuffix(".safetensors") for name in golden_names(FOLDER, f"{prefix}*.safetensors")]


def tensors(name: str) -> dict[str, Tensor]:
    """Inputs and outputs of one vector."""
    return golden_tensors(FOLDER / f"{name}.safetensors")


def results() -> list[dict[str, Any]]:
    """The results file of the end-to-end vector."""
    document: list[dict[str, Any]] = json.loads((FOLDER / "e2e_results.json").read_text())
    return document


def close(actual: Tensor, expected: Tensor, atol: float) -> None:
    """Compare at the manifest's tolerance."""
    torch.testing.assert_close(actual.float(), expected.float(), atol=atol, rtol=0)


def state(names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The recipe's tensors for the names of an OV2Seg: the common recipe, and an object head that spreads more."""
    made = weight_recipe.state(names)
    made[OBJECT_OUT] *= OBJECT_GAIN
    return made


@functools.cache
def released_network() -> Ov2SegNetwork:
    """The released architecture with recipe weights; 40 M parameters, built once."""
    network = Ov2SegNetwork(Ov2SegArchitecture())
    network.load_state_dict(state(network.state_dict()), assign=True)
    return network.eval()
