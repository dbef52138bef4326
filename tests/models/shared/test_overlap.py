"""The host's work beside the network: the same bytes with and without it, errors, and what it asks of a GPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.models.shared import overlap
from harness.models.shared.overlap import MOST_UNFINISHED, HostCopy, OwnThread, WindowConsumer, on_device

CPU = torch.device("cpu")


def nothing(*_: object) -> None:
    """What is done beside a last job, and a last job."""


@pytest.mark.parametrize("beside", [True, False])
def test_jobs_are_done_in_order(beside: bool) -> None:
    done: list[tuple[int, bool, int, bool]] = []
    thread = OwnThread(CPU, beside)

    def job(number: int) -> Callable[[], None]:
        here = threading.get_ident()
        return lambda: done.append(
            (number, threading.get_ident() != here, torch.get_num_threads(), torch.is_inference_mode_enabled())
        )

    with torch.inference_mode():
        for number in range(19):
            thread.do(job(number))
        thread.conclude(job(19), nothing)
    thread.close()
    assert done == [(number, beside, torch.get_num_threads(), True) for number in range(20)]


def test_no_more_jobs_wait_than_are_allowed() -> None:
    go, given = threading.Event(), []
    thread = OwnThread(CPU)

    def give() -> None:
        for number in range(MOST_UNFINISHED + 1):
            thread.do(go.wait)  # type: ignore[arg-type]
            given.append(number)

    giver = threading.Thread(target=give)
    giver.start()
    giver.join(0.2)
    assert len(given) == MOST_UNFINISHED
    go.set()
    giver.join()
    thread.conclude(nothing, nothing)
    thread.close()
    assert len(given) == MOST_UNFINISHED + 1


def test_an_error_is_raised_by_the_next_call_and_later_jobs_are_left_out() -> None:
    done: list[int] = []

    def fail() -> None:
        time.sleep(0.05)
        raise torch.OutOfMemoryError("full")

    thread = OwnThread(CPU)
    thread.do(fail)
    thread.do(lambda: done.append(1))
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        thread.conclude(nothing, nothing)
    thread.close()
    assert done == []


def test_a_last_job_follows_all_others_and_runs_beside_the_caller() -> None:
    done: list[str] = []
    may_end = threading.Event()

    def last() -> str:
        assert may_end.wait(10)
        done.append("last")
        return "result"

    def beside(is_done: Callable[[], bool]) -> None:
        done.append(f"beside, last is {'' if is_done() else 'not '}done")
        may_end.set()
        while not is_done():
            time.sleep(0.001)
        done.append("beside to the end")

    thread = OwnThread(CPU)
    thread.do(lambda: done.append("window"))
    assert thread.conclude(last, beside) == "result"
    thread.close()
    assert sorted(done[:2]) == ["beside, last is not done", "window"]
    assert done[2:] == ["last", "beside to the end"]


def test_without_a_thread_nothing_runs_beside_the_last_job() -> None:
    thread = OwnThread(CPU, parallel=False)
    assert thread.conclude(lambda: 3, lambda is_done: pytest.fail("not asked for")) == 3


@pytest.mark.parametrize("fails", ["window", "last"])
def test_the_error_of_the_earliest_job_is_that_of_the_last_one(fails: str) -> None:
    def job(name: str) -> None:
        if name == fails or (name == "last" and fails != "window"):
            raise ValueError(name)

    thread = OwnThread(CPU)
    thread.do(lambda: job("window"))
    with pytest.raises(ValueError, match=fails):
        thread.conclude(lambda: job("last"), nothing)
    thread.close()


def test_a_last_job_on_a_gpu_has_a_stream_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for what the caller has queued before, not for what is queued beside it, and the host waits for it."""
    calls: list[str] = []

    class Stream:
        def __init__(self, device: torch.device, priority: int = 0) -> None:
            self.device, self.priority = device, priority

        def wait_stream(self, other: Stream) -> None:
            calls.append(f"{self.priority} waits for {other.priority}")

        def synchronize(self) -> None:
            calls.append(f"host waits for {self.priority}")

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        calls.append(f"begin on {stream.priority}")
        yield

    meta = torch.device("meta")
    current = Stream(meta)
    monkeypatch.setattr(overlap, "_is_gpu", lambda device: True)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    overlap._last_stream.cache_clear()
    for _ in range(2):
        thread = OwnThread(meta)
        thread.do(lambda: calls.append("window"))
        while not thread._unfinished[0].done():
            time.sleep(0.001)
        go = threading.Event()
        thread.conclude(lambda go=go: go.wait(10), lambda is_done, go=go: (calls.append("beside"), go.set()))  # type: ignore[misc]
        thread.close()
    assert calls[:3] == ["begin on 0", "window", "-1 waits for 0"]
    assert sorted(calls[3:5]) == ["begin on -1", "beside"]
    assert calls[5:6] == ["host waits for -1"]
    assert len(calls) == 12
    assert overlap._last_stream(meta) is overlap._last_stream(meta)
    overlap._last_stream.cache_clear()


