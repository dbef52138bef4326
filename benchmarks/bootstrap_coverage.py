"""How far the bootstrap can be trusted: ``PYTHONPATH=tests/support python benchmarks/bootstrap_coverage.py``.

From made populations of videos with known numbers, samples are drawn again and again. Printed is how often the 95 %
intervals of a difference hold the true difference, how often a difference is called significant where there is none
(and where there is one), how often one category is, and how the mean standard error compares with the true one.
"""

from __future__ import annotations

import numpy as np
from match_populations import make_population

from harness.scoring import bootstrap

TRIALS, RESAMPLES = 200, 300
CASES = ((40, 54), (40, 300), (400, 300), (1200, 800))
"""Numbers of categories and of videos in a sample; the last is like LV-VIS's validation split."""


def measure(
    categories: int, videos: int, better: float, trials: int = TRIALS, population: int = 60_000
) -> dict[str, float]:
    """Rates over ``trials`` samples of ``videos`` videos out of ``population``."""
    everything = make_population(1, population, categories, better=better)
    ones = np.ones((1, everything.videos), np.int32)
    known = [bootstrap.replicate(everything.table(run), ones).mean("AP")[0] for run in (0, 1)]
    rng = np.random.default_rng(2)
    values, singles, rows = [], [], []
    for trial in range(trials):
        chosen = np.sort(rng.choice(everything.videos, videos, replace=False))
        tables = [everything.table(run, chosen) for run in (0, 1)]
        weights = np.concatenate([np.ones((1, videos), np.int32), bootstrap.draw(videos, RESAMPLES, trial)])
        first, second = (bootstrap.replicate(table, weights) for table in tables)
        difference = second.mean("AP") - first.mean("AP")
        found = bootstrap.estimate(difference[1:])
        alone = bootstrap.centred(first.mean("AP")[0], first.mean("AP")[1:])
        values.append(difference[0])
        singles.append((first.mean("AP")[0], alone.low, alone.high))
        p = bootstrap.p_value(difference[1:], videos)
        by_category = _categories(first.values[0], second.values[0], first.defined, tables[0].matches.pair_first)
        rows.append((found.low <= known[1] - known[0] <= found.high, p is not None and p < 0.05, found[2], by_category))
    mean = np.mean([single[0] for single in singles])
    return {
        "difference within": float(np.mean([row[0] for row in rows])),
        "significant": float(np.mean([row[1] for row in rows])),
        "category significant": float(np.mean(np.concatenate([row[3] for row in rows]))),
        "standard error / true": float(np.mean([row[2] for row in rows]) / np.std(values, ddof=1)),
        "one run within": float(np.mean([low <= mean <= high for _, low, high in singles])),
    }


def _categories(first: np.ndarray, second: np.ndarray, defined: np.ndarray, pair_first: np.ndarray) -> list[bool]:
    """Whether each testable category is significant by itself, without correction."""
    out = []
    for k, videos in enumerate(np.diff(pair_first)):
        if videos < bootstrap.FEWEST_VIDEOS:
            continue
        difference = second[:, k] - first[:, k]
        error = bootstrap.estimate(difference[1:][defined[1:, k]]).standard_error
        p = bootstrap.t_test(float(difference[0]), error, int(videos))
        out.append(p is not None and p < 0.05)
    return out


if __name__ == "__main__":
    for categories, videos in CASES:
        for better in (0.0, 0.3):
            rates = ", ".join(f"{name} {rate:.3f}" for name, rate in measure(categories, videos, better).items())
            print(f"{categories} categories, {videos} videos, better by {better}: {rates}", flush=True)
