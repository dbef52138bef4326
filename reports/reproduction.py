"""Reproduction of published numbers: which released weights can be run, and how close the numbers are.

A number is within rounding if it rounds to the published one: 19.5 is anything from 19.45 to 19.55.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness import __version__, plugins
from harness.errors import UserError
from harness.plugin_code import convert_plugin_errors
from harness.reports.published import PublishedResult, results
from harness.reports.published.vocabulary import DATASET_NAMES
from harness.result_record import public_environment, without_paths
from harness.types import Dataset, ModelPlugin

REPRODUCED_METRICS = ("AP", "AP50", "AP75", "APb", "APn", "AR1", "AR10")
"""Metrics of the published table that a dataset's own protocol gives under the same name."""
SUFFIXES = (".pth", ".pt", ".bin", ".pkl", ".safetensors")
"""Files that may be checkpoints."""
_BEST_FIRST = ("repo", "paper", "rebuttal", "secondary")
"""Kinds of sources that are compared with; users' reports are context only."""
_EPSILON = 1e-9


class Gap(NamedTuple):
    """What is missing, why, and where to get it; ``detail`` may name paths and is shown on this machine only."""

    what: str
    reason: str
    get: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Case:
    """A released variant on a split with published results: what to run, or the gaps for which it is not.

    ``variant`` counts from 1, as ``harness models show`` does.
    """

    variant: int
    label: str
    dataset: str
    split: str
    published: tuple[PublishedResult, ...]
    checkpoint: Path | None
    opened: Dataset | None
    gaps: tuple[Gap, ...] = ()


class ComparedNumber(NamedTuple):
    """A published number and the obtained one, in percent.

    ``low`` and ``high`` are the expected range. ``inside`` is ``None`` if there is no number, or none that may be
    compared. ``also`` names other published numbers that the obtained one rounds to.
    """

    metric: str
    published: float
    low: float
    high: float
    source: str
    obtained: float | None = None
    difference: float | None = None
    inside: bool | None = None
    also: str = ""


@dataclass(frozen=True)
class CaseOutcome:
    """The result of a case: the record of its run (``metrics.json``) with its environment, or an error."""

    case: Case
    record: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] | None = None
    checkpoint_digest: str | None = None
    error: str = ""

    @property
    def status(self) -> str:
        """``ran``, ``failed``, ``to run`` or ``not run``."""
        if self.case.gaps:
            return "not run"
        return "failed" if self.error else "to run" if self.record is None else "ran"

    @property
    def numbers(self) -> tuple[ComparedNumber, ...]:
        """Every published number and the obtained one."""
        return tuple(number_of(result, self.record) for result in self.case.published)


def number_of(result: PublishedResult, record: Mapping[str, Any] | None) -> ComparedNumber:
    """A published number and that of a run's record, if there is one."""
    half = _half_step(result.value)
    low, high = round(result.value - half, 6), round(result.value + half, 6)
    expected = ComparedNumber(result.metric, result.value, low, high, result.citation)
    value = (record["metrics"] or {}).get(result.metric) if record is not None else None
    if record is None or value is None:
        return expected
    obtained = 100 * value
    is_inside = low - _EPSILON <= obtained <= high + _EPSILON
    comparable = record.get("comparable") is not False
    return expected._replace(
        obtained=obtained,
        difference=obtained - result.value,
        inside=is_inside if comparable else None,
        also="" if is_inside or not comparable else _others_that_fit(result, obtained),
    )


def _half_step(value: float) -> float:
    """Half of the last digit that a source prints; a table of percent prints at least one decimal."""
    return 0.5 * float(10.0 ** -len(repr(value).partition(".")[2]))


def _others_that_fit(result: PublishedResult, obtained: float) -> str:
    """Other published numbers of the same weights or earlier ones that ``obtained`` rounds to."""
    place = result._replace(method="", value=0.0, source="", source_kind="", year=0)
    found = [
        f"{other.value:g} of {other.method} ({other.cited})"
        for other in results()
        if other._replace(method="", value=0.0, source="", source_kind="", year=0) == place
        and other.method.startswith(f"{result.method} (")
        and abs(obtained - other.value) <= _half_step(other.value) + _EPSILON
    ]
    return "; ".join(dict.fromkeys(found))


