"""The released architectures with recipe weights."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
import weight_recipe

from harness.models.backbones.clip import ClipBackbone


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
