"""A worker's own GPU, by stand-ins for CUDA: it is chosen once, and only it is asked whether it still works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import make_dataset
from worker_models import PLUGIN, FaultyConfig

from harness.engines import devices, local, model_spec, worker
from harness.engines.model_spec import ModelSpec
from harness.engines.pool import WorkerReady
from harness.run_folder.progress import RunProgress
from harness.run_folder.store import PredictionStore
from harness.types import LoadContext


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

    def current_device(self) -> int:
        return 0


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    found = Gpus()
    monkeypatch.setattr(torch.cuda, "synchronize", found.synchronize)
    monkeypatch.setattr(torch.cuda, "set_device", found.set_device)
    monkeypatch.setattr(torch.cuda, "current_device", found.current_device)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    return found


def spec_and_store(device: str, folder: Path) -> tuple[ModelSpec, PredictionStore]:
    return ModelSpec(PLUGIN, FaultyConfig(), LoadContext(make_dataset(2), device)), PredictionStore(folder)


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
def test_a_worker_chooses_its_device_once(
    gpus: Gpus, device: str, chosen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker of another process, by its payload."""
    for module in (devices, model_spec):
        monkeypatch.setattr(module, "refuse_missing_devices", lambda names: None)
    monkeypatch.setattr(model_spec, "seed_everything", lambda seed: None)  # torch would seed a GPU
    monkeypatch.setattr(local, "seed_everything", lambda seed, video: None)
    spec, store = spec_and_store(device, tmp_path)
    this = worker.Worker(device)
    assert isinstance(this.load(worker.serialize(spec, store)), WorkerReady)
    for video in spec.context.dataset.videos[:2]:
        this.run(video.id)
    assert gpus.asked == [("set_device", name) for name in chosen]


@pytest.mark.parametrize(("device", "chosen"), [("cuda:1", ["cuda:1", 0]), ("cuda", []), ("cpu", [])])
def test_a_single_process_chooses_its_device_and_puts_it_back(
    gpus: Gpus, device: str, chosen: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (devices, model_spec):
        monkeypatch.setattr(module, "refuse_missing_devices", lambda names: None)
    monkeypatch.setattr(model_spec, "seed_everything", lambda seed: None)
    spec, store = spec_and_store(device, tmp_path)
    engine = local.InProcess(spec, store, RunProgress())
    engine.load()
    engine.close()
    assert gpus.asked == [("set_device", name) for name in chosen]


def test_pytorch_without_cuda_chooses_no_gpu(gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU is for a command of ``external`` in another environment."""
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert devices.choose_gpu("cuda:1") is None
    assert gpus.asked == []