def variants_of(plugin: ModelPlugin) -> Sequence[Mapping[str, Any]]:
    """The released variants in a model's card; raises `UserError` for a model that has none with published numbers."""
    with convert_plugin_errors(f"model {plugin.name}", "its card fails"):
        variants = list((getattr(plugin, "card", None) or {}).get("variants") or [])
    if not variants or not all(one.get("published_as") for one in variants) or not hasattr(plugin, "released_variant"):
        raise UserError(
            f"model {plugin.name}", "has no released weights with published numbers", "name clipvis or ov2seg"
        )
    return variants


def find_checkpoints(plugin: ModelPlugin, folder: Path) -> tuple[dict[int, Path], list[str]]:
    """The files of released variants below a folder, by the number of the variant; and why other files are not.

    Files are known by their content. Raises `UserError` for a folder that does not exist, and for two files of one
    variant.
    """
    if not folder.is_dir():
        raise UserError(str(folder), "is not a folder", "name the folder of the checkpoints with --checkpoints")
    found: dict[int, Path] = {}
    others = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file()):
        try:
            with convert_plugin_errors(f"model {plugin.name}", "its released_variant fails"):
                index = plugin.released_variant(path)  # type: ignore[attr-defined]  # see variants_of
        except UserError as error:
            others.append(str(error))
            continue
        if index is None:
            others.append(f"{path}: has the sizes of no released variant; name it with --checkpoint VARIANT=FILE")
        elif index + 1 in found:
            what = f"and {path} are both variant {index + 1} of {plugin.name}"
            raise UserError(str(found[index + 1]), what, "remove one of them, or name it with --checkpoint")
        else:
            found[index + 1] = path
    return found, others


def plan(
    plugin: ModelPlugin, checkpoints: Mapping[int, Path], data_root: Path, datasets: Sequence[str] = ()
) -> list[Case]:
    """Every released variant on every split with published results (of ``datasets``, if given).

    Raises `UserError` for unknown names of datasets.
    """
    opened: dict[tuple[str, str], Dataset | Gap] = {}
    cases = []
    card = getattr(plugin, "card", {})
    for number, variant in enumerate(variants_of(plugin), start=1):
        for (dataset, split), found in _published(variant["published_as"]).items():
            if datasets and dataset not in datasets:
                continue
            if (dataset, split) not in opened:
                opened[dataset, split] = _open(dataset, split, data_root)
            data, weights = opened[dataset, split], checkpoints.get(number)
            gaps = [data] if isinstance(data, Gap) else []
            if weights is None:
                gaps.insert(0, _no_weights(number, variant, str(card.get("weights", ""))))
            at_hand = None if isinstance(data, Gap) else data
            label = variant["published_as"][0]
            cases.append(Case(number, label, dataset, split, found, weights, at_hand, tuple(gaps)))
    if not cases:
        known = sorted({name for one in variants_of(plugin) for name, _ in _published(one["published_as"])})
        raise UserError(
            "--dataset", "has no published numbers of this model", f"name one or more of {', '.join(known)}"
        )
    return cases


def _published(labels: Sequence[str]) -> dict[tuple[str, str], tuple[PublishedResult, ...]]:
    """The published numbers of some labels by dataset and split: of each metric that of the best kind of source."""
    names = {there: here for here, there in DATASET_NAMES.items()}
    found: dict[tuple[str, str], dict[str, PublishedResult]] = {}
    for kind in _BEST_FIRST:
        for one in results():
            split = one.split.partition(" (")[0]
            is_ours = one.dataset in names and split in ("val", "test") and one.metric in REPRODUCED_METRICS
            if is_ours and one.label in labels and one.source_kind == kind:
                found.setdefault((names[one.dataset], split), {}).setdefault(one.metric, one)
    return {
        place: tuple(sorted(by_metric.values(), key=lambda one: REPRODUCED_METRICS.index(one.metric)))
        for place, by_metric in sorted(found.items(), key=lambda item: list(names.values()).index(item[0][0]))
    }


