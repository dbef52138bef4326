"""SAM 3's post-processing of masks between detector and tracker: suppression of duplicates, areas of connected parts.

`transformers` takes both from a kernel that it downloads and runs when the package ``kernels`` is installed, and leaves
them out without it. Here numpy and scipy always compute them: one result everywhere, without downloaded code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

_TOUCHING = np.zeros((3, 3, 3), bool)
_TOUCHING[1] = True  # eight neighbours within a mask, none in the masks before and after it


class Components(NamedTuple):
    """Connected parts of masks, both ``(n, 1, height, width)`` int32, 0 in the background."""

    labels: Tensor
    areas: Tensor
    """Pixels of the part that a pixel belongs to."""


def generic_nms(ious: Tensor, scores: Tensor, iou_threshold: float, use_iou_matrix: bool = True) -> Tensor:
    """Positions of the masks that are kept, best first: none overlaps a better kept one by more than the threshold.

    ``ious`` ``(n, n)``, ``scores`` ``(n,)``; of equal scores the earlier counts as better.
    """
    overlap = (ious > iou_threshold).cpu().numpy()
    free = np.ones(len(overlap), bool)
    kept = []
    for i in torch.argsort(scores, descending=True, stable=True).tolist():
        if free[i]:
            kept.append(i)
            free &= ~overlap[i]
    return torch.tensor(kept, dtype=torch.int64, device=scores.device)


def cc_2d(masks: Tensor, get_counts: bool = True) -> Components:
    """Connected parts of ``masks`` ``(n, 1, height, width)`` uint8; pixels that touch at a corner are connected."""
    labels = ndimage.label(masks[:, 0].cpu().numpy(), _TOUCHING)[0]
    sizes = np.bincount(labels.ravel()).astype(np.int32)
    sizes[:1] = 0
    found = (torch.from_numpy(part[:, None]).to(masks.device) for part in (labels.astype(np.int32), sizes[labels]))
    return Components(*found)
