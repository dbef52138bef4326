"""``harness report``: runs on the same data in one self-contained HTML file.

The page shows a summary first, then tables, charts, videos and provenance, from the run folders and their predictions.
The same run folders, data and versions give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness import __version__
from harness.errors import UnreadableFileError, UserError
from harness.formats.youtube_vis import AnnotationRecord
from harness.paths import Location
from harness.reports import sections
from harness.reports.ceilings import ceilings_of_run
from harness.reports.comparison import Comparison, Pair, compare_runs
from harness.reports.curves import Curve, curves, video_quality
from harness.reports.evidence import (
    Examined,
    evidence,
    scored_tracks,
    videos_of_bins,
    videos_of_kinds,
    videos_of_members,
)
from harness.reports.matches import matches_of_run
from harness.reports.pages import assets, embedded, policy, render_page, without_folders
from harness.reports.run_analysis import protocol_to_analyse
from harness.reports.run_data import dataset_of_run
from harness.reports.run_files import read_runs
from harness.reports.styles import dagger_notes
from harness.reports.summary import Summary, p_value, summary
from harness.reports.table_rows import PRESENCE_COLUMNS, main_columns, presence_notes, refuse_unknown_metrics
from harness.reports.viewer import Choice, ViewedRun, chosen, viewer_data
from harness.run_folder.finished_run import FinishedRun
from harness.run_folder.records import FOUND_NOTHING, found_nothing
from harness.scoring.analysis import Analysis, analyse
from harness.scoring.ceilings import Ceilings
from harness.scoring.errors_breakdown import KINDS
from harness.scoring.jackknife import FEWEST_VIDEOS
from harness.scoring.match_table import MatchTable
from harness.scoring.metrics import GROUP_NAMES
from harness.scoring.presence import presence_metrics
from harness.scoring.protocols import get_protocol
from harness.tracking.fields import flat
from harness.types import Dataset


@dataclass(frozen=True)
class Options:
    """The location of the data and the size of the page.

    ``annotations`` and ``frames`` are for a user's own data, see `harness.reports.run_data.dataset_of_run`. ``videos``
    is the number of videos in the viewer, ``max_mb`` the largest total size of their frames in megabytes. With
    ``ceilings`` the page has the numbers with perfect classes, masks, links and presence. ``metrics`` are further ones,
    as ``PROTOCOL/METRIC``.
    """

    data_root: Path = Path("data")
    annotations: Path | None = None
    frames: Path | None = None
    videos: int = 9
    max_mb: float = 3.0
    ceilings: bool = False
    metrics: tuple[str, ...] = ()


@dataclass
class ReportData:
    """The data of a report; ``notes`` say what is left out and why. Mappings have the number of the run as key."""

    runs: list[FinishedRun]
    dataset: Dataset | None = None
    comparison: Comparison | None = None
    no_comparison: str = ""
    curves: dict[int, list[Curve]] = field(default_factory=dict)
    qualities: dict[int, dict[int, float]] = field(default_factory=dict)
    analyses: dict[int, Analysis] = field(default_factory=dict)
    ceilings: dict[int, Ceilings] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def common_videos(self) -> list[int]:
        """Ids of the videos of the dataset that all runs have predictions for."""
        shared = frozenset.intersection(*(run.done for run in self.runs))
        return sorted(video.id for video in self.dataset.videos if video.id in shared) if self.dataset else []


def report(
    paths: Sequence[Location],
    options: Options | None = None,
    faults: list[UserError] | None = None,
    step: Callable[[str], None] = lambda doing: None,
) -> str:
    """Return the page about run folders.

    Raises `UserError` for folders that are not finished runs, for damaged files, and for runs on different data. If
    parts are left out for another reason (missing data, withheld truth, incomplete runs), the page says so. With a list
    of ``faults`` unreadable runs are added there and left out. ``step`` gets what is done next.
    """
    options = options or Options()
    files = ("record", "config", "environment", "times", "categories", "video_ids")
    material = gather(read_runs(paths, faults, files), options, step)
    step("frames and the page")
    style, script = assets("page.css"), assets("page.js", "tables.js", "scatter.js", "viewer.js")
    return render_page(
        "report.html.j2", style=style, script=script, policy=policy(style, script), **_content(material, options)
    )


def gather(
    runs: Sequence[FinishedRun], options: Options, step: Callable[[str], None] = lambda doing: None
) -> ReportData:
    """Read and compute the data of a report on ``runs``; the first one is the reference. ``step`` as in `report`."""
    _refuse_mixed(runs)
    refuse_unknown_metrics([run.record for run in runs], options.metrics, "metrics")
    material = ReportData(list(runs))
    for run in runs:
        material.notes += _incomplete(run)
        if found_nothing(run.record):
            material.notes.append(f"{run.label} {FOUND_NOTHING}.")
    for number, run in enumerate(runs):
        step(f"matches of {run.label}")
        with suppress(UserError):  # without numbers there is no table; the page says elsewhere why there are none
            material.curves[number] = curves(_matches(run, options))
    try:
        material.dataset = dataset_of_run(runs[0], options.data_root, options.annotations, options.frames)
    except UserError as error:
        what = _without_paths(error, runs)
        material.notes.append(f"Errors, slices and videos are left out, for they need the data: {what}.")
    step("intervals and differences")
    _compare(material, options)
    if material.dataset is not None and material.dataset.truth is None:
        where = f" ({material.dataset.server})" if material.dataset.server else ""
        withheld = f"the truth of this split is withheld; only its server can score it{where}"
        said = material.dataset.no_truth or withheld
        material.notes.append(f"{said[:1].upper()}{said[1:]}.")
    elif material.dataset is not None:
        for number, run in enumerate(runs):
            step(f"errors of {run.label}")
            _examine(material, material.dataset, number, run, options.ceilings)
    return material


def _refuse_mixed(runs: Sequence[FinishedRun]) -> None:
    for run in runs[1:]:
        if run.data != runs[0].data:
            places = [f"{one.id} is on {one.record['dataset']} {one.record['split']}" for one in (runs[0], run)]
            same = run.data[:2] == runs[0].data[:2]
            what = f"the annotations of {runs[0].id} and {run.id} differ" if same else " and ".join(places)
            raise UserError("harness report", what, "make one report for each dataset and split")


def _incomplete(run: FinishedRun) -> list[str]:
    """A note if a run's numbers do not cover the whole split."""
    videos = run.record["videos"]
    if run.record["complete"]:
        return []
    yet = f"{videos['total'] - videos['done']} of {videos['total']} videos failed"
    return [f"{run.label} is incomplete: {yet}; its numbers are over the others only."]


