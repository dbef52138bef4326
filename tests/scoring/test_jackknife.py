"""The jackknife: weighing is copying, leaving out is scoring the others; results by hand and against scipy."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interval_coverage import category_alarms, measure, measure_seeds
from match_populations import Tracks, World, make_population, make_table
from scipy import stats
from workload import Workload, make

from harness.formats.youtube_vis import read_annotations
from harness.scoring import jackknife
from harness.scoring.jackknife import VarianceComponent
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
    replicates = jackknife.replicate(table, np.array([WEIGHTS], np.int32))
    gt, results = copied(tmp_path, WEIGHTS)
    expected = score_results(protocol, read_annotations(gt), results).metrics.values
    for suffix, rows in {"": None, **table.groups}.items():
        for metric in jackknife.JACKKNIFE_METRICS:
            assert replicates.mean(metric, rows)[0] == pytest.approx(expected[metric + suffix], abs=1e-12)


def test_leaving_a_video_out_is_scoring_the_others(tmp_path: Path) -> None:
    gt, results = make(tmp_path, Workload(videos=4, frames=4, categories=3, tracks=10, height=90, width=160), 1)
    annotations = read_annotations(gt)
    table = score_results("lvvis", annotations, results).matches
    left_out = jackknife.leave_videos_out(table)
    for place, video in enumerate(table.video_ids.tolist()):
        others = [v for v in table.video_ids.tolist() if v != video]
        found = json.loads(results.read_text())
        results.with_name("others.json").write_text(json.dumps([r for r in found if r["video_id"] != video]))
        expected = score_results("lvvis", annotations, results.with_name("others.json"), videos=others)
        for suffix, rows in {"": None, **table.groups}.items():
            for metric in jackknife.JACKKNIFE_METRICS:
                value = expected.metrics.values[metric + suffix]
                assert left_out.without(metric, rows)[place] == pytest.approx(
                    np.nan if value is None else value, abs=1e-12, nan_ok=True
                )


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 12))
def test_numbers_and_leaving_out_agree_with_weighing(seed: int, videos: int, categories: int) -> None:
    table = make_population(seed, videos, categories).table(1)
    left_out = jackknife.leave_videos_out(table)
    all_in, ones = np.ones((1, videos), np.int32), np.ones((videos, videos), np.int32)
    for metric in jackknife.JACKKNIFE_METRICS:
        for rows in (None, *table.groups.values()):
            number = jackknife.replicate(table, all_in).mean(metric, rows)[0]
            assert left_out.number(metric, rows) == pytest.approx(number, abs=1e-12, nan_ok=True)
            without = jackknife.replicate(table, ones - np.eye(videos, dtype=np.int32)).mean(metric, rows)
            assert left_out.without(metric, rows) == pytest.approx(without, abs=1e-12, nan_ok=True)


@given(
    st.floats(-1, 1), st.floats(0, 3) | st.just(0.0), st.integers(5, 2000), st.sampled_from([(0.0, 1.0), (-1.0, 1.0)])
)  # fmt: skip
def test_the_interval_holds_its_estimate(value: float, error: float, freedom: int, ends: tuple[float, float]) -> None:
    value = max(ends[0], value)
    found = jackknife.estimate(value, error, freedom, *ends)
    assert found.low is not None
    assert found.high is not None
    assert ends[0] <= found.low <= value <= found.high <= ends[1]


@given(st.floats(-1, 1), st.floats(1e-6, 1) | st.just(0.0), st.floats(0.5, 2000), st.integers(6, 2001))
def test_a_difference_is_significant_where_its_interval_excludes_0(
    value: float, error: float, freedom: float, videos: int
) -> None:
    """Several seeds may have few degrees of freedom, whatever the number of videos."""
    found = jackknife.estimate(value, error, freedom, -1)
    p = jackknife.t_test(value, error, freedom, videos)
    assert found.low is not None
    assert found.high is not None
    assert p is not None
    if abs(p - 0.05) > 1e-9 and abs(value) > jackknife.ROUNDING:
        assert (p < 0.05) == (found.low > 0 or found.high < 0)


def test_contributions_by_hand() -> None:
    """Category 0 is found in video 0 and missed in 1; category 1 is found in video 1; category 2 is missed in 2."""
    found = Tracks(*(np.array(column) for column in ([0, 1], [0, 1], [0.9, 0.9], [1023, 1023], [0, 0])))
    table = make_table(4, 3, np.array([0, 1, 1, 2]), np.array([0, 0, 1, 2]), found)
    left_out = jackknife.leave_videos_out(table)
    half = 51 / 101  # of the 101 points of recall, those up to 0.5
    assert left_out.full[0] == pytest.approx([half, 1, 0])
    mean = (half + 1) / 3
    expected = [np.sqrt(0.5) * half, np.sqrt(0.5) * (half - 1) + (1 - mean), 0 - mean, 0]
    assert left_out.contributions("AP") == pytest.approx(np.array(expected) / 3)
    assert left_out.of_category("AP", 0) == pytest.approx([np.sqrt(0.5) * half, np.sqrt(0.5) * (half - 1), 0, 0])
    assert (left_out.of_category("AP", 1) == 0).all()
    assert left_out.videos_with_truth() == 3
    assert left_out.videos_with_truth(np.array([1])) == 1


def test_a_category_without_positives_leaves_the_mean() -> None:
    """Category 0 is found in video 0, category 1 is missed in video 1."""
    found = Tracks(*(np.array(column) for column in ([0], [0], [0.9], [1023], [0])))
    table = make_table(2, 2, np.array([0, 1]), np.array([0, 1]), found)
    replicates = jackknife.replicate(table, np.array([[1, 1], [2, 0], [0, 2], [0, 0]], np.int32))
    assert replicates.mean("AP")[:3] == pytest.approx([0.5, 1, 0])
    assert np.isnan(replicates.mean("AP")[3])
    assert replicates.mean("AR100", np.array([1]))[0] == 0
    assert np.isnan(replicates.mean("AR100", np.array([1]))[1])


def test_replicates_do_not_depend_on_how_they_are_cut_among_threads() -> None:
    table = make_population(3, 30, 6).table(1)
    drawn = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), 40)
    whole = jackknife.replicate(table, drawn)
    parts = [jackknife.replicate(table, drawn[first : first + 7]).values for first in range(0, 40, 7)]
    assert np.array_equal(whole.values, np.concatenate(parts, 1))


def test_interval_and_p_value_by_hand() -> None:
    error = jackknife.standard_error(np.array([0.03, -0.04, 0.0, 0.01]))
    assert error == pytest.approx(np.sqrt(0.0026))
    low, high, _ = jackknife.estimate(0.4, 0.05, 9)
    assert (low, high) == (pytest.approx(0.4 - 0.05 * stats.t.ppf(0.975, 9)), pytest.approx(0.4 + 0.05 * 2.262157))
    assert jackknife.t_test(0.1, 0.05, 9, 10) == pytest.approx(2 * stats.t.sf(2, 9))
    assert jackknife.t_test(-0.1, 0.05, 9, 10) == jackknife.t_test(0.1, 0.05, 9, 10)
    assert jackknife.t_test(0.5, 0.0, 9, 10) == 2**-9  # no test by signs of 10 videos gives less
    assert jackknife.t_test(0.0, 0.0, 9, 10) == 1
    assert jackknife.t_test(0.1, None, 9, 10) is None
    assert jackknife.estimate(0.1, None, 9) == (None, None, None)
    assert jackknife.estimate(float("nan"), 0.1, 9) == (None, None, None)


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

    runs = [jackknife.leave_videos_out(table(order)) for order in (np.arange(7), rng.permutation(7))]
    apart = runs[1].number("AP") - runs[0].number("AP")
    error = jackknife.standard_error(runs[1].contributions("AP") - runs[0].contributions("AP"))
    assert abs(apart) < 1e-15
    assert error < jackknife.ROUNDING
    assert jackknife.t_test(1e-17, error, videos - 1, videos) == 1
    assert jackknife.without_rounding(np.array([1e-17, 1e-9])).tolist() == [0, 1e-9]


def test_detectable_difference() -> None:
    found = jackknife.detectable(0.01)
    assert found == pytest.approx(0.01 * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)))
    assert jackknife.detectable(None) is None


@given(st.lists(st.none() | st.floats(1e-6, 1), max_size=30))
def test_correction_for_many_is_benjamini_and_hochbergs(p_values: list[float | None]) -> None:
    corrected = jackknife.correct_for_many(p_values)
    known = [p for p in p_values if p is not None]
    assert [q is None for q in corrected] == [p is None for p in p_values]
    if known:
        expected = stats.false_discovery_control(known)
        assert [q for q in corrected if q is not None] == pytest.approx(expected.tolist())


@given(st.lists(st.none() | st.floats(1e-6, 1), max_size=30))
def test_holms_correction(p_values: list[float | None]) -> None:
    known = sorted(p for p in p_values if p is not None)
    for p, adjusted in zip(p_values, jackknife.holm(p_values), strict=True):
        if p is None:
            assert adjusted is None
        else:
            steps = [min(1.0, one * (len(known) - place)) for place, one in enumerate(known) if one <= p]
            assert adjusted == pytest.approx(max(steps))


def test_runs_that_do_not_differ_are_seldom_called_different() -> None:
    """Over 150 samples rates near 5 % are known to about 2 points."""
    world = World(60, labels=2.5, copies=0.3)
    rates = measure(world, 60, trials=150)
    assert rates["significant"] <= 0.09
    assert min(rates["difference within"], rates["one run within"]) >= 0.91
    assert 0.85 <= rates["difference error / true"] <= 1.2
    assert category_alarms(world, 60, trials=20) <= 0.08
    better = World(60, labels=2.5, copies=0.3, better=0.6)
    assert measure(better, 60, trials=20)["significant"] >= 0.9


@pytest.mark.parametrize("spread", [0.0, 0.15])
def test_intervals_of_several_seeds_hold_the_truth(spread: float) -> None:
    """Also where seeds differ in luck: the truth is the mean over seeds and videos."""
    rates = measure_seeds(World(40, labels=2.5), 40, seeds=3, spread=spread, trials=120)
    assert min(rates["difference within"], rates["one run within"]) >= 0.89
    assert rates["significant"] <= 0.1
    assert 0.8 <= rates["difference error / true"] <= 1.4


def test_what_seeds_add_to_the_variance() -> None:
    values = np.array([0.3, 0.5])
    same = np.zeros((2, 4))
    assert jackknife.of_seeds(values, same) == pytest.approx((0.01, 1.0))
    apart = np.array([[0.1, -0.1, 0.0, 0.0], [-0.1, 0.1, 0.0, 0.0]])  # the videos alone make seeds differ by more
    found = jackknife.of_seeds(values, apart)
    assert found.variance < 0
    assert jackknife.combine_variances(VarianceComponent(0.04, 3.0), [found]) == (0.2, 3.0)
    assert jackknife.combine_variances(VarianceComponent(0.04, 3.0), [VarianceComponent(0.05, 1.0)]) == pytest.approx(
        (0.3, 0.09**2 / (0.04**2 / 3 + 0.05**2))
    )
