"""Runs with several workers, and what their folders must have in common with a run in one process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from small_runs import make_dataset
from worker_models import PLUGIN, MoodyConfig

from harness import plugins
from harness.engines.local import Event
from harness.engines.progress import Progress, Snapshot
from harness.engines.recipe import Engine, Recipe
from harness.run import Run
from harness.store import PredictionStore

SAME = ("metrics.json", "per_category.csv", "table.md", "config.json", "videos.json")


def moody_run(runs_dir: Path, videos: int = 4, **moods: Any) -> Run:
    """A run of the moody model over the small dataset."""
    return Run(PLUGIN, MoodyConfig(**moods), make_dataset(videos), runs_dir)


def shapes_run(runs_dir: Path) -> Run:
    """A run of the oracle over some videos of `shapes`."""
    oracle = plugins.model("oracle")
    config = oracle.Config.model_validate({"erode_px": -8, "score_noise": 1})
    return Run(oracle, config, plugins.dataset("shapes").open(Path(), "val"), runs_dir, limit=24)


def results(run: Run) -> dict[str, bytes]:
    """The files that must not depend on who ran the model; folders of runs differ, and are left out."""
    folder = str(run.folder).encode()
    files = {name: (run.folder / name).read_bytes().replace(folder, b"FOLDER") for name in SAME}
    return files | {path.name: path.read_bytes() for path in run.store.folder.iterdir()}


class Assassin:
    """Kills workers over their videos, at most ``kills`` in all and never two over the same video.

    It is an engine maker, around another one, to get to know the workers; and takes the run's events, to have its turn.
    """

    def __init__(self, make: Callable[..., Engine], kills: int) -> None:
        self.make, self.kills = make, kills
        self.killed: dict[int, int] = {}  # video: process
        self.events: list[Event] = []

    def engine(self, recipe: Recipe, store: PredictionStore, progress: Progress) -> Engine:
        """Make the engine of a run."""
        self.progress = progress
        return self.make(recipe, store, progress)

    def notice(self, event: Event) -> None:
        """Kill somebody at work, every other time that something happens."""
        self.events.append(event)
        if len(self.events) % 2:
            return
        for worker in self.snapshot().workers:
            if worker.state == "working" and worker.video not in self.killed and len(self.killed) < self.kills:
                assert worker.video is not None
                self.killed[worker.video] = worker.pid
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
