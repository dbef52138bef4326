"""A tiny CLIP-VIS of a CLIP made up here, the smallest that has every part."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import weight_recipe

from harness.models.backbones.clip import open_clip
from harness.models.clipvis.checkpoint import load_state
from harness.models.clipvis.network import ClipVisArchitecture, ClipVisNetwork

TINY_RESNET = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
TINY = ClipVisArchitecture(
    "tiny-resnet",
    decoder_layers=2,
    queries=10,
    dim=32,
    heads=4,
    feedforward=64,
    encoder_layers=1,
    encoder_feedforward=48,
)


def tiny_network(folder: Path) -> ClipVisNetwork:
    """The network on the meta device; open_clip is told of its CLIP through a file in ``folder``."""
    path = folder / "tiny-resnet.json"
    path.write_text(json.dumps(TINY_RESNET))
    open_clip().add_model_config(path)
    with torch.device("meta"):
        return ClipVisNetwork(TINY)


def tiny_with_weights(folder: Path) -> ClipVisNetwork:
    """The same with weights of the recipe."""
    network = tiny_network(folder)
    return load_state(network, weight_recipe.state(network.state_dict()))