def _matches(run: FinishedRun, options: Options) -> MatchTable:
    """The run's match table, also of an incomplete run."""
    try:
        return matches_of_run(run, options.data_root, options.annotations)
    except UserError:
        if run.matches is None:
            raise
        return run.matches


def _without_paths(error: UserError, runs: Sequence[FinishedRun]) -> str:
    """The error without paths of this machine, because the page may be published."""
    what = error.what
    for run in runs:
        what = what.replace(str(run.folder), run.id)
    return without_folders(what)


def _compare(material: ReportData, options: Options) -> None:
    try:
        material.comparison = compare_runs(
            material.runs, options.data_root, options.annotations, metrics=options.metrics
        )
    except UserError as error:
        material.no_comparison = f"No intervals and no test of significance: {_without_paths(error, material.runs)}."


def _examine(material: ReportData, dataset: Dataset, number: int, run: FinishedRun, with_ceilings: bool) -> None:
    """Errors, ceilings and quality per video of a run, over the videos that its numbers cover."""
    try:
        videos = run.scored_videos
        if with_ceilings:
            material.ceilings[number] = ceilings_of_run(run, dataset)
        chosen = protocol_to_analyse(run, dataset)
        material.qualities[number] = video_quality(replace(dataset, protocol=chosen), run.store, videos)
        material.analyses[number] = analyse(chosen, dataset.annotations, run.store, videos)
    except UnreadableFileError:
        raise
    except UserError as error:
        material.notes.append(f"{run.label} cannot be analysed: {_without_paths(error, [run])}.")


