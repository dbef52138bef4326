"""The pixel decoder against golden values, under autocast, with padding, and as initialised for training."""

from __future__ import annotations

import clipvis_golden
import pytest
import torch
import weight_recipe
from torch import Tensor

from harness.models.mask2former.pixel_decoder import FeatureMaps, PixelDecoder
from harness.models.ops.kernel import relative_difference

PREFIX = "sem_seg_head.pixel_decoder."
SMALL = (8, 16, 32, 64)


def small(dim: int = 32) -> PixelDecoder:
    return weight_recipe.filled(PixelDecoder(SMALL, dim=dim, heads=4, feedforward=48, layers=2), PREFIX)


def maps(height: int, width: int, seed: int = 0) -> FeatureMaps:
    draw = torch.Generator().manual_seed(seed)
    strides = (4, 8, 16, 32)
    return FeatureMaps(
        *(torch.randn(1, c, height // s, width // s, generator=draw) for c, s in zip(SMALL, strides, strict=True))
    )


@pytest.mark.parametrize("name", clipvis_golden.cases("b_pixdec_"))
@torch.no_grad()
def test_golden(name: str) -> None:
    golden = clipvis_golden.tensors(name)
    features = FeatureMaps(*(golden[f"res{i}"] for i in (2, 3, 4, 5)))
    channels = (features[0].shape[1], features[1].shape[1], features[2].shape[1], features[3].shape[1])
    decoded = weight_recipe.filled(PixelDecoder(channels), PREFIX)(features)
    clipvis_golden.close(decoded.mask_features, golden["mask_features"], atol=1e-4, rtol=1e-3)
    for level, memory in enumerate(decoded.multi_scale):
        clipvis_golden.close(memory, golden[f"ms{level}"], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("stored", "learns"), [(torch.float16, False), (torch.float16, True), (torch.bfloat16, True)])
def test_computes_in_float32_under_autocast(stored: torch.dtype, learns: bool) -> None:
    decoder, features = small(), maps(64, 96)
    with torch.set_grad_enabled(learns):
        plain = decoder(features)
        with torch.autocast("cpu", dtype=stored):
            mixed = decoder(features)
    assert torch.equal(plain.mask_features, mixed.mask_features)


@torch.no_grad()
def test_rounds_only_what_is_sampled_under_autocast_to_bfloat16() -> None:
    """Which changes less than bfloat16 features do: those that the backbone hands over under the same autocast."""
    decoder, features = small(), maps(64, 96)
    plain, rounded = decoder(features), decoder(FeatureMaps(*(each.bfloat16().float() for each in features)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = decoder(features)
    for exact, stored, input_rounded in zip(
        (plain.mask_features, *plain.multi_scale),
        (mixed.mask_features, *mixed.multi_scale),
        (rounded.mask_features, *rounded.multi_scale),
        strict=True,
    ):
        assert stored.dtype == torch.float32
        difference = relative_difference(stored, exact)
        assert 0 < difference < min(1.5e-3, relative_difference(input_rounded, exact))


@torch.no_grad()
def test_padded_positions_are_image_unless_they_are_declared() -> None:
    """What lies under the padding reaches the picture by default, and does not once the padding is declared."""
    encoder = small().transformer
    padded: list[Tensor] = [torch.arange(96 // s).expand(64 // s, -1) >= 64 // s for s in (32, 16, 8)]
    levels = [torch.randn(1, 32, *p.shape, generator=torch.Generator().manual_seed(i)) for i, p in enumerate(padded)]
    changed = [torch.where(p, level + 3, level) for p, level in zip(padded, levels, strict=True)]
    for paddings, same in ((padded, True), (None, False)):
        one, two = encoder(levels, paddings), encoder(changed, paddings)
        assert all(torch.equal(a[..., ~p], b[..., ~p]) for a, b, p in zip(one, two, padded, strict=True)) is same


def test_initial_offsets_point_away_from_the_centre_one_way_per_head() -> None:
    attention = PixelDecoder(SMALL, dim=32, heads=4, points=2, layers=1).transformer.encoder.layers[0].self_attn
    offsets = attention.sampling_offsets.bias.view(4, 3, 2, 2)
    assert torch.allclose(offsets[0, 0], torch.tensor([[1.0, 0.0], [2.0, 0.0]]), atol=1e-6)
    assert torch.allclose(offsets[1, 2], torch.tensor([[0.0, 1.0], [0.0, 2.0]]), atol=1e-6)
    assert not attention.sampling_offsets.weight.any()
    assert not attention.attention_weights.weight.any()
