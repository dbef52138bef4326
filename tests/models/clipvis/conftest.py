"""Networks of the tests: a tiny one of a CLIP made up here, and the released architectures with recipe weights."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import weight_recipe

from harness.models.clipvis.checkpoint import assign
from harness.models.clipvis.clip_backbone import ClipBackbone, open_clip
from harness.models.clipvis.network import Architecture, ClipVisNetwork

TINY_RESNET = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
TINY = Architecture(
    "tiny-resnet",
    decoder_layers=2,
    queries=10,
    dim=32,
    heads=4,
    feedforward=64,
    encoder_layers=1,
    encoder_feedforward=48,
)


@pytest.fixture(scope="session")
def tiny_state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """A complete checkpoint of a tiny CLIP-VIS whose CLIP open_clip is told of; a few MB."""
    path = tmp_path_factory.mktemp("open_clip") / "tiny-resnet.json"
    path.write_text(json.dumps(TINY_RESNET))
    open_clip().add_model_config(path)
    with torch.device("meta"):
        network = ClipVisNetwork(TINY)
    return weight_recipe.state(network.state_dict())


@pytest.fixture(scope="session")
def tiny(tiny_state: dict[str, torch.Tensor]) -> ClipVisNetwork:
    """A tiny CLIP-VIS with recipe weights."""
    with torch.device("meta"):
        network = ClipVisNetwork(TINY)
    return assign(network, tiny_state)


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
