"""A crew on a simulated clock: the real pool gives out videos, workers only pretend to work, and machines fail.

``python -m simulated_crew`` prints what docs/scaling.md tells of it, and compares it with two real worker processes.
"""

from __future__ import annotations

import heapq
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from small_runs import SmallConfig, SmallModel, make_dataset, make_video
from worker_runs import moody_run

from harness.engines import processes
from harness.engines.local import Event
from harness.engines.pool import Lost, Message, Pool, Ready
from harness.engines.progress import Progress
from harness.engines.recipe import Recipe
from harness.run import execute
from harness.store import PredictionStore
from harness.types import LoadContext, Video


@dataclass
class SimulatedCrew:
    """Workers whose videos take ``seconds(video)``, whose model takes ``load_seconds``, and which are lost at random.

    The time until a worker is lost is exponential with mean ``seconds_to_loss``, and starts anew with each process.
    """

    size: int
    seconds: Callable[[Video], float]
    load_seconds: float = 0.0
    seconds_to_loss: float = float("inf")
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    now: float = 0.0
    losses: int = 0
    busy_seconds: float = 0.0
    _ends: list[tuple[float, int, Message]] = field(default_factory=list)  # a heap: when, who, what it says
    _lost_at: dict[int, float] = field(default_factory=dict)

    @property
    def devices(self) -> Sequence[str]:
        return ("simulated",) * self.size

    def open(self) -> None:
        """Nothing is to be opened."""

    def start(self, worker: int) -> None:
        life = self.chance.expovariate(1.0) * self.seconds_to_loss
        self._lost_at[worker] = self.now + self.load_seconds + life
        self._say(worker, self.load_seconds, Ready("simulated", worker))

    def give(self, worker: int, video: Video) -> None:
        seconds = self.seconds(video)
        left = self._lost_at[worker] - self.now
        self.busy_seconds += min(seconds, left)
        if left < seconds:
            self.losses += 1
            self._say(worker, left, Lost("was lost"))
        else:
            self._say(worker, seconds, Event("done", video.id, seconds, len(video.frames)))

    def messages(self) -> Iterator[tuple[int, Message]]:
        self.now, worker, message = heapq.heappop(self._ends)
        yield worker, message

    def close(self) -> None:
        """Nobody works on."""
        self._ends.clear()

    def _say(self, worker: int, seconds: float, message: Message) -> None:
        heapq.heappush(self._ends, (self.now + max(seconds, 0.0), worker, message))


@dataclass(frozen=True)
class Simulated:
    """What came of a simulated run: seconds from its start to its end, and how many videos ended how."""

    seconds: float
    done: int
    given_up: int
    losses: int
    use: float
    """Share of the workers' time that went into videos, those of lost workers included."""


def simulate(videos: Sequence[Video], crew: SimulatedCrew) -> Simulated:
    """Let the real pool run videos with a simulated crew."""
    with tempfile.TemporaryDirectory() as folder:
        store = PredictionStore(Path(folder))
        recipe = Recipe(SmallModel(), SmallConfig(), LoadContext(make_dataset(1)))
        pool = Pool(recipe, store, Progress(), crew)
        kinds = [event.kind for event in pool.run(videos, Path(folder))]
    use = crew.busy_seconds / (crew.size * crew.now)
    return Simulated(crew.now, kinds.count("done"), kinds.count("failed"), crew.losses, use)


def made_videos(count: int, seed: int = 0) -> list[Video]:
    """Videos of 25 frames in the middle, and now and then of many more (log-normal, sigma 0.6)."""
    chance = random.Random(seed)
    return [
        make_video(number, length=max(round(25 * chance.lognormvariate(0, 0.6)), 1)) for number in range(1, count + 1)
    ]


def by_frames(seconds_per_frame: float, spread: float = 0.2, seed: int = 1) -> Callable[[Video], float]:
    """Seconds of a video: by its frames, times a log-normal chance."""
    chance = random.Random(seed)
    return lambda video: seconds_per_frame * len(video.frames) * chance.lognormvariate(0, spread)


def at_scale() -> list[dict[str, float]]:
    """50,000 videos at 0.1 s per frame with more and more workers, a loss per worker every 24 hours, or every hour."""
    videos, rows = made_videos(50_000), []
    for workers, hours in ((1, 24), (100, 24), (1000, 24), (1000, 1)):
        crew = SimulatedCrew(workers, by_frames(0.1), load_seconds=30, seconds_to_loss=3600.0 * hours)
        made = simulate(videos, crew)
        rows.append({"workers": workers, "hours to a loss": hours, **made.__dict__})
    return rows


def against_two_processes(videos: int = 24, seconds: float = 0.5) -> dict[str, float]:
    """Seconds of two real processes that sleep, from the first video to the last, and of two simulated ones."""
    kept: list[Progress] = []

    def engine(recipe: Recipe, store: PredictionStore, progress: Progress) -> Pool:
        kept.append(progress)
        return processes.pool(recipe, store, progress, devices=("cpu", "cpu"))

    with tempfile.TemporaryDirectory() as folder:
        execute(moody_run(Path(folder), videos, seconds=seconds), engine=engine)
    crew = SimulatedCrew(2, lambda video: seconds)
    simulated = simulate([make_video(number) for number in range(1, videos + 1)], crew)
    return {"real": kept[0].snapshot().seconds, "simulated": simulated.seconds}


if __name__ == "__main__":
    for row in at_scale():
        print(json.dumps(row))
    print(json.dumps(against_two_processes()))
