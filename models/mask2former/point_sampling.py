"""Mask losses at sampled points (Mask2Former, section 3.3; PointRend, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Uniform = Callable[[int, int], Tensor]
"""Draws ``(rows, points, 2)`` coordinates ``(x, y)``, uniform in [0, 1)."""


def uniform_on(device: torch.device) -> Uniform:
    """Draw coordinates from torch's generator of ``device``."""
    return lambda rows, points: torch.rand(rows, points, 2, device=device)


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Values of maps ``(N, C, h, w)`` at ``points`` ``(N or 1, P, 2)`` as ``(x, y)`` in [0, 1]: ``(N, C, P)``.

    Bilinear between the centres of pixels, zero outside. One row of points is used for all maps.
    """
    grid = (2 * points - 1).unsqueeze(2).expand(maps.shape[0], -1, 1, 2)
    sampled: Tensor = functional.grid_sample(maps, grid.to(maps.dtype), align_corners=False).squeeze(3)
    return sampled


@torch.no_grad()
def uncertain_points(mask_logits: Tensor, count: int, oversample: float, importance: float, uniform: Uniform) -> Tensor:
    """Points ``(N, count, 2)`` for each mask ``(N, h, w)``, most of them where its logit is nearest to zero.

    Of ``oversample * count`` uniform candidates the ``importance * count`` most uncertain are kept; the rest is
    uniform.
    """
    masks, kept = mask_logits.shape[0], int(importance * count)
    candidates = uniform(masks, int(count * oversample))
    uncertainty = -sample(mask_logits[:, None], candidates)[:, 0].abs()
    best = uncertainty.topk(kept, dim=1).indices
    chosen = candidates.gather(1, best[..., None].expand(-1, -1, 2))
    return torch.cat((chosen, uniform(masks, count - kept)), dim=1)
