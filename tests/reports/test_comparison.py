"""Comparing runs: what the numbers are, where match tables come from, and which runs are refused.

Tests of `harness/run_folder/records.py` and `reports/matches.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from compared_runs import Runs, run_oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from match_populations import Tracks, make_population, make_table
from scipy import stats

from harness.errors import UserError
from harness.formats.youtube_vis import read_annotations
from harness.reports.comparison import GAP, Comparison, Difference, compare_runs, compare_tables, turned
from harness.reports.comparison_text import written_comparison
from harness.reports.run_files import read_runs
from harness.run_folder.checksums import write_sums
from harness.run_folder.store import PredictionStore
from harness.scoring import jackknife
from harness.scoring.match_table import MATCHES_FILE, MatchTable, read_table
from harness.scoring.presence import rates_of
from harness.scoring.score import score_store


@pytest.fixture(scope="module")
def runs(compared: Runs) -> Runs:
    return compared


@pytest.fixture
def copy(compared: Runs, tmp_path: Path) -> Runs:
    """Runs that a test may change."""
    return compared.copy(tmp_path)


@pytest.fixture(scope="module")
def comparison(runs: Runs) -> Comparison:
    return compare_runs(read_runs([runs.noisy, runs.good]))


def metrics_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "metrics.json").read_text())["metrics"])


def error_of(folders: list[Path], **options: Any) -> str:
    with pytest.raises(UserError) as error:
        compare_runs(read_runs(folders), **options)
    return str(error.value)


def test_values_are_the_runs_own(runs: Runs, comparison: Comparison) -> None:
    for folder, run in zip((runs.noisy, runs.good), comparison.runs, strict=True):
        stored = metrics_of(folder)
        stored[GAP] = stored["APb"] - stored["APn"]
        assert GAP in run.metrics
        for key, found in run.metrics.items():
            assert found.value == pytest.approx(stored[key], abs=1e-12), key
            assert found.low is not None
            assert found.high is not None
            assert (-1 if key == GAP else 0) <= found.low <= found.value <= found.high <= 1


def test_the_gap_between_base_and_novel_is_compared_too(comparison: Comparison) -> None:
    found = comparison.pairs[0].metrics
    gap, base, novel = (found[key].value for key in (GAP, "APb", "APn"))
    assert gap is not None
    assert base is not None
    assert novel is not None
    assert gap == pytest.approx(base - novel, abs=1e-12)
    assert found[GAP].p_value is not None


def test_differences_are_paired(runs: Runs, comparison: Comparison) -> None:
    (pair,) = comparison.pairs
    tables = [read_table(folder / MATCHES_FILE) for folder in (runs.noisy, runs.good)]
    left_out = [jackknife.leave_videos_out(table) for table in tables]
    first, second = (one.contributions("AP", table.groups["n"]) for one, table in zip(left_out, tables, strict=True))
    found = pair.metrics["APn"]
    error = np.sqrt(np.square((second - first) - (second - first).mean()).sum())
    assert found.standard_error == pytest.approx(error)
    half = error * stats.t.ppf(0.975, found.videos - 1)
    assert (found.low, found.high) == (
        pytest.approx((found.value or 0) - half),
        pytest.approx((found.value or 0) + half),
    )
    assert found.value == pytest.approx(metrics_of(runs.good)["APn"] - metrics_of(runs.noisy)["APn"])
    assert found.detectable == pytest.approx(2.8015852 * (found.standard_error or 0))


def test_a_clear_difference_is_significant_and_none_is_not(runs: Runs, comparison: Comparison) -> None:
    assert comparison.pairs[0].metrics["AP"].is_significant
    assert (comparison.pairs[0].metrics["AP"].value or 0) > 0
    turned = compare_runs(read_runs([runs.good, runs.noisy])).pairs[0].metrics["AP"]
    assert turned.value == -(comparison.pairs[0].metrics["AP"].value or 0)
    assert turned.p_value == comparison.pairs[0].metrics["AP"].p_value


def test_the_shares_of_the_categories_add_up_to_the_difference(comparison: Comparison) -> None:
    (pair,) = comparison.pairs
    assert sum(one.share for one in pair.categories) == pytest.approx(pair.metrics["AP"].value)
    sizes = [abs(one.share) for one in pair.categories]
    assert sizes == sorted(sizes, reverse=True)
    for one in pair.categories:
        assert one.difference.value == pytest.approx(one.run - one.reference)
        assert (one.difference.low is None) == (one.videos < jackknife.FEWEST_VIDEOS)
        assert one.groups in (("base",), ("novel",))
        if one.q_value is not None:
            assert one.q_value >= (one.difference.p_value or 0)


def test_the_influence_of_a_video_is_what_goes_when_it_is_left_out(runs: Runs, comparison: Comparison) -> None:
    (pair,) = comparison.pairs
    assert len(pair.videos) == 10
    top = pair.videos[0]
    others = [v for v in range(1, 11) if v != top.video_id]
    annotations = read_annotations(runs.annotations)
    left = [
        score_store("lvvis", annotations, PredictionStore(folder / "predictions"), videos=others).metrics.values["AP"]
        for folder in (runs.noisy, runs.good)
    ]
    expected = (pair.metrics["AP"].value or 0) - ((left[1] or 0) - (left[0] or 0))
    assert top.influence == pytest.approx(expected)


def test_several_runs_are_compared_with_the_first_one_alone_has_intervals(runs: Runs) -> None:
    several = compare_runs(read_runs([runs.good, runs.blurred, runs.noisy, runs.good]))
    assert [run.folder for run in several.runs] == [str(f.resolve()) for f in (runs.good, runs.blurred, runs.noisy)]
    assert len({run.label for run in several.runs}) == 3
    assert [pair.reference for pair in several.pairs] == 2 * [several.runs[0].label]
    alone = compare_runs(read_runs([runs.good]))
    assert (len(alone.runs), alone.pairs) == (1, ())


def test_the_same_comparison_twice_is_the_same(runs: Runs, comparison: Comparison) -> None:
    again = compare_runs(read_runs([runs.noisy, runs.good]))
    assert json.dumps(again.record()) == json.dumps(comparison.record())


def test_seeds_of_a_model_are_one_row_with_both_sources_of_chance(tmp_path: Path, runs: Runs) -> None:
    data = runs.copy(tmp_path)
    folder, common = data.annotations.parent, {"wrong_label": 0.3, "score_noise": 0.5}
    seeds = [run_oracle(folder, data.annotations, seed=seed, **common) for seed in (0, 1, 2)]
    opened = read_runs([*seeds, data.good])
    apart = compare_runs(opened)
    assert len(apart.runs) == 4
    assert apart.runs[0].seeds == ()
    joined = compare_runs(opened, join_seeds=True)
    assert [run.seeds for run in joined.runs] == [(0, 1, 2), ()]
    assert joined.runs[0].label.endswith("(3 seeds)")
    single = [run.metrics["AP"].value or 0.0 for run in apart.runs[:3]]
    found = joined.runs[0].metrics["AP"]
    assert found.value == pytest.approx(np.mean(single))
    assert found.between_seeds == pytest.approx(np.std(single, ddof=1))
    left_out = [jackknife.leave_videos_out(read_table(folder / MATCHES_FILE)) for folder in seeds]
    videos = jackknife.standard_error(np.mean([one.contributions("AP") for one in left_out], 0)) ** 2
    each = np.array([one.contributions("AP") for one in left_out])
    own = each - each.mean(0)
    in_videos = np.square(own - own.mean(1, keepdims=True)).sum() / 2  # what the videos already explain
    whole = float(np.var(single, ddof=1))
    between = max(whole - in_videos, 0) / 3
    assert found.standard_error == pytest.approx(np.sqrt(videos + between))
    freedom = (videos + between) ** 2 / (videos**2 / 9 + ((whole / 3) ** 2 / 2 if between else 0))
    assert found.high is not None
    assert found.high - (found.value or 0) == pytest.approx(
        stats.t.ppf(0.975, freedom) * np.sqrt(videos + between), rel=1e-6
    ) or found.high == 1  # fmt: skip
    (pair,) = joined.pairs
    assert pair.metrics["AP"].value == pytest.approx((joined.runs[1].metrics["AP"].value or 0) - np.mean(single))
    assert (pair.metrics["AP"].standard_error or 0) ** 2 >= between
    assert sum(one.share for one in pair.categories) == pytest.approx(pair.metrics["AP"].value)
    again = read_runs([seeds[0], seeds[0].parent / seeds[1].name, data.good])
    assert len(compare_runs(again, join_seeds=True).runs) == 2
    other_order = read_runs([seeds[2], seeds[0], seeds[1], data.good])
    assert compare_runs(other_order, join_seeds=True).record() == joined.record()


def compared_tables(tables: Sequence[Sequence[MatchTable]]) -> Comparison:
    """A comparison of runs of which only the match tables are there, one for each seed."""
    record = {
        "model": "m", "dataset": "made", "split": "val", "comparable": None, "counts": {"tracks": 1, "truths": 1},
    }  # fmt: skip
    runs: Any = [SimpleNamespace(label=f"run {n}", folder=str(n), record=record) for n in range(len(tables))]
    return compare_tables(runs, tables)


def test_rates_on_absent_words_are_compared_where_they_are_known() -> None:
    population = make_population(3, 30, 8)
    counts = np.random.default_rng(0).integers(1, 9, (2, 30, 4))
    counts[:, ::5, 1:3] = 0  # a video of which nothing is known to be absent
    before, after = (replace(population.table(run), presence=table) for run, table in zip((0, 1), counts, strict=True))
    comparison = compared_tables([[before], [after]])
    keys = ("presence@0.5/IL_MCC", "presence@0.5/IL_FPR")
    rates = [rates_of(table.sum(0)) for table in counts]
    for place, (key, sign) in enumerate(zip(keys, (1, -1), strict=True)):
        found = comparison.pairs[0].metrics[key]
        assert found.value == pytest.approx(sign * (rates[1][place] - rates[0][place]))  # positive is better
        assert [run.metrics[key].value for run in comparison.runs] == pytest.approx([one[place] for one in rates])
        assert found.low is not None
        assert found.high is not None
        assert found.low <= (found.value or 0) <= found.high
        left = [
            rates_of(counts[1].sum(0) - counts[1][v])[place] - rates_of(counts[0].sum(0) - counts[0][v])[place]
            for v in range(30)
        ]
        videos = 30 if place == 0 else 24
        assert found.videos == videos
        error = np.sqrt((videos - 1) / videos * np.square(left - np.mean(left)).sum())
        assert found.standard_error == pytest.approx(error)
    text = written_comparison(comparison, "terminal")
    assert "IL_FPR@0.5: a positive difference is a lower rate" in text
    assert "IL_MCC@0.5" in text
    assert keys[0] not in compared_tables([[before], [population.table(1)]]).pairs[0].metrics


@st.composite
def odd_comparisons(draw: st.DrawFn) -> list[list[MatchTable]]:
    """Up to six runs of up to three seeds each: few videos, few categories, no or perfect predictions, equal ones."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    videos, categories = draw(st.sampled_from([1, 5, 6, 7, 20])), draw(st.sampled_from([1, 2, 9]))
    objects = int(rng.integers(1, 3 * videos + 2))
    video, category = rng.integers(0, videos, objects), rng.integers(0, categories, objects)

    def table(kind: str) -> MatchTable:
        more = 0 if kind in ("none", "perfect") else int(rng.integers(1, objects + 2))
        found = np.full(objects, kind == "perfect") if kind in ("none", "perfect") else rng.random(objects) < 0.7
        tracks = int(found.sum()) + more
        levels = np.full(tracks, 10) if kind == "perfect" else rng.integers(0, 1 if kind == "zero" else 11, tracks)
        levels[int(found.sum()) :] = 0
        hits = (1 << levels) - 1
        made = Tracks(
            np.concatenate([video[found], rng.integers(0, videos, more)]),
            np.concatenate([category[found], rng.integers(0, categories, more)]),
            rng.integers(1, 5, tracks) / 4,
            hits,
            1023 & ~hits,
        )
        return make_table(videos, categories, video, category, made, "lvvis")

    runs: list[list[MatchTable]] = []
    for _ in range(draw(st.integers(1, 6))):
        if runs and draw(st.booleans()):
            runs.append(draw(st.sampled_from(runs)))
        else:
            kinds = st.sampled_from(["random", "random", "none", "zero", "perfect"])
            runs.append([table(kind) for kind in draw(st.lists(kinds, min_size=1, max_size=3))])
    return runs


