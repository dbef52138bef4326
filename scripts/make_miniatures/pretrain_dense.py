"""The miniature CLIP's image tower, trained on: its features become local, which pooling under masks needs.

Trained only on whole images, the features of one place contain much of its surroundings. Here several images stand
side by side in one (CLIM, Wu et al., AAAI 2024), and each is compared with its own caption twice: by the mean of its
features, and by the one place that is most similar to the caption (FILIP, Yao et al., ICLR 2022, section 3.1). The
supervision is still that of CLIP, images and captions. The text tower is not changed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pretrain_clip import batches, draw_pairs, optimiser_of, rate_of, save, turned
from torch import Tensor, nn
from torch.nn import functional

from harness.frames import Image
from harness.models.backbones.clip import create_clip
from harness.models.miniatures.clip import CLIP_NAME
from harness.models.shared.preprocess import normalise
from harness.models.shared.text_classifier import tokenize

SIDES = (64, 96)
"""Sizes in pixels of the images of a mosaic; the steps take turns."""
MOSAIC, STRIDE = 192, 32
"""Height and width of a mosaic, and of the place that one feature describes, in pixels."""
PAIRS, STEPS, BATCH = 36_000, 1_200, 32
LEARNING_RATE = 1.5e-3


def pretrain(
    start: Path, out: Path, seed: int = 0, steps: int = STEPS, pairs: int = PAIRS, device: str = "cpu"
) -> None:
    """Train the image tower of the CLIP ``start``, and write the whole CLIP to ``out``, as `pretrain_clip` does."""
    torch.manual_seed(seed)
    clip = create_clip(CLIP_NAME, str(start), device=device).train()
    visual = clip.visual.to(memory_format=torch.channels_last)
    drawn = [draw_pairs(seed + 2 + number, pairs, side) for number, side in enumerate(SIDES)]
    tokens = [tokenize(captions) for _, captions in drawn]
    with torch.no_grad():
        texts = [
            torch.cat([clip.encode_text(part.to(device), normalize=True) for part in t.split(512)]) for t in tokens
        ]
        scale = clip.logit_scale.exp()
    optimiser = optimiser_of(visual, LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_of(step, steps))
    orders = [batches(pairs, steps, seed, BATCH * (MOSAIC // side) ** 2) for side in SIDES]
    began, total = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        number = step % len(SIDES)
        chosen = next(orders[number])
        pixels = torch.from_numpy(mosaics(turned(drawn[number][0][chosen.numpy()], seed + step))).to(device)
        places = embeddings(visual, normalise(pixels, (MOSAIC, MOSAIC)), SIDES[number])
        loss = loss_of(*places, texts[number][chosen], scale)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(visual.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        total += loss.item()
        if step % 50 == 0 or step == steps:
            left = (time.monotonic() - began) / step * (steps - step)
            print(f"dense {step}/{steps}  loss {total / 50:.3f}  {left / 60:.0f} min left", file=sys.stderr, flush=True)
            total = 0.0
    save(out, clip, torch.cat(tokens))


def _embedded(clip: Any, tokens: Tensor) -> Tensor:
    return torch.cat([clip.encode_text(part, normalize=True) for part in tokens.split(512)])


def mosaics(images: Image) -> Image:
    """Put images ``(n, side, side, 3)`` together, row by row, to mosaics ``(n / k, MOSAIC, MOSAIC, 3)`` of k images."""
    side = images.shape[1]
    across = MOSAIC // side
    rows = images.reshape(-1, across, across, side, side, 3).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(rows).reshape(-1, MOSAIC, MOSAIC, 3)


def embeddings(visual: Any, mosaic: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Features of normalised mosaics in the joint space, by image of ``side`` pixels in the order of `mosaics`.

    Returns the mean of each image ``(images, embed_dim)`` and all its places ``(images, places, embed_dim)``, of length
    1.
    """
    x = visual.trunk.stem(mosaic.contiguous(memory_format=torch.channels_last))
    for stage in visual.trunk.stages:
        x = stage(x)
    across, places = MOSAIC // side, side // STRIDE
    parts = x.view(len(x), -1, across, places, across, places).permute(0, 2, 4, 3, 5, 1)
    parts = parts.reshape(len(x) * across**2, places**2, -1)
    pooled = torch.cat([parts.mean(1, keepdim=True), parts], 1)
    normed = visual.trunk.head.norm(pooled.flatten(0, 1)[..., None, None]).flatten(1)
    joint = functional.normalize(visual.head(normed), dim=-1).view(len(pooled), 1 + places**2, -1)
    return joint[:, 0], joint[:, 1:]


def loss_of(means: Tensor, places: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss of the means, plus that of the most similar places; row ``i`` of ``texts`` belongs to image ``i``."""
    right = torch.arange(len(texts), device=texts.device)
    total = torch.zeros((), device=texts.device)
    for similarity in (means @ texts.T, (places @ texts.T).amax(1)):
        logits = scale * similarity
        total = total + (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2
    return total
