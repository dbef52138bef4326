"""Swin against timm's where both are the same function, and against torchvision's padded windows."""

from __future__ import annotations

import pytest
import torch

from harness.models.backbones.clip import open_clip
from harness.models.backbones.swin import SwinBackbone, SwinBlock, SwinSize, relative_position_index

SIZE = SwinSize(16, (2, 2, 4, 2), (1, 2, 4, 8), 4)


def seeded(size: SwinSize) -> SwinBackbone:
    torch.manual_seed(0)
    return SwinBackbone(size).eval()


@torch.no_grad()
def test_equal_to_timm_where_windows_fit() -> None:
    """Maps of 32x64 down to 4x8 are whole windows of 4: no padding, and timm is made to shift small maps too."""
    open_clip()  # imports torchvision, which timm needs, whichever build of torch is installed
    from timm.models.swin_transformer import SwinTransformer

    mine = seeded(SIZE)
    theirs = SwinTransformer(
        img_size=(128, 256), embed_dim=16, depths=SIZE.blocks, num_heads=SIZE.heads, window_size=4,
        always_partition=True, num_classes=0,
    ).eval()  # fmt: skip
    renamed = {}
    for name, tensor in mine.state_dict().items():
        stage, _, rest = name.removeprefix("layers.").partition(".")
        merging = rest.startswith("downsample")  # timm keeps the step before a stage with that stage
        renamed[f"layers.{int(stage) + 1}.{rest}" if merging else name] = tensor
    norms = {name: renamed.pop(name) for name in list(renamed) if name.startswith("norm")}
    result = theirs.load_state_dict(renamed, strict=False)
    assert result.unexpected_keys == []
    assert set(result.missing_keys) == {"norm.weight", "norm.bias"}
    images = torch.randn(2, 3, 128, 256)
    expected = theirs.forward_intermediates(images, intermediates_only=True)
    for i, (found, other) in enumerate(zip(mine(images), expected, strict=True)):
        weight, bias = norms[f"norm{i}.weight"], norms[f"norm{i}.bias"]
        normed = torch.nn.functional.layer_norm(other.permute(0, 2, 3, 1), weight.shape, weight, bias)
        torch.testing.assert_close(found, normed.permute(0, 3, 1, 2), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shift", [0, 3])
@torch.no_grad()
def test_maps_are_padded_before_they_are_shifted(shift: int) -> None:
    """9x17 pixels in windows of 7: torchvision pads and shifts in the same order."""
    open_clip()
    from torchvision.models.swin_transformer import shifted_window_attention

    torch.manual_seed(0)
    block = SwinBlock(16, 2, 7, shift, 0.0)
    attention, x = block.attn, torch.randn(2, 9, 17, 16)
    bias = attention.relative_position_bias_table[relative_position_index(7)].permute(2, 0, 1)[None]
    expected = shifted_window_attention(
        x, attention.qkv.weight, attention.proj.weight, bias, [7, 7], 2, [shift, shift],
        qkv_bias=attention.qkv.bias, proj_bias=attention.proj.bias, training=False,
    )  # fmt: skip
    torch.testing.assert_close(block._attend(x), expected, atol=1e-5, rtol=1e-4)


def test_relative_positions_by_hand() -> None:
    """A window of 2x2: from pixel 0 to itself is the middle row, to the pixel below two rows of the table earlier."""
    index = relative_position_index(2)
    assert index.tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


@pytest.mark.parametrize("size", [(32, 32), (96, 160)])
@torch.no_grad()
def test_shapes(size: tuple[int, int]) -> None:
    maps = seeded(SIZE)(torch.randn(1, 3, *size))
    shapes = [(1, c, size[0] // s, size[1] // s) for c, s in zip(SIZE.channels, (4, 8, 16, 32), strict=True)]
    assert [tuple(m.shape) for m in maps] == shapes


def test_learns() -> None:
    """Every parameter has a gradient in training, with branches dropped at random."""
    backbone = seeded(SIZE).train()
    sum(m.square().mean() for m in backbone(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())