@settings(max_examples=30)
@given(odd_comparisons())
def test_numbers_agree_with_each_other(runs: list[list[MatchTable]]) -> None:
    """Also for one video, one category, ties, nothing found, everything found, and unequal numbers of seeds."""
    comparison = compared_tables(runs)
    text = json.dumps(comparison.record(), allow_nan=False)
    assert json.dumps(compared_tables(runs).record()) == text
    families: dict[bool, list[Difference]] = {True: [], False: []}
    for one in comparison.contrasts:
        for key, found in one.metrics.items():
            families[key == "AP"].append(found)
            assert (found.p_value is None) == (found.low is None)
            if found.p_value is not None:
                low, value, high = (cast(float, end) for end in (found.low, found.value, found.high))
                assert low <= value <= high
                assert (found.p_value < 0.05) == (low > 0 or high < 0), (key, found)
    for family in families.values():
        p_values = sorted(one.p_value for one in family if one.p_value is not None)
        for one in family:
            if one.p_value is not None:
                steps = [p * (len(p_values) - place) for place, p in enumerate(p_values) if p <= one.p_value]
                assert one.adjusted_p == pytest.approx(min(1, max(steps)))
    ranks = comparison.ranks()
    values = {run.label: run.metrics["AP"].value or 0.0 for run in comparison.runs}
    for label, (best, worst) in ranks.items():
        above = sum(other > values[label] + jackknife.ROUNDING for other in values.values())
        below = sum(other < values[label] - jackknife.ROUNDING for other in values.values())
        assert 1 <= best <= 1 + above
        assert len(values) - below <= worst <= len(values)


