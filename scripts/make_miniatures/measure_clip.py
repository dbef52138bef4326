"""``python scripts/make_miniatures/measure_clip.py CLIP...``: how often miniature CLIPs name an object correctly.

Of images of one object, and of objects in frames of videos pooled under their true masks as CLIP-VIS pools them. All
are generated with seeds that no split of `shapes` and no training uses. An object whose mask covers the centre of no
feature gets the head's answer to zeros, as in the official code.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from harness.datasets.shapes_captions import pair
from harness.datasets.shapes_pictures import Pictures
from harness.datasets.shapes_scenes import NAMES, scenes
from harness.models.backbones.clip import ClipBackbone, create_clip
from harness.models.clipvis.classifier import mask_pool, pooling_masks
from harness.models.miniatures.clip import CLIP_NAME, IMAGE_SIZE
from harness.models.shared.preprocess import normalise
from harness.models.shared.text_classifier import tokenize

IMAGES, VIDEOS, EVERY = 600, 60, 2
"""Images of one object; videos, and every how many of their frames."""
SIZE, STRIDE_4 = (224, 288), (56, 72)
LEAST_PIXELS = 60
"""Objects of which less is visible are left out."""


def main(paths: list[str]) -> None:
    """Print the shares for each file of weights."""
    for path in paths:
        backbone = ClipBackbone(CLIP_NAME)
        backbone.clip_model = create_clip(CLIP_NAME, path).eval()
        with torch.no_grad():
            words = tokenize([f"a photo of a {name}." for name in NAMES])
            texts = backbone.clip_model.encode_text(words, normalize=True)
            right, has_feature = of_objects(backbone, texts)
            print(
                f"{Path(path).name}: images {of_images(backbone, texts):.3f}, {len(right)} objects {right.mean():.3f},"
                f" those with a feature {right[has_feature].mean():.3f}"
            )


def of_images(backbone: ClipBackbone, texts: Tensor) -> float:
    """The share of images of one object that are named correctly."""
    images, labels, index = [], [], 0
    while len(images) < IMAGES:
        image, caption = pair(777, index)
        index += 1
        shown = [name for name in NAMES if name in caption]
        if len(shown) == 1 and " and a " not in caption:
            images.append(image)
            labels.append(NAMES.index(shown[0]))
    pixels = normalise(torch.from_numpy(np.stack(images)), (IMAGE_SIZE, IMAGE_SIZE))
    found = (backbone.clip_model.encode_image(pixels, normalize=True) @ texts.T).argmax(1)
    return float((found == torch.tensor(labels)).float().mean())


def of_objects(backbone: ClipBackbone, texts: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Whether each object of a frame is named correctly, and whether its mask covers a feature's centre."""
    right, has_feature = [], []
    for scene in islice(scenes("val", seed="dev-1"), VIDEOS):
        pictures = Pictures(scene)
        for frame_index in range(0, scene.length, EVERY):
            frame = torch.from_numpy(np.ascontiguousarray(pictures[frame_index]))[None]
            pixels = normalise(frame, (frame.shape[1], frame.shape[2]))
            resized = functional.interpolate(pixels, size=SIZE, mode="bilinear", align_corners=False)
            dense = backbone(resized).res5
            visible = scene.visible(frame_index)
            logits = torch.from_numpy(np.stack(visible)).float()[None] * 2 - 1
            logits = functional.interpolate(logits, STRIDE_4, mode="bilinear", align_corners=False, antialias=True)
            masks = pooling_masks(logits, (dense.shape[-2], dense.shape[-1]))
            features = functional.normalize(backbone.project(mask_pool(dense, masks)), dim=-1)[0]
            answers = (features @ texts.T).argmax(-1).tolist()
            covered = masks[0].flatten(1).any(1).tolist()
            for body, mask, answer, covers in zip(scene.bodies, visible, answers, covered, strict=True):
                if mask.sum() >= LEAST_PIXELS:
                    right.append(NAMES[answer] == body.name)
                    has_feature.append(covers)
    return np.array(right), np.array(has_feature)


if __name__ == "__main__":
    main(sys.argv[1:])