def _no_weights(number: int, variant: Mapping[str, Any], where: str) -> Gap:
    if variant.get("weights_released") == "no":
        return Gap(f"weights of variant {number}", "were not released")
    return Gap(f"weights of variant {number}", "were not found", where)


def _open(dataset: str, split: str, data_root: Path) -> Dataset | Gap:
    """A split with truth, or what it lacks."""
    what = f"{dataset} {split}"
    try:
        home = str(getattr(plugins.dataset(dataset, data_root), "home", ""))
        opened = plugins.opened(dataset, data_root, split)
    except UserError as error:
        reason = f"is missing or incomplete (run `harness datasets check {dataset}`)"
        return Gap(what, reason, home, str(error))
    if opened.truth is None:
        get = f"run it with `harness run` and submit the zip to {opened.server}" if opened.server else ""
        return Gap(what, f"cannot be scored here: {opened.no_truth or 'the truth is withheld'}", get)
    return opened


def verdict_counts(outcomes: Iterable[CaseOutcome]) -> dict[str, int]:
    """How many numbers are within rounding, outside, and not comparable; how many cases failed or were not run."""
    listed = list(outcomes)
    numbers = [number for one in listed for number in one.numbers if number.obtained is not None]
    return {
        "inside": sum(number.inside is True for number in numbers),
        "outside": sum(number.inside is False for number in numbers),
        "not_comparable": sum(number.inside is None for number in numbers),
        "failed": sum(one.status == "failed" for one in listed),
        "not_run": sum(one.status in ("not run", "to run") for one in listed),
    }


def record_of(model: str, outcomes: Sequence[CaseOutcome]) -> dict[str, Any]:
    """A reproduction as data for JSON, without paths."""
    return {
        "format": 1,
        "model": model,
        "harness": __version__,
        "summary": verdict_counts(outcomes),
        "cases": [_case_record(one) for one in outcomes],
    }


def _case_record(outcome: CaseOutcome) -> dict[str, Any]:
    case, record = outcome.case, outcome.record
    return {
        "variant": case.variant,
        "label": case.label,
        "dataset": case.dataset,
        "split": case.split,
        "status": outcome.status,
        "missing": [{"what": gap.what, "reason": gap.reason, "get": gap.get} for gap in case.gaps],
        "error": without_paths(outcome.error),
        "checkpoint": None
        if case.checkpoint is None
        else {"name": case.checkpoint.name, "sha256": outcome.checkpoint_digest},
        "run": None if record is None else Path(str(record["folder"])).name,
        "precision": None if record is None else record.get("precision"),
        "config": {} if record is None else {k: _plain(v) for k, v in (record.get("config") or {}).items()},
        "comparable": None if record is None else record.get("comparable"),
        "not_comparable": [] if record is None else [without_paths(text) for text in record["not_comparable"]],
        "numbers": [number._asdict() for number in outcome.numbers],
        "environment": None if outcome.environment is None else public_environment(outcome.environment),
    }


def _plain(value: Any) -> Any:
    return without_paths(value) if isinstance(value, str) else value


_VERDICTS = {True: "yes", False: "no", None: "–"}
REPRODUCTION_COLUMNS = (
    "variant",
    "dataset",
    "metric",
    "published",
    "expected",
    "obtained",
    "difference",
    "within rounding",
)


