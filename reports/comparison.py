"""Compares runs: paired bootstrap over videos, per metric, group and category, and the causes of a difference.

``docs/comparison.md`` defines every number. Values are fractions; ``None`` if undefined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.comparability import comparability_of
from harness.errors import UserError
from harness.reports.matches import matches_of_run
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.records import found_nothing
from harness.scoring import bootstrap
from harness.scoring.bootstrap import BOOTSTRAP_METRICS, LEVEL, Replicates
from harness.scoring.match_table import MatchTable
from harness.scoring.metrics import GROUP_NAMES
from harness.scoring.overlap import Floats

GAP = "APb-APn"
"""AP over base categories minus AP over novel categories."""


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval and standard error from the bootstrap.

    The bounds are percentiles of the replicates, shifted so that their mean is the value.
    """

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None


@dataclass(frozen=True)
class Measured:
    """One run by itself. ``metrics`` has the keys of ``metrics.json`` that rest on all areas and 100 tracks:
    ``AP``, ``AP50``, ``AP75``, ``AR100``, each also with the suffix of a group (``APb``, ``AP50n``); and
    `GAP` where there are base and novel categories.

    ``label`` is unique in a comparison, and ends in a dagger where ``comparable`` (with published numbers) is false;
    ``not_comparable`` says why. ``folder`` is the run's. A run that ``found_nothing`` has no official numbers and is
    compared as 0.
    """

    label: str
    folder: str
    model: str
    metrics: dict[str, Interval]
    found_nothing: bool = False
    comparable: bool | None = None
    not_comparable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """A run minus the reference: value with 95 % percentile interval and two-sided p-value in ``(0, 1]``.

    ``detectable`` is the smallest true difference that would be significant (p < 0.05) with a power of 80 % on such
    videos. ``videos`` is the number of videos with truth for the metric; ``smallest_p`` is the smallest possible
    p-value with this number of videos and resamples.
    """

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    p_value: float | None
    detectable: float | None
    videos: int
    smallest_p: float | None

    @property
    def is_significant(self) -> bool:
        """Whether the p-value is below 0.05."""
        return self.p_value is not None and self.p_value < 1 - LEVEL


