"""Golden vectors of CLIP-VIS: those in the tree, or all of them where HARNESS_GOLDEN names the folder of goldens."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from golden_files import golden_names, golden_tensors
from torch import Tensor

NAMED = os.environ.get("HARNESS_GOLDEN")
FOLDER = Path(NAMED) / "clipvis" if NAMED else Path(__file__).parents[1] / "data" / "clipvis"
MANIFEST: dict[str, dict[str, Any]] = json.loads((FOLDER / "manifest.json").read_text())["files"]


def cases(prefix: str) -> list[str]:
    """Names of the vectors at hand that start with ``prefix``."""
    return [name.removesuffix(".safetensors") for name in golden_names(FOLDER, f"{prefix}*.safetensors")]


def tensors(name: str) -> dict[str, Tensor]:
    """Inputs and outputs of one vector."""
    return golden_tensors(FOLDER / f"{name}.safetensors")


def facts(name: str) -> dict[str, Any]:
    """What the manifest says of one vector."""
    return MANIFEST[f"{name}.safetensors"]


def results(name: str) -> list[dict[str, Any]]:
    """The results file that belongs to one vector."""
    document: list[dict[str, Any]] = json.loads((FOLDER / facts(name)["results_json"]).read_text())
    return document


def close(actual: Tensor, expected: Tensor, atol: float, rtol: float = 0.0) -> None:
    """Compare at the manifest's tolerance."""
    torch.testing.assert_close(actual.float(), expected.float(), atol=atol, rtol=rtol)
