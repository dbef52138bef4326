"""Every sentence of a summary holds for the numbers that it is about, on random comparisons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from match_populations import Tracks, World, make_table

from harness.reports.comparison import Comparison, Difference, Pair, compare_tables, turned
from harness.reports.pages import percent
from harness.reports.summary import MOST_NAMED, NOTABLE, Summary, p_value, summary
from harness.run_folder.finished_run import FinishedRun
from harness.scoring.errors_breakdown import KINDS
from harness.scoring.jackknife import ROUNDING
from harness.scoring.match_table import MatchTable

LABELS = ("alpha", "beta", "gamma", "delta")


def stand_in(label: str, ap: float | None = 0.5) -> FinishedRun:
    """What a comparison and a summary read of a run folder."""
    record = {
        "model": label, "dataset": "made", "split": "val", "comparable": None, "not_comparable": [], "limit": None,
        "counts": {"tracks": 1, "truths": 1}, "complete": True,
    }  # fmt: skip
    rows = [SimpleNamespace(AP=value) for value in (0.0, 0.7, None)]
    run = SimpleNamespace(label=label, folder=label, id=label, record=record, metrics={"AP": ap}, categories=rows)
    return cast(FinishedRun, run)


def with_other_scores(table: MatchTable) -> MatchTable:
    """The same order of tracks by other scores: another run with the same numbers."""
    return replace(table, matches=replace(table.matches, score=table.matches.score / 2))


def in_other_order(table: MatchTable, rng: np.random.Generator) -> MatchTable:
    """The same tracks, those with equal scores in another order."""
    m = table.matches
    category = np.repeat(np.arange(len(m.first) - 1), np.diff(m.first))
    order = np.lexsort((rng.random(len(category)), -m.score, category))
    columns = {name: getattr(m, name)[order] for name in ("video", "score", "hits", "misses")}
    return replace(table, matches=replace(m, **columns))


def compared(tables: list[MatchTable]) -> tuple[list[FinishedRun], Comparison]:
    return compared_seeds([[table] for table in tables])


def compared_seeds(tables: list[list[MatchTable]]) -> tuple[list[FinishedRun], Comparison]:
    runs = [stand_in(label) for label, _ in zip(LABELS, tables, strict=False)]
    return runs, compare_tables(runs, tables, [tuple(range(len(one))) if len(one) > 1 else () for one in tables])


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[list[FinishedRun], Comparison, dict[int, Any]]:
    """One to four runs of a made world: better, worse, identical, or level with another one."""
    seed, count = draw(st.integers(0, 10_000)), draw(st.integers(1, 4))
    world = World(
        draw(st.integers(2, 30)), better=draw(st.sampled_from([0.0, 0.3, 1.0])), taste=0.5, wrong=3, seed=seed
    )
    videos = draw(st.integers(2, 40))
    tables: list[MatchTable] = []
    for number in range(count):
        kind = draw(st.sampled_from(["first", "second", "again", "level"]))
        if kind in ("again", "level") and tables:
            other = draw(st.sampled_from(tables))
            tables.append(other if kind == "again" else with_other_scores(other))
        else:
            tables.append(world.sample(np.random.default_rng(seed), videos).table(int(kind == "second")))
        assert len(tables) == number + 1
    costs = st.fixed_dictionaries({kind: st.none() | st.floats(0, 0.4) for kind in KINDS})
    analyses = {n: analysis(draw(costs)) for n in range(count) if draw(st.booleans())}
    return *compared_seeds(
        [[table, *draw(st.lists(st.sampled_from(tables), max_size=2))] for table in tables]
    ), analyses


def analysis(costs: Mapping[str, float | None]) -> Any:
    kinds = {kind: SimpleNamespace(kind=kind, dap50=cost) for kind, cost in costs.items()}
    return SimpleNamespace(errors=SimpleNamespace(kinds=kinds))


def is_about(text: str, value: float, digits: int = 1) -> bool:
    """Whether a text is the size of a number of points."""
    shown = percent(abs(value), digits)
    return text == (f"{shown} points" if float(shown) else f"less than {0.5 * 0.1**digits:.{digits + 1}f} points")


def between(comparison: Comparison, reference: str, run: str, metric: str = "AP") -> Difference:
    for one in comparison.contrasts:
        if {one.reference, one.run} == {reference, run}:
            return one.metrics[metric] if one.run == run else turned(one.metrics[metric])
    raise AssertionError(f"no pair of {reference} and {run}")


def is_same(comparison: Comparison, one: str, other: str) -> bool:
    return next(c.is_identical for c in comparison.contrasts if {c.reference, c.run} == {one, other})


NAME = "(alpha|beta|gamma|delta)"
SIZE = r"(less than 0\.00?5 points|[\d.]+ points)"


def check_verdict(text: str, comparison: Comparison) -> None:
    """A sentence on two runs as a whole."""
    aps = {run.label: run.metrics["AP"].value or 0.0 for run in comparison.runs}
    better = re.search(rf"{NAME} is better than {NAME} by {SIZE} of AP, ([\d.]+) against ([\d.]+)\.", text)
    ahead = re.search(rf"{NAME} is ahead of {NAME} by {SIZE} of AP, ([\d.]+) against ([\d.]+)\.", text)
    same = re.search(rf"{NAME} and {NAME} are identical.* Both reach ([\d.]+) AP", text)
    tie = re.search(rf"{NAME} and {NAME} tie at ([\d.]+) AP; their tracks are not the same", text)
    (found,) = [one for one in (better, ahead, same, tie) if one is not None]
    one, other = found[1], found[2]
    apart = between(comparison, other, one)
    if found in (better, ahead):
        assert aps[one] > aps[other]
        assert (apart.value or 0) > 0
        digits = 2 if (apart.value or 0) < 0.001 else 1
        assert is_about(found[3], aps[one] - aps[other], digits)
        assert (found[4], found[5]) == (percent(aps[one], digits), percent(aps[other], digits))
        assert apart.is_significant == (found is better)
        assert ("not significant: may be chance" in text) == (found is ahead and apart.p_value is not None)
        assert ("not tested" in text) == (apart.p_value is None)
    else:
        assert abs(aps[one] - aps[other]) <= ROUNDING
        assert found[3] == percent(aps[one])
        assert is_same(comparison, one, other) == (found is same)


def check_grounds(lines: tuple[str, ...], comparison: Comparison, analyses: dict[int, Any]) -> set[str]:
    """Sentences on the two best runs. Returns which kinds of sentence there were."""
    seen = set()
    assert comparison.top is not None
    pair = comparison.top
    gains = [one.difference.value or 0.0 for one in pair.categories]
    for line in lines:
        assert not re.search(r"\b1 (are|have)\b", line)
        if found := re.match(rf"The difference of AP of {NAME} and {NAME} is 0 \(95 % interval −(\S+) to (\S+)", line):
            seen.add("tie")
            ap = pair.metrics["AP"]
            assert {found[1], found[2]} == {pair.run, pair.reference}
            assert (ap.value, found[3], found[4]) == (0, percent(-(ap.low or 0)), percent(ap.high))
        elif found := re.match(rf"{NAME} is ahead by (−?[\d.]+) to (−?[\d.]+) points of AP", line):
            seen.add("interval")
            assert (pair.metrics["AP"].value or 0) > 0
            low, high = (float(end.replace("−", "-")) for end in found.groups()[1:])
            ap = pair.metrics["AP"]
            assert found[1] == pair.run
            assert (low, high) == (
                pytest.approx(100 * (ap.low or 0), abs=0.051),
                pytest.approx(100 * (ap.high or 0), abs=0.051),
            )
            assert low <= 100 * (ap.value or 0) + 0.051
            assert high >= 100 * (ap.value or 0) - 0.051
        elif line.startswith(f"{pair.run} by group: "):
            seen.add("where")
            for name, key in (("base", "APb"), ("novel", "APn")):
                one = pair.metrics[key]
                told = re.search(rf"{name} categories (?:(ahead|behind) by {SIZE} \((\w+)|(level))", line)
                assert (told is None) == (one.value is None)
                if told is None or one.value is None:
                    continue
                if told[4]:
                    assert one.value == 0
                else:
                    assert (told[1] == "ahead") == (one.value > 0)
                    assert is_about(told[2], one.value)
                    assert (told[3] == "significant") == one.is_significant
        elif found := re.match(rf"{NAME} is ahead in (\d+) of (\d+) categories and behind in (\d+)\.(.*)", line):
            seen.add("counts")
            assert [int(n) for n in found.groups()[1:4]] == [
                sum(g > 0 for g in gains),
                len(gains),
                sum(g < 0 for g in gains),
            ]
            if found[5]:
                more = [int(n) for n in re.findall(r"\d+", found[5])]
                sure = [one for one in pair.categories if (1 if one.q_value is None else one.q_value) < 0.05]
                assert more[0] == sum(one.q_value is not None for one in pair.categories)
                assert more[1] == 6
                signs = [np.sign(one.difference.value or 0) for one in sure]
                assert more[2:] == [signs.count(1), signs.count(-1)]
        elif re.search(r"\bgains\b", line):
            seen.add(check_gains(line, pair))
        elif line.startswith("Errors that cost"):
            seen.add("errors")
            few = analyses[LABELS.index(pair.run)].errors.kinds
            many = analyses[LABELS.index(pair.reference)].errors.kinds
            assert line.startswith(f"Errors that cost {pair.reference} more than {pair.run}, in points of AP50: ")
            for kind in KINDS:
                if told := re.search(rf"[:;] {kind} (\d+\.\d|–) against (\d+\.\d|–)", line):
                    assert (told[1], told[2]) == (percent(many[kind].dap50), percent(few[kind].dap50))
                    assert (many[kind].dap50 or 0) > (few[kind].dap50 or 0)
            apart = {
                kind: cast(float, many[kind].dap50) - cast(float, few[kind].dap50)
                for kind in KINDS
                if many[kind].dap50 is not None and few[kind].dap50 is not None
            }
            told_kinds = [kind for kind in KINDS if f" {kind} " in line.replace(";", "; ").replace(":", ": ")]
            assert 1 <= len(told_kinds) <= 2
            least = min(apart[kind] for kind in told_kinds)
            assert least >= NOTABLE
            others = [value for kind, value in apart.items() if kind not in told_kinds]
            assert max(others, default=0) <= (least if len(told_kinds) == 2 else NOTABLE)
        else:
            check_several(line, comparison)
            seen.add("several")
    return seen


def check_gains(line: str, pair: Pair) -> str:
    shares = sorted((one.share for one in pair.categories if one.share > 0), reverse=True)
    named = dict(re.findall(r"(c\d+) (\d+\.\d+)", line))
    by_name = {one.name: one.share for one in pair.categories}
    assert len(named) == min(MOST_NAMED, len(shares))
    for name, text in named.items():
        assert text == percent(by_name[name], 2)
        assert by_name[name] >= shares[len(named) - 1]
    part = sum(by_name[name] for name in named) / sum(shares)
    if line.startswith("All gains"):
        assert part == pytest.approx(1)
        return "all"
    if found := re.match(r"Most of the gains, ([\d.]+) %, come from", line):
        assert float(found[1]) > 50
        assert part > 0.5
        assert float(found[1]) == pytest.approx(100 * part, abs=0.051)
        return "most"
    found = re.match(r"The gains are spread: half of them come from (\d+) categories, ([\d.]+) % from", line)
    assert found is not None
    assert float(found[2]) == pytest.approx(100 * part, abs=0.051)
    assert part < 0.501
    needed = int(found[1])
    assert sum(shares[:needed]) >= 0.5 * sum(shares) * (1 - 1e-9)
    assert sum(shares[: needed - 1]) < 0.5 * sum(shares)
    return "spread"


def check_several(line: str, comparison: Comparison) -> None:
    if line.startswith("Identical"):
        told = {frozenset(re.findall(NAME, part)) for part in line.split(";")}
        assert told == {frozenset((c.reference, c.run)) for c in comparison.contrasts if c.is_identical}
        return
    if line.startswith("No pair of runs is tested"):
        assert {one.metrics["AP"].p_value for one in comparison.contrasts} == {None}
        return
    found = re.match(r"(\d+) of (\d+) pairs of runs differ significantly", line)
    assert found is not None, line
    assert int(found[2]) == len(comparison.contrasts)
    assert int(found[1]) == sum(one.metrics["AP"].is_significant for one in comparison.contrasts)
    labels = [run.label for run in comparison.runs]
    for label, best, worst in re.findall(rf"{NAME} (\d+)(?:-(\d+))?", line):
        apart = [between(comparison, other, label) for other in labels if other != label]
        above = sum(one.is_significant and (one.value or 0) > 0 for one in apart)
        below = sum(one.is_significant and (one.value or 0) < 0 for one in apart)
        assert (int(best), int(worst or best)) == (1 + below, len(labels) - above)


@given(comparisons())
def test_no_sentence_says_what_the_numbers_do_not_hold(
    drawn: tuple[list[FinishedRun], Comparison, dict[int, Any]],
) -> None:
    runs, comparison, analyses = drawn
    check_intervals(comparison)
    made = summary(runs, comparison, "", analyses)
    assert not re.search("nan|None|inf", " ".join((made.answer, *made.lines)))
    check_named(made, comparison)
    if len(runs) == 1:
        check_one(made, comparison, analyses)
    elif "share the highest AP" in made.answer:
        named = set(re.findall(NAME, made.answer.partition(" share")[0]))
        aps = {run.label: run.metrics["AP"].value or 0.0 for run in comparison.runs}
        assert len(named) > 1
        assert named == {label for label, ap in aps.items() if ap >= max(aps.values()) - ROUNDING}
        check_grounds(made.lines, comparison, analyses)
    else:
        if len(runs) > 2:
            first = re.match(rf"{NAME} has the highest AP of {len(runs)} runs\. (.*)", made.answer)
            assert first is not None
            aps = {run.label: run.metrics["AP"].value or 0.0 for run in comparison.runs}
            assert sorted(aps, key=lambda label: -aps[label])[0] == first[1]
            assert list(aps.values()).count(aps[first[1]]) == 1
        check_verdict(made.answer, comparison)
        check_grounds(made.lines, comparison, analyses)


def check_named(made: Summary, comparison: Comparison) -> None:
    """What a page leads from has the name of its category or kind."""
    names = {one.id: one.name for one in comparison.top.categories} if comparison.top else {}
    for one in made.named:
        assert one.text == (one.kind if one.category is None else names[one.category])
        assert any(one.text in line for line in made.lines)
        assert (one.category is None) == (one.kind in KINDS)


def check_intervals(comparison: Comparison) -> None:
    """An interval holds its number, and a difference is significant only where its interval excludes 0."""
    pairs = [*comparison.contrasts, *comparison.pairs, *([comparison.top] if comparison.top else [])]
    numbers = [found for run in comparison.runs for found in run.metrics.values()]
    differences = [found for pair in pairs for found in pair.metrics.values()]
    for found in (*numbers, *differences):
        if found.low is not None:
            assert found.low <= cast(float, found.value) <= cast(float, found.high)
    for found in differences:
        if found.is_significant:
            assert cast(float, found.low) > 0 or cast(float, found.high) < 0


def check_one(made: Summary, comparison: Comparison, analyses: dict[int, Any]) -> None:
    metrics = comparison.runs[0].metrics
    assert f"reaches {percent(metrics['AP'].value)} AP" in made.answer
    assert ("interval" in made.answer) == (metrics["AP"].low is not None and metrics["AP"].low < metrics["AP"].high)
    for line in made.lines:
        if found := re.match(
            rf"(Base|Novel) categories are ahead of (?:base|novel) ones by {SIZE} .*?(may be chance)?\.$", line
        ):
            gap = metrics["APb-APn"]
            assert (found[1] == "Base") == ((gap.value or 0) > 0)
            assert is_about(found[2], gap.value or 0)
            assert bool(found[3]) == ((gap.low or 0) <= 0 <= (gap.high or 0))
        elif line.startswith("Of "):
            assert line == "Of 2 categories 1 has an AP of 0 and 1 one of 50 or more."
        elif line.startswith("What costs most"):
            kinds = {kind: one.dap50 or 0 for kind, one in analyses[0].errors.kinds.items()}
            told = re.findall(rf"({'|'.join(KINDS)}) (\d+\.\d)", line)
            assert [text for _, text in told] == [percent(kinds[kind]) for kind, _ in told]
            assert min(kinds[kind] for kind, _ in told) >= max(
                (cost for kind, cost in kinds.items() if kind not in dict(told) and len(told) == 3), default=0
            )
        else:
            assert line.startswith("Categories: "), line


def told_of(*tables: MatchTable, analyses: dict[int, Any] | None = None) -> Summary:
    runs, comparison = compared(list(tables))
    return summary(runs, comparison, "", analyses or {})


def sample(better: float, categories: int = 30, videos: int = 60, run: int = 1) -> MatchTable:
    return World(categories, better=better, seed=3).sample(np.random.default_rng(3), videos).table(run)


def test_the_better_run_is_named_whichever_comes_first() -> None:
    strong, weak = sample(1.5), sample(1.5, run=0)
    assert told_of(weak, strong).answer.startswith("beta is better than alpha by ")
    assert told_of(strong, weak).answer.startswith("alpha is better than beta by ")
    assert told_of(strong, weak).answer.endswith("The difference is significant, p < 0.001.")
    grounds = told_of(weak, strong).lines
    assert [line.replace("beta", "alpha") for line in grounds] == list(told_of(strong, weak).lines)


def test_identical_predictions_and_ties_are_called_so() -> None:
    table = sample(0.0)
    assert (
        "are identical: every scored track has the same score, hits and misses. Both reach"
        in told_of(table, table).answer
    )
    assert told_of(table, table).lines == ()
    assert "tie at" in told_of(table, with_other_scores(table)).answer
    several = told_of(table, sample(1.5, run=0), table)
    assert "Identical (every scored track has the same score, hits and misses): alpha and gamma." in several.lines


def test_the_order_of_equal_scores_is_no_difference() -> None:
    table = sample(0.0)
    table = replace(table, matches=replace(table.matches, score=np.round(table.matches.score, 1)))
    other = in_other_order(table, np.random.default_rng(0))
    assert not np.array_equal(other.matches.video, table.matches.video)
    assert other.same_tracks(table)
    assert not with_other_scores(table).same_tracks(table)


def test_seeds_are_identical_if_each_of_them_is() -> None:
    one, other = sample(0.0), sample(0.0, run=0)
    runs, comparison = compared_seeds([[one, other], [one, other]])
    assert "are identical: every scored track has" in summary(runs, comparison, "", {}).answer
    runs, comparison = compared_seeds([[one, other], [other, one]])
    told = summary(runs, comparison, "", {})
    assert "tie at" in told.answer


def test_a_tie_is_not_said_to_be_ahead() -> None:
    """Either run finds one of two objects of each of 10 videos, but not the same ones."""
    video = np.repeat(np.arange(10), 2)
    found = [np.arange(side, 20, 2 + side)[:7] for side in (0, 1)]
    tables = [
        make_table(10, 1, video, 0 * video, Tracks(video[one], 0 * one, 0 * one + 0.5, 0 * one + 1023, 0 * one))
        for one in found
    ]
    told = told_of(*tables)
    assert "tie at" in told.answer
    assert re.match(r"The difference of AP of (alpha and beta|beta and alpha) is 0 \(95 % interval −", told.lines[0])


def test_runs_of_few_videos_are_not_said_to_be_tested() -> None:
    several = told_of(*(sample(0.5, videos=5, run=run) for run in (0, 1, 0)))
    assert several.lines[0] == "No pair of runs is tested: fewer than 6 videos."


def test_a_small_difference_has_the_digits_that_show_it() -> None:
    """One track of many in the largest category is a hit at one threshold less."""
    table = sample(0.0, 200, 400)
    hits = table.matches.hits.copy()
    place = int(np.flatnonzero(hits == 1023)[-1])
    hits[place] = 511
    other = replace(table, matches=replace(table.matches, hits=hits, misses=1023 & ~hits))
    answer = told_of(table, other).answer
    found = re.search(rf"ahead of beta by {SIZE} of AP, (\d+\.\d\d) against (\d+\.\d\d)\.", answer)
    assert found is not None, answer


def test_many_small_gains_are_called_spread() -> None:
    grounds = " ".join(told_of(sample(1.5, 400, 400, 0), sample(1.5, 400, 400)).lines)
    assert "The gains are spread: half of them come from" in grounds
    assert "Most of" not in grounds


def test_costs_are_told_at_one_threshold() -> None:
    costs = dict.fromkeys(KINDS, 0.0)
    analyses = {0: analysis({**costs, KINDS[0]: 0.2}), 1: analysis({**costs, KINDS[0]: 0.05})}
    grounds = told_of(sample(1.5, run=0), sample(1.5), analyses=analyses).lines
    assert grounds[-1] == f"Errors that cost alpha more than beta, in points of AP50: {KINDS[0]} 20.0 against 5.0."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "p unknown"),
        (0.0009, "p < 0.001"),
        (1.0, "p = 1.000"),
        (0.0499, "p just below 0.05"),
        (0.0504, "p just above 0.05"),
    ],
)
def test_p_values_in_words(value: float | None, text: str) -> None:
    assert p_value(value) == text
