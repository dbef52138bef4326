"""A worker's own GPU, by stand-ins for CUDA: it is chosen once, and only it is asked whether it still works."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.engines import worker


class Gpus:
    """Records what is asked of which device; device 0 is dead."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def synchronize(self, device: Any = None) -> None:
        self.asked.append(("synchronize", device))
        if device in (None, 0, "cuda:0"):
            raise RuntimeError("an illegal memory access was encountered")

    def set_device(self, device: Any) -> None:
        self.asked.append(("set_device", device))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    found = Gpus()
    monkeypatch.setattr(torch.cuda, "synchronize", found.synchronize)
    monkeypatch.setattr(torch.cuda, "set_device", found.set_device)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return found


@pytest.mark.parametrize(("device", "usable"), [("cuda:1", True), ("cuda:0", False), ("cpu", True)])
def test_a_worker_asks_its_own_device(gpus: Gpus, device: str, usable: bool) -> None:
    this = worker.Worker(device)
    this._has_failed = True
    assert this.is_usable() is usable
    assert gpus.asked == ([] if device == "cpu" else [("synchronize", device)])


def test_nothing_is_asked_while_nothing_failed(gpus: Gpus) -> None:
    assert worker.Worker("cuda:0").is_usable()
    assert gpus.asked == []


@pytest.mark.parametrize(("device", "chosen"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("cpu", [])])
def test_a_worker_chooses_its_device(gpus: Gpus, device: str, chosen: list[str]) -> None:
    worker._choose_gpu(device)
    assert gpus.asked == [("set_device", name) for name in chosen]