@dataclass(frozen=True)
class CategoryDifference:
    """One category with truth: its AP in both runs and their difference.

    ``videos`` hold its truth; with fewer than `bootstrap.FEWEST_VIDEOS` there is no interval and no test. ``q_value``
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
class Pair:
    """A run against the reference; ``reference`` and ``run`` are labels.

    ``categories`` are sorted by descending size of their share, ``videos`` by descending size of their influence.
    """

    reference: str
    run: str
    metrics: dict[str, Difference]
    categories: tuple[CategoryDifference, ...]
    videos: tuple[VideoInfluence, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs on the same videos by the same protocol: each alone, and each of the others against the first."""

    dataset: str
    split: str
    protocol: str
    protocol_version: str
    annotations: str
    videos: int
    resamples: int
    seed: int
    runs: tuple[Measured, ...]
    pairs: tuple[Pair, ...]

    @property
    def difference(self) -> dict[str, Difference]:
        """The second run minus the first, by metric; raises `UserError` unless there are exactly two runs."""
        if len(self.pairs) != 1:
            raise UserError("difference", f"is of two runs, and these are {len(self.runs)}", "take one of pairs")
        return self.pairs[0].metrics

    def __repr__(self) -> str:
        runs = ", ".join(run.label for run in self.runs)
        return f"Comparison({runs} on {self.dataset} {self.split}, {self.videos} videos)"

    def record(self) -> dict[str, Any]:
        """As data, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Sample:
    """Metrics of a run for every weighting of videos: all videos, each left out, and the resamples, on the first axis.

    ``series`` has values by metric, ``(weightings,)``; ``ap`` and ``defined`` are ``(weightings, categories)``.
    """

    table: MatchTable
    series: dict[str, Floats]
    ap: Floats
    defined: bootstrap.Flags

    def resampled(self, values: Floats) -> Floats:
        return values[1 + len(self.table.video_ids) :]

    def left_out(self, values: Floats) -> Floats:
        return values[1 : 1 + len(self.table.video_ids)]


def compare_runs(
    runs: Sequence[FinishedRun],
    resamples: int = 1000,
    seed: int = 0,
    data_root: Path = Path("data"),
    annotations: Path | None = None,
) -> Comparison:
    """Compare runs: every run against the first; a single run gets its intervals only.

    The match tables are read from the folders. A missing one is recomputed from the predictions and the dataset below
    ``data_root`` (or the file ``annotations``, for the user's own data). Raises `UserError` for folders that are not
    finished, complete runs, and for runs that were not scored on the same videos and annotations by the same version of
    the same protocol.
    """
    tables = [matches_of_run(run, data_root, annotations) for run in runs]
    for run, table in zip(runs[1:], tables[1:], strict=True):
        _refuse_others(runs[0], tables[0], run, table)
    videos = len(tables[0].video_ids)
    weights = np.concatenate(
        [
            np.ones((1, videos), np.int32),
            bootstrap.leave_one_out(videos),
            bootstrap.draw(videos, resamples, seed),
        ]
    )
    samples = [_sample(table, bootstrap.replicate(table, weights)) for table in tables]
    first = runs[0].record
    return Comparison(
        first["dataset"],
        first["split"],
        tables[0].protocol,
        tables[0].version,
        tables[0].annotations,
        videos,
        resamples,
        seed,
        tuple(_measured(run, sample) for run, sample in zip(runs, samples, strict=True)),
        tuple(_pair(runs[0], samples[0], run, sample) for run, sample in zip(runs[1:], samples[1:], strict=True)),
    )


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
            told = "" if name == "videos" else f" ({mine}, not {other})"
            what = f"cannot be compared with {first.id}: another {name}{told}"
            hint = "compare runs of the same dataset, split and --limit, scored by the same version of the harness"
            raise UserError(str(run.folder), what, hint)


def _sample(table: MatchTable, replicates: Replicates) -> _Sample:
    series = {
        metric + suffix: replicates.mean(metric, rows)
        for suffix, rows in {"": None, **table.groups}.items()
        for metric in BOOTSTRAP_METRICS
    }
    if {"b", "n"} <= table.groups.keys():
        series[GAP] = series["APb"] - series["APn"]
    return _Sample(table, series, replicates.values[BOOTSTRAP_METRICS.index("AP")].copy(), replicates.defined)


def _measured(run: FinishedRun, sample: _Sample) -> Measured:
    metrics = {
        key: _interval(_number(values[0]), sample.resampled(values), -1.0 if key == GAP else 0.0)
        for key, values in sample.series.items()
    }
    judged = comparability_of(run.record)
    return Measured(run.label, str(run.folder), run.record["model"], metrics, found_nothing(run.record), *judged)


def _interval(value: float | None, resampled: Floats, lowest: float) -> Interval:
    return Interval(value, *(bootstrap.NOTHING if value is None else bootstrap.centred(value, resampled, lowest)))


def _pair(first: FinishedRun, reference: _Sample, other: FinishedRun, run: _Sample) -> Pair:
    table = run.table
    videos = {
        metric + suffix: _videos_with_truth(table, rows)
        for suffix, rows in {"": None, **table.groups}.items()
        for metric in BOOTSTRAP_METRICS
    }
    if GAP in run.series:
        videos[GAP] = min(videos["APb"], videos["APn"])
    metrics = {}
    for key, count in videos.items():
        values = bootstrap.without_rounding(run.series[key] - reference.series[key])
        resampled = run.resampled(values)
        estimate = bootstrap.estimate(resampled)
        metrics[key] = Difference(
            _number(values[0]),
            *estimate,
            bootstrap.p_value(resampled, count),
            bootstrap.detectable(estimate.standard_error),
            count,
            bootstrap.smallest_p(count, int((~np.isnan(resampled)).sum())),
        )
    ap = bootstrap.without_rounding(run.series["AP"] - reference.series["AP"])
    influence = bootstrap.without_rounding(ap[0] - run.left_out(ap))
    influences = [VideoInfluence(int(i), _number(v)) for i, v in zip(table.video_ids, influence, strict=True)]
    return Pair(
        first.label,
        other.label,
        metrics,
        tuple(sorted(_categories(reference, run), key=lambda one: -abs(one.share))),
        tuple(sorted(influences, key=lambda one: -abs(one.influence or 0))),
    )


def _categories(reference: _Sample, run: _Sample) -> list[CategoryDifference]:
    """The categories with truth, in the order of the annotations."""
    table = run.table
    videos = np.diff(table.matches.pair_first)
    rows = np.flatnonzero(run.defined[0])
    groups: dict[int, list[str]] = {}
    for suffix, members in table.groups.items():
        for row in members.tolist():
            groups.setdefault(row, []).append(GROUP_NAMES[suffix])
    made = []
    for row in rows.tolist():
        before, after = reference.ap[:, row], run.ap[:, row]
        apart = bootstrap.without_rounding(after - before)
        value, count = float(apart[0]), int(videos[row])
        estimate = bootstrap.NOTHING
        if count >= bootstrap.FEWEST_VIDEOS:
            drawn = slice(1 + len(table.video_ids), None)
            resampled = apart[drawn][run.defined[drawn, row]]
            estimate = bootstrap.estimate(resampled)
        p = bootstrap.t_test(value, estimate.standard_error, count)
        lowest = None if p is None else 2.0 ** (1 - count)
        difference = Difference(value, *estimate, p, bootstrap.detectable(estimate.standard_error), count, lowest)
        made.append((row, before[0], after[0], difference))
    corrected = bootstrap.correct_for_many([difference.p_value for *_, difference in made])
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
        for (row, before, after, difference), q in zip(made, corrected, strict=True)
    ]


def _videos_with_truth(table: MatchTable, rows: Any) -> int:
    """How many videos have a positive of the categories ``rows`` (all: ``None``)."""
    matches = table.matches
    owner = np.repeat(np.arange(len(table.category_ids)), np.diff(matches.pair_first))
    chosen = matches.pair_video if rows is None else matches.pair_video[np.isin(owner, rows)]
    return len(np.unique(chosen))


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
