"""HOTA of many classes and videos at once, against numpy and scipy frame by frame; many weights are equal."""

from __future__ import annotations

import numpy as np
import pytest
from hota_reference import Step, hota
from scipy.optimize import linear_sum_assignment

from harness.scoring.frame_hota import FrameUnits, ObjectsByCell, Similarities, hota_of_units


def offsets(counts: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@pytest.mark.parametrize("seed", range(12))
def test_hota_of_units_is_that_of_their_frames(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    sizes, tracks, flags, wanted, counts = [], [], [], [], []
    for _ in range(20):
        n_g, n_p = rng.integers(0, 14), rng.integers(0, 24)
        known, exhaustive = rng.random(2) < 0.6
        steps = []
        sizes.append(rng.integers(1, 6))
        for _ in range(sizes[-1]):
            g, p = (rng.permutation(n)[: rng.binomial(n, 0.8)] for n in (n_g, n_p))
            s = rng.integers(0, 9, (len(g), len(p))) / rng.choice([8, 9.7]) * (rng.random((len(g), len(p))) < 0.7)
            cells.append((g, p, s))
            keep = np.full(len(p), known or len(g) > 0)
            if len(g) and not exhaustive:
                sure = np.where(s < 0.5 - np.finfo(float).eps, 0.0, s)
                rows, columns = linear_sum_assignment(-sure)
                keep[:] = False
                keep[columns[sure[rows, columns] > np.finfo(float).eps]] = True
            steps.append(Step(g, p[keep], s[:, keep]))
        tracks.append((n_g, n_p))
        flags.append((known, exhaustive))
        wanted.append(hota(steps))
        sides = [[i for step in steps for i in getattr(step, side)] for side in ("predictions", "truths")]
        counts.append([*map(len, sides), *(len(set(ids)) for ids in sides)])
    first_g, first_p = (offsets([len(cell[side]) for cell in cells]) for side in (0, 1))
    near = []
    for begin, (_, _, s) in zip(first_g[:-1], cells, strict=True):
        near += [(begin + np.flatnonzero(column), column[column != 0]) for column in s.T]
    shuffled = [rng.permutation(len(row)) for row, _ in near]  # in any order
    units = FrameUnits(
        offsets(sizes),
        *np.array(flags).T.copy(),
        ObjectsByCell(
            first_g, np.arange(first_g[-1]), np.concatenate([c[0] for c in cells]), np.array(tracks)[:, 0].copy()
        ),
        ObjectsByCell(
            first_p, np.arange(first_p[-1]), np.concatenate([c[1] for c in cells]), np.array(tracks)[:, 1].copy()
        ),
    )
    similar = Similarities(
        offsets([len(row) for row, _ in near]),
        np.concatenate([row[order] for (row, _), order in zip(near, shuffled, strict=True)]).astype(np.int32),
        np.concatenate([value[order] for (_, value), order in zip(near, shuffled, strict=True)]),
    )
    found = hota_of_units(units, similar, int(first_g[-1]))
    assert found.counts.tolist() == counts
    for u, one in enumerate(wanted):
        for name, values in vars(one).items():
            np.testing.assert_allclose(getattr(found.hota, name)[u], values, rtol=0, atol=1e-12, err_msg=name)
