"""Sums inside compiled loops, equal to numpy's to the last bit: it adds long rows up in pairs of partial sums."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def _sum_of_block(values, start, stop):
    """The sum of at most 128 numbers: eight partial sums side by side."""
    n = stop - start
    whole = n - n % 8 if n >= 8 else 0
    total = 0.0
    if whole:
        a, b, c, d = values[start], values[start + 1], values[start + 2], values[start + 3]
        e, f, g, h = values[start + 4], values[start + 5], values[start + 6], values[start + 7]
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


@numba.njit(cache=True, nogil=True)
def pairwise_sum(values, start, stop):
    """The sum of ``values[start:stop]`` as ``np.sum`` adds up contiguous numbers."""
    if stop - start <= 128:
        return _sum_of_block(values, start, stop)
    # a range is cut in two until it is a block; numba cannot load functions that call themselves from its cache
    ends, sums = np.empty((128, 2), np.int64), np.empty(128)
    ends[0, 0], ends[0, 1] = start, stop
    waiting, done = 1, 0
    while waiting:
        waiting -= 1
        low, high = ends[waiting]
        if low < 0:  # both halves are there
            done -= 1
            sums[done - 1] += sums[done]
        elif high - low <= 128:
            sums[done] = _sum_of_block(values, low, high)
            done += 1
        else:
            half = (high - low) // 2
            half -= half % 8
            ends[waiting, 0], ends[waiting, 1] = -1, -1
            ends[waiting + 1, 0], ends[waiting + 1, 1] = low + half, high
            ends[waiting + 2, 0], ends[waiting + 2, 1] = low, low + half
            waiting += 3
    return sums[0]


@numba.njit(cache=True, nogil=True)
def means(values, first):
    """The mean of each ``values[first[i]:first[i + 1]]``, as ``np.mean`` computes it."""
    out = np.empty(len(first) - 1)
    for i in range(len(out)):
        out[i] = pairwise_sum(values, first[i], first[i + 1]) / (first[i + 1] - first[i])
    return out
