"""Contrastive pretraining of the miniature CLIP on generated image-caption pairs (CLIP, section 2.3)."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.datasets.shapes_captions import pair
from harness.frames import Image
from harness.models.backbones.clip import create_clip, open_clip
from harness.models.miniatures.clip import CLIP_NAME, IMAGE_SIZE
from harness.models.shared.preprocess import normalise
from harness.models.shared.text_classifier import tokenize

PAIRS = 36_000
BATCH = 128
STEPS = 2_400
LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 3e-3, 0.05, 100


def pretrain(out: Path, seed: int = 0, steps: int = STEPS, pairs: int = PAIRS, device: str = "cpu") -> None:
    """Train from random weights and write the result to ``out`` (safetensors, float16, open_clip's names)."""
    torch.manual_seed(seed)
    images, captions = draw_pairs(seed, pairs)
    tokens = tokenize(captions)
    clip = create_clip(CLIP_NAME, None, device=device).train()
    clip.visual.to(memory_format=torch.channels_last)  # a third faster on a CPU
    _initialise(clip.visual)
    loss_of = open_clip().loss.ClipLoss()
    optimiser = optimiser_of(clip, LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_of(step, steps))
    start, total = time.monotonic(), 0.0
    for step, chosen in enumerate(batches(len(captions), steps, seed, BATCH), 1):
        batch = turned(images[chosen.numpy()], seed + step)
        pixels = normalise(torch.from_numpy(batch).to(device), (IMAGE_SIZE, IMAGE_SIZE))
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        image_features, text_features, scale = clip(pixels, tokens[chosen].to(device))
        loss = loss_of(image_features, text_features, scale)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(0, math.log(100))
        total += loss.item()
        if step % 50 == 0 or step == steps:
            left = (time.monotonic() - start) / step * (steps - step)
            print(f"CLIP {step}/{steps}  loss {total / 50:.3f}  {left / 60:.0f} min left", file=sys.stderr, flush=True)
            total = 0.0
    save(out, clip, tokens)


def optimiser_of(module: nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """Return an optimiser of all parameters; weights decay, biases and the parameters of norms do not."""
    decayed = [p for p in module.parameters() if p.ndim > 1]
    free = [p for p in module.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": free, "weight_decay": 0.0}], lr=learning_rate
    )


def _initialise(image_tower: nn.Module) -> None:
    """Initialise weights to keep the variance of their input: timm's initialisation is for layers ten times as wide."""
    for module in image_tower.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")


def save(path: Path, clip: Any, tokens: Tensor) -> None:
    """Write weights in float16. Tokens that are in no caption get zero embeddings, which compress well in a package."""
    state = {
        name: t.detach().cpu().half() if t.is_floating_point() else t.cpu() for name, t in clip.state_dict().items()
    }
    unseen = torch.ones(state["token_embedding.weight"].shape[0], dtype=torch.bool)
    unseen[torch.unique(tokens)] = False
    state["token_embedding.weight"][unseen] = 0
    state.pop("attn_mask", None)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in state.items()}, path)


def draw_pairs(seed: int, count: int, side: int = IMAGE_SIZE) -> tuple[Image, list[str]]:
    """Return the first ``count`` pairs of ``seed``: images ``(count, side, side, 3)`` uint8, and their captions."""
    images = np.empty((count, side, side, 3), np.uint8)
    captions = []
    with ProcessPoolExecutor() as pool:
        drawn = pool.map(pair, repeat(seed), range(count), repeat(side), chunksize=256)
        for index, (image, caption) in enumerate(drawn):
            images[index] = image
            captions.append(caption)
    return images, captions


def batches(count: int, steps: int, seed: int, size: int) -> Iterator[Tensor]:
    """Yield ``steps`` batches of ``size`` indices below ``count``; each epoch is a new permutation of the indices."""
    random = torch.Generator().manual_seed(seed)
    order = chain.from_iterable(
        torch.split(torch.randperm(count, generator=random), size)[: count // size] for _ in repeat(0)
    )
    for _ in range(steps):
        yield next(order)


def turned(images: Image, seed: int) -> Image:
    """Rotate by a multiple of 90 degrees and mirror the whole batch at random; captions stay true."""
    random = np.random.default_rng(seed)
    turned = np.rot90(images, int(random.integers(4)), axes=(1, 2))
    if random.random() < 0.5:
        turned = turned[:, :, ::-1]
    return np.ascontiguousarray(turned)


def rate_of(step: int, steps: int) -> float:
    """Return the fraction of the learning rate, in ``[0, 1]``: linear warm-up, then a half cosine to zero."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))
