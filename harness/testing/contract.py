"""Checks a model against the contract with the harness and reports every rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness import plugins
from harness.plugin_code import isolate_plugin
from harness.testing import rules
from harness.testing.trials import Trial, TrialOutcome, attempt, describe, ordinary, special
from harness.types import Dataset, LoadContext, Model


@dataclass(frozen=True)
class Check:
    """The result of one rule: ``broken`` says how it is broken, ``left_out`` why it was not checked."""

    name: str
    broken: str = ""
    left_out: str = ""

    def __str__(self) -> str:
        if self.broken:
            return f"  BROKEN    {self.name}: {self.broken}"
        return f"  left out  {self.name}: {self.left_out}" if self.left_out else f"  ok        {self.name}"


@dataclass(frozen=True)
class Report:
    """The results of all rules, in the order in which they were checked."""

    model: str
    checks: tuple[Check, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the rules that are broken."""
        return tuple(check.name for check in self.checks if check.broken)

    def __str__(self) -> str:
        count = len(self.broken)
        head = f"model {self.model}: " + (f"{count} of {len(self.checks)} rules broken" if count else "all rules kept")
        return "\n".join([head, *map(str, self.checks)])


class ContractError(AssertionError):
    """A model breaks the contract; the message is the whole report."""

    def __init__(self, report: Report) -> None:
        self.report = report
        super().__init__(str(report))


def check_model(
    model: str | Model | Any,
    config: BaseModel | Mapping[str, Any] | None = None,
    *,
    dataset: Dataset | None = None,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    precision: str = "fp32",
) -> Report:
    """Check a model against everything that the harness relies on; raises `ContractError` with the report.

    ``model`` is the name of an installed plugin, a plugin (`harness.types.ModelPlugin`) or a loaded model
    (`harness.types.Model`). Plugins are loaded with ``config`` (their ``Config``, or its values; default: its
    defaults), ``checkpoint``, ``device`` and ``precision``. The test videos are the first frames of the first two
    videos of ``dataset``, and variants of the first one; the default dataset is ``shapes``, which is generated. The
    model predicts about twenty times, on videos of up to six frames. Raises `UserError` for a plugin that is not
    installed.
    """
    dataset = dataset or plugins.opened("shapes", Path(), "val")
    context = LoadContext(dataset, device, precision, Path(checkpoint) if checkpoint else None)
    checks: list[Check] = []
    name = model if isinstance(model, str) else str(getattr(model, "name", type(model).__name__))
    if isinstance(model, str) or hasattr(model, "load"):
        plugin = plugins.model(model) if isinstance(model, str) else model
        checks.append(Check("plugin", _plugin_faults(plugin, model if isinstance(model, str) else None)))
        try:
            with isolate_plugin(f"model {name}"):
                loaded = plugin.load(_config(plugin, config), context)
        # A plugin may raise any exception: it is reported as a broken rule.
        except Exception as error:
            raise ContractError(Report(name, (*checks, Check("load", describe(error))))) from error
        checks.append(Check("load", "" if hasattr(loaded, "predict") else "the loaded model has no predict"))
    else:
        loaded = model
    if not checks or not checks[-1].broken:
        checks += _checks(loaded, dataset)
    report = Report(name, tuple(checks))
    if report.broken:
        raise ContractError(report)
    return report


def _config(plugin: Any, config: BaseModel | Mapping[str, Any] | None) -> Any:
    return config if isinstance(config, BaseModel) else plugin.Config.model_validate(dict(config or {}))


def _plugin_faults(plugin: Any, entry_point: str | None) -> str:
    """Return the first fault of a plugin's attributes, or an empty string; see `harness.types.ModelPlugin`."""
    for attribute in ("name", "version", "summary"):
        value = getattr(plugin, attribute, None)
        if not isinstance(value, str) or not value:
            return f"{attribute} is {value!r}, not a text"
    if entry_point is not None and plugin.name != entry_point:
        return f'its name is "{plugin.name}", the entry point\'s "{entry_point}"'
    kind = getattr(plugin, "Config", None)
    if not isinstance(kind, type) or not issubclass(kind, BaseModel):
        return f"Config is {kind!r}, not a pydantic model"
    if not kind.model_config.get("frozen") or kind.model_config.get("extra") != "forbid":
        return 'Config needs model_config = ConfigDict(frozen=True, extra="forbid"): misspelt keys must be errors'
    return ""


def _checks(model: Model, dataset: Dataset) -> Iterator[Check]:
    """Check every rule; a rule that depends on a broken one is left out."""
    first, *rest = ordinary(dataset)
    outcomes = [attempt(model, trial) for trial in (first, *rest)]
    fails = rules.no_error(outcomes)
    yield Check("predict", fails)
    if fails:
        yield Check("all others", left_out="predict fails on ordinary videos")
        return
    kinds = {name: [attempt(model, trial) for trial in trials] for name, trials in special(dataset).items()}
    everything = [*outcomes, *(outcome for those in kinds.values() for outcome in those)]
    yield Check("finds something", rules.finds_something(everything))
    for name, rule in rules.TRACK_RULES.items():
        yield Check(name, rule(everything))
    for name, those in kinds.items():
        yield Check(name, (rules.finds_nothing if name == "empty vocabulary" else rules.no_error)(those))
    yield from _repeated(model, outcomes[0], rest[0] if rest else None)


def _repeated(model: Model, fresh: TrialOutcome, other: Trial | None) -> Iterator[Check]:
    """Check the rules that need several predictions of the same video."""
    varies = rules.deterministic(model, fresh.trial)
    yield Check("determinism", varies)
    if varies or other is None:
        reason = "tracks vary anyway" if varies else "the dataset has one video only"
        yield Check("independence of other videos", left_out=reason)
    else:
        yield Check("independence of other videos", rules.independent(model, fresh, other))
    yield Check("memory", rules.memory(model, fresh.trial))
