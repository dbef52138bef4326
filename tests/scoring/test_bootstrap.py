"""The bootstrap: weighing is copying, and what is made of replicates, by hand and against scipy."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bootstrap_coverage import measure
from hypothesis import given
from hypothesis import strategies as st
from match_populations import Tracks, make_population, make_table
from scipy import stats
from workload import Workload, make

from harness.formats.youtube_vis import read_annotations
from harness.scoring import bootstrap
from harness.scoring.score import score_results

WEIGHTS = (2, 0, 1, 3, 0, 1)


def copied(folder: Path, weights: tuple[int, ...]) -> tuple[Path, Path]:
    """The workload in ``folder`` with each video as often as its weight says, every copy under an id of its own."""
    truth = json.loads((folder / "gt.json").read_text())
    results = json.loads((folder / "results.json").read_text())
    made: dict[str, list[Any]] = {"videos": [], "annotations": []}
    found = []
    for video, weight in zip(truth["videos"], weights, strict=True):
        for _ in range(weight):
            number = len(made["videos"]) + 1
            made["videos"].append({**copy.deepcopy(video), "id": number})
            for one in truth["annotations"]:
                if one["video_id"] == video["id"]:
                    made["annotations"].append({**one, "id": len(made["annotations"]) + 1, "video_id": number})
            found += [{**one, "video_id": number} for one in results if one["video_id"] == video["id"]]
    (folder / "copied_gt.json").write_text(json.dumps({**truth, **made}))
    (folder / "copied_results.json").write_text(json.dumps(found))
    return folder / "copied_gt.json", folder / "copied_results.json"


@pytest.mark.parametrize("protocol", ["lvvis", "lvvis-corrected", "ytvis"])
def test_a_weight_counts_as_so_many_copies_of_the_video(tmp_path: Path, protocol: str) -> None:
    gt, results = make(tmp_path, Workload(videos=6, frames=4, categories=5, tracks=15, height=90, width=160), 4)
    table = score_results(protocol, read_annotations(gt), results).matches
    replicates = bootstrap.replicate(table, np.array([WEIGHTS], np.int32))
    gt, results = copied(tmp_path, WEIGHTS)
    expected = score_results(protocol, read_annotations(gt), results).metrics.values
    for suffix, rows in {"": None, **table.groups}.items():
        for metric in bootstrap.BOOTSTRAP_METRICS:
            assert replicates.mean(metric, rows)[0] == pytest.approx(expected[metric + suffix], abs=1e-12)


def test_leaving_a_video_out_is_scoring_the_others(tmp_path: Path) -> None:
    gt, results = make(tmp_path, Workload(videos=4, frames=4, categories=3, tracks=10, height=90, width=160), 1)
    annotations = read_annotations(gt)
    table = score_results("lvvis", annotations, results).matches
    values = bootstrap.replicate(table, bootstrap.leave_one_out(4)).mean("AP")
    for place, video in enumerate(table.video_ids.tolist()):
        others = [v for v in table.video_ids.tolist() if v != video]
        found = json.loads(results.read_text())
        results.with_name("others.json").write_text(json.dumps([r for r in found if r["video_id"] != video]))
        expected = score_results("lvvis", annotations, results.with_name("others.json"), videos=others)
        assert values[place] == pytest.approx(expected.metrics.values["AP"], abs=1e-12)


def test_a_category_without_positives_leaves_the_mean() -> None:
    """Category 0 is found in video 0, category 1 is missed in video 1."""
    found = Tracks(*(np.array(column) for column in ([0], [0], [0.9], [1023], [0])))
    table = make_table(2, 2, np.array([0, 1]), np.array([0, 1]), found)
    replicates = bootstrap.replicate(table, np.array([[1, 1], [2, 0], [0, 2], [0, 0]], np.int32))
    assert replicates.mean("AP")[:3] == pytest.approx([0.5, 1, 0])
    assert np.isnan(replicates.mean("AP")[3])
    assert replicates.mean("AR100", np.array([1]))[0] == 0
    assert np.isnan(replicates.mean("AR100", np.array([1]))[1])


def test_resamples_are_as_large_as_the_dataset_and_follow_the_seed() -> None:
    drawn = bootstrap.draw(20, 50, 7)
    assert (drawn.sum(1) == 20).all()
    assert np.array_equal(drawn, bootstrap.draw(20, 50, 7))
    assert not np.array_equal(drawn, bootstrap.draw(20, 50, 8))
    assert np.array_equal(drawn[:10], bootstrap.draw(20, 10, 7))


def test_replicates_do_not_depend_on_how_they_are_cut_among_threads() -> None:
    table = make_population(3, 30, 6).table(1)
    drawn = bootstrap.draw(30, 40, 0)
    whole = bootstrap.replicate(table, drawn)
    parts = [bootstrap.replicate(table, drawn[first : first + 7]).values for first in range(0, 40, 7)]
    assert np.array_equal(whole.values, np.concatenate(parts, 1))


def test_percentile_interval() -> None:
    low, high, error = bootstrap.estimate(np.append(np.arange(101) / 100, np.nan))
    assert (low, high) == (pytest.approx(0.025), pytest.approx(0.975))
    assert error == pytest.approx(np.arange(101).std(ddof=1) / 100)
    assert bootstrap.estimate(np.array([0.5, np.nan])) == (None, None, None)


def test_the_interval_of_one_run_stands_around_its_value() -> None:
    low, high, _ = bootstrap.centred(0.4, np.arange(41) / 100 + 0.3)
    assert (low, high) == (pytest.approx(0.21), pytest.approx(0.59))
    assert bootstrap.centred(0.99, np.arange(41) / 100 + 0.3)[1] == 1


def test_p_values_by_hand() -> None:
    replicates = np.concatenate([np.full(990, 0.1), np.full(9, -0.1)])
    assert bootstrap.p_value(replicates, 100) == pytest.approx(2 * 10 / 1000)
    assert bootstrap.p_value(-replicates, 100) == pytest.approx(2 * 10 / 1000)
    assert bootstrap.p_value(replicates, 5) == 2**-4  # no test by signs of 5 videos gives less
    assert bootstrap.p_value(np.zeros(999), 100) == 1
    assert bootstrap.p_value(replicates, 0) is None


def test_what_differs_by_rounding_only_does_not_differ() -> None:
    """Both runs have the same AP in every resample, of categories in another order: their means differ by rounding."""
    rng = np.random.default_rng(0)
    videos, categories = 30, 7
    video, category = (place.ravel() for place in np.meshgrid(np.arange(videos), np.arange(categories)))
    hits = (1 << rng.integers(0, 11, (categories, videos))) - 1

    def table(order: Any) -> Any:
        found = hits[order].ravel()
        return make_table(videos, categories, video, category,
                          Tracks(video, category, np.full(len(video), 0.5), found, 1023 & ~found))  # fmt: skip

    weights = np.concatenate([np.ones((1, videos), np.int32), bootstrap.draw(videos, 400, 0)])
    runs = [bootstrap.replicate(table(order), weights).mean("AP") for order in (np.arange(7), rng.permutation(7))]
    apart = runs[1] - runs[0]
    assert 0 < np.abs(apart).max() < 1e-15
    assert (bootstrap.without_rounding(apart) == 0).all()
    assert bootstrap.p_value(apart, videos) == 1
    assert bootstrap.p_value(np.full(400, -1e-17), videos) == 1
    assert bootstrap.t_test(1e-17, 1e-18, videos) == 1
    assert bootstrap.p_value(apart + 1e-9, videos) == bootstrap.smallest_p(videos, 401) == 2 / 402


@pytest.mark.parametrize(
    ("videos", "resamples", "smallest"),
    [(54, 1000, 2 / 1001), (10, 1000, 2 / 1001), (9, 1000, 2**-8), (5, 1000, 2**-4), (1, 1000, 1), (0, 1000, None)],
)
def test_the_smallest_p_follows_the_videos_of_the_group(videos: int, resamples: int, smallest: float | None) -> None:
    assert bootstrap.smallest_p(videos, resamples) == smallest
    assert bootstrap.p_value(np.full(resamples, 0.1), videos) == smallest


def test_t_test_of_a_category_by_hand() -> None:
    n, error = 10, 0.03
    t = 0.1 / (error * np.sqrt(n / (n - 1)))
    assert bootstrap.t_test(0.1, error, n) == pytest.approx(2 * stats.t.sf(t, n - 1))
    assert bootstrap.t_test(-0.1, error, n) == bootstrap.t_test(0.1, error, n)
    assert bootstrap.t_test(0.5, 0.0, n) == 2**-9
    assert bootstrap.t_test(0.0, 0.0, n) == 1
    assert bootstrap.t_test(0.1, error, bootstrap.FEWEST_VIDEOS - 1) is None


def test_detectable_difference() -> None:
    found = bootstrap.detectable(0.01)
    assert found == pytest.approx(0.01 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)))
    assert bootstrap.detectable(None) is None


@given(st.lists(st.none() | st.floats(1e-6, 1), max_size=30))
def test_correction_for_many_is_benjamini_and_hochbergs(p_values: list[float | None]) -> None:
    corrected = bootstrap.correct_for_many(p_values)
    known = [p for p in p_values if p is not None]
    assert [q is None for q in corrected] == [p is None for p in p_values]
    if known:
        expected = stats.false_discovery_control(known)
        assert [q for q in corrected if q is not None] == pytest.approx(expected.tolist())


def test_runs_that_do_not_differ_are_seldom_called_different() -> None:
    rates = measure(20, 60, 0.0, trials=60, population=3000)
    assert rates["significant"] <= 0.12
    assert rates["category significant"] <= 0.08
    assert rates["difference within"] >= 0.85
    assert measure(20, 60, 0.6, trials=20, population=3000)["significant"] >= 0.9
