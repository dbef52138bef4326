"""Sums inside compiled loops, equal to numpy's to the last bit: it adds long rows up in pairs of partial sums."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def pairwise_sum(values, start, stop):
    """The sum of ``values[start:stop]`` as ``np.sum`` adds up contiguous numbers."""
    n = stop - start
    if n < 8:
        total = 0.0
        for i in range(start, stop):
            total += values[i]
        return total
    if n <= 128:
        a, b, c, d = values[start], values[start + 1], values[start + 2], values[start + 3]
        e, f, g, h = values[start + 4], values[start + 5], values[start + 6], values[start + 7]
        whole = n - n % 8
        for i in range(start + 8, start + whole, 8):
            a += values[i]
            b += values[i + 1]
            c += values[i + 2]
            d += values[i + 3]
            e += values[i + 4]
            f += values[i + 5]
            g += values[i + 6]
            h += values[i + 7]
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
        for i in range(start + whole, stop):
            total += values[i]
        return total
    half = n // 2
    half -= half % 8
    return pairwise_sum(values, start, start + half) + pairwise_sum(values, start + half, stop)


@numba.njit(cache=True, nogil=True)
def means(values, first):
    """The mean of each ``values[first[i]:first[i + 1]]``, as ``np.mean`` computes it."""
    out = np.empty(len(first) - 1)
    for i in range(len(out)):
        out[i] = pairwise_sum(values, first[i], first[i + 1]) / (first[i + 1] - first[i])
    return out
