"""The summary of a report in sentences: which run is better, by how much, whether that is significant, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.reports.comparison import Comparison, Difference, Interval, Pair
from harness.reports.pages import percent, points
from harness.run_folder.finished_run import FinishedRun
from harness.scoring.analysis import Analysis
from harness.scoring.errors_breakdown import KINDS

NOTABLE = 0.005
"""Smaller differences in the cost of errors, in fractions, are not mentioned."""
_GROUPS = {"APb": "base", "APn": "novel", "APc": "common", "APu": "uncommon"}


@dataclass(frozen=True)
class Summary:
    """One sentence with the result, and sentences that support it."""

    answer: str
    grounds: tuple[str, ...]


def summary(
    runs: Sequence[FinishedRun], comparison: Comparison | None, reason: str, analyses: Mapping[int, Analysis]
) -> Summary:
    """Summarise the runs; ``reason`` says why there is no comparison, keys of ``analyses`` are the numbers of runs."""
    if all(run.metrics.get("AP") is None for run in runs):
        return Summary("There are no numbers to judge by.", tuple(filter(None, [_no_numbers(runs), reason])))
    if comparison is None:
        return Summary(_plain_answer(runs), (reason,) if reason else ())
    if len(comparison.runs) == 1:
        return _of_one(comparison, analyses.get(0))
    if len(comparison.pairs) == 1:
        pair = comparison.pairs[0]
        return Summary(_answer(comparison, pair), (*_grounds(pair), *_errors(pair, analyses)))
    return _of_several(comparison)


def _no_numbers(runs: Sequence[FinishedRun]) -> str:
    reasons = {run.record.get("undefined", {}).get("metrics", {}).get("AP") for run in runs} - {None}
    return "; ".join(sorted(str(reason) for reason in reasons))


def _plain_answer(runs: Sequence[FinishedRun]) -> str:
    ranked = sorted((r for r in runs if r.metrics.get("AP") is not None), key=lambda r: -(r.metrics["AP"] or 0))
    return "AP: " + ", ".join(f"{run.label} {percent(run.metrics['AP'])}" for run in ranked) + "."


def told(interval: Interval | Difference, signed: bool = False) -> str:
    """The 95 % interval as text; empty if it is unknown."""
    if interval.low is None or interval.high is None:
        return ""
    write = points if signed else percent
    return f"95 % interval {write(interval.low)} to {write(interval.high)}"


def p_value(value: float | None) -> str:
    """A p-value in words."""
    return "p unknown" if value is None else "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _of_one(comparison: Comparison, analysis: Analysis | None) -> Summary:
    run = comparison.runs[0]
    ap = run.metrics["AP"]
    answer = f"{run.label} reaches {percent(ap.value)} AP on {comparison.dataset} {comparison.split}"
    answer += f" ({told(ap)})." if told(ap) else "."
    groups = [
        f"{name} {percent(run.metrics[key].value)} ({told(run.metrics[key])})"
        for key, name in _GROUPS.items()
        if key in run.metrics and run.metrics[key].value is not None
    ]
    grounds = [f"Categories: {', '.join(groups)}."] if groups else []
    if analysis is not None:
        worst = sorted(analysis.errors.kinds.values(), key=lambda kind: -(kind.dap or 0))[:3]
        costs = [f"{kind.kind} ({points(kind.dap)} if repaired)" for kind in worst if kind.dap]
        grounds += [f"What costs most AP: {', '.join(costs)}."] if costs else []
    return Summary(answer, tuple(grounds))


def _answer(comparison: Comparison, pair: Pair) -> str:
    found = pair.metrics["AP"]
    ap = {run.label: run.metrics["AP"].value for run in comparison.runs}
    if found.value is None:
        return f"{pair.run} and {pair.reference} cannot be told apart: AP is undefined."
    winner, loser = (pair.run, pair.reference) if found.value >= 0 else (pair.reference, pair.run)
    numbers = f"{percent(ap[winner])} against {percent(ap[loser])} AP, {points(abs(found.value))} points"
    if found.is_significant:
        return f"{winner} is better than {loser}: {numbers}. The difference is significant ({p_value(found.p_value)})."
    return f"{winner} and {loser} do not differ significantly: {numbers} may be chance ({p_value(found.p_value)})."


def _grounds(pair: Pair) -> list[str]:
    """The evidence for the result and where it holds, from the better run's side."""
    ap, is_swapped = pair.metrics["AP"], _is_swapped(pair)
    lines = []
    if ap.low is not None and ap.high is not None:
        ends = (-ap.high, -ap.low) if is_swapped else (ap.low, ap.high)
        line = f"The 95 % interval of the difference is {points(ends[0])} to {points(ends[1])} points of AP."
        if ap.detectable is not None:
            line += f" Videos like these would reliably show a difference of {percent(ap.detectable)} points or more."
        lines.append(line)
    groups = [
        f"{name} categories {points(-found.value if is_swapped else found.value)} ({significance(found)})"
        for key, name in _GROUPS.items()
        if (found := pair.metrics.get(key)) is not None and found.value is not None
    ]
    if groups:
        lines.append(f"Where: {', '.join(groups)}.")
    return lines + _categories(pair)


