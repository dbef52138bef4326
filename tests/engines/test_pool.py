"""The rules of a pool, with a backend that only exists on paper: every order of events, deaths and failures.

Tests of `harness/engines/first_faults.py` and `harness/engines/model_spec.py`.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import SmallConfig, SmallModel, make_dataset, make_video

from harness.engines.model_spec import ModelSpec
from harness.engines.pool import LoadFailed, Message, Pool, Queue, WorkerDied, WorkerReady, WriteFailed
from harness.engines.video_timeout import VideoTimeout
from harness.errors import UserError
from harness.events import Event
from harness.run_folder.progress import RunProgress
from harness.run_folder.store import PredictionStore
from harness.types import LoadContext, Video

VIDEOS = 6
REFUSAL = UserError("weights.pt", "are not there", "get them")


@dataclass
class PaperBackend:
    """Does what it is told to: ``loads`` and ``runs`` say what comes of each loading and each video, in turn.

    ``picks`` chooses whose message comes next. After the last entry everything goes well.
    """

    store: PredictionStore
    size: int = 2
    loads: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    picks: list[int] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    next_ones: list[Video | None] = field(default_factory=list)
    busy: dict[int, Video | None] = field(default_factory=dict)
    attempts: Counter[int] = field(default_factory=Counter)
    hung: set[int] = field(default_factory=set)
    ended: list[int] = field(default_factory=list)
    is_closed: bool = False

    @property
    def devices(self) -> tuple[str, ...]:
        return ("paper",) * self.size

    def open(self) -> None:
        self.is_closed = False

    def start(self, worker: int) -> None:
        assert worker not in self.busy
        self.busy[worker] = None

    def give(self, worker: int, video: Video, then: Video | None = None) -> None:
        assert worker not in self.busy
        self.given.append(video.id)
        self.next_ones.append(then)
        self.attempts[video.id] += 1
        self.busy[worker] = video

    def messages(self, seconds: float | None = None) -> Iterator[tuple[int, Message]]:
        workers = sorted(self.busy.keys() - self.hung)
        if not workers:
            time.sleep(min(seconds or 0.0, 1.0))
            return
        worker = workers[(self.picks.pop(0) if self.picks else 0) % len(workers)]
        if self.busy[worker] is not None and self.runs[:1] == ["hang"]:
            self.runs.pop(0)
            self.hung.add(worker)
            return
        video = self.busy.pop(worker)
        yield worker, self._loaded() if video is None else self._ran(video)

    def end(self, worker: int) -> None:
        del self.busy[worker]
        self.hung.remove(worker)
        self.ended.append(worker)

    def close(self) -> None:
        self.is_closed = True
        self.busy.clear()

    def _loaded(self) -> Message:
        fate = self.loads.pop(0) if self.loads else "well"
        return {"well": WorkerReady("here", 1), "die": WorkerDied("died early"), "refuse": LoadFailed(REFUSAL)}[fate]

    def _ran(self, video: Video) -> Message:
        fate = self.runs.pop(0) if self.runs else "well"
        if fate == "die late":
            self.store.write_video(video, [])
        if fate.startswith("die"):
            return WorkerDied("died")
        if fate == "full":
            return WriteFailed(UserError("disk", "is full"))
        if fate == "bad input":
            return Event(
                "failed", video.id, 0.1, 3, bad_input=True, fault="cannot be done", error=f"{video.id}: cannot"
            )
        return Event("failed" if fate == "fail" else "done", video.id, 0.1, 3, 1)


def make_pool(folder: Path, timeout: float | None = None, **backend: object) -> tuple[Pool, PaperBackend]:
    store = PredictionStore(folder)
    spec = ModelSpec(SmallModel(), SmallConfig(), LoadContext(make_dataset(1)))
    made = PaperBackend(store, **backend)  # type: ignore[arg-type]
    return Pool(spec, store, RunProgress(), made, VideoTimeout(timeout)), made


def test_a_worker_whose_video_takes_too_long_is_ended_and_replaced(tmp_path: Path) -> None:
    pool, backend = make_pool(tmp_path, timeout=0.2, size=2, runs=["well", "hang"])
    events = run(pool)
    (retried,) = [e for e in events if e.kind == "retried"]
    assert retried.error.endswith(f"was ended: video {retried.video_id} took longer than 0 s (--video-timeout)")
    assert 0.2 <= retried.seconds < 5
    assert {e.video_id for e in events if e.kind == "done"} == set(range(1, VIDEOS + 1))
    assert len(backend.ended) == 1


def test_a_video_that_always_takes_too_long_is_given_up(tmp_path: Path) -> None:
    pool, backend = make_pool(tmp_path, timeout=0.1, size=1, runs=["hang", *["well"] * (VIDEOS - 1), "hang"])
    (failed,) = [e for e in run(pool) if e.kind == "failed"]
    assert failed.attempts == 2
    assert backend.ended == [0, 0]


def run(pool: Pool, videos: int = VIDEOS) -> list[Event]:
    return list(pool.run([make_video(v) for v in range(1, videos + 1)], Path("scratch")))


def run_or_refuse(pool: Pool) -> tuple[list[Event], UserError | None]:
    """The events of a run that came to its end, or why it did not."""
    try:
        return run(pool), None
    except UserError as error:
        return [], error


@settings(max_examples=150)
@given(
    size=st.integers(1, 4),
    loads=st.lists(st.sampled_from(("well", "die", "refuse")), max_size=6),
    runs=st.lists(st.sampled_from(("well", "fail", "die", "die late")), max_size=14),
    picks=st.lists(st.integers(0, 3), max_size=40),
)
def test_whatever_happens_every_video_ends_once(size: int, loads: list[str], runs: list[str], picks: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pool, backend = make_pool(Path(folder), size=size, loads=loads, runs=runs, picks=picks)
        events, refusal = run_or_refuse(pool)
    if refusal is not None:
        assert not backend.busy, "there are workers left"
        assert refusal is REFUSAL or "for the second time without a video" in str(refusal)
        return
    ends = Counter(e.video_id for e in events if e.kind != "retried")
    assert ends == dict.fromkeys(range(1, VIDEOS + 1), 1)
    retried = Counter(e.video_id for e in events if e.kind == "retried")
    assert set(retried.values()) <= {1}
    failed = {e.video_id for e in events if e.kind == "failed"}
    assert failed <= set(retried)
    assert backend.attempts == Counter(dict.fromkeys(range(1, VIDEOS + 1), 1)) + retried


def test_a_worker_that_died_over_a_video_is_replaced_and_the_video_comes_last(tmp_path: Path) -> None:
    pool, backend = make_pool(tmp_path, size=1, runs=["well", "die"])
    events = run(pool, 4)
    assert [(e.kind, e.video_id) for e in events] == [
        ("done", 1), ("retried", 2), ("done", 3), ("done", 4), ("done", 2)
    ]  # fmt: skip
    assert events[1].error == "worker 0 died"
    assert backend.given == [1, 2, 3, 4, 2]


def test_a_video_that_kills_twice_is_given_up(tmp_path: Path) -> None:
    pool, _ = make_pool(tmp_path, size=1, runs=["well", "die", "well", "die"])
    assert [(e.kind, e.video_id) for e in run(pool, 3)] == [("done", 1), ("retried", 2), ("done", 3), ("failed", 2)]


def test_what_the_user_has_to_fix_is_not_tried_again(tmp_path: Path) -> None:
    pool, _ = make_pool(tmp_path, size=1, runs=["well", "bad input", "fail"])
    ends = [(e.kind, e.video_id, e.attempts) for e in run(pool, 3)]
    assert ends == [("done", 1, 1), ("failed", 2, 1), ("retried", 3, 1), ("done", 3, 2)]


def test_the_same_fault_on_the_first_videos_ends_the_run(tmp_path: Path) -> None:
    pool, backend = make_pool(tmp_path, size=2, runs=["bad input"] * 9)
    with pytest.raises(UserError, match=r"model small: the first 3 videos have failed .*: 4: cannot"):
        run(pool, 9)
    assert len(backend.given) <= 4


def test_a_worker_that_died_after_it_had_stored_the_video_has_done_it(tmp_path: Path) -> None:
    pool, backend = make_pool(tmp_path, size=1, runs=["die late"])
    assert [(e.kind, e.video_id, e.tracks) for e in run(pool, 1)] == [("done", 1, 0)]
    assert backend.given == [1]


def test_a_worker_that_cannot_load_is_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    pool, backend = make_pool(tmp_path, size=2, loads=["refuse"])
    assert {e.kind for e in run(pool)} == {"done"}
    assert set(backend.busy) <= {1}


@pytest.mark.parametrize(
    ("loads", "message"),
    [(["refuse"] * 2, "weights.pt: are not there; get them"), (["die"] * 4, "worker 1 on paper: died early, for the")],
)
def test_without_any_worker_it_is_said_why(tmp_path: Path, loads: list[str], message: str) -> None:
    pool, _ = make_pool(tmp_path, loads=loads, picks=[0, 0, 0, 0])
    with pytest.raises(UserError, match=message):
        pool.load()


def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    pool, _ = make_pool(tmp_path, runs=["well", "full"])
    with pytest.raises(UserError, match="disk: is full"):
        run(pool)


def test_large_videos_come_first() -> None:
    videos = [make_video(1), make_video(2, length=9), make_video(3, height=200), make_video(4)]
    queue, order = Queue(videos), []
    while (video := queue.take()) is not None:
        order.append(video.id)
        queue.done(video.id)
    assert order == [3, 2, 1, 4]
    assert not queue


def ids(*videos: Video | None) -> list[int | None]:
    return [None if video is None else video.id for video in videos]


def test_a_worker_gets_the_video_that_it_was_promised() -> None:
    queue = Queue([make_video(number) for number in range(1, 8)])
    assert ids(queue.take(0), queue.promise(0, others=1)) == [1, 3], "2 is for the worker that has none yet"
    assert ids(queue.take(1), queue.promise(1)) == [2, 4]
    assert ids(queue.take(1), queue.promise(1)) == [4, 5]
    assert ids(queue.take(0), queue.promise(0)) == [3, 6]
    assert ids(queue.take(2), queue.promise(2)) == [7, None]
    assert ids(queue.take(2), queue.take(1), queue.take(0)) == [5, 6, None], "what is promised is not left lying"


def test_a_costlier_video_comes_before_a_promised_one() -> None:
    queue = Queue([make_video(1, length=90), make_video(2, length=80), make_video(3, length=70), make_video(4)])
    assert ids(queue.take(0), queue.promise(0)) == [1, 2]
    assert ids(queue.take(1), queue.promise(1)) == [3, 4]
    assert ids(queue.take(1), queue.take(0), queue.take(0)) == [2, 4, None]


def test_a_failed_video_does_not_come_before_a_promised_one() -> None:
    queue = Queue([make_video(1, length=90), make_video(2), make_video(3)])
    assert ids(queue.take(0), queue.promise(0)) == [1, 2]
    assert queue.failed(1)
    assert ids(queue.take(0), queue.take(0), queue.take(0)) == [2, 3, 1]


def test_backends_are_told_what_comes_next(tmp_path: Path) -> None:
    pool, backend = make_pool(tmp_path, size=1)
    run(pool, 3)
    assert backend.given == [1, 2, 3]
    assert ids(*backend.next_ones) == [2, 3, None]


def test_a_next_video_that_kills_is_not_begun_twice_beside_another(tmp_path: Path) -> None:
    """A model begins with the next video in the end of one: a death then is counted for the wrong one."""

    class Begins(PaperBackend):
        def _ran(self, video: Video) -> Message:
            own = len(self.given) - 1 - self.given[::-1].index(video.id)
            begun = self.next_ones[own]
            kills = video.id == 3 or (begun is not None and begun.id == 3)
            return WorkerDied("died") if kills else Event("done", video.id, 0.1, 3, 1)

    pool, _ = make_pool(tmp_path)
    pool._backend = backend = Begins(PredictionStore(tmp_path), size=1)
    ends = {event.video_id: event.kind for event in run(pool)}
    assert ends == {video: "failed" if video == 3 else "done" for video in range(1, VIDEOS + 1)}
    assert backend.attempts == Counter({1: 1, 2: 2, 3: 2, 4: 1, 5: 1, 6: 1})


def test_loading_twice_loads_once_and_closing_closes(tmp_path: Path) -> None:
    pool, backend = make_pool(tmp_path)
    pool.load()
    pool.load()
    pool.close()
    assert backend.is_closed


def test_what_was_closed_can_be_used_again(tmp_path: Path) -> None:
    """Scoring closes the workers, and may find that a shard is damaged."""
    pool, backend = make_pool(tmp_path, loads=["refuse"])
    for _ in range(2):
        assert {e.kind for e in run(pool, 3)} == {"done"}
        pool.close()
    assert backend.attempts == Counter({1: 2, 2: 2, 3: 2})
