"""Coverage of confidence intervals: ``PYTHONPATH=tests/support python benchmarks/interval_coverage.py``.

Many samples of videos are drawn from simulated populations of videos. The true value of AP, or of a difference of AP,
is the mean over all samples of the same size. The script prints how often the 95 % intervals of a run and of a
difference contain the true value, how often a difference is significant although there is none, how often that of one
category is, and the mean standard error as a fraction of the true one. ``--compare`` adds estimators that the harness
does not use. ``--seeds`` measures models with several seeds: the true value is then the mean over samples of videos and
seeds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from match_populations import Population, World

from harness.arrays import Floats
from harness.scoring import jackknife
from harness.scoring.jackknife import LeftOut, VarianceComponent

TRIALS, COMPARED_TRIALS, RESAMPLES = 1000, 300, 200
SEEDS, SPREADS = (2, 3, 5), (0.05, 0.15)
"""Numbers of seeds of a model, and standard deviations of the seeds' effect on the simulated tracks: AP then has a
standard deviation of one to three, and of four to five points."""


class Case(NamedTuple):
    name: str
    world: World
    videos: int


CASES = (
    Case("54 videos of shapes val", World(54, rarity=0.6, labels=2.8, copies=0.2), 54),
    Case("shapes val", World(54, rarity=0.6, labels=2.8, copies=0.2), 150),
    Case("LV-VIS val", World(1196, labels=2.5, copies=0.8, wrong=20), 837),
    Case("BURST val", World(482, rarity=1.3, labels=2.5, copies=1.5, wrong=10), 993),
    Case("YouTube-VIS", World(40, rarity=0.7, labels=1.5, copies=0.3), 302),
    Case("few videos", World(10, rarity=0.7, labels=2, copies=0.3), 30),
)
"""Sizes and frequencies of categories are like those of the named datasets; their data is not used."""
PREFERENCES = ({}, {"better": 0.3, "taste": 0.5})
"""Two equally good runs; and one that is better, in some categories more than in others."""


class Found(NamedTuple):
    """An estimate with its interval and its standard error."""

    value: float
    low: float
    high: float
    error: float


Estimator = Callable[[Population, int], tuple[Found, Found]]
"""From a sample and the number of the trial: the estimates of the first run and of the difference."""


def chosen(sample: Population, _: int) -> tuple[Found, Found]:
    """Estimate the first run and the difference as the harness does."""
    first, second = (jackknife.leave_videos_out(sample.table(run)) for run in (0, 1))
    return _by_contributions(sample, first, second, lambda one: one.contributions("AP"))


def plain(sample: Population, _: int) -> tuple[Found, Found]:
    """The standard delete-one jackknife."""
    first, second = (jackknife.leave_videos_out(sample.table(run)) for run in (0, 1))
    shrink = np.sqrt((sample.videos - 1) / sample.videos)
    return _by_contributions(sample, first, second, lambda one: (one.number("AP") - one.without("AP")) * shrink)


def pooled(sample: Population, _: int) -> tuple[Found, Found]:
    """The jackknife within categories; those in one video get the mean variance per video of the others."""
    first, second = (jackknife.leave_videos_out(sample.table(run)) for run in (0, 1))
    size = sample.videos
    place = first.category * size + first.video
    drop = {run: np.zeros(sample.categories * size) for run in (0, 1)}
    drop[0][place] = first.drop[0]
    drop[1][second.category * size + second.video] = second.drop[0]
    truths, known = first.truths, first.defined.sum()

    def error(dropped: Floats) -> float:
        by_category = dropped.reshape(sample.categories, size)
        many = truths > 1
        within = (np.square(by_category).sum(1) * (truths - 1))[many].mean()
        shared = (by_category[many] * np.sqrt((truths[many] - 1) / truths[many])[:, None]).sum(0)
        return float(np.sqrt(np.square(shared).sum() + (truths == 1).sum() * within) / known)

    apart = second.number("AP") - first.number("AP")
    return _found(first.number("AP"), error(drop[0])), _found(apart, error(drop[1] - drop[0]))


def resampled(draw: Callable[[np.random.Generator, int], Floats], both_ways: bool = False) -> Estimator:
    """Return a bootstrap: ``draw`` returns the weights of the videos; ``both_ways`` also resamples the categories."""

    def estimate(sample: Population, seed: int) -> tuple[Found, Found]:
        rng = np.random.default_rng(seed)
        weights = np.concatenate([np.ones((1, sample.videos)), draw(rng, sample.videos)]).astype(np.int64)
        if both_ways:
            times = rng.multinomial(sample.categories, np.full(sample.categories, 1 / sample.categories), RESAMPLES)
            times = np.concatenate([np.ones((1, sample.categories), np.int64), times])
        series = []
        for run in (0, 1):
            found = jackknife.replicate(sample.table(run), weights)
            use = found.defined * times if both_ways else found.defined
            series.append((found.values[0] * use).sum(1) / use.sum(1))
        first, apart = series[0], series[1] - series[0]
        low, high = np.quantile(first[1:], [0.025, 0.975]) + first[0] - first[1:].mean()
        one = Found(first[0], low, high, first[1:].std(ddof=1))
        return one, Found(apart[0], *np.quantile(apart[1:], [0.025, 0.975]), apart[1:].std(ddof=1))

    return estimate


def half_samples(sample: Population, seed: int) -> tuple[Found, Found]:
    """Repeated random halves of the videos: the standard error is half the root mean square of their differences."""
    rng = np.random.default_rng(seed)
    halves = np.array([rng.permutation(sample.videos) < sample.videos // 2 for _ in range(RESAMPLES // 2)])
    weights = np.concatenate([np.ones((1, sample.videos)), halves, ~halves]).astype(np.int64)
    first, second = (jackknife.replicate(sample.table(run), weights).mean("AP") for run in (0, 1))
    made = []
    for series in (first, second - first):
        apart = series[1 : 1 + len(halves)] - series[1 + len(halves) :]
        made.append(_found(series[0], float(np.sqrt(np.nanmean(np.square(apart)) / 4))))
    return made[0], made[1]


def _poisson(rng: np.random.Generator, videos: int) -> Floats:
    return rng.multinomial(videos, np.full(videos, 1 / videos), RESAMPLES).astype(np.float64)


def _dirichlet(rng: np.random.Generator, videos: int) -> Floats:
    """Return exponential weights ``(RESAMPLES, videos)``, in thousandths."""
    return np.round(1000 * rng.exponential(size=(RESAMPLES, videos)))


ESTIMATORS: dict[str, Estimator] = {
    "chosen": chosen,
    "bootstrap": resampled(_poisson),
    "Bayesian bootstrap": resampled(_dirichlet),
    "two-way bootstrap": resampled(_poisson, both_ways=True),
    "pooled within categories": pooled,
    "plain jackknife": plain,
    "half samples": half_samples,
}


def _by_contributions(
    sample: Population, first: LeftOut, second: LeftOut, contributions: Callable[[LeftOut], Floats]
) -> tuple[Found, Found]:
    before, after = contributions(first), contributions(second)
    freedom = sample.videos - 1
    one = _found(first.number("AP"), jackknife.standard_error(before), freedom)
    apart = second.number("AP") - first.number("AP")
    return one, _found(apart, jackknife.standard_error(after - before), freedom)


def _found(value: float, error: float, freedom: float = np.inf) -> Found:
    low, high, error_ = jackknife.estimate(value, error, freedom, -1.0)
    assert low is not None
    assert high is not None
    assert error_ is not None
    return Found(value, low, high, error_)


def measure(
    world: World, videos: int, trials: int = TRIALS, estimator: Estimator = chosen, seed: int = 0
) -> dict[str, float]:
    """Return the rates over ``trials`` samples of ``videos`` videos."""
    rng = np.random.default_rng(seed)
    return _rates([estimator(world.sample(rng, videos), trial) for trial in range(trials)])


def _rates(found: list[tuple[Found, Found]]) -> dict[str, float]:
    """Return the rates of estimates of a run and of a difference; the true values are the means over all trials."""
    ones, differences = zip(*found, strict=True)
    rates = {}
    for name, found in (("difference", np.array(differences)), ("one run", np.array(ones))):
        truth = found[:, 0].mean()
        rates[f"{name} within"] = float(np.mean((found[:, 1] <= truth) & (truth <= found[:, 2])))
        rates[f"{name} error / true"] = float(found[:, 3].mean() / found[:, 0].std(ddof=1))
        if name == "difference":
            rates["significant"] = float(np.mean((found[:, 1] > 0) | (found[:, 2] < 0)))
    return rates


def of_seeds(seeds: int, spread: float) -> Callable[[World, np.random.Generator, int], tuple[Found, Found]]:
    """Return the estimator of the harness for two models with ``seeds`` seeds each."""

    def estimate(world: World, rng: np.random.Generator, videos: int) -> tuple[Found, Found]:
        sample = world.sample_seeds(rng, videos, seeds, spread)
        found = [jackknife.leave_videos_out(sample.table(run)) for run in range(2 * seeds)]
        models = found[:seeds], found[seeds:]
        means = [jackknife.mean_of(one) for one in models]
        numbers = [np.array([seed.number("AP") for seed in one]) for one in models]
        each = [np.array([seed.contributions("AP") for seed in one]) for one in models]
        seed_variances = [jackknife.of_seeds(*model) for model in zip(numbers, each, strict=True)]
        freedom = means[0].videos_with_truth() - 1

        def error(contributions: Floats, more: list[VarianceComponent]) -> tuple[float, float]:
            return jackknife.combine_variances(
                VarianceComponent(jackknife.standard_error(contributions) ** 2, freedom), more
            )

        before, after = (one.contributions("AP") for one in means)
        values = [one.number("AP") for one in means]
        return (
            _found(values[0], *error(before, seed_variances[:1])),
            _found(values[1] - values[0], *error(after - before, seed_variances)),
        )

    return estimate


def measure_seeds(world: World, videos: int, seeds: int, spread: float, trials: int, seed: int = 0) -> dict[str, float]:
    """Return the rates over ``trials`` samples of ``videos`` videos and of ``seeds`` seeds of each model."""
    rng, estimate = np.random.default_rng(seed), of_seeds(seeds, spread)
    return _rates([estimate(world, rng, videos) for _ in range(trials)])


def category_alarms(world: World, videos: int, trials: int, seed: int = 0) -> float:
    """Return the fraction of tests of single categories that are significant."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(trials):
        sample = world.sample(rng, videos)
        first, second = (jackknife.leave_videos_out(sample.table(run)) for run in (0, 1))
        for row in np.flatnonzero(first.truths >= jackknife.FEWEST_VIDEOS).tolist():
            error = jackknife.standard_error(second.of_category("AP", row) - first.of_category("AP", row))
            its_videos = int(first.truths[row])
            p = jackknife.t_test(float(second.full[0, row] - first.full[0, row]), error, its_videos - 1, its_videos)
            found.append(p is not None and p < 0.05)
    return float(np.mean(found))


def main() -> None:
    compare = "--compare" in sys.argv
    if "--seeds" in sys.argv:
        return _print_seeds()
    names = list(ESTIMATORS) if compare else ["chosen"]
    for case in CASES:
        for preference in PREFERENCES:
            world = World(**{**vars(case.world), **preference})
            for name in names:
                rates = measure(world, case.videos, COMPARED_TRIALS if compare else TRIALS, ESTIMATORS[name])
                if not compare:
                    rates["category significant"] = category_alarms(world, case.videos, 30)
                text = ", ".join(f"{key} {rate:.3f}" for key, rate in rates.items())
                print(f"{case.name}, {preference or 'neither better'}, {name}: {text}", flush=True)


def _print_seeds() -> None:
    for case in (CASES[0], CASES[2], CASES[5]):
        trials = TRIALS if case.videos < 100 else COMPARED_TRIALS // 3
        for spread in SPREADS:
            for seeds in SEEDS:
                rates = measure_seeds(case.world, case.videos, seeds, spread, trials)
                text = ", ".join(f"{key} {rate:.3f}" for key, rate in rates.items())
                print(f"{case.name}, neither better, {seeds} seeds, luck {spread}: {text}", flush=True)


if __name__ == "__main__":
    main()
