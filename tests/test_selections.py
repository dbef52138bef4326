"""Selections down to nothing: no video, category, truth, prediction or mask may be left, whatever the command.

Files are drawn at random from very few records, so that most of them lack something.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import pytest
from analysis_scenes import HEIGHT, WIDTH, encoded, pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_evaluator import average_precision
from small_runs import SmallConfig, SmallModel

from harness.datasets.youtube_vis_format import open_custom
from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations
from harness.reports import figures, regression
from harness.reports.analysis_text import written_analyses
from harness.reports.comparison import compare_runs
from harness.reports.comparison_text import categories_csv, written_comparison
from harness.reports.html import Options, report
from harness.reports.leaderboard import find_runs, site
from harness.reports.regression import baseline_of, changes_text
from harness.reports.run_analysis import analyse_runs
from harness.reports.run_files import read_runs
from harness.reports.tables import comparison_table
from harness.run_folder.records import effective_metrics
from harness.runner import Run, RunOutcome, execute
from harness.scoring.score import Score, score_results
from harness.types import Dataset, Track

Record = dict[str, Any]
FRAMES = 3
VIDEOS, CATEGORIES, FOREIGN = (1, 2, 3), (1, 2, 3), 9
BOXES = (None, (0, 0, 0, 0), (2, 2, 12, 12), (3, 2, 13, 12), (20, 5, 30, 15))
"""No mask, an encoded mask without a pixel, one box, nearly the same, another one."""
MASKS = {box: None if box is None else encoded(pixels(box)) for box in BOXES}
SCORES = (0.2, 0.5, 0.5, 0.9)


def tracks(categories: tuple[int, ...], most: int) -> st.SearchStrategy[list[Record]]:
    """Objects or predictions; a whole one has the same box in every frame."""
    whole = st.sampled_from(BOXES).map(lambda box: (box,) * FRAMES)
    boxes = st.one_of(whole, st.tuples(*(st.sampled_from(BOXES) for _ in range(FRAMES))))
    one = st.fixed_dictionaries(
        {
            "video_id": st.sampled_from(VIDEOS),
            "category_id": st.sampled_from(categories),
            "boxes": boxes,
            "score": st.sampled_from(SCORES),
        }
    )
    return st.lists(one, max_size=most)


@st.composite
def selections(draw: st.DrawFn) -> tuple[Record, list[Record]]:
    """An annotation file in LV-VIS form, and predictions for it, of foreign categories too."""
    videos = draw(st.sets(st.sampled_from(VIDEOS)))
    categories = draw(st.one_of(st.just(set(CATEGORIES)), st.sets(st.sampled_from(CATEGORIES))))
    objects = [t for t in draw(tracks(CATEGORIES, 4)) if t["video_id"] in videos and t["category_id"] in categories]
    found = [t for t in draw(tracks((*CATEGORIES, FOREIGN), 5)) if t["video_id"] in videos]
    size = {"height": HEIGHT, "width": WIDTH, "length": FRAMES}
    document = {
        "videos": [{"id": v, **size, "file_names": [f"{v}/{f}.jpg" for f in range(FRAMES)]} for v in sorted(videos)],
        "categories": [{"id": c, "name": f"c{c}", "partition": 3 if c == 3 else 0} for c in sorted(categories)],
        "annotations": [
            {
                "id": number,
                "video_id": one["video_id"],
                "category_id": one["category_id"],
                "iscrowd": 0,
                "areas": [None if box is None else int(pixels(box).sum()) for box in one["boxes"]],
                "occlusion": [None if box is None else "no_occlusion" for box in one["boxes"]],
                "segmentations": masks_of(one["boxes"]),
            }
            for number, one in enumerate(objects, 1)
        ],
    }
    return document, found


def masks_of(boxes: tuple[Any, ...]) -> list[Record | None]:
    masks = [MASKS[box] for box in boxes]
    return [None if m is None else {"size": list(m.size), "counts": m.counts.decode()} for m in masks]


def results_of(found: list[Record]) -> list[Record]:
    return [{**{k: v for k, v in t.items() if k != "boxes"}, "segmentations": masks_of(t["boxes"])} for t in found]


def score_by(protocol: str, truth: Path, results: Path) -> Score:
    score = score_results(protocol, read_annotations(truth), results)
    record = score.record()
    json.dumps(record, allow_nan=False)
    for side in ("metrics", "corrected"):
        undefined = {key for key, value in record[side].items() if value is None}
        assert set(record["undefined"][side]) == undefined
    return score


@settings(max_examples=60)
@given(selection=selections())
def test_whatever_is_selected_the_numbers_are_the_reference_evaluators(
    selection: tuple[Record, list[Record]],
) -> None:
    with TemporaryDirectory() as name:
        _check_numbers(*selection, Path(name))


def do_not_fit(document: Record) -> bool:
    """Whether LV-VIS aborts on the ids: it reads groups at position id - 1. Before that it aborts without base ones."""
    ids = {c["id"] for c in document["categories"]}
    return ids in ({2}, {1, 3}, {2, 3})


def _check_numbers(document: Record, found: list[Record], here: Path) -> None:
    truth, results = here / "gt.json", here / "results.json"
    truth.write_text(json.dumps(document))
    results.write_text(json.dumps(results_of(found)))
    expected = average_precision(truth, results)
    official = score_by("ytvis", truth, results)
    if not found or not document["annotations"]:
        assert ("aborts on an empty list" in official.aborts) == bool(document["annotations"])
        assert set(official.metrics.values.values()) == {None}
    else:
        for key, value in expected.items():
            mine = official.metrics.values[key]
            assert (mine is None) == (value == -1), key
            assert mine is None or mine == pytest.approx(value, abs=1e-12), key
    if do_not_fit(document):
        assert "groups at position id - 1" in score_by("lvvis", truth, results).aborts
    else:
        lvvis = score_by("lvvis", truth, results)
        lacks_a_group = len(document["categories"]) < len(CATEGORIES)
        assert bool(lvvis.aborts) == (lacks_a_group or bool(official.aborts))
        assert lvvis.aborts or lvvis.metrics.values["AP"] == official.metrics.values["AP"]
    corrected = score_by("ytvis-corrected", truth, results)
    assert corrected.metrics.values == corrected.corrected.values == official.corrected.values
    has_truth = any(any(a["segmentations"]) for a in document["annotations"])
    assert (corrected.metrics.values["AP"] is not None) == has_truth
    if has_truth and not found:
        assert corrected.metrics.values["AP"] == 0


def run_of(dataset: Dataset, found: list[Record], score: float, here: Path, limit: int | None) -> RunOutcome:
    """Run a model that finds just these; ``score`` tells runs apart."""
    listed = {c.id for c in dataset.categories}

    def predict(video_id: int) -> list[Track]:
        mine = [t for t in found if t["video_id"] == video_id and t["category_id"] in listed]
        return [Track(video_id, t["category_id"], t["score"], tuple(MASKS[b] for b in t["boxes"])) for t in mine]

    return execute(Run(SmallModel(tracks=predict), SmallConfig(score=score), dataset, here / "runs", limit=limit))


@settings(max_examples=10)
@given(
    selection=selections(),
    others=tracks(CATEGORIES, 3),
    protocol=st.sampled_from(["lvvis", "ytvis", "ovis-corrected"]),
    limit=st.sampled_from([None, None, 1]),
)
def test_whatever_is_selected_runs_end_and_can_be_judged(
    selection: tuple[Record, list[Record]], others: list[Record], protocol: str, limit: int | None
) -> None:
    document, found = selection
    with TemporaryDirectory() as name:
        here = Path(name)
        truth = here / "gt.json"
        truth.write_text(json.dumps(document))
        dataset = open_custom(truth, here, protocol)
        if protocol == "lvvis" and do_not_fit(document):
            with pytest.raises(UserError, match="groups at position id - 1"):
                run_of(dataset, found, 0.1, here, limit)
            return
        outcomes = [run_of(dataset, tracks, score, here, limit) for tracks, score in ((found, 0.1), (others, 0.2))]
        for outcome in outcomes:
            assert (outcome.exit_code, outcome.record["complete"]) == (0, True), outcome.messages
            json.dumps(outcome.record, allow_nan=False)
            corrected = outcome.record["corrected"]["AP"]
            assert (corrected is None) == ("AP" in outcome.record["undefined"]["corrected"])
        records = [outcome.record for outcome in outcomes]
        judge([Path(record["folder"]) for record in records], records, truth, here)


def judge(folders: list[Path], records: list[Record], truth: Path, here: Path) -> None:
    """Everything that is made of runs is made, or refused in one line where there are no numbers."""
    judged = [effective_metrics(record) for record in records]
    assert comparison_table(records, "markdown", corrected=True)
    assert site(find_runs(here / "runs"))["index.html"]
    page = report(folders, Options(annotations=truth, videos=2))
    assert not re.search(r"\bnan\b", page)
    first, second = (baseline_of(folder) for folder in folders)
    with suppress(UserError):
        changes_text(regression.compare_with_baseline(first, second), "markdown")
    if judged[0].get("AP") is not None and judged[1].get("AP") is not None:
        comparison = compare_runs(read_runs(folders))
        for run, metrics in zip(comparison.runs, judged, strict=True):
            assert run.metrics["AP"].value == pytest.approx(metrics["AP"], abs=1e-12)
        assert written_comparison(comparison, "markdown")
        json.dumps(comparison.record(), allow_nan=False)
        categories_csv(comparison)
        subject = figures.figure_data(read_runs(folders), Path("data"), truth)
        for drawing in figures.figures(subject)[0]:
            plt.close(drawing.figure)
    with suppress(UserError):
        analyses = analyse_runs(folders, Path("data"), truth)
        assert written_analyses(analyses, "markdown")
        json.dumps([one.record() for one in analyses], allow_nan=False)
