"""Checkpoints of miniature segmenters with recipe weights."""

from __future__ import annotations

from pathlib import Path

import ov2seg_golden
import pytest
import torch
import weight_recipe

from harness.baselines.ov2seg.network import Ov2SegArchitecture, Ov2SegNetwork
from harness.models.backbones.resnet import ResNetSize
from harness.models.clipvis.network import ClipVisArchitecture, ClipVisNetwork
from harness.models.miniatures import clip

SMALL = {"decoder_layers": 2, "queries": 8, "dim": 32, "heads": 4, "feedforward": 64, "encoder_layers": 1}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text embeddings are kept for the test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def clipvis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP-VIS of the miniature's form."""
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("clipvis") / "tiny.pth"
    network = ClipVisNetwork(ClipVisArchitecture(clip.CLIP_NAME, encoder_feedforward=48, **SMALL))
    torch.save({"model": weight_recipe.state(network.state_dict())}, path)
    return path


@pytest.fixture(scope="session")
def ov2seg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small OV2Seg on a ResNet."""
    path = tmp_path_factory.mktemp("ov2seg") / "tiny.pth"
    size = ResNetSize((1, 1, 1, 1), 8)
    network = Ov2SegNetwork(Ov2SegArchitecture(size, encoder_feedforward=48, embed_dim=16, **SMALL))
    torch.save({"model": ov2seg_golden.state(network.state_dict())}, path)
    return path
