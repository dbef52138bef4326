"""Reports of a training: progress on standard error, metrics to MLflow, validation by runs of the harness."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType

from harness.atomic_write import write_json
from harness.progress_display import SECONDS_BETWEEN_LINES
from harness.run_folder.log import logged_to
from harness.run_folder.provenance import environment
from harness.runner import Run, execute
from harness.standard_output import tell
from harness.tracking.mlflow import MlflowTracker
from harness.training.progress import VALIDATION, Step, append_log
from harness.types import Dataset, ModelPlugin


class Reporter:
    """Reports the training in ``folder``; a context manager, for one process only.

    ``record`` has ``model``, ``dataset`` and ``split``. Runs on ``validation`` use the model's default settings.
    """

    def __init__(
        self,
        folder: Path,
        record: dict[str, str],
        plugin: ModelPlugin,
        device: str,
        validation: Dataset | None = None,
        tracker: MlflowTracker | None = None,
    ) -> None:
        self.folder, self.record, self.plugin = folder, {**record, "folder": str(folder)}, plugin
        self.device, self.validation = device, validation
        self._tracker = tracker
        self._metrics: dict[str, float | None] = {}
        self._is_complete = False
        self._shown = 0.0
        self._log = logged_to(folder / "run.log")

    def __enter__(self) -> Reporter:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log.__enter__()
        write_json(self.folder / "environment.json", {**environment(), "device": self.device})
        if self._tracker:
            self._tracker.start(self.record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._tracker:
                if kind is None:
                    result = {"metrics": self._metrics, "corrected": {}, "warnings": [], "complete": True}
                    self._tracker.log_result(self.folder, {**self.record, **result}, [])
                for line in self._tracker.finish():
                    tell(f"warning: {line}")
        finally:
            self._log.__exit__(kind, error, trace)

    def show(self, step: Step) -> None:
        """Log a step, and show it every `SECONDS_BETWEEN_LINES`; on a terminal always."""
        values = {**step.losses, "rate": step.rate, "gradient": step.gradient, "seconds_per_step": step.seconds}
        if self._tracker:
            self._tracker.log_step(values, step.step)
        now = time.monotonic()
        if sys.stderr.isatty():
            end = "\n" if step.step == step.iterations else ""
            print(f"\r\x1b[2K{_line(step)}", end=end, file=sys.stderr, flush=True)
        elif now - self._shown >= SECONDS_BETWEEN_LINES or step.step == step.iterations:
            self._shown = now
            print(_line(step), file=sys.stderr, flush=True)

    def validate(self, step: int, weights: Path) -> None:
        """Run the weights on the validation set, score them, log the metrics."""
        if self.validation is None:
            return
        settings, folder = self.plugin.Config(), self.folder / VALIDATION
        outcome = execute(Run(self.plugin, settings, self.validation, folder, self.device, checkpoint=weights))
        self._metrics = outcome.record["metrics"]
        known = {name: value for name, value in self._metrics.items() if value is not None}
        append_log(self.folder, {"step": step, "validation": known})
        if self._tracker:
            self._tracker.log_step({f"val.{name}": value for name, value in known.items()}, step)
        text = "  ".join(f"{name} {100 * known[name]:.1f}" for name in ("AP", "APb", "APn") if name in known)
        print(f"\nstep {step}, {self.validation.name} {self.validation.split}: {text}", file=sys.stderr, flush=True)


def _line(step: Step) -> str:
    left = step.seconds_left
    clock = f"{left / 3600:.1f} h" if left > 5400 else f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
    last = {name: value for name, value in step.losses.items() if not name[-1].isdigit()}
    main = "  ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in last.items())
    return f"step {step.step}/{step.iterations}  {main}  {step.seconds:.2f} s/step, {clock} left"
