"""Types of numpy arrays, and sums of their rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Ints32 = NDArray[np.int32]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Mask = NDArray[np.bool_]
"""The pixels of one object in one image, ``(height, width)``."""


def sums_by(place: Ints, rows: Any, places: int) -> Any:
    """Sums of ``rows`` ``(n, ...)`` by their ``place (n,)`` ``(places, ...)``; flags are counted."""
    out = np.zeros((places, *rows.shape[1:]), np.result_type(rows.dtype, np.int64))
    np.add.at(out, place, rows)
    return out
