"""Compares runs: paired jackknife over videos, per metric, group and category, and the causes of a difference.

``docs/comparison.md`` defines every number. Values are fractions; ``None`` if undefined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from harness.arrays import Floats
from harness.comparability import comparability_of
from harness.errors import NamedValues, UserError
from harness.paths import Location
from harness.reports.matches import matches_of_run
from harness.reports.run_files import groups_of_seeds, label_runs
from harness.reports.table_rows import fraction_of, refuse_unknown_metrics
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.layout import SCORES
from harness.run_folder.records import found_nothing, values_agree
from harness.scoring import jackknife
from harness.scoring.contributions import CONTRIBUTIONS_FILE, VideoContributions, read_contributions
from harness.scoring.jackknife import FEWEST_VIDEOS, JACKKNIFE_METRICS, LEVEL, LeftOut, VarianceComponent
from harness.scoring.match_table import MATCHES_FILE, MatchTable, read_table
from harness.scoring.metrics import GROUP_NAMES
from harness.scoring.presence import LOWER_IS_BETTER, PRESENCE, RATES, THRESHOLD, is_lower_better, rates_of

T = TypeVar("T")

GAP = "APb-APn"
"""AP over base categories minus AP over novel categories."""


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval, which contains it, and its standard error: the sampling error of the videos.

    Without interval where fewer than `jackknife.FEWEST_VIDEOS` videos have truth for the metric. Of several seeds it is
    their mean; ``between_seeds`` is the standard deviation between them, and the interval includes both
    components.
    """

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    between_seeds: float | None = None


@dataclass(frozen=True)
class MeasuredRun:
    """One run by itself. ``metrics`` has the keys of ``metrics.json`` that are over all areas and 100 tracks:
    ``AP``, ``AP50``, ``AP75``, ``AR100``, each also with the suffix of a group (``APb``, ``AP50n``); and
    `GAP` where there are base and novel categories; and where the data says which words are absent from which videos,
    ``presence@0.5/IL_MCC`` and ``presence@0.5/IL_FPR``; and the further metrics that were asked for.

    ``label`` is unique in a comparison, and ends in a dagger where ``comparable`` (with published numbers) is false;
    ``not_comparable`` says why. ``folder`` is the run's, of several ``seeds`` that of the first. A run that
    ``found_nothing`` has no official numbers and is compared as 0.
    """

    label: str
    folder: str
    model: str
    metrics: dict[str, Interval]
    found_nothing: bool = False
    comparable: bool | None = None
    not_comparable: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Difference:
    """A run minus the reference, with 95 % interval, which contains it, and two-sided p-value in ``(0, 1]``.

    Of a rate that is better when it is lower it is the reference minus the run: what is better is positive.

    ``detectable`` is the smallest true difference that would be significant (p < 0.05) with a power of 80 % on such
    videos. ``videos`` is the number of videos with truth for the metric; with fewer than `jackknife.FEWEST_VIDEOS`
    there is no interval and no test. ``adjusted_p`` is ``p_value`` after Holm's correction: of AP over the pairs of
    runs, of the other metrics over the pairs and those metrics; ``None`` for a category, which has its ``q_value``.
    """

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    p_value: float | None
    detectable: float | None
    videos: int
    adjusted_p: float | None = None

    @property
    def is_significant(self) -> bool:
        """Whether the corrected p-value is below 0.05; the interval then excludes 0."""
        p = self.p_value if self.adjusted_p is None else self.adjusted_p
        return p is not None and p < 1 - LEVEL


@dataclass(frozen=True)
class CategoryDifference:
    """One category with truth: its AP in both runs and their difference.

    ``videos`` have its truth; with fewer than `jackknife.FEWEST_VIDEOS` there is no interval and no test. ``q_value``
    is the p-value corrected for the number of categories that are tested (Benjamini and Hochberg). ``share`` is what
    the category adds to the difference of AP over all categories: they add up to it.
    """

    id: int
    name: str
    groups: tuple[str, ...]
    videos: int
    reference: float
    run: float
    difference: Difference
    q_value: float | None
    share: float


@dataclass(frozen=True)
class VideoInfluence:
    """The decrease of the difference of AP if the video is left out: positive if the video favours the run."""

    video_id: int
    influence: float | None


@dataclass(frozen=True)
class Contrast:
    """One run minus another by metric; ``reference`` and ``run`` are labels.

    ``is_identical`` says that both have the same tracks with the same scores, hits and misses; of several seeds, in
    each of them.
    """

    reference: str
    run: str
    metrics: dict[str, Difference]
    is_identical: bool