def _content(material: ReportData, options: Options) -> dict[str, Any]:
    """The values of the template ``report.html.j2``."""
    runs, comparison = material.runs, material.comparison
    lines = sections.category_rows(runs, comparison, _videos_of_categories(material))
    made = summary(runs, comparison, material.no_comparison, material.analyses)
    choices = _choices(material, made, options)
    ids = [choice.video_id for choice in choices]
    frames = {video.id: len(video.frames) for video in material.dataset.videos} if material.dataset else {}
    first = runs[0].record
    records = [run.record for run in runs]
    rates = PRESENCE_COLUMNS if any(presence_metrics(record) for record in records) else ()
    columns = tuple(dict.fromkeys((*main_columns(records), *rates, *options.metrics)))
    return {
        "title": f"{' and '.join(run.label for run in runs)} on {first['dataset']} {first['split']}",
        "runs": runs,
        "notes": material.notes,
        "daggers": dagger_notes((run.label, run.reasons) for run in runs),
        "summary": made,
        "category_videos": _category_videos(material, ids),
        "kind_videos": _kind_videos(material, ids),
        "comparison": comparison,
        "results": sections.results_table(runs, comparison, columns),
        "columns": columns,
        "column_notes": presence_notes(columns),
        "matrix": sections.matrix(comparison) if comparison and len(runs) > 2 else [],
        "pairs": [(pair, sections.difference_rows(comparison, pair)) for pair in comparison.pairs]
        if comparison
        else [],
        "curves": sections.curve_charts(runs, material.curves),
        "categories": lines,
        "groups": sorted({group for line in lines for group in line["groups"]}),
        "scatter": sections.category_scatter(runs, lines),
        "errors": sections.error_lines(material.analyses),
        "ceilings": sections.ceiling_tables(material.ceilings),
        "slices": sections.slice_tables(material.analyses, _slice_videos(material, ids)),
        "calibration": sections.calibration_charts(runs, material.analyses, _bin_videos(material, ids)),
        "viewer": _viewer(material, choices, options),
        "speed": sections.speed_rows(runs, frames),
        "stages": sections.stage_rows(runs, frames),
        "provenance": sections.provenance_rows(runs),
        "settings": _settings(runs),
        "p_value": p_value,
        "fewest": FEWEST_VIDEOS,
        "group_of": {f"AP{suffix}": name for suffix, name in GROUP_NAMES.items()},
        "shown_videos": {str(video) for video in ids},
        "error_reach": max(
            (one.dap50 or 0 for a in material.analyses.values() for one in a.errors.kinds.values()), default=0
        ),
        "options": options,
        "version": __version__,
    }


def _choices(material: ReportData, made: Summary, options: Options) -> list[Choice]:
    """The videos of the viewer: first those that show what the summary names."""
    if material.dataset is None or not options.videos or not material.common_videos:
        return []
    qualities = [material.qualities[n] for n in sorted(material.qualities)]
    pair, found = _headline(material.comparison), material.comparison
    labels = [pair.reference, pair.run] if pair is not None else [run.label for run in material.runs]
    influence = {one.video_id: one.influence for one in pair.videos if one.influence is not None} if pair else {}
    examined = {
        run.label: Examined(run.label, material.analyses[n].verdicts)
        for n, run in enumerate(material.runs)
        if n in material.analyses
    }
    top = found.top if found is not None else None
    best, other = (top.run, top.reference) if top is not None else (material.runs[0].label, None)
    shows = []
    if best in examined and (other is None or other in examined):
        worse = None if other is None else examined[other]
        shows = evidence(made.named, _truths(material), examined[best], worse, material.common_videos)
    return chosen(labels, qualities, influence, material.common_videos, options.videos, shows)