def _is_swapped(pair: Pair) -> bool:
    """Whether the reference is the better run."""
    return (pair.metrics["AP"].value or 0) < 0


def significance(found: Difference) -> str:
    """Whether a difference is significant, and its p-value."""
    return f"{'significant' if found.is_significant else 'not significant'}, {p_value(found.p_value)}"


def _categories(pair: Pair) -> list[str]:
    """The numbers of categories ahead and behind, and the ones with the largest share of the difference."""
    sign = -1 if _is_swapped(pair) else 1
    winner = pair.reference if sign < 0 else pair.run
    gains = [sign * (one.difference.value or 0) for one in pair.categories]
    ahead, behind = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    tested = [one.q_value for one in pair.categories if one.q_value is not None]
    sure = sum(q_value < 0.05 for q_value in tested)
    line = f"{winner} is ahead in {ahead} of {len(gains)} categories and behind in {behind}."
    if tested:
        line += f" In enough videos for a test: {len(tested)}; significant, corrected for their number: {sure}."
    lines = [line]
    driving = [one for one in pair.categories if sign * one.share > 0][:4]
    if driving:
        names = ", ".join(f"{one.name} {points(sign * (one.difference.value or 0), 0)}" for one in driving)
        lines.append(f"Most of it comes from {names} (points of their AP).")
    return lines


def _errors(pair: Pair, analyses: Mapping[int, Analysis]) -> list[str]:
    """The kinds of error whose cost to the worse run exceeds that to the better one most."""
    if not {0, 1} <= analyses.keys():
        return []
    sides = [(pair.reference, analyses[0].errors.kinds), (pair.run, analyses[1].errors.kinds)]
    (winner, few), (loser, many) = sides if _is_swapped(pair) else sides[::-1]
    apart = {kind: (many[kind].dap or 0) - (few[kind].dap or 0) for kind in KINDS}
    costs = [
        f"{kind} errors cost {loser} {percent(many[kind].dap)} points of AP and {winner} {percent(few[kind].dap)}"
        for kind in sorted(apart, key=lambda kind: -apart[kind])[:2]
        if apart[kind] >= NOTABLE
    ]
    return [f"Why: {'; '.join(costs)}."] if costs else []


def _of_several(comparison: Comparison) -> Summary:
    ranked = sorted(comparison.runs, key=lambda run: -(run.metrics["AP"].value or 0))
    best = ranked[0]
    answer = f"{best.label} has the highest AP, {percent(best.metrics['AP'].value)} ({told(best.metrics['AP'])})."
    return Summary(answer, tuple(_answer(comparison, pair) for pair in comparison.pairs))
