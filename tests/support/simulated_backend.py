"""A backend on a simulated clock: the real pool gives out videos, workers only pretend to work, and machines fail.

``python -m simulated_backend`` prints what docs/scaling.md tells of it, and compares it with runs of real worker
processes, some of which are killed.
"""

from __future__ import annotations

import heapq
import json
import random
import re
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from small_runs import SmallConfig, SmallModel, make_dataset, make_video
from worker_runs import faulty_run

from harness.engines import processes
from harness.engines.model_spec import ModelSpec
from harness.engines.pool import Message, Pool, WorkerDied, WorkerReady
from harness.events import Event
from harness.run_folder.progress import RunProgress
from harness.run_folder.store import PredictionStore
from harness.runner import execute
from harness.types import LoadContext, Video


@dataclass
class SimulatedBackend:
    """Workers whose videos take ``seconds(video)``, whose model takes ``load_seconds``, and which are lost at random.

    The time until a worker is lost is exponential with mean ``seconds_to_loss``, and starts anew with each process.
    Each of ``fatal``, ids of videos, also costs a worker: at its end, and once.
    """

    size: int
    seconds: Callable[[Video], float]
    load_seconds: float = 0.0
    seconds_to_loss: float = float("inf")
    fatal: set[int] = field(default_factory=set)
    rng: random.Random = field(default_factory=lambda: random.Random(0))
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
        life = self.rng.expovariate(1.0) * self.seconds_to_loss
        self._lost_at[worker] = self.now + self.load_seconds + life
        self._say(worker, self.load_seconds, WorkerReady("simulated", worker))

    def give(self, worker: int, video: Video, then: Video | None = None) -> None:
        seconds = self.seconds(video)
        left = self._lost_at[worker] - self.now
        if video.id in self.fatal:
            self.fatal.remove(video.id)
            left = min(left, seconds)
        self.busy_seconds += min(seconds, left)
        if left <= seconds:
            self.losses += 1
            self._say(worker, left, WorkerDied("was lost"))
        else:
            self._say(worker, seconds, Event("done", video.id, seconds, len(video.frames)))

    def messages(self, seconds: float | None = None) -> Iterator[tuple[int, Message]]:
        self.now, worker, message = heapq.heappop(self._ends)
        yield worker, message

    def end(self, worker: int) -> None:
        """Simulated time does not run while the pool waits, so nothing is ever overdue."""
        raise NotImplementedError

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


def simulate(videos: Sequence[Video], backend: SimulatedBackend) -> Simulated:
    """Let the real pool run videos with a simulated backend."""
    with tempfile.TemporaryDirectory() as folder:
        store = PredictionStore(Path(folder))
        spec = ModelSpec(SmallModel(), SmallConfig(), LoadContext(make_dataset(1)))
        pool = Pool(spec, store, RunProgress(), backend)
        kinds = [event.kind for event in pool.run(videos, Path(folder))]
    use = backend.busy_seconds / (backend.size * backend.now)
    return Simulated(backend.now, kinds.count("done"), kinds.count("failed"), backend.losses, use)


def made_videos(count: int, seed: int = 0) -> list[Video]:
    """Videos of 25 frames in the middle, and now and then of many more (log-normal, sigma 0.6)."""
    rng = random.Random(seed)
    return [make_video(number, length=max(round(25 * rng.lognormvariate(0, 0.6)), 1)) for number in range(1, count + 1)]


def by_frames(seconds_per_frame: float, spread: float = 0.2, seed: int = 1) -> Callable[[Video], float]:
    """Seconds of a video: by its frames, times a log-normal rng."""
    rng = random.Random(seed)
    return lambda video: seconds_per_frame * len(video.frames) * rng.lognormvariate(0, spread)


def at_scale() -> list[dict[str, float]]:
    """50,000 videos at 0.1 s per frame with more and more workers, a loss per worker every 24 hours, or every hour."""
    videos, rows = made_videos(50_000), []
    for workers, hours in ((1, 24), (100, 24), (1000, 24), (1000, 1)):
        backend = SimulatedBackend(workers, by_frames(0.1), load_seconds=30, seconds_to_loss=3600.0 * hours)
        made = simulate(videos, backend)
        rows.append({"workers": workers, "hours to a loss": hours, **made.__dict__})
    return rows


def against_processes(workers: int, videos: int, seconds: float, fatal: Sequence[int]) -> dict[str, Any]:
    """Real processes that sleep, and kill themselves over some videos: seconds of the run, real and simulated.

    Seconds from the first video to the last one. What the simulation is told is what a real process takes to load.
    """
    kept: list[RunProgress] = []

    def engine(spec: ModelSpec, store: PredictionStore, progress: RunProgress) -> Pool:
        kept.append(progress)
        return processes.process_pool(spec, store, progress, devices=("cpu",) * workers)

    with tempfile.TemporaryDirectory() as folder:
        faults = {"signals": dict.fromkeys(fatal, int(signal.SIGKILL)), "folder": Path(folder)} if fatal else {}
        run = faulty_run(Path(folder) / "runs", videos, seconds=seconds, **faults)
        outcome = execute(run, engine=engine)
        load_seconds = loading_seconds(run.folder / "run.log")
    backend = SimulatedBackend(workers, lambda video: seconds, load_seconds, fatal=set(fatal))
    made = simulate([make_video(number) for number in range(1, videos + 1)], backend)
    snapshot = kept[0].snapshot()
    assert outcome.record["complete"]
    assert made.done == videos
    real = {"losses": sum(worker.losses for worker in snapshot.workers), "seconds": snapshot.seconds}
    told = {"losses": made.losses, "seconds": round(made.seconds - load_seconds, 3)}
    return {"workers": workers, "videos": videos, "load_seconds": load_seconds, "real": real, "simulated": told}


def loading_seconds(log: Path) -> float:
    """Mean seconds from when the pool says that a worker was lost until it says that its successor is ready."""
    lost: dict[str, datetime] = {}
    waits = []
    for line in log.read_text().splitlines():
        found = re.match(r"(\S+ \S+),(\d+) .* worker (\d+) (?:is ready|on \S+ was killed)", line)
        if found is None:
            continue
        when = datetime.fromisoformat(f"{found[1]}.{found[2]}")
        if "was killed" in line:
            lost[found[3]] = when
        elif found[3] in lost:
            waits.append((when - lost.pop(found[3])).total_seconds())
    return round(sum(waits) / len(waits), 3) if waits else 0.0


if __name__ == "__main__":
    for row in at_scale():
        print(json.dumps(row))
    for workers, fatal in ((2, ()), (4, ()), (2, (5, 11, 17)), (4, (3, 9, 15, 21, 27, 33))):
        print(json.dumps(against_processes(workers, 48, 0.5, fatal)), flush=True)
