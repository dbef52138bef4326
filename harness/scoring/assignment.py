"""One-to-one assignment of least cost inside compiled loops, equal to `scipy.optimize.linear_sum_assignment`.

It also chooses the same one among assignments of equal cost: the official tools use scipy's solver, and their numbers
depend on which of two pairs of equal overlap it takes. So this follows the same algorithm (Crouse, IEEE Transactions on
Aerospace and Electronic Systems 2016) step by step, with the same order of comparisons and sums.
"""

from __future__ import annotations

import numba
import numpy as np

from harness.compiled import INNER


@numba.njit(cache=True, nogil=True)
def assign(cost):
    """The column of each row, ``(rows,)``, -1 for rows that are left over; all costs finite."""
    rows, columns = cost.shape
    if rows == 0 or columns == 0:
        return np.full(rows, -1, np.int64)
    if columns < rows:
        out = np.full(rows, -1, np.int64)
        of_row = _solve(np.ascontiguousarray(cost.T))
        for column in range(columns):
            out[of_row[column]] = column
        return out
    return _solve(cost)


@numba.njit(**INNER)
def flip_path(path, row_of, column_of, j, current):
    """Give each column on the path that ends in column ``j`` to the row before it, back to the row ``current``."""
    while True:
        i = path[j]
        row_of[j] = i
        j, column_of[i] = column_of[i], j
        if i == current:
            break


@numba.njit(cache=True, nogil=True)
def _solve(cost):
    """The column of each row, where there are at least as many columns."""
    rows, columns = cost.shape
    u, v = np.zeros(rows), np.zeros(columns)
    shortest = np.empty(columns)
    path = np.full(columns, -1, np.int64)
    column_of, row_of = np.full(rows, -1, np.int64), np.full(columns, -1, np.int64)
    remaining = np.empty(columns, np.int64)
    seen_row, seen_column = np.empty(rows, np.bool_), np.empty(columns, np.bool_)
    for current in range(rows):
        least = 0.0
        left = columns
        for k in range(columns):
            remaining[k] = columns - k - 1  # backwards, so that the first of equal costs are taken
        seen_row[:] = False
        seen_column[:] = False
        shortest[:] = np.inf
        sink = np.int64(-1)
        i = current
        while sink < 0:
            best = -1
            lowest = np.inf
            seen_row[i] = True
            for k in range(left):
                j = remaining[k]
                reduced = least + cost[i, j] - u[i] - v[j]
                if reduced < shortest[j]:
                    path[j] = i
                    shortest[j] = reduced
                if shortest[j] < lowest or (shortest[j] == lowest and row_of[j] < 0):
                    lowest = shortest[j]
                    best = k
            least = lowest
            j = remaining[best]
            if row_of[j] < 0:
                sink = j
            else:
                i = row_of[j]
            seen_column[j] = True
            left -= 1
            remaining[best] = remaining[left]
        u[current] += least
        for i in range(rows):
            if seen_row[i] and i != current:
                u[i] += least - shortest[column_of[i]]
        for j in range(columns):
            if seen_column[j]:
                v[j] -= least - shortest[j]
        flip_path(path, row_of, column_of, sink, current)
    return column_of
