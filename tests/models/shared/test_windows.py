"""How far ahead frames are decoded: by windows, within a bound of bytes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

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