def reproduction_rows(outcomes: Iterable[CaseOutcome]) -> list[tuple[str, ...]]:
    """The cells of every published number, with `REPRODUCTION_COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for one in outcomes:
        for number in one.numbers:
            verdict = _VERDICTS[number.inside]
            if one.record is None:
                verdict = one.status
            elif number.obtained is not None and number.inside is None:
                verdict = "not comparable"
            rows.append((
                f"{one.case.variant}: {one.case.label}",
                f"{one.case.dataset} {one.case.split}",
                number.metric,
                f"{number.published:g}" if number.published % 1 else f"{number.published:.1f}",
                f"{number.low:g} to {number.high:g}",
                "–" if number.obtained is None else f"{number.obtained:.3f}",
                "–" if number.difference is None else f"{number.difference:+.3f}",
                verdict,
            ))  # fmt: skip
    return rows


def gaps_of(outcomes: Iterable[CaseOutcome]) -> list[Gap]:
    """What is missing for any case, each once."""
    return list(dict.fromkeys(gap for one in outcomes for gap in one.case.gaps))


def summary_text(outcomes: Sequence[CaseOutcome]) -> str:
    """The summary as a sentence."""
    found = verdict_counts(outcomes)
    compared = found["inside"] + found["outside"]
    text = f"{found['inside']} of {compared} numbers within rounding"
    if found["not_comparable"]:
        text += f", {found['not_comparable']} not comparable"
    if found["failed"]:
        text += f", {found['failed']} runs failed"
    return f"{text}; {found['not_run']} of {len(outcomes)} cases not run"


def page(model: str, outcomes: Sequence[CaseOutcome]) -> str:
    """A reproduction as a Markdown page to send to others: numbers, sources, checkpoints, environment, what is open."""
    parts = [f"# {model}: published numbers reproduced with ovvis-harness {__version__}", summary_text(outcomes) + "."]
    rows = reproduction_rows(outcomes)
    if rows:
        parts += ["## Numbers", _markdown(REPRODUCTION_COLUMNS, rows)]
        parts.append("In percent. Expected is what rounds to the published number; obtained is the official metric.")
    notes = [f"- {text}" for one in outcomes for text in _notes(one)]
    if notes:
        parts += ["## Notes", "\n".join(dict.fromkeys(notes))]
    done = [one for one in outcomes if one.record is not None]
    if done:
        sources = dict.fromkeys(f"- {number.source}" for one in done for number in one.numbers)
        weights = dict.fromkeys(_weights(one) for one in done)
        parts += ["## Sources of the published numbers", "\n".join(sources)]
        parts += ["## Checkpoints", _markdown(("variant", "file", "SHA-256"), list(weights))]
        parts += ["## Environment", _markdown(("", ""), _environment_rows(done))]
    gaps = [(gap.what, gap.reason, gap.get) for gap in gaps_of(outcomes)]
    if gaps:
        parts += ["## Not run, because of", _markdown(("what", "why", "where to get it"), gaps)]
    return "\n\n".join(parts) + "\n"


def _notes(outcome: CaseOutcome) -> list[str]:
    where = f"variant {outcome.case.variant}, {outcome.case.dataset} {outcome.case.split}"
    found = [f"{where}: {number.metric} equals {number.also}" for number in outcome.numbers if number.also]
    if outcome.error:
        found.append(f"{where}: failed: {without_paths(outcome.error)}")
    if outcome.record is not None:
        found += [f"{where}: not comparable: {without_paths(text)}" for text in outcome.record["not_comparable"]]
    return found


def _weights(outcome: CaseOutcome) -> tuple[str, ...]:
    path = outcome.case.checkpoint
    return str(outcome.case.variant), "" if path is None else path.name, outcome.checkpoint_digest or ""


def _environment_rows(outcomes: Iterable[CaseOutcome]) -> list[tuple[str, str]]:
    """Each value once; several where runs were made in different environments."""
    found: dict[str, dict[str, None]] = {}
    for one in outcomes:
        known = public_environment(one.environment or {})
        packages = known.pop("packages")
        cpu = known.pop("cpu", None) or {}
        texts = {
            "device": known.get("device"),
            "GPUs": ", ".join(known.get("gpus") or []) or "none",
            "processor": cpu.get("model"),
            "precision": (one.record or {}).get("precision"),
            **{key: known.get(key) for key in ("harness", "git_commit", "git_changed", "python", "platform", "time")},
            **packages,
        }
        for key, value in texts.items():
            if value is not None:
                found.setdefault(key, {})[str(value)] = None
    return [(key, "; ".join(values)) for key, values in found.items()]


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
