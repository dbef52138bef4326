"""Assignment of objects to queries at minimum cost, for training (Mask2Former, section 3.3; CLIP-VIS, section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from harness.models.mask2former.point_sampling import Uniform, sample

HUGE = 1e10
"""Replaces infinite and NaN costs, which an assignment cannot rank."""


class Matched(NamedTuple):
    """Matched pairs of one image, ascending by query."""

    queries: Tensor
    """``(N,)`` int64."""
    targets: Tensor
    """``(N,)`` int64: positions in the image's targets."""


MASK_COST, DICE_COST = 5.0, 5.0
"""Weights of the mask's part in the cost of a pair (docs/clipvis.md, *Training*)."""


@torch.no_grad()
def match_image(mask_logits: Tensor, masks: Tensor, label_cost: Tensor, points: int, uniform: Uniform) -> Matched:
    """Assign the objects of one image, ``masks`` ``(N, H, W)``, to queries of ``mask_logits`` ``(Q, h, w)``.

    Predictions and targets are compared at the same ``points`` points, each at its own resolution.
    ``label_cost`` ``(Q, N or 1)`` is added: all terms of the cost other than the mask's.
    """
    at = uniform(1, points)
    if not len(masks):
        nothing = torch.empty(0, dtype=torch.int64, device=mask_logits.device)
        return Matched(nothing, nothing)
    # half precision cannot hold sums over ten thousand points
    with torch.autocast(mask_logits.device.type, enabled=False):
        predicted = sample(mask_logits.float()[None], at)[0]  # (Q, P)
        wanted = sample(masks.float()[None], at)[0]  # (N, P)
        cost = MASK_COST * _cross_entropy(predicted, wanted) + DICE_COST * _dice(predicted, wanted) + label_cost
    finite = torch.nan_to_num(cost, nan=HUGE, posinf=HUGE, neginf=-HUGE).cpu().numpy()
    queries, targets = _assignment(finite)
    device = mask_logits.device
    return Matched(torch.from_numpy(queries).to(device), torch.from_numpy(targets).to(device))


def _assignment(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost)
    return rows.astype(np.int64), columns.astype(np.int64)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross entropy of each pair, ``(Q, N)``, from values at points ``(Q, P)`` and ``(N, P)``."""
    # -log s(x) where the target is one, -log(1 - s(x)) where it is zero
    if_one, if_zero = functional.softplus(-logits), functional.softplus(logits)
    return (if_one @ targets.T + if_zero @ (1 - targets).T) / logits.shape[1]


def _dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice loss of each pair, ``(Q, N)``, smoothed by one."""
    scores = logits.sigmoid()
    overlap = 2 * scores @ targets.T
    return 1 - (overlap + 1) / (scores.sum(1)[:, None] + targets.sum(1)[None, :] + 1)
