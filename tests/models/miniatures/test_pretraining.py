"""The second stage of pretraining the miniature CLIP (`scripts/make_miniatures`): what is compared, what changes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from harness.models.backbones.clip import create_clip
from harness.models.miniatures.clip import CLIP_NAME
from tests.support.project_scripts import FOLDER


@pytest.fixture
def dense(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER / "make_miniatures"))
    import pretrain_dense

    return pretrain_dense


class Shrink(nn.Module):
    """A tower without parameters: a feature is the mean of its place, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Module()
        self.trunk.stem = nn.AvgPool2d(32)
        self.trunk.stages = nn.ModuleList()
        self.trunk.head = nn.Module()
        self.trunk.head.norm = nn.Identity()
        self.head = nn.Identity()


@pytest.mark.parametrize("side", [64, 96])
def test_every_image_of_a_mosaic_gets_its_own_features(dense: ModuleType, side: int) -> None:
    """Every image has its own colours in every place; the features come back in the order of the images."""
    random, places = np.random.default_rng(1), side // 32
    count = 2 * (192 // side) ** 2
    colours = random.integers(1, 255, (count, places, places, 3), dtype=np.uint8)
    images = colours.repeat(32, axis=1).repeat(32, axis=2)
    mosaic = dense.mosaics(images)
    assert mosaic.shape == (2, 192, 192, 3)
    pixels = torch.from_numpy(mosaic).permute(0, 3, 1, 2).float()
    means, each = dense.embeddings(Shrink(), pixels, side)
    expected = torch.from_numpy(colours).float().reshape(count, places**2, 3)
    assert torch.allclose(each, functional.normalize(expected, dim=-1), atol=1e-6)
    assert torch.allclose(means, functional.normalize(expected.mean(1), dim=-1), atol=1e-6)


def test_the_loss_is_that_of_the_means_and_of_the_best_places(dense: ModuleType) -> None:
    random = torch.Generator().manual_seed(2)
    means, texts = (functional.normalize(torch.randn(5, 8, generator=random), dim=-1) for _ in range(2))
    places = functional.normalize(torch.randn(5, 4, 8, generator=random), dim=-1)
    expected = 0.0
    for similar in (
        [[float(means[i] @ texts[j]) for j in range(5)] for i in range(5)],
        [[max(float(places[i, k] @ texts[j]) for k in range(4)) for j in range(5)] for i in range(5)],
    ):
        table = 7.0 * np.array(similar)
        for one in (table, table.T):
            expected += float(np.mean(np.log(np.exp(one).sum(1)) - np.diag(one))) / 2
    assert float(dense.loss_of(means, places, texts, torch.tensor(7.0))) == pytest.approx(expected, abs=1e-5)


def test_the_image_tower_changes_and_the_text_tower_does_not(dense: ModuleType, tmp_path: Path) -> None:
    from pretrain_clip import save

    from harness.models.shared.text_classifier import tokenize

    words = "a photo of a red orange yellow green blue purple striped dotted checkered"
    torch.manual_seed(3)
    save(tmp_path / "first.safetensors", create_clip(CLIP_NAME, None), tokenize([words]))
    for name in ("dense", "again"):
        dense.pretrain(tmp_path / "first.safetensors", tmp_path / f"{name}.safetensors", steps=2, pairs=288)
    before, after = load_file(tmp_path / "first.safetensors"), load_file(tmp_path / "dense.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name for name in changed if not name.startswith("visual.")} <= {"token_embedding.weight"}
    assert {"visual.trunk.stem.0.weight", "visual.head.proj.weight"} <= changed
    assert all(torch.equal(after[n], t) for n, t in load_file(tmp_path / "again.safetensors").items())
