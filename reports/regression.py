"""The regression gate: compares the metrics of a run with a stored baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Struct

from harness.atomic_write import write_json
from harness.errors import UserError
from harness.input_files import RECORD_BYTES, decode_json, read_file
from harness.paths import Location
from harness.run_folder.finished_run import RECORD, FinishedRun
from harness.run_folder.identity import SettingDifference, setting_differences, settings_of
from harness.run_folder.records import WITH_NUMBERS, effective_metrics, no_numbers
from harness.run_folder.schemas import Fraction, ProtocolRecord, protocol_key
from harness.scoring import HOTA
from harness.scoring.presence import PRESENCE, THRESHOLD, is_lower_better, presence_metrics
from harness.versions import other_version

BASELINE_FORMAT: Final = 2
TOLERANCE = 0.5
"""Default tolerance: points (hundredths of a fraction) that a metric may fall."""

SAME_DATA = ("model", "dataset", "split", "digest", "limit", "protocol")
"""Fields that must be equal in a run and its baseline."""


FELL: Final = "fell"
ROSE: Final = "rose"
SAME: Final = "same"
Verdict = Literal["fell", "rose", "same"]


class Baseline(Struct, frozen=True):
    """A stored baseline. ``digest`` is that of the annotations, ``content`` that of the run's ``config.json``.

    ``metrics`` are fractions, ``None`` if undefined; those of the corrected protocol are ``corrected.AP`` and so on,
    the official ones of every other protocol ``hota@0.5/HOTA`` and so on.
    ``undefined`` says why a metric has no number, or no official one: a run that found nothing is compared as 0.
    ``settings`` are `harness.run_folder.identity.settings_of` the run, without the fields of `SAME_DATA`; format 1 has
    none.
    """

    format: Literal[1, 2]
    model: str
    dataset: str
    split: str
    digest: str
    content: str
    limit: int | None
    protocol: ProtocolRecord
    metrics: dict[str, Fraction | None]
    settings: dict[str, Any] | None = None
    undefined: dict[str, str] = {}


class Change(NamedTuple):
    """One metric of both: percentages, tolerance in points; ``reason`` says why the run has no official number."""

    metric: str
    before: float
    after: float
    tolerance: float
    reason: str = ""

    @property
    def points(self) -> float:
        """The change in points, positive upwards."""
        return self.after - self.before

    @property
    def verdict(self) -> Verdict:
        """Whether the metric fell or rose by more than its tolerance; for one that is better when it is lower, a rise
        counts as a fall."""
        if abs(self.points) <= self.tolerance:
            return SAME
        return FELL if (self.points < 0) != is_lower_better(self.metric) else ROSE


def baseline_of(place: Location) -> Baseline:
    """Return the baseline of a run; raises `UserError` for a run that is incomplete or was not scored."""
    run = FinishedRun.open(place)
    record = run.record
    if not record["complete"]:
        raise UserError(str(place), "is incomplete, so its numbers cannot be compared", "repeat its `harness run`")
    if record["protocol"] is None:
        raise no_numbers(place, record)
    content = run.content
    metrics = effective_metrics(record) | _corrected(record["corrected"])
    undefined: dict[str, str] = {}
    for scored in record["protocols"][1:]:
        key = protocol_key(scored["protocol"])
        metrics |= {
            f"{key}/{name}": value for name, value in effective_metrics({**record, "corrected": None, **scored}).items()
        }
        reasons = scored.get("undefined", {}).get("metrics", {})
        undefined |= {f"{key}/{name}": reason for name, reason in reasons.items()}
    at_threshold = f"{PRESENCE}@{THRESHOLD}/"
    metrics |= {name: rate for name, rate in presence_metrics(record).items() if name.startswith(at_threshold)}
    reasons = record.get("undefined", {})
    undefined |= reasons.get("metrics", {}) | _corrected(reasons.get("corrected"))
    return Baseline(
        BASELINE_FORMAT,
        record["model"],
        record["dataset"],
        record["split"],
        content.digest,
        run.digest,
        record.get("limit"),
        ProtocolRecord(**record["protocol"]),
        metrics,
        {name: value for name, value in settings_of(run.config).items() if name not in SAME_DATA},
        undefined,
    )


def _corrected(values: Mapping[str, Any] | None) -> dict[str, Any]:
    return {f"corrected.{name}": value for name, value in (values or {}).items()}


def read_baseline(path: Path) -> Baseline:
    """Read a baseline; raises `UserError` if it is missing or damaged."""
    try:
        data = read_file(path, RECORD_BYTES, is_text=True)
    except IsADirectoryError as error:
        hint = "name the JSON file that --update wrote"
        if (path / RECORD).is_file():
            hint = f"to compare two runs, use `harness compare {path} RUN`; for a gate, {hint}"
        raise UserError(str(path), "is a folder, not a baseline", hint) from error
    except FileNotFoundError as error:
        raise UserError(str(path), "does not exist", "write it from a good run with --update") from error
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror}", f"run `chmod u+rw {path}`") from error
    try:
        return decode_json(data, Baseline)
    except msgspec.MsgspecError as error:
        what = other_version(data, (1, BASELINE_FORMAT)) or f"is not a baseline: {error}"
        raise UserError(str(path), what, "write it again with --update") from error


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline, the same bytes for the same numbers; raises `UserError` for one without numbers."""
    if all(value is None for value in baseline.metrics.values()):
        where = f"{baseline.model} on {baseline.dataset} {baseline.split}"
        raise UserError(where, f"has no numbers: {baseline.undefined.get('AP', 'none is defined')}", WITH_NUMBERS)
    write_json(path, msgspec.to_builtins(baseline))


