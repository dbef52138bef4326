"""Minimum-cost assignment of the queries of a frame to slots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Costs = NDArray[np.float32]
Permutation = NDArray[np.int64]
"""Return the query of the current frame for each slot, ``(queries,)``."""


def minimum_cost_assignment(cost: Costs) -> Permutation:
    """Minimum-cost assignment of the columns (current queries) to the rows (slots) of ``(slots, current)``."""
    return np.asarray(linear_sum_assignment(cost.astype(np.float64))[1], dtype=np.int64)