@settings(max_examples=20)
@given(odd_comparisons())
def test_runs_in_another_order_have_the_same_numbers(runs: list[list[MatchTable]]) -> None:
    """Exactly the same, with the sign of each difference reversed."""
    comparison, reverse = compared_tables(runs), compared_tables(runs[::-1])
    last = len(runs) - 1
    names = {f"run {last - place}": f"run {place}" for place in range(len(runs))}
    assert {names[label]: rank for label, rank in reverse.ranks().items()} == comparison.ranks()
    assert [run.metrics for run in reverse.runs[::-1]] == [run.metrics for run in comparison.runs]
    for one in comparison.contrasts:
        (other,) = [o for o in reverse.contrasts if (names[o.run], names[o.reference]) == (one.reference, one.run)]
        assert {key: turned(found) for key, found in other.metrics.items()} == one.metrics
        assert other.is_identical == one.is_identical


@pytest.mark.parametrize("damage", ["absent", "damaged", "of another run"])
def test_a_table_that_does_not_fit_is_made_again(copy: Runs, damage: str) -> None:
    runs = copy
    path = runs.good / MATCHES_FILE
    before = path.read_bytes()
    if damage == "absent":
        path.unlink()
    else:
        path.write_bytes(b"?" if damage == "damaged" else (runs.noisy / MATCHES_FILE).read_bytes())
    assert "is not the file" in error_of([runs.good], annotations=write_other(runs.annotations))
    compare_runs(read_runs([runs.good]), annotations=runs.annotations)
    assert path.read_bytes() == before
    path.unlink()
    compare_runs(read_runs([runs.good]))  # the run folder knows where its data lies
    assert path.read_bytes() == before