def compare_with_baseline(
    baseline: Baseline, run: Baseline, tolerance: float = TOLERANCE, tolerances: Mapping[str, float] | None = None
) -> list[Change]:
    """Compare all metrics that the baseline defines, in its order; ``tolerances`` are for single metrics, in points.

    Raises `UserError` if the two differ in model, data, split, protocol or version, if a metric is missing now, and for
    a tolerance of a metric that does not exist.
    """
    where = f"{run.model} on {run.dataset} {run.split}"
    for name in SAME_DATA:
        before, after = getattr(baseline, name), getattr(run, name)
        if before != after:
            here = f"{_named(name)} is {_value_text(after)} here, and {_value_text(before)} in the baseline"
            what = f"cannot be compared with the baseline: {here}"
            raise UserError(where, what, "run what the baseline ran, or write a new baseline with --update")
    known = {name: value for name, value in baseline.metrics.items() if value is not None}
    gone = [name for name in known if run.metrics.get(name) is None]
    if gone:
        raise UserError(where, _gone(gone, run.undefined), "write a new baseline with --update if that is right")
    names = _other_names(baseline.protocol.name, known)
    single = {names.get(name, name): value for name, value in (tolerances or {}).items()}
    unknown = sorted(set(single) - set(known))
    if unknown:
        raise UserError("--tolerance", f'"{unknown[0]}" is not a metric of the baseline', f"known: {', '.join(known)}")
    allowed = {name: single.get(name, tolerance) for name in known}
    return [
        Change(name, 100 * before, 100 * (run.metrics[name] or 0.0), allowed[name], run.undefined.get(name, ""))
        for name, before in known.items()
    ]


def _other_names(own: str, known: Iterable[str]) -> dict[str, str]:
    """Further names of metrics: ``lvvis/AP`` for that of the own protocol, ``teta/TETA`` for ``teta@0.5/TETA``.

    A threshold that the user chose stays in the name.
    """
    found = {}
    for name in known:
        protocol, slash, metric = name.rpartition("/")
        family = protocol.partition("@")[0] if slash else own
        if family not in (HOTA, PRESENCE) or not slash:
            found[f"{family}/{metric}"] = name
    return found


def _gone(names: Sequence[str], undefined: Mapping[str, str]) -> str:
    """The metrics that are undefined in the run, with the reason of the first one."""
    verb = "is" if len(names) == 1 else "are"
    reason = undefined.get(names[0], "its metrics.json does not have it")
    return f"{', '.join(names)} {verb} undefined now, but defined in the baseline; {names[0]}: {reason}"


def _named(field: str) -> str:
    return {"digest": "the digest of the annotations", "protocol": "the protocol"}.get(field, f"the {field}")


def _value_text(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, ProtocolRecord):
        return f"{value.name} version {value.version}"
    return str(value)[:12] if isinstance(value, str) else str(value)


