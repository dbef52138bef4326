"""The summary of a report in sentences: which run is better, by how much, whether that may be chance, where, and which
errors go with it.

Every sentence has a condition on the numbers. Differences are written as "ahead by" and "behind by", without signs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.reports.comparison import GAP, Comparison, Contrast, Difference, Interval, MeasuredRun, Pair
from harness.reports.comparison_text import IDENTICAL, written_rank
from harness.reports.pages import percent
from harness.reports.published.vocabulary import column_name
from harness.reports.table_rows import COLUMNS, fraction_of, main_columns
from harness.run_folder.finished_run import FinishedRun
from harness.scoring.analysis import Analysis
from harness.scoring.errors_breakdown import KINDS
from harness.scoring.jackknife import FEWEST_VIDEOS, LEVEL, ROUNDING

NOTABLE = 0.005
"""Smaller differences in the cost of errors, in fractions, are not mentioned."""
MOST = 0.5
"""If a few categories have more than this share of all gains, the summary says that most gains come from them."""
MOST_NAMED = 4
"""Largest number of categories named."""
_GROUPS = {"APb": "base", "APn": "novel", "APc": "common", "APu": "uncommon"}


@dataclass(frozen=True)
class Mention:
    """Words of a sentence that stand for a category (its id) or for a kind of error."""

    text: str
    category: int | None = None
    kind: str = ""


Sentence = tuple[str | Mention, ...]


@dataclass(frozen=True)
class Summary:
    """One sentence with the result, and sentences that support it."""

    answer: str
    grounds: tuple[Sentence, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """The supporting sentences as text."""
        return tuple("".join(part if isinstance(part, str) else part.text for part in one) for one in self.grounds)

    @property
    def named(self) -> tuple[Mention, ...]:
        """The categories and kinds of error that the sentences name, in their order."""
        found = (part for one in self.grounds for part in one if isinstance(part, Mention))
        return tuple(dict.fromkeys(found))


def summary(
    runs: Sequence[FinishedRun], comparison: Comparison | None, reason: str, analyses: Mapping[int, Analysis]
) -> Summary:
    """Summarise the runs; ``reason`` says why there is no comparison, keys of ``analyses`` are the numbers of runs."""
    if all(run.metrics.get("AP") is None for run in runs):
        return Summary(_other_answer(runs) or "There are no numbers to compare.", _texts(_no_numbers(runs), reason))
    if comparison is None:
        return Summary(_plain_answer(runs), _texts(reason))
    by_label = {run.label: analyses[n] for n, run in enumerate(comparison.runs) if n in analyses}
    if len(comparison.runs) == 1:
        return _of_one(comparison, runs[0], analyses.get(0))
    if comparison.top is None:
        return Summary(_plain_answer(runs), ())
    if len(comparison.runs) == 2:
        return Summary(_answer(comparison, comparison.top), tuple(_grounds(comparison.top, by_label)))
    return _of_several(comparison, comparison.top, by_label)


def _texts(*texts: str) -> tuple[Sentence, ...]:
    """Sentences that name nothing; empty ones are left out."""
    return tuple((text,) for text in texts if text)


def _listed(parts: Sequence[Sentence], separator: str) -> Sentence:
    """Parts of a sentence, with a separator between them."""
    return tuple(piece for n, part in enumerate(parts) for piece in (*([separator] if n else []), *part))


def _no_numbers(runs: Sequence[FinishedRun]) -> str:
    reasons = {run.record.get("undefined", {}).get("metrics", {}).get("AP") for run in runs} - {None}
    return "; ".join(sorted(str(reason) for reason in reasons))


def _plain_answer(runs: Sequence[FinishedRun]) -> str:
    ranked = sorted((r for r in runs if r.metrics.get("AP") is not None), key=lambda r: -(r.metrics["AP"] or 0))
    return "AP: " + ", ".join(f"{run.label} {percent(run.metrics['AP'])}" for run in ranked) + "."


def _other_answer(runs: Sequence[FinishedRun]) -> str:
    """The numbers of runs that were scored by another metric than AP, where all have the same one; else empty."""
    records = [run.record for run in runs]
    columns = main_columns(records)
    known = [fraction_of(record, columns[0]) for record in records]
    if columns == COLUMNS or None in known:
        return ""
    numbers = ", ".join(f"{run.label} {percent(value)}" for run, value in zip(runs, known, strict=True))
    return f"{column_name(columns[0])}: {numbers}."


def interval_text(interval: Interval) -> str:
    """The 95 % interval as text; empty if it is unknown, or has no width since all videos give the same."""
    if interval.low is None or interval.high is None or not _is_spread(interval):
        return ""
    return f"95 % interval {percent(interval.low)} to {percent(interval.high)}"


def _is_spread(found: Interval | Difference) -> bool:
    """Whether videos differ, so that an interval has a width."""
    return (found.standard_error or 0.0) > ROUNDING


def p_value(value: float | None) -> str:
    """A p-value in words, on the right side of 0.05."""
    if value is None:
        return "p unknown"
    if value < 0.001:
        return "p < 0.001"
    text = f"{value:.3f}"
    if text == "0.050" and value != 1 - LEVEL:
        return "p just below 0.05" if value < 1 - LEVEL else "p just above 0.05"
    return f"p = {text}"


def significance(found: Difference) -> str:
    """Whether a difference is significant, and its corrected p-value; or why that is not known."""
    p = found.p_value if found.adjusted_p is None else found.adjusted_p
    if p is None:
        return f"not tested: fewer than {FEWEST_VIDEOS} videos"
    kind = "" if p == found.p_value else "corrected "
    return f"{'significant' if found.is_significant else 'may be chance'}, {kind}{p_value(p)}"


def amount(value: float, digits: int = 1) -> str:
    """The size of a difference in points."""
    text = percent(abs(value), digits)
    return f"less than 0.{'0' * digits}5 points" if not float(text) else f"{text} points"


def _signed(value: float) -> str:
    """A number that may be negative, with a minus sign."""
    return percent(value).replace("-", "−")


def _of_one(comparison: Comparison, file: FinishedRun, analysis: Analysis | None) -> Summary:
    run = comparison.runs[0]
    ap = run.metrics["AP"]
    answer = f"{run.label} reaches {percent(ap.value)} AP on {comparison.dataset} {comparison.split}"
    answer += f" ({interval_text(ap)})." if interval_text(ap) else "."
    grounds: list[Sentence] = []
    groups = [
        f"{name} {percent(found.value)}" + (f" ({interval_text(found)})" if interval_text(found) else "")
        for key, name in _GROUPS.items()
        if (found := run.metrics.get(key)) is not None and found.value is not None
    ]
    if groups:
        grounds.append((f"Categories: {', '.join(groups)}.",))
    grounds += _texts(*_gap(run), *_scatter(file))
    if analysis is not None:
        worst = sorted(analysis.errors.kinds.values(), key=lambda kind: -(kind.dap50 or 0))[:3]
        costs: list[Sentence] = [
            (Mention(kind.kind, kind=kind.kind), f" {percent(kind.dap50)}")
            for kind in worst
            if (kind.dap50 or 0) >= NOTABLE
        ]
        grounds += [("What costs most, in points of AP50: ", *_listed(costs, ", "), ".")] if costs else []
    return Summary(answer, tuple(grounds))


def _gap(run: MeasuredRun) -> list[str]:
    """Whether base categories are ahead of novel ones."""
    gap = run.metrics.get(GAP)
    if gap is None or gap.value is None or gap.low is None or gap.high is None or abs(gap.value) <= ROUNDING:
        return []
    front, back = ("Base", "novel") if gap.value > 0 else ("Novel", "base")
    low, high = (gap.low, gap.high) if gap.value > 0 else (-gap.high, -gap.low)
    line = f"{front} categories are ahead of {back} ones by {amount(gap.value)}"
    line += f" (95 % interval {_signed(low)} to {_signed(high)})" if _is_spread(gap) else ""
    return [line + (", which may be chance." if low <= 0 else ".")]


def _scatter(file: FinishedRun) -> list[str]:
    """How many categories are not found at all, and how many have an AP of at least 50."""
    known = [row.AP for row in file.categories if row.AP is not None]
    nothing, half = sum(ap == 0 for ap in known), sum(ap >= 0.5 for ap in known)
    if len(known) < 2:
        return []
    has = "has" if nothing == 1 else "have"
    return [f"Of {len(known)} categories {nothing} {has} an AP of 0 and {half} one of 50 or more."]


def _answer(comparison: Comparison, pair: Contrast) -> str:
    """Of two runs, ``pair`` being the better minus the other."""
    found = pair.metrics["AP"]
    digits = 2 if 0 < abs(found.value or 0.0) < 0.001 else 1  # so that the two numbers differ, too
    ap = {run.label: percent(run.metrics["AP"].value, digits) for run in comparison.runs}
    winner, loser = pair.run, pair.reference
    if pair.is_identical:
        return f"{winner} and {loser} are identical: {IDENTICAL}. Both reach {ap[winner]} AP."
    if not found.value:
        return f"{winner} and {loser} tie at {ap[winner]} AP; their tracks are not the same."
    numbers = f"by {amount(found.value, digits)} of AP, {ap[winner]} against {ap[loser]}"
    if found.is_significant:
        return f"{winner} is better than {loser} {numbers}. The difference is {significance(found)}."
    judged = significance(found) if found.p_value is None else f"not significant: {significance(found)}"
    return f"{winner} is ahead of {loser} {numbers}. The difference is {judged}."


def _grounds(pair: Pair, analyses: Mapping[str, Analysis]) -> list[Sentence]:
    """The evidence for the result and where it holds, ``pair`` being the better run minus the other."""
    if pair.is_identical:
        return []
    ap, lines = pair.metrics["AP"], []
    if ap.low is not None and ap.high is not None and _is_spread(ap):
        ends = f"{_signed(ap.low)} to {_signed(ap.high)} points"
        line = f"{pair.run} is ahead by {ends} of AP (95 % interval)."
        if not ap.value:
            line = f"The difference of AP of {pair.run} and {pair.reference} is 0 (95 % interval {ends})."
        if ap.detectable:
            line += f" Videos like these show a true difference of {amount(ap.detectable)} in four of five cases."
        lines.append(line)
    groups = [
        f"{name} categories {_side(found.value)}" + (f" ({significance(found)})" if found.value else "")
        for key, name in _GROUPS.items()
        if (found := pair.metrics.get(key)) is not None and found.value is not None
    ]
    if groups:
        lines.append(f"{pair.run} by group: {', '.join(groups)}.")
    return [*_texts(*lines), *_categories(pair), *_errors(pair, analyses)]


def _side(value: float) -> str:
    return f"ahead by {amount(value)}" if value > 0 else f"behind by {amount(value)}" if value < 0 else "level"


def _categories(pair: Pair) -> list[Sentence]:
    """The numbers of categories ahead and behind, and the ones with the largest part of the gains."""
    gains = [one.difference.value or 0.0 for one in pair.categories]
    ahead, behind = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    if not ahead + behind:
        return []
    line = f"{pair.run} is ahead in {ahead} of {len(gains)} categories and behind in {behind}."
    tested = [one for one in pair.categories if one.q_value is not None]
    if tested:
        sure = [one for one in tested if (one.q_value or 0.0) < 1 - LEVEL]
        better = sum((one.difference.value or 0.0) > 0 for one in sure)
        line += (
            f" {len(tested)} {'is' if len(tested) == 1 else 'are'} in at least {FEWEST_VIDEOS} videos and tested;"
            " corrected for their number,"
            f" {better} of them {'is' if better == 1 else 'are'} significantly better and {len(sure) - better} worse."
        )
    return [(line,), *_largest(pair)]


def _largest(pair: Pair) -> list[Sentence]:
    """The categories of the largest gains, and what part of all gains they make."""
    if (pair.metrics["AP"].value or 0.0) <= 0:
        return []
    gains = sorted((one for one in pair.categories if one.share > 0), key=lambda one: (-one.share, one.name))
    total = sum(one.share for one in gains)
    named = gains[:MOST_NAMED]
    part = sum(one.share for one in named) / total
    names = _listed([(Mention(one.name, one.id), f" {percent(one.share, 2)}") for one in named], ", ")
    if len(gains) <= MOST_NAMED:
        return [("All gains, in points of AP: ", *names, ".")]
    if part > MOST * (1 + ROUNDING) and percent(part) != percent(MOST):
        return [(f"Most of the gains, {percent(part)} %, come from ", *names, " (points of AP).")]
    needed, reached = 0, 0.0
    while reached < MOST * total * (1 - ROUNDING):
        reached += gains[needed].share
        needed += 1
    head = f"The gains are spread: half of them come from {needed} categories, {percent(part)} % from "
    return [(head, *names, " (points of AP).")]


def _errors(pair: Pair, analyses: Mapping[str, Analysis]) -> list[Sentence]:
    """The kinds of error that cost the worse run more than the better one, largest difference first."""
    if not {pair.run, pair.reference} <= analyses.keys():
        return []
    few, many = analyses[pair.run].errors.kinds, analyses[pair.reference].errors.kinds
    apart = {
        kind: more - less
        for kind in KINDS
        if (more := many[kind].dap50) is not None and (less := few[kind].dap50) is not None
    }
    costs: list[Sentence] = [
        (Mention(kind, kind=kind), f" {percent(many[kind].dap50)} against {percent(few[kind].dap50)}")
        for kind in sorted(apart, key=lambda kind: -apart[kind])[:2]
        if apart[kind] >= NOTABLE
    ]
    head = f"Errors that cost {pair.reference} more than {pair.run}, in points of AP50"
    return [(f"{head}: ", *_listed(costs, "; "), ".")] if costs else []


def _of_several(comparison: Comparison, top: Pair, analyses: Mapping[str, Analysis]) -> Summary:
    best = comparison.runs_by_label[top.run].metrics["AP"]
    first = [run.label for run in comparison.runs if run.metrics["AP"].value is not None and _level(run, best)]
    if len(first) > 1:
        answer = f"{', '.join(first[:-1])} and {first[-1]} share the highest AP, {percent(best.value)}."
    else:
        answer = f"{top.run} has the highest AP of {len(comparison.runs)} runs. {_answer(comparison, top)}"
    ranks = comparison.ranks()
    ordered = sorted(comparison.runs, key=lambda run: -(run.metrics["AP"].value or 0.0))
    places = ", ".join(f"{run.label} {written_rank(ranks[run.label])}" for run in ordered)
    sure = sum(one.metrics["AP"].is_significant for one in comparison.contrasts)
    is_tested = any(one.metrics["AP"].p_value is not None for one in comparison.contrasts)
    grounds = [
        f"{sure} of {len(comparison.contrasts)} pairs of runs differ significantly in AP, corrected for their number;"
        f" places that this leaves open: {places}."
        if is_tested
        else f"No pair of runs is tested: fewer than {FEWEST_VIDEOS} videos."
    ]
    same = [f"{one.reference} and {one.run}" for one in comparison.contrasts if one.is_identical]
    if same:
        grounds.append(f"Identical ({IDENTICAL}): {'; '.join(same)}.")
    return Summary(answer, (*_texts(*grounds), *_grounds(top, analyses)))


def _level(run: MeasuredRun, best: Interval) -> bool:
    return abs((run.metrics["AP"].value or 0.0) - (best.value or 0.0)) <= ROUNDING
