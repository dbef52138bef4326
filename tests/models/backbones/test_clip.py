"""The frozen CLIP against golden values: image features, pooling, text features; and that it stays frozen."""

from __future__ import annotations

from collections.abc import Callable

import clipvis_golden
import pytest
import torch

from harness.models.backbones.clip import ClipBackbone
from harness.models.clipvis.network import ClipVisNetwork

Backbones = Callable[[str], ClipBackbone]


@pytest.mark.parametrize("name", clipvis_golden.cases("j_backbone_"))
def test_image_features(name: str, backbone: Backbones) -> None:
    golden = clipvis_golden.tensors(name)
    features = backbone(name.removeprefix("j_backbone_"))(golden["image"])
    for level in ("res2", "res3", "res4", "res5"):
        clipvis_golden.close(getattr(features, level), golden[level], atol=1e-3, rtol=1e-3)
    clipvis_golden.close(features.res5, golden["clip_vis_dense"], atol=1e-3, rtol=1e-3)


def test_padding_can_be_left_out_of_the_attention_pool(tiny: ClipVisNetwork) -> None:
    """With ``inside`` given what lies outside changes nothing, and without it the mean does."""
    clip = tiny.backbone
    dense = torch.randn(1, 256, 2, 4, generator=torch.Generator().manual_seed(0))
    changed = dense.clone()
    changed[..., 3] += 1
    inside = torch.ones(2, 4, dtype=torch.bool)
    inside[:, 3] = False
    masks = inside[None, None] & torch.tensor([True, False, True, True])
    for where, same in ((inside, True), (None, False)):
        one, two = clip.attention_pool(dense, masks, where), clip.attention_pool(changed, masks, where)
        assert torch.allclose(one, two, atol=1e-6) is same


def test_attention_pool_with_class_token_is_clips_own(tiny: ClipVisNetwork) -> None:
    """One mask over a whole map of CLIP's own size, the class token among the keys: what CLIP itself computes."""
    clip = tiny.backbone
    dense = torch.randn(2, 256, 2, 2, generator=torch.Generator().manual_seed(0))
    masks = torch.ones(2, 1, 2, 2, dtype=torch.bool)
    pooled = clip.attention_pool(dense, masks, class_token=True)[:, 0]
    torch.testing.assert_close(pooled, clip.clip_model.visual.attnpool(dense), atol=1e-5, rtol=1e-4)


def test_text_without_its_padding_is_clips_own(tiny: ClipVisNetwork) -> None:
    clip = tiny.backbone
    tokens = torch.zeros(3, 77, dtype=torch.int64)
    for row, length in enumerate((3, 9, 77)):
        tokens[row, :length] = torch.arange(1, length + 1)
        tokens[row, 0], tokens[row, length - 1] = 49406, 49407
    for part in (tokens, tokens[:2]):
        torch.testing.assert_close(clip.encode_text(part), clip.clip_model.encode_text(part), atol=1e-5, rtol=1e-4)


def test_stays_frozen(tiny: ClipVisNetwork) -> None:
    tiny.backbone.train()
    assert not any(module.training for module in tiny.backbone.modules())
    assert not any(p.requires_grad for p in tiny.backbone.parameters())


def test_activation_of_the_text_tower() -> None:
    """OpenAI's activation for ResNets, the ordinary one for ConvNeXts, either where it is asked for."""
    with torch.device("meta"):
        kinds = [
            type(ClipBackbone(name, forced).clip_model.transformer.resblocks[0].mlp.gelu).__name__
            for name, forced in (("RN50", None), ("RN50", False), ("convnext_base_w_320", None))
        ]
    assert kinds == ["QuickGELU", "GELU", "GELU"]


@pytest.mark.parametrize("name", ["RN101", "RN50x4", "convnext_base", "convnext_large_d_320"])
def test_other_backbones_have_their_channels(name: str) -> None:
    with torch.device("meta"):
        clip = ClipBackbone(name)
        features = clip(torch.empty(1, 3, 64, 64))
    assert tuple(level.shape[1] for level in features) == clip.channels
    assert [level.shape[-1] for level in features] == [16, 8, 4, 2]