def other_settings(baseline: Baseline, run: Baseline) -> list[SettingDifference] | None:
    """The differences between the settings of run and baseline; ``None`` if one of them does not have settings."""
    if baseline.settings is None or run.settings is None:
        return None
    return setting_differences(baseline.settings, run.settings)


def settings_text(
    found: Sequence[SettingDifference] | None, format: Literal["terminal", "markdown"] = "terminal"
) -> str:
    """The result of `other_settings` as lines of text; empty if the settings are equal."""
    if found is None:
        texts = ["the baseline does not state its settings, an earlier version wrote it: write it again with --update"]
    else:
        texts = [f"other settings: {one.describe('in the baseline', 'in the run')}" for one in found]
    lines = "".join(f"- {line}\n" if format == "markdown" else f"{line}\n" for line in texts)
    return f"{lines}\n" if lines else ""


def refuse_other_settings(baseline: Baseline, run: Baseline) -> None:
    """Raise `UserError` with every setting that differs, or if the baseline has no settings."""
    where = f"{run.model} on {run.dataset} {run.split}"
    found = other_settings(baseline, run)
    if found is None:
        what = "cannot be compared strictly: the baseline does not state its settings, an earlier version wrote it"
        raise UserError(where, what, "write it again with --update, from a run with the right settings")
    if found:
        texts = ", ".join(one.describe("in the baseline", "in the run") for one in found)
        raise UserError(
            where, f"has other settings: {texts}", "run with the baseline's, or write a new baseline with --update"
        )


def failures(changes: Sequence[Change], both_ways: bool = False) -> list[Change]:
    """The metrics that fail the gate: those that fell; with ``both_ways`` those that rose, too."""
    return [c for c in changes if c.verdict == FELL or (both_ways and c.verdict == ROSE)]


def changes_text(changes: Sequence[Change], format: Literal["terminal", "markdown"], both_ways: bool = False) -> str:
    """A table of the metrics that changed, and one sentence; Markdown for a comment on a pull request."""
    from tabulate import tabulate

    moved = [c for c in changes if abs(c.points) >= 0.005 or c.verdict != SAME]
    rows = [
        (c.metric, f"{c.before:.2f}", f"{c.after:.2f}", f"{c.points:+.2f}", f"{c.tolerance:g}", _sign(c)) for c in moved
    ]
    headers = ("metric", "baseline", "run", "change", "tolerance", "")
    style = "github" if format == "markdown" else "simple"
    shown = tabulate(rows, headers, tablefmt=style, disable_numparse=True, colalign=("left", *["right"] * 4, "left"))
    counted = [f"counted as 0: {reason}" for reason in dict.fromkeys(c.reason for c in changes) if reason]
    parts = [*([shown] if rows else []), *counted, change_summary(changes, both_ways)]
    return "\n\n".join(parts) + "\n"


def _sign(change: Change) -> str:
    if change.verdict != SAME and is_lower_better(change.metric):
        return "▲ rose, lower is better" if change.points > 0 else "▼ fell, lower is better"
    if change.verdict == FELL:
        return "▼ fell to 0" if change.after == 0 else "▼ fell"
    return "▲ rose" if change.verdict == ROSE else "within tolerance"


def change_summary(changes: Sequence[Change], both_ways: bool = False) -> str:
    """One sentence: whether the gate is passed, and how many metrics fell and rose."""
    counts = {verdict: sum(c.verdict == verdict for c in changes) for verdict in (FELL, ROSE, SAME)}
    if failures(changes, both_ways):
        moves = {FELL: counts[FELL], ROSE: counts[ROSE] if both_ways else 0}
        texts = " and ".join(f"{count} {verdict}" for verdict, count in moves.items() if count)
        is_zero = any(c.metric == "AP" and c.verdict == FELL and c.after == 0 for c in changes)
        return f"FAILED: {'AP fell to 0; ' if is_zero else ''}of {len(changes)} metrics {texts} beyond their tolerance"
    rose = f", {counts[ROSE]} rose beyond it: consider --update" if counts[ROSE] else ""
    verb = "moved" if both_ways else "fell"
    return f"passed: no metric of {len(changes)} {verb} beyond its tolerance{rose}"
