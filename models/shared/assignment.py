"""Minimum-cost assignment of the queries of a frame to slots.

Costs with several earlier frames are much alike, so each problem starts from the prices of the one before. Where the
cheapest assignment is unique this is that of `scipy.optimize.linear_sum_assignment`; where several cost the same, the
problem is solved again as scipy does it, so that the same one is taken.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from harness.compiled import INNER
from harness.scoring.assignment import assign, flip_path

Costs = NDArray[np.float32]
Permutation = NDArray[np.int64]
"""Return the query of the current frame for each slot, ``(queries,)``."""
Prices = NDArray[np.float64]
"""Dual variables of the current queries, ``(queries,)``. Any numbers give the right assignment, good ones give it
soon."""

CLOSE = 1e-9
"""Assignments whose costs differ by less may be the same but for rounding. Costs are at most about 50."""


VECTOR = {"nnan", "nsz"}
"""What allows vector registers for minima; it changes no number."""
MOST_BIDS = 2
"""Bids per row; what is not settled then takes shortest paths."""


class Assignments(NamedTuple):
    """The cheapest assignments of several problems."""

    permutations: Permutation
    """``(problems, slots)``: the query of each slot."""
    prices: NDArray[np.float64]
    """``(problems, queries)``: where a similar problem may start."""


def minimum_cost_assignment(cost: Costs, prices: Prices | None = None) -> Permutation:
    """Minimum-cost assignment of the columns (current queries) to the rows (slots) of ``(slots, current)``."""
    return np.asarray(minimum_cost_assignments(cost[None], prices).permutations[0])


def minimum_cost_assignments(costs: Costs, prices: Prices | None = None) -> Assignments:
    """Solve similar square problems ``(problems, slots, current)``, each from the prices of the one before."""
    if not np.isfinite(costs).all():
        raise ValueError("matrix contains invalid numeric entries")
    found = np.empty(costs.shape[:2], np.int64), np.empty(costs.shape[:2])
    start = costs[0].min(0) if prices is None else prices
    for given, permutation, after in zip(costs, *found, strict=True):
        cost = given.astype(np.float64)
        after[:] = start
        columns, is_unique = _solve(cost, after)
        permutation[:] = columns if is_unique else assign(cost)
        start = after
    return Assignments(*found)


@numba.njit(cache=True, nogil=True)
def _solve(cost, v):
    """The column of each row, and whether no other assignment costs as little; ``v`` are the prices, updated.

    Rows bid for columns (Jonker and Volgenant, Computing 1987); those that are left without follow shortest paths, as
    in `harness.scoring.assignment`.
    """
    size = len(cost)
    column_of, row_of = np.full(size, -1, np.int64), np.full(size, -1, np.int64)
    free = np.arange(size)
    waiting = _bid(cost, v, column_of, row_of, free)
    u, frontier, path = np.empty(size), np.empty(size), np.empty(size, np.int64)
    for i in range(size):
        if column_of[i] >= 0:
            u[i] = cost[i, column_of[i]] - v[column_of[i]]
        else:
            u[i] = _reduce(cost[i], v, frontier)
    visited, distance = np.empty(size, np.int64), np.empty(size)  # columns in the order of their distance
    for place in range(waiting):
        current = free[place]
        frontier[:] = np.inf
        barred = v.copy()  # prices; none can pay that of a visited column
        seen, least, i = 0, 0.0, current
        while True:
            least = _relax(cost[i], barred, least - u[i], i, frontier, path)
            j = _where(frontier, least)
            if row_of[j] < 0:
                break
            visited[seen], distance[seen] = j, least
            seen += 1
            frontier[j], barred[j] = np.inf, -np.inf
            i = row_of[j]
        u[current] += least
        for k in range(seen):
            u[row_of[visited[k]]] += least - distance[k]
            v[visited[k]] -= least - distance[k]
        flip_path(path, row_of, column_of, j, current)
    return column_of, _is_unique(cost, u, v, row_of)


@numba.njit(**INNER)
def _bid(cost, v, column_of, row_of, free):
    """Let rows take their cheapest column, from another row too; returns how many then are left in ``free``.

    The column's price falls by what it is cheaper than the second one, so that the row before may find another. Prices
    remain such that each row has its cheapest column.
    """
    size = len(cost)
    bids, at, left = 0, 0, 0
    reduced = np.empty(size)
    while at < size:
        i = free[at]
        at += 1
        first = _reduce(cost[i], v, reduced)
        cheapest = _where(reduced, first)
        reduced[cheapest] = np.inf
        second = _least(reduced)
        bids += 1
        if first < second and size > 1:
            v[cheapest] -= second - first
        elif row_of[cheapest] >= 0 and size > 1:
            cheapest = _where(reduced, second)
        before = row_of[cheapest]
        row_of[cheapest] = i
        column_of[i] = cheapest
        if before >= 0:
            column_of[before] = -1
            if bids < MOST_BIDS * size:
                at -= 1
                free[at] = before
            else:
                free[left] = before
                left += 1
    return left


@numba.njit(**INNER, fastmath=VECTOR)
def _reduce(cost, v, out):
    """Write costs less prices to ``out``; returns the least."""
    least = np.inf
    for j in range(len(cost)):
        out[j] = cost[j] - v[j]
        least = min(least, out[j])
    return least


@numba.njit(**INNER, fastmath=VECTOR)
def _relax(cost, v, base, row, frontier, path):
    """Shorten the paths to columns that lead over a row at distance ``base``; returns the shortest."""
    least = np.inf
    for j in range(len(cost)):
        reduced = base + cost[j] - v[j]
        shorter = reduced < frontier[j]
        frontier[j] = reduced if shorter else frontier[j]
        path[j] = row if shorter else path[j]
        least = min(least, frontier[j])
    return least


@numba.njit(**INNER, fastmath=VECTOR)
def _least(values):
    least = np.inf
    for j in range(len(values)):
        least = min(least, values[j])
    return least


@numba.njit(**INNER)
def _where(values, value):
    """The first place of a value that is there."""
    j = 0
    while values[j] != value:
        j += 1
    return j


@numba.njit(**INNER)
def _is_unique(cost, u, v, row_of):
    """Whether rows cannot pass their columns on in a circle at no cost.

    A row may take another column if its reduced cost is next to nothing. Rows that none can follow are taken away one
    after the other (Kahn, 1962); a circle is what stays.
    """
    size = len(cost)
    begins, follows = np.zeros(size + 1, np.int64), np.empty(size * size, np.int64)
    wanted = np.zeros(size, np.int64)
    edges = 0
    for i in range(size):
        if _count_below(cost[i], v, u[i] + CLOSE) > 1:
            for j in range(size):
                k = row_of[j]
                if k != i and cost[i, j] - v[j] < u[i] + CLOSE:
                    follows[edges] = k
                    edges += 1
                    wanted[k] += 1
        begins[i + 1] = edges
    stack = np.empty(size, np.int64)
    left = 0
    for k in range(size):
        if wanted[k] == 0:
            stack[left] = k
            left += 1
    gone = 0
    while left > 0:
        left -= 1
        i = stack[left]
        gone += 1
        for edge in range(begins[i], begins[i + 1]):
            k = follows[edge]
            wanted[k] -= 1
            if wanted[k] == 0:
                stack[left] = k
                left += 1
    return gone == size


@numba.njit(**INNER, fastmath=VECTOR)
def _count_below(cost, v, bound):
    below = 0
    for j in range(len(cost)):
        below += cost[j] - v[j] < bound
    return below
