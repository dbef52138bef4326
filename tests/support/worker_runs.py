"""Runs with several workers, and what their folders must have in common with a run in one process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from small_runs import make_dataset
from worker_models import PLUGIN, FaultyConfig

from harness import plugins
from harness.engines.model_spec import Engine, ModelSpec
from harness.events import Event
from harness.run_folder.progress import RunProgress, Snapshot
from harness.run_folder.store import PredictionStore
from harness.runner import Run

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason='needs Ray: pip install ".[test]"')
SAME = ("metrics.json", "per_category.csv", "config.json", "videos.json")


def faulty_run(runs_dir: Path, videos: int = 4, **faults: Any) -> Run:
    """A run of the faulty model over the small dataset."""
    return Run(PLUGIN, FaultyConfig(**faults), make_dataset(videos), runs_dir)


def shapes_run(runs_dir: Path) -> Run:
    """A run of the oracle over some videos of `shapes`."""
    oracle = plugins.model("oracle")
    config = oracle.Config.model_validate({"erode_px": -8, "score_noise": 1})
    return Run(oracle, config, plugins.dataset("shapes").open(Path(), "val"), runs_dir, limit=24)


def network_run(runs_dir: Path, model: str = "clipvis") -> Run:
    """A run of a miniature that is shipped over some videos of `shapes`: a real network, with trained weights."""
    plugin = plugins.model(model)
    return Run(plugin, plugin.Config(), plugins.dataset("shapes").open(Path(), "val"), runs_dir, limit=6)


def results(run: Run) -> dict[str, bytes]:
    """The files that must not depend on who ran the model; folders of runs differ, and are left out."""
    folder = str(run.folder).encode()
    files = {name: (run.folder / name).read_bytes().replace(folder, b"FOLDER") for name in SAME}
    return files | {path.name: path.read_bytes() for path in run.store.folder.iterdir()}


class Assassin:
    """Kills workers early in a run, ``kills`` in all: one at work if there is one, else one that is about to be.

    It is an engine maker, around another one, to get to know the workers; and takes the run's events, to have its turn.
    """

    def __init__(self, make: Callable[..., Engine], kills: int) -> None:
        self.make, self.kills = make, kills
        self.killed: list[int] = []
        self.events: list[Event] = []

    def engine(self, spec: ModelSpec, store: PredictionStore, progress: RunProgress) -> Engine:
        """Make the engine of a run."""
        self.progress = progress
        return self.make(spec, store, progress)

    def notice(self, event: Event) -> None:
        """Kill somebody at every third event: videos that are tried once more come last, and so are not met twice."""
        self.events.append(event)
        if len(self.killed) == self.kills or len(self.events) < 3 * len(self.killed) + 2:
            return
        workers = sorted(self.snapshot().workers, key=lambda worker: worker.state, reverse=True)
        for worker in workers:
            if worker.state in ("working", "idle") and worker.pid not in self.killed:
                self.killed.append(worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
                return

    def snapshot(self) -> Snapshot:
        """What the workers do."""
        return self.progress.snapshot()


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
