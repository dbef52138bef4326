"""The mask generator as a whole: compiled without a graph break, and trained one step."""

from __future__ import annotations

import pytest
import torch
import weight_recipe

from harness.models.clipvis.mask_generator import MaskGenerator
from harness.models.mask2former.pixel_decoder import FeatureMaps

CHANNELS = (8, 16, 32, 64)


@pytest.fixture(scope="module")
def generator() -> MaskGenerator:
    small = MaskGenerator(
        CHANNELS,
        decoder_layers=3,
        queries=5,
        dim=32,
        heads=4,
        feedforward=64,
        encoder_layers=1,
        encoder_feedforward=48,
    )
    return weight_recipe.filled(small, "sem_seg_head.")


def maps() -> FeatureMaps:
    draw = torch.Generator().manual_seed(0)
    sizes = zip(CHANNELS, (4, 8, 16, 32), strict=True)
    return FeatureMaps(*(torch.randn(2, c, 64 // s, 96 // s, generator=draw) for c, s in sizes))


@torch.no_grad()
def test_compiles_as_one_graph(generator: MaskGenerator) -> None:
    plain, compiled = generator(maps()), torch.compile(generator, backend="eager", fullgraph=True)(maps())
    for one, other in zip(plain[:4], compiled[:4], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_auxiliary_predictions_do_not_change_the_last(generator: MaskGenerator) -> None:
    with torch.no_grad():
        lean, full = generator(maps()), generator(maps(), auxiliary=True)
    assert (len(lean.auxiliary), len(full.auxiliary)) == (0, 3)
    torch.testing.assert_close(lean.mask_logits, full.mask_logits, atol=1e-4, rtol=1e-3)


def test_every_parameter_learns(generator: MaskGenerator) -> None:
    output = generator(maps(), auxiliary=True)
    total = output.embeddings.sum()
    for prediction in (*output.auxiliary, output):
        total = total + prediction.object_logits.sum() + prediction.ious.sum() + prediction.mask_logits.square().sum()
    names = [name for name, _ in generator.named_parameters()]
    gradients = torch.autograd.grad(total, list(generator.parameters()), allow_unused=True)
    assert [name for name, gradient in zip(names, gradients, strict=True) if gradient is None] == []