def write_other(annotations: Path) -> Path:
    other = annotations.with_name("other.json")
    other.write_text(annotations.read_text().replace('"c1"', '"another"'))
    return other


def test_runs_of_other_videos_data_or_protocol_are_refused(copy: Runs, tmp_path: Path) -> None:
    runs = copy
    limited = run_oracle(tmp_path, runs.annotations, limit=2)
    assert "another number of videos (2, not 10)" in error_of([runs.good, limited])
    elsewhere = run_oracle(tmp_path, write_other(runs.annotations))
    assert "another annotations" in error_of([runs.good, elsewhere])
    change_record(runs.noisy, protocol={"name": "lvvis", "version": "0"})
    assert "version 0 of the protocol lvvis; this harness has version 1" in error_of([runs.good, runs.noisy])


def test_incomplete_runs_and_runs_without_numbers_are_refused(copy: Runs, tmp_path: Path) -> None:
    runs = copy
    change_record(runs.good, complete=False, videos={"total": 10, "done": 9, "failed": []})
    assert "is incomplete: 9 of 10 videos" in error_of([runs.noisy, runs.good])
    reasons = {"AP": "no annotated track: the videos have no annotations", "APb": "no annotated base track"}
    change_record(runs.blurred, metrics={"AP": None}, corrected={"AP": None}, undefined={"metrics": reasons})
    assert f"has no numbers: {reasons['AP']}; choose a run whose AP is defined" in error_of([runs.blurred])
    change_record(runs.noisy, metrics={**metrics_of(runs.noisy), "AP": 0.999})
    assert "do not give the numbers" in error_of([runs.noisy], annotations=runs.annotations)
    assert "does not exist" in error_of([tmp_path / "nothing"])


def change_record(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(record | changes))
    write_sums(folder)