def _headline(comparison: Comparison | None) -> Pair | None:
    """The pair whose videos are shown as most different: of several runs the two best ones."""
    if comparison is None:
        return None
    return comparison.top if len(comparison.runs) > 2 else next(iter(comparison.pairs), None)


def _truths(material: ReportData) -> tuple[AnnotationRecord, ...]:
    truth = material.dataset.truth if material.dataset is not None else None
    return truth.records if truth is not None else ()


def _category_videos(material: ReportData, videos: Sequence[int]) -> dict[int, int]:
    """For each category that is annotated in one of the viewer's videos the first of these."""
    place = {video: n for n, video in enumerate(videos)}
    found: dict[int, int] = {}
    for one in _truths(material):
        if one.video_id in place and place[one.video_id] < place.get(found.get(one.category_id, -1), len(place)):
            found[one.category_id] = one.video_id
    return found


def _kind_videos(material: ReportData, videos: Sequence[int]) -> dict[str, int]:
    """For each kind of error the video of the viewer that has most of it."""
    verdicts = [material.analyses[n].verdicts for n in sorted(material.analyses)]
    return videos_of_kinds(KINDS, _truths(material), verdicts, videos)


def _videos_of_categories(material: ReportData) -> dict[int, int]:
    """The number of videos with truth of each category."""
    common = set(material.common_videos)
    pairs = {(r.category_id, r.video_id) for r in _truths(material) if r.video_id in common and not r.is_crowd}
    return Counter(category for category, _ in pairs)


def _slice_videos(material: ReportData, videos: Sequence[int]) -> dict[str, dict[str, int]]:
    """For each slice the video of the viewer that has most of its objects."""
    first = next(iter(material.analyses.values()), None)
    if first is None:
        return {}
    return {key: videos_of_members(one.members, _truths(material), videos) for key, one in first.slices.items()}


def _bin_videos(material: ReportData, videos: Sequence[int]) -> dict[tuple[int, str], list[int | None]]:
    """For each run and group, and each bin of scores, the video of the viewer that has most of its tracks."""
    found: dict[tuple[int, str], list[int | None]] = {}
    if material.dataset is None:
        return found
    categories = material.dataset.annotations.categories
    for number, analysis in material.analyses.items():
        groups = {"all": frozenset(one.id for one in categories)}
        for suffix, ids in get_protocol(analysis.protocol).groups(categories).items():
            groups[GROUP_NAMES[suffix]] = frozenset(ids)
        tracks = scored_tracks(analysis.verdicts, set(videos))
        for group, one in analysis.calibration.items():
            found[number, group] = videos_of_bins(one.bins, tracks, groups[group])
    return found


def _viewer(material: ReportData, choices: Sequence[Choice], options: Options) -> Any:
    """The viewer's data as JSON; ``None`` where there are no videos to show."""
    dataset = material.dataset
    if dataset is None or not choices:
        return None
    shown = [
        ViewedRun(run.label, run.store, material.analyses[n].verdicts if n in material.analyses else None)
        for n, run in enumerate(material.runs)
    ]
    return embedded(viewer_data(dataset, shown, choices, options.max_mb))


def _settings(runs: Sequence[FinishedRun]) -> list[tuple[str, list[str], bool]]:
    """Every setting of ``config.json`` for each run, and whether the runs differ in it."""
    found = [flat(run.config) for run in runs]
    keys = dict.fromkeys(key for one in found for key in one)
    table = [(key, [one.get(key, "–") for one in found]) for key in keys]
    return [(key, values, len(set(values)) > 1) for key, values in table]
