"""How far ahead a video is worked on: frames by windows and bytes, also of the next video, and its first windows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import UserError
from harness.frames import Image
from harness.models.shared import windows
from harness.models.shared.preprocess import Geometry
from harness.models.shared.windows import WindowedModel, frames_ahead
from harness.types import Video


@pytest.mark.parametrize(
    ("window", "size", "ahead"),
    [
        (10, (480, 853), 20),
        (10, (1080, 1920), 20),
        (100, (480, 853), 200),
        (100, (1080, 1920), 43),  # 256 MiB
        (10, (6000, 8000), 4),
        (1, (480, 853), 2),
    ],
)
def test_two_windows_unless_they_take_too_much(window: int, size: tuple[int, int], ahead: int) -> None:
    assert frames_ahead(window, size) == ahead


class Asked:
    """Black frames that remember which were asked for."""

    def __init__(self) -> None:
        self.last, self.lock, self.next_windows = -1, threading.Lock(), threading.Event()

    def __len__(self) -> int:
        return 30

    def __getitem__(self, frame_index: int, /) -> Image:
        with self.lock:
            self.last = max(self.last, frame_index)
            if self.last >= 8:
                self.next_windows.set()
        return np.zeros((32, 64, 3), np.uint8)


class Waiting(WindowedModel[int]):
    """Its network is done with the first window only when two more are decoded."""

    frames: Asked

    def forward(self, frames: list[Image], sizes: Geometry) -> int:
        assert self.frames.next_windows.wait(10)
        return len(frames)


def test_the_next_two_windows_are_decoded_beside_the_network() -> None:
    model, frames = Waiting(3), Asked()
    model.frames = frames
    found = model.outputs(Video(1, "black", 32, 64, frames), Geometry((32, 64), (32, 64), (32, 64)))
    assert next(found) == 3
    assert frames.last < 3 + 3 * windows.WINDOWS_AHEAD
    assert sum(found) == 27


SIZES = Geometry((32, 64), (32, 64), (32, 64))


class Loud:
    """Frames whose numbers are noted when they are decoded; frame ``broken`` cannot be."""

    def __init__(self, length: int, broken: int | None = None, first: int = 0) -> None:
        self.length, self.broken, self.first, self.decoded = length, broken, first, set[int]()
        self.has_begun = threading.Event()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, frame_index: int, /) -> Image:
        self.decoded.add(frame_index)
        self.has_begun.set()
        if frame_index == self.broken:
            raise UserError(f"frame {frame_index}", "is broken")
        return np.full((32, 64, 3), self.first + frame_index, np.uint8)


class First(WindowedModel[list[int]]):
    """Its network gives the first number of each frame."""

    def geometry(self, height: int, width: int) -> Geometry:
        return Geometry((height, width), (height, width), (height // 32 * 32, width // 32 * 32))

    def forward(self, frames: list[Image], sizes: Geometry) -> list[int]:
        return [int(frame[0, 0, 0]) for frame in frames]


def video_of(number: int, frames: Loud) -> Video:
    return Video(number, f"video {number}", 32, 64, frames)


def frames_found(model: First, video: Video) -> list[int]:
    return [number for window in model.outputs(video, SIZES) for number in window]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("frames")]


def test_frames_of_the_next_video_are_decoded_at_the_end_of_this_one() -> None:
    model, first, second = First(2), Loud(9), Loud(30)
    model.expect([video_of(1, first), then := video_of(2, second)])
    assert not first.decoded | second.decoded
    outputs = model.outputs(video_of(1, first), SIZES)  # another object: read as if it had not been expected
    assert next(outputs) == [0, 1]
    outputs.close()
    model.expect([one := video_of(1, first), then])
    outputs = model.outputs(one, SIZES)
    assert next(outputs) == [0, 1]
    assert not second.decoded
    assert [number for window in outputs for number in window] == [2, 3, 4, 5, 6, 7, 8]
    assert second.has_begun.wait(10)
    assert second.decoded <= set(range(frames_ahead(2, (32, 64))))
    model.expect([then])
    assert frames_found(model, then) == list(range(30))
    model.expect(())


def test_what_is_no_longer_expected_is_dropped() -> None:
    model, second, third = First(2), Loud(5), Loud(5)
    one, two, three = video_of(1, Loud(3)), video_of(2, second), video_of(3, third)
    model.expect([one, two])
    assert frames_found(model, one) == [0, 1, 2]
    model.expect([three])
    assert frames_found(model, three) == [0, 1, 2, 3, 4]
    assert len(second.decoded) <= 4
    assert frames_found(model, two) == [0, 1, 2, 3, 4]


def test_an_error_of_the_next_video_waits_for_its_turn() -> None:
    model, one = First(2), video_of(1, Loud(3))
    two = video_of(2, Loud(5, broken=0))
    model.expect([one, two])
    assert frames_found(model, one) == [0, 1, 2]
    model.expect([two])
    with pytest.raises(UserError, match="frame 0: is broken"):
        frames_found(model, two)
    model.expect([two])  # another attempt
    with pytest.raises(UserError, match="frame 0: is broken"):
        frames_found(model, two)


def test_a_next_video_without_a_size_does_no_harm() -> None:
    class Refusing(First):
        def geometry(self, height: int, width: int) -> Geometry:
            raise ZeroDivisionError

    model = Refusing(2)
    model.expect([video_of(1, Loud(3))])
    assert frames_found(model, video_of(1, Loud(3))) == [0, 1, 2]


def test_without_overlap_nothing_of_the_next_video_is_decoded() -> None:
    model, second = First(2), Loud(5)
    model.overlap = False
    model.expect([one := video_of(1, Loud(3)), video_of(2, second)])
    assert frames_found(model, one) == [0, 1, 2]
    assert not second.decoded


def test_frames_of_the_next_video_are_read_once_when_a_video_is_asked_for_several_times() -> None:
    """As phrases are: one call each."""
    model, second = First(2), Loud(5)
    model.expect([one := video_of(1, Loud(3)), two := video_of(2, second)])
    assert frames_found(model, one) == frames_found(model, one) == [0, 1, 2]
    model.expect([two])
    assert second.has_begun.wait(10)
    while len(second.decoded) < 4:  # what was begun is done soon
        time.sleep(0.001)
    second.decoded.clear()
    assert frames_found(model, two) == [0, 1, 2, 3, 4]
    assert second.decoded == {4}


class Beginning(First):
    """Notes the windows that its network is given; is out of memory, or broken, at some frame."""

    def __init__(self, window: int) -> None:
        super().__init__(window)
        self.given: list[list[int]] = []
        self.fault: dict[int, BaseException] = {}

    def forward(self, frames: list[Image], sizes: Geometry) -> list[int]:
        found = super().forward(frames, sizes)
        self.given.append(found)
        for number in found:
            if number in self.fault:
                raise self.fault.pop(number)
        return found

    def begin(self, video: Video, sizes: Geometry = SIZES, done_after: int = 9) -> None:
        """`begin_next` as soon as its frames are decoded, in a last job that is done when it is asked so often."""
        reader, until = self._expected[0].reader, time.monotonic() + 60
        while not reader.has_decoded(self._window):
            assert time.monotonic() < until
            time.sleep(0.001)
        asked = iter(range(done_after))
        self.begin_next(sizes, lambda: next(asked, None) is None)


def begun(model: Beginning, length: int = 30, **settings: Any) -> Video:
    """A next video of which windows are begun at the end of one."""
    model.expect([one := video_of(1, Loud(3)), two := video_of(2, Loud(length))])
    assert frames_found(model, one) == [0, 1, 2]
    model.given.clear()
    model.begin(two, **settings)
    return two


def settled(model: Beginning, video: Video) -> None:
    """The video is whole at its turn, and its frames were computed once, but for ``again``."""
    model.expect([video])
    assert frames_found(model, video) == list(range(len(video.frames)))
    model.expect(())


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 30])
def test_first_windows_of_the_next_video_are_computed_at_the_end_of_this_one(length: int) -> None:
    model = Beginning(2)
    two = begun(model, length)
    ahead = [number for window in model.given for number in window]
    assert ahead[:2] == list(range(min(length, 2)))
    assert len(model.given) <= windows.WINDOWS_BEGUN
    settled(model, two)
    assert [number for window in model.given for number in window] == list(range(length))
    assert max(map(len, model.given)) <= 2


def test_no_window_is_begun_when_the_results_are_there() -> None:
    model = Beginning(2)
    two = begun(model, done_after=0)
    assert model.given == []
    settled(model, two)


@pytest.mark.parametrize(("height", "begins"), [(64, True), (32, True), (31, False)])
def test_larger_frames_than_those_of_this_video_are_not_begun(height: int, begins: bool) -> None:
    model = Beginning(2)
    two = begun(model, sizes=Geometry((1, 1), (1, 1), (height, 64)))
    assert bool(model.given) == begins
    settled(model, two)


def test_frames_that_are_not_decoded_are_not_waited_for() -> None:
    class Late(Loud):
        def __getitem__(self, frame_index: int, /) -> Image:
            assert may_decode.wait(10)
            return super().__getitem__(frame_index)

    may_decode = threading.Event()
    model = Beginning(2)
    model.expect([one := video_of(1, Loud(3)), two := video_of(2, Late(5))])
    assert frames_found(model, one) == [0, 1, 2]
    model.begin_next(SIZES, lambda: False)
    assert model.given == [[0, 1], [2]]
    may_decode.set()
    settled(model, two)


@pytest.mark.parametrize("fault", [ValueError("broken"), torch.OutOfMemoryError("full")])
@pytest.mark.parametrize("frame", [0, 2])
def test_what_fails_when_it_is_begun_is_computed_at_its_turn(fault: Exception, frame: int) -> None:
    model = Beginning(2)
    model.fault = {frame + 10: fault}  # number 10 is that of frame 0 of the next video
    model.expect([one := video_of(1, Loud(3)), two := video_of(2, Loud(6, first=10))])
    assert frames_found(model, one) == [0, 1, 2]
    model.begin(two)
    while frame + 10 in model.fault:  # its frames were not decoded yet
        model.begin(two)
    assert model._begins == (not isinstance(fault, torch.OutOfMemoryError))
    model.expect([two])
    assert frames_found(model, two) == [10, 11, 12, 13, 14, 15]
    assert model._window == 2, "a window that was begun shrinks none"


def test_an_interrupt_while_a_window_is_begun_leaves_no_frame_out() -> None:
    """A notebook keeps the model and the video, and may ask for it again."""
    model = Beginning(2)
    model.fault = {10: KeyboardInterrupt()}  # number 10 is that of frame 0 of the next video
    model.expect([one := video_of(1, Loud(3)), two := video_of(2, Loud(6, first=10))])
    assert frames_found(model, one) == [0, 1, 2]
    with pytest.raises(KeyboardInterrupt):
        model.begin(two)
    model.expect([two])
    assert frames_found(model, two) == [10, 11, 12, 13, 14, 15]


def test_what_was_begun_goes_first_where_memory_runs_out() -> None:
    """In an attempt that is repeated, and at the end of a video: no window is halved for the next video's sake."""
    for in_network in (True, False):
        model = Beginning(2)
        two = begun(model)
        assert model._expected[0].outputs
        three = video_of(3, Loud(4))
        if in_network:
            model.fault = {2: torch.OutOfMemoryError("full")}
            assert frames_found(model, three) == [0, 1, 2, 3]
        else:
            faults = iter([torch.OutOfMemoryError("full")])

            def predict(faults: Iterator[Exception] = faults) -> int:
                for fault in faults:
                    raise fault
                return 3

            assert model.retry_with_smaller_window(predict, 4, SIZES) == 3
        assert not model._expected
        assert (model._window, model._begins) == (2, False)
        settled(model, two)


def test_what_was_begun_is_dropped_with_a_video_that_is_not_expected_any_more() -> None:
    model = Beginning(2)
    two = begun(model)
    model.expect(())
    model.given.clear()
    assert frames_found(model, two) == list(range(30))
    assert model.given[0] == [0, 1]