@dataclass(frozen=True)
class Pair(Contrast):
    """A run against the first, with the causes of the difference.

    ``categories`` are sorted by descending size of their share, ``videos`` by descending size of their influence.
    """

    categories: tuple[CategoryDifference, ...]
    videos: tuple[VideoInfluence, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs on the same videos by the same protocol: each alone, each of the others against the first, and every pair.

    ``contrasts`` has every pair of runs once, the later run minus the earlier one; ``pairs`` are those with the first.
    ``further`` are the metrics of other protocols that were asked for, with why they have no interval where that is so.
    ``top`` is the pair of the two runs of highest AP, the higher minus the lower (of equals the earlier minus the
    later); ``None`` for a single run, and where no two runs have an AP.
    """

    dataset: str
    split: str
    protocol: str
    protocol_version: str
    annotations: str
    videos: int
    runs: tuple[MeasuredRun, ...]
    pairs: tuple[Pair, ...]
    contrasts: tuple[Contrast, ...]
    top: Pair | None = None
    further: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs_by_label(self) -> dict[str, MeasuredRun]:
        """The runs by their labels."""
        return {run.label: run for run in self.runs}

    def between(self, reference: str, run: str) -> Difference:
        """The difference of AP of two runs by label, whichever of them is the earlier."""
        for one in self.contrasts:
            if (one.reference, one.run) == (reference, run):
                return one.metrics["AP"]
        return turned(self.between(run, reference))

    def ranks(self) -> dict[str, tuple[int, int]]:
        """The best and the worst place by AP that each run may have, by label.

        Places that no significant difference of AP excludes: all are right together in 95 % of datasets.
        """
        wins, losses = Counter[str](), Counter[str]()
        for one in self.contrasts:
            ap = one.metrics["AP"]
            if ap.is_significant and ap.value is not None:
                wins[one.run if ap.value > 0 else one.reference] += 1
                losses[one.reference if ap.value > 0 else one.run] += 1
        return {run.label: (1 + losses[run.label], len(self.runs) - wins[run.label]) for run in self.runs}

    @property
    def difference(self) -> dict[str, Difference]:
        """The second run minus the first, by metric; raises `UserError` unless there are exactly two runs."""
        if len(self.pairs) != 1:
            raise UserError("difference", f"needs two runs, not {len(self.runs)}", "use an item of pairs")
        return NamedValues(self.pairs[0].metrics, {}, "metric", "this comparison")

    def __repr__(self) -> str:
        runs = ", ".join(run.label for run in self.runs)
        return f"Comparison({runs} on {self.dataset} {self.split}, {self.videos} videos)"

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON."""
        return {**asdict(self), "ranks": {label: list(rank) for label, rank in self.ranks().items()}}


@dataclass(frozen=True)
class _Sample:
    """A run's numbers by metric (nan: undefined), and what each video contributes to their error ``(videos,)``.

    ``videos`` counts by metric those with truth. ``without`` is AP without each video. Of several seeds everything is
    the mean; ``tables`` has one for each, ``by_seed`` has their numbers by metric ``(seeds,)``, and
    ``seed_contributions`` what each video adds to them ``(seeds, videos)``.
    """

    tables: Sequence[MatchTable]
    left_out: LeftOut
    values: dict[str, float]
    contributions: dict[str, Floats]
    videos: dict[str, int]
    without: Floats
    by_seed: dict[str, Floats]
    seed_contributions: dict[str, Floats]

    def add(self, more: Mapping[str, _Metric]) -> None:
        """Add further metrics."""
        for key, one in more.items():
            self.values[key] = float(one.by_seed.mean())
            self.by_seed[key], self.seed_contributions[key] = one.by_seed, one.contributions
            self.contributions[key], self.videos[key] = one.contributions.mean(0), one.videos

    def seed_variances(self, key: str) -> list[VarianceComponent]:
        """The variance between seeds of a metric, if there are several."""
        values = self.by_seed[key]
        return [jackknife.of_seeds(values, self.seed_contributions[key])] if len(values) > 1 else []


@dataclass(frozen=True)
class _Metric:
    """A further metric of a run by its seeds ``(seeds,)``; each video's ``contributions (seeds, videos)`` are 0, and
    the number of ``videos`` with truth too, where they are not known."""

    by_seed: Floats
    contributions: Floats
    videos: int


@dataclass(frozen=True)
class Further:
    """Further metrics of rows of runs by name, and why those without intervals have none; else an empty text."""

    samples: Sequence[Mapping[str, _Metric]]
    reasons: Mapping[str, str]


def compare_runs(
    runs: Sequence[FinishedRun],
    data_root: Path = Path("data"),
    annotations: Path | None = None,
    join_seeds: bool = False,
    metrics: Sequence[str] = (),
) -> Comparison:
    """Compare runs: every run against every other; a single run gets its intervals only.

    With ``join_seeds`` runs that differ in nothing but their seed are one: see `groups_of_seeds`. ``metrics`` are
    further ones, as ``PROTOCOL/METRIC``. They have intervals where the folders have match tables of that protocol.

    The match tables are read from the folders. A missing one is recomputed from the predictions and the dataset below
    ``data_root`` (or the file ``annotations``, for the user's own data). Raises `UserError` for folders that are not
    finished, complete runs, and for runs that were not scored on the same videos and annotations by the same version of
    the same protocol.
    """
    tables = [matches_of_run(run, data_root, annotations) for run in runs]
    for run, table in zip(runs[1:], tables[1:], strict=True):
        _refuse_others(runs[0], tables[0], run, table)
    refuse_unknown_metrics([run.record for run in runs], metrics, "metrics")
    if not join_seeds:
        return compare_tables(runs, [[table] for table in tables], further=_further([[run] for run in runs], metrics))
    table_of = {str(run.folder): table for run, table in zip(runs, tables, strict=True)}
    groups = groups_of_seeds(runs)
    firsts = label_runs([group[0] for group in groups])
    for run, group in zip(firsts, groups, strict=True):
        if len(group) > 1:
            run.labelled(f"{run.label} ({len(group)} seeds)")
    seeds = [tuple(int(run.record["seed"]) for run in group) if len(group) > 1 else () for group in groups]
    joined = [[table_of[str(run.folder)] for run in group] for group in groups]
    return compare_tables(firsts, joined, seeds, _further(groups, metrics))


def compare_tables(
    runs: Sequence[FinishedRun],
    tables: Sequence[Sequence[MatchTable]],
    seeds: Sequence[tuple[int, ...]] = (),
    further: Further | None = None,
) -> Comparison:
    """Compare runs by their match tables, which are over the same videos; a run has one for each of its ``seeds``.

    ``further`` metrics are compared too.
    """
    samples = [_sample(several) for several in tables]
    for sample, more in zip(samples, further.samples if further else (), strict=False):
        sample.add(more)
    contrasts = _with_correction([_contrast(*two) for two in combinations(zip(runs, samples, strict=True), 2)])
    first, table = runs[0].record, tables[0][0]
    return Comparison(
        first["dataset"],
        first["split"],
        table.protocol,
        table.version,
        table.annotations,
        len(table.video_ids),
        tuple(
            replace(_measured(run, sample), seeds=own)
            for run, sample, own in zip(runs, samples, seeds or [()] * len(runs), strict=True)
        ),
        tuple(_pair(one, samples[0], run) for one, run in zip(contrasts[: len(runs) - 1], samples[1:], strict=True)),
        tuple(contrasts),
        _top(contrasts, runs, samples),
        further.reasons if further else {},
    )


def _top(contrasts: Sequence[Contrast], runs: Sequence[FinishedRun], samples: Sequence[_Sample]) -> Pair | None:
    ranked = sorted(
        (n for n in range(len(runs)) if not np.isnan(samples[n].values["AP"])), key=lambda n: -samples[n].values["AP"]
    )
    if len(ranked) < 2:
        return None
    best, second = ranked[:2]
    labels = {runs[best].label, runs[second].label}
    contrast = next(one for one in contrasts if {one.reference, one.run} == labels)
    if contrast.run != runs[best].label:
        metrics = {key: turned(found) for key, found in contrast.metrics.items()}
        contrast = replace(contrast, reference=contrast.run, run=contrast.reference, metrics=metrics)
    return _pair(contrast, samples[second], samples[best])


def turned(difference: Difference) -> Difference:
    """The same difference with its sign reversed."""
    value, low, high = (
        None if one is None else 0.0 - one for one in (difference.value, difference.high, difference.low)
    )
    return replace(difference, value=value, low=low, high=high)


def _refuse_others(first: FinishedRun, expected: MatchTable, run: FinishedRun, table: MatchTable) -> None:
    """Raise `UserError` if a run cannot be compared with the first."""
    kinds = (
        ("annotations", table.annotations[:12], expected.annotations[:12]),
        ("protocol", f"{table.protocol} {table.version}", f"{expected.protocol} {expected.version}"),
        ("number of videos", len(table.video_ids), len(expected.video_ids)),
        ("videos", table.video_ids.tolist(), expected.video_ids.tolist()),
    )
    for name, mine, other in kinds:
        if mine != other:
            values = "" if name == "videos" else f" ({mine}, not {other})"
            what = f"cannot be compared with {first.id}: another {name}{values}"
            hint = "compare runs of the same dataset, split and limit, scored by the same version of the harness"
            raise UserError(str(run.folder), what, hint)


def _sample(tables: Sequence[MatchTable]) -> _Sample:
    several, first = [jackknife.leave_videos_out(table) for table in tables], tables[0]
    left_out = jackknife.mean_of(several)
    values, contributions, videos, by_seed, each = {}, {}, {}, {}, {}
    for suffix, rows in {"": None, **first.groups}.items():
        for metric in JACKKNIFE_METRICS:
            key = metric + suffix
            values[key] = left_out.number(metric, rows)
            contributions[key] = left_out.contributions(metric, rows)
            videos[key] = left_out.videos_with_truth(rows)
            by_seed[key] = np.array([one.number(metric, rows) for one in several])
            each[key] = np.array([one.contributions(metric, rows) for one in several])
    if {"b", "n"} <= first.groups.keys():
        values[GAP] = values["APb"] - values["APn"]
        contributions[GAP] = contributions["APb"] - contributions["APn"]
        videos[GAP] = min(videos["APb"], videos["APn"])
        by_seed[GAP] = by_seed["APb"] - by_seed["APn"]
        each[GAP] = each["APb"] - each["APn"]
    counts = [table.presence for table in tables if table.presence is not None]
    for place, rate in enumerate(RATES if len(counts) == len(tables) else ()):
        key = f"{PRESENCE}@{THRESHOLD}/{rate}"
        videos[key] = int(counts[0].any(1).sum()) if rate != LOWER_IS_BETTER else int(counts[0][:, 1:3].any(1).sum())
        by_seed[key] = np.array([rates_of(one.sum(0))[place] for one in counts])
        without = np.array([rates_of(one.sum(0) - one)[:, place] for one in counts])
        each[key] = (by_seed[key][:, None] - without) * np.sqrt(max(videos[key] - 1, 0) / max(videos[key], 1))
        values[key], contributions[key] = float(by_seed[key].mean()), each[key].mean(0)
    return _Sample(tables, left_out, values, contributions, videos, left_out.without("AP"), by_seed, each)


def _further(groups: Sequence[Sequence[FinishedRun]], metrics: Sequence[str]) -> Further:
    """The ``metrics`` of rows of runs that are not those of the runs' own match tables.

    Raises `UserError` where runs were scored by other versions or settings of a metric's protocol, or a run lacks it.
    """
    runs = [run for group in groups for run in group]
    own = f"{runs[0].record['protocol']['name']}/"
    samples: list[dict[str, _Metric]] = [{} for _ in groups]
    reasons: dict[str, str] = {}
    stored: dict[tuple[Location, str], _Stored] = {}
    for key in dict.fromkeys(metrics):
        name = key.removeprefix(own)
        if _in_match_table(name) or name == GAP or name.startswith(f"{PRESENCE}@{THRESHOLD}/"):
            continue
        values = [[fraction_of(run.record, key) for run in group] for group in groups]
        _refuse_other_scores(runs, key)
        protocol = key.partition("/")[0].partition("@")[0]
        for run in runs:
            if (run.folder, protocol) not in stored:
                stored[run.folder, protocol] = _stored(run, protocol)
        known = [[_known(stored[run.folder, protocol], key, value) for run, value in zip(*each, strict=True)]
                 for each in zip(groups, values, strict=True)]  # fmt: skip
        lengths = {None if one is None else len(one.contributions) for row in known for one in row}
        is_known = len(lengths) == 1 and None not in lengths
        reasons[key] = "" if is_known else "run folders do not hold what each video adds to it"
        for sample, row, several in zip(samples, values, known, strict=True):
            numbers = np.array([np.nan if value is None else value for value in row])
            found = [one for one in several if one is not None] if is_known else []
            added = np.array([one.contributions for one in found]) if found else np.zeros((len(numbers), 1))
            sample[key] = _Metric(numbers, added, found[0].videos if found else 0)
    return Further(samples, reasons)


def _in_match_table(name: str) -> bool:
    """Whether a metric of a run's own protocol is compared anyway."""
    return name in {metric + suffix for metric in JACKKNIFE_METRICS for suffix in ("", *GROUP_NAMES)}


class _Known(NamedTuple):
    """What each video contributes to a metric ``(videos,)``, and the number of ``videos`` with truth."""

    contributions: Floats
    videos: int


def _name_in_table(key: str) -> str:
    """The name of ``lvvis-fixed/ARb`` in a match table: Fixed AP has no cap per video, its AR is called AR100 there."""
    metric = key.rpartition("/")[2]
    return f"AR100{metric[2:]}" if metric[:2] == "AR" and metric[2:] in ("", *GROUP_NAMES) else metric


class _Stored(NamedTuple):
    """What a run's folder holds of a protocol on the run's annotations: its match table's numbers, contributions."""

    sample: _Sample | None
    contributions: VideoContributions | None


def _stored(run: FinishedRun, protocol: str) -> _Stored:
    """Read the files of one protocol; those that are absent, damaged or of other annotations are ``None``."""
    is_own = run.record["protocol"] is not None and run.record["protocol"]["name"] == protocol
    folder = run.folder if is_own else run.folder / SCORES / protocol
    sample = contributions = None
    with suppress(UserError):
        table = read_table(folder / MATCHES_FILE)
        sample = _sample([table]) if table.annotations == run.content.digest else None
    with suppress(UserError):
        found = read_contributions(folder / CONTRIBUTIONS_FILE)
        contributions = found if found.annotations == run.content.digest else None
    return _Stored(sample, contributions)


def _known(stored: _Stored, key: str, value: float | None) -> _Known | None:
    """What each video contributes to a metric ``PROTOCOL/METRIC`` of this ``value``; ``None`` if it is not known."""
    name, sample, found = _name_in_table(key), stored.sample, stored.contributions
    if sample is not None and _in_match_table(name) and values_agree(value, _number(sample.values.get(name, np.nan))):
        return _Known(sample.contributions[name], sample.videos[name])
    metric = key.partition("/")[2]
    if found is not None and metric in found.names:
        place = found.names.index(metric)
        if values_agree(value, _number(found.values[place])):
            return _Known(found.contributions[place], int(found.with_truth[place]))
    return None


def _refuse_other_scores(runs: Sequence[FinishedRun], key: str) -> None:
    """Raise `UserError` if a run was not scored as the first one for a metric ``PROTOCOL/METRIC``."""
    protocol = key.partition("/")[0].partition("@")[0]
    if "/" not in key or protocol == PRESENCE:
        return
    scored = [
        next((one["protocol"] for one in run.record["protocols"] if one["protocol"]["name"] == protocol), None)
        for run in runs
    ]
    for run, one in zip(runs, scored, strict=True):
        if one is None or one != scored[0]:
            what = f"was not scored by {protocol}" if one is None else f"was scored by other settings of {protocol}"
            hint = "repeat `harness run` for all, with this protocol and the same settings"
            raise UserError(str(run.folder), f"{what}, so {key} cannot be compared", hint)


def _measured(run: FinishedRun, sample: _Sample) -> MeasuredRun:
    metrics = {}
    for key, value in sample.values.items():
        error, freedom = _error(sample.contributions[key], sample.videos[key], sample.seed_variances(key))
        found = jackknife.estimate(value, error, freedom, lowest=-1.0 if _is_signed(key) else 0.0)
        spread = _number(sample.by_seed[key].std(ddof=1)) if len(sample.by_seed[key]) > 1 else None
        metrics[key] = Interval(_number(value), *found, spread)
    judged = comparability_of(run.record)
    return MeasuredRun(run.label, str(run.folder), run.record["model"], metrics, found_nothing(run.record), *judged)


def _error(contributions: Floats, videos: int, seeds: Sequence[VarianceComponent] = ()) -> tuple[float | None, float]:
    """Standard error and degrees of freedom of a metric for which so many videos have truth; ``None`` for too few.

    ``seeds`` are the further components of the variance.
    """
    if videos < FEWEST_VIDEOS:
        return None, videos - 1
    of_videos = VarianceComponent(jackknife.standard_error(contributions) ** 2, videos - 1)
    return jackknife.combine_variances(of_videos, seeds)


def _difference(
    value: float, contributions: Floats, videos: int, bound: float = 1.0, seeds: Sequence[VarianceComponent] = ()
) -> Difference:
    """A paired difference with what each video contributes to it."""
    apart = float(jackknife.without_rounding(np.array(value)))
    error, freedom = _error(contributions, videos, seeds)
    return Difference(
        _number(apart),
        *jackknife.estimate(apart, error, freedom, -bound, bound),
        jackknife.t_test(apart, error, freedom, videos),
        jackknife.detectable(error),
        videos,
    )


def _contrast(first: tuple[FinishedRun, _Sample], second: tuple[FinishedRun, _Sample]) -> Contrast:
    (reference, before), (run, after) = first, second
    metrics = {}
    for key in (key for key in after.videos if key in before.videos):
        sign = -1 if is_lower_better(key) else 1
        metrics[key] = _difference(
            sign * (after.values[key] - before.values[key]),
            sign * (after.contributions[key] - before.contributions[key]),
            after.videos[key],
            2.0 if _is_signed(key) else 1.0,
            before.seed_variances(key) + after.seed_variances(key),
        )
    same = len(before.tables) == len(after.tables) and all(
        mine.same_tracks(other) for mine, other in zip(before.tables, after.tables, strict=True)
    )
    return Contrast(reference.label, run.label, metrics, same)


def _is_signed(key: str) -> bool:
    """Whether a metric may be as low as -1: a gap, IL_MCC, and cgF1, which is multiplied by it."""
    return key == GAP or key.rpartition("/")[2].startswith((RATES[0], "cgF1"))


def corrected(p_values: Mapping[tuple[T, str], float | None]) -> dict[tuple[T, str], float | None]:
    """p-values by (pair, metric) after Holm's correction: AP, the first question, by itself, and all other metrics."""
    first = {place: p for place, p in p_values.items() if place[1] == "AP"}
    others = {place: p for place, p in p_values.items() if place[1] != "AP"}
    return {
        place: p
        for family in (first, others)
        for place, p in zip(family, jackknife.holm(list(family.values())), strict=True)
    }


def _with_correction(contrasts: Sequence[Contrast]) -> list[Contrast]:
    p_values = {(number, key): one.p_value for number, two in enumerate(contrasts) for key, one in two.metrics.items()}
    adjusted = corrected(p_values)
    return [
        replace(one, metrics={k: replace(d, adjusted_p=adjusted[number, k]) for k, d in one.metrics.items()})
        for number, one in enumerate(contrasts)
    ]


def _pair(contrast: Contrast, reference: _Sample, run: _Sample) -> Pair:
    before = run.values["AP"] - reference.values["AP"]
    influence = jackknife.without_rounding(before - (run.without - reference.without))
    influences = [VideoInfluence(int(i), _number(v)) for i, v in zip(run.tables[0].video_ids, influence, strict=True)]
    return Pair(
        contrast.reference,
        contrast.run,
        contrast.metrics,
        contrast.is_identical,
        tuple(sorted(_categories(reference, run), key=lambda one: -abs(one.share))),
        tuple(sorted(influences, key=lambda one: -abs(one.influence or 0))),
    )


def _categories(reference: _Sample, run: _Sample) -> list[CategoryDifference]:
    """The categories with truth, in the order of the annotations."""
    table, ap = run.tables[0], JACKKNIFE_METRICS.index("AP")
    rows = np.flatnonzero(run.left_out.defined)
    groups: dict[int, list[str]] = {}
    for suffix, members in table.groups.items():
        for row in members.tolist():
            groups.setdefault(row, []).append(GROUP_NAMES[suffix])
    made = []
    for row in rows.tolist():
        before, after = reference.left_out.full[ap, row], run.left_out.full[ap, row]
        contributions = run.left_out.of_category("AP", row) - reference.left_out.of_category("AP", row)
        made.append((row, before, after, _difference(after - before, contributions, int(run.left_out.truths[row]))))
    q_values = jackknife.correct_for_many([difference.p_value for *_, difference in made])
    return [
        CategoryDifference(
            int(table.category_ids[row]),
            table.category_names[row],
            tuple(groups.get(row, ())),
            difference.videos,
            float(before),
            float(after),
            difference,
            q,
            (difference.value or 0.0) / len(rows),
        )
        for (row, before, after, difference), q in zip(made, q_values, strict=True)
    ]


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
