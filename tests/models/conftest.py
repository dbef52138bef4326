"""Networks of the tests: a tiny one of a CLIP made up here, and the released architectures with recipe weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import weight_recipe
from tiny_clipvis import tiny_with_weights

from harness.models.backbones.clip import ClipBackbone
from harness.models.clipvis.network import ClipVisNetwork


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ClipVisNetwork:
    """A tiny CLIP-VIS with recipe weights."""
    return tiny_with_weights(tmp_path_factory.mktemp("open_clip"))


@pytest.fixture(scope="session")
def tiny_state(tiny: ClipVisNetwork) -> dict[str, torch.Tensor]:
    """Its complete checkpoint; a few MB."""
    return tiny.state_dict()


@pytest.fixture(scope="session")
def backbone() -> Callable[[str], ClipBackbone]:
    """The released backbones with recipe weights, built once each: a few hundred MB and seconds."""

    @functools.cache
    def build(kind: str) -> ClipBackbone:
        with torch.device("meta"):
            clip = ClipBackbone({"rn50": "RN50", "convnext_b": "convnext_base_w_320"}[kind])
        clip.load_state_dict(weight_recipe.state(clip.state_dict(), "backbone."), assign=True)
        clip.restore_mask()
        return clip

    return build


@pytest.fixture
def saved(tiny_state: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    """The tiny checkpoint as the official ones are written: under ``model``, with a counter beside it."""
    path = tmp_path / "tiny.pth"
    torch.save({"model": tiny_state, "iteration": 7}, path)
    return path
