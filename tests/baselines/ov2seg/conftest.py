"""Networks of the tests: tiny OV2Segs with recipe weights, and words with made-up embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import ov2seg_golden
import pytest
import torch
from torch import Tensor

from harness.baselines.ov2seg.network import Ov2SegArchitecture, Ov2SegNetwork
from harness.models.backbones.clip import open_clip
from harness.models.backbones.resnet import ResNetSize
from harness.models.backbones.swin import SwinSize

SMALL_HEAD = {
    "decoder_layers": 3,
    "queries": 10,
    "dim": 32,
    "heads": 4,
    "feedforward": 64,
    "encoder_layers": 1,
    "encoder_feedforward": 48,
    "embed_dim": 16,
}
TINY = {
    "resnet": Ov2SegArchitecture(ResNetSize((1, 2, 1, 1), 8), **SMALL_HEAD),
    "swin": Ov2SegArchitecture(SwinSize(8, (2, 2, 2, 1), (1, 2, 4, 8), 4), **SMALL_HEAD),
}
TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="session", params=list(TINY))
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of backbone."""
    return str(request.param)


@pytest.fixture(scope="session")
def architecture(kind: str) -> Ov2SegArchitecture:
    """A tiny architecture."""
    return TINY[kind]


@pytest.fixture(scope="session")
def tiny_state(architecture: Ov2SegArchitecture) -> dict[str, Tensor]:
    """A complete checkpoint of a tiny OV2Seg, with the entries that only training needs, as official ones have them."""
    made = ov2seg_golden.state(Ov2SegNetwork(architecture).state_dict())
    made["sem_seg_head.predictor.class_embed.zs_weight"] = torch.zeros(16, 8)
    made["criterion.empty_weight"] = torch.ones(8)
    made["criterion.empty_object_weight"] = torch.ones(2)
    made["criterion.freq_weight"] = torch.ones(1203)
    if isinstance(architecture.backbone, ResNetSize):
        made["backbone.base.bn1.num_batches_tracked"] = torch.tensor(3)
    else:
        made["backbone.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
    return made


@pytest.fixture
def saved(tiny_state: dict[str, Tensor], tmp_path: Path) -> Path:
    """The tiny checkpoint as the official one is written: under ``model``, with a counter beside it."""
    path = tmp_path / "tiny.pth"
    torch.save({"model": tiny_state, "iteration": 7}, path)
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny CLIP, which open_clip is told of as ``tiny-vit``."""
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "tiny-vit.json").write_text(json.dumps(TINY_CLIP))
    library = open_clip()
    library.add_model_config(folder / "tiny-vit.json")
    torch.manual_seed(0)
    torch.save(library.create_model("tiny-vit", pretrained=None).state_dict(), folder / "tiny.pt")
    return folder / "tiny.pt"
