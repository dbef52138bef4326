"""Supervised pretraining of the miniature ResNet, as OV2Seg's is pretrained on ImageNet: base categories only."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from pretrain_clip import batches, draw_pairs, rate_of, turned
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from harness.baselines.ov2seg.model import IMAGENET_MEAN, IMAGENET_STD
from harness.datasets.shapes_scenes import NAMES, NOVEL
from harness.models.backbones.resnet import FrozenBatchNorm, ResNetSize
from harness.models.shared.preprocess import normalise

SIZE = ResNetSize((1, 2, 2, 1), 16)
PAIRS, STEPS, BATCH = 12_000, 900, 128
LEARNING_RATE = 3e-3


def pretrain(out: Path, seed: int = 0, steps: int = STEPS, pairs: int = PAIRS, device: str = "cpu") -> None:
    """Train a classifier of the base categories from random weights; write its ResNet to ``out`` (safetensors)."""
    torch.manual_seed(seed)
    images, captions = draw_pairs(seed + 1, pairs)
    shown = [[name for name in NAMES if name in caption] for caption in captions]
    kept = [i for i, names in enumerate(shown) if len(names) == 1 and names[0] not in NOVEL]
    images, labels = images[kept], torch.tensor([NAMES.index(shown[i][0]) for i in kept])
    backbone = with_batch_norms(SIZE.build()).to(device)
    head = nn.Linear(SIZE.channels[-1], len(NAMES), device=device)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_of(step, steps))
    for step, chosen in enumerate(batches(len(labels), steps, seed, BATCH), 1):
        pixels = torch.from_numpy(turned(images[chosen.numpy()], seed + step)).to(device)
        features = backbone(normalise(pixels, images.shape[1:3], IMAGENET_MEAN, IMAGENET_STD)).res5.mean((2, 3))
        loss = functional.cross_entropy(head(features), labels[chosen].to(device))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0 or step == steps:
            print(f"ResNet {step}/{steps}  loss {loss.item():.3f}", file=sys.stderr, flush=True)
    state = {n: t.cpu() for n, t in backbone.state_dict().items() if not n.endswith("num_batches_tracked")}
    save_file(state, out)


def with_batch_norms(module: nn.Module) -> nn.Module:
    """Replace frozen batch norms by trainable ones with the same names."""
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm):
            setattr(module, name, nn.BatchNorm2d(len(child.weight), eps=child.eps))
        else:
            with_batch_norms(child)
    return module