def test_closing_waits_for_what_is_being_done_and_leaves_out_the_rest() -> None:
    started, done = threading.Event(), []

    def slow() -> None:
        started.set()
        time.sleep(0.05)
        done.append("slow")

    thread = OwnThread(CPU)
    thread.do(slow)
    thread.do(lambda: done.append("later"))
    started.wait()
    thread.close()
    assert done == ["slow"]


class Evidence(NamedTuple):
    value: Tensor
    source: tuple[Tensor, ...]


@pytest.mark.parametrize("beside", [True, False])
def test_a_window_in_groups_of_frames_is_matched_once_and_kept_once(beside: bool) -> None:
    calls: list[Any] = []
    consumer: WindowConsumer[Evidence] = WindowConsumer(
        OwnThread(CPU, beside),
        lambda name: calls.append(name) or overlap.nullcontext(),  # type: ignore[func-returns-value]
        lambda rows: rows.argsort(1),
        lambda order, told: calls.append((order.tolist(), type(told), told.value.tolist(), len(told.source))),
        lambda logits, order: calls.append((logits.shape, order.tolist())),
    )
    rows = torch.tensor([[0.2, 0.1], [0.1, 0.2], [3.0, 1.0]])
    groups = [(slice(0, 2), Evidence(rows[:2], (rows,))), (slice(2, 3), Evidence(rows[2:], ()))]
    consumer.take(torch.zeros(3, 2, 4, 4), (rows,), iter(groups))
    consumer.finish(nothing, nothing)
    consumer.close()
    told = ([[1, 0], [0, 1]], Evidence, rows[:2].tolist(), 1), ([[1, 0]], Evidence, rows[2:].tolist(), 0)
    assert calls == [
        "matching", "classification", told[0], "classification", told[1], "encoding",
        ((3, 2, 4, 4), [[1, 0], [0, 1], [1, 0]]),
    ]  # fmt: skip


def test_a_gpu_copies_from_and_to_pinned_memory_and_is_waited_for_at_its_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a GPU: the device is torch's meta device, which takes no numbers."""
    calls: list[str] = []

    class Event:
        def __init__(self, blocking: bool) -> None:
            assert blocking, "else the thread that waits keeps a core busy"

        def record(self, stream: str) -> None:
            calls.append(f"record on {stream}")

        def synchronize(self) -> None:
            calls.append("wait")

    empty = torch.empty

    def watched(*size: Any, pin_memory: bool, **options: Any) -> Tensor:
        calls.append(f"pinned {pin_memory}")
        return empty(*size, **options)

    monkeypatch.setattr(overlap, "_is_gpu", lambda device: True)
    monkeypatch.setattr(torch, "empty", watched)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    frames = on_device([np.zeros((4, 6, 3), np.uint8)] * 2, torch.device("meta"))
    assert (frames.shape, frames.device.type, calls) == ((2, 4, 6, 3), "meta", ["pinned True"])
    copy = HostCopy((torch.ones(2),), torch.device("meta"))
    assert calls[1:] == ["record on stream of meta"]
    assert copy.wait()[0].tolist() == [1, 1]
    assert calls[2:] == ["wait"]
