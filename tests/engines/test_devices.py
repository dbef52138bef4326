"""Which device each worker gets."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from worker_runs import faulty_run

from harness.cli import main
from harness.engines import devices, processes
from harness.engines.devices import chosen_devices, default_device, refuse_missing_devices, visible_gpus
from harness.engines.local import InProcess
from harness.errors import UserError
from harness.runner import execute


@pytest.mark.parametrize(
    ("device", "workers", "visible", "expected"),
    [
        ("cpu", None, "", ("cpu",)),
        ("cpu", 3, "", ("cpu", "cpu", "cpu")),
        ("cuda", None, "", ("cuda",)),
        ("cuda", None, "4", ("cuda",)),
        ("cuda", None, "2,5", ("cuda:0", "cuda:1")),
        ("cuda", 1, "2,5", ("cuda",)),
        ("cuda", 3, "2,5", ("cuda:0", "cuda:1", "cuda:0")),
        ("cuda", 2, "4", ("cuda", "cuda")),
        ("cuda:0, cuda:1", None, "", ("cuda:0", "cuda:1")),
        ("cuda:0,cuda:1", 1, "", ("cuda:0",)),
        ("cuda:1", 2, "", ("cuda:1", "cuda:1")),
    ],
)
def test_workers_take_the_devices_in_turn(
    device: str, workers: int | None, visible: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert chosen_devices(device, workers) == expected


@pytest.mark.parametrize("device", ["", ",", " "])
def test_a_device_is_named(device: str) -> None:
    with pytest.raises(UserError, match="device: names nothing"):
        chosen_devices(device)


@pytest.mark.parametrize(
    ("listed", "count"), [("", 0), ("-1", 0), ("0", 1), ("3,1", 2), ("0,-1,1", 1), ("GPU-1f,MIG-2e", 2), ("0,,1", 1)]
)
def test_gpus_are_counted_as_cuda_reads_its_variable(listed: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus() == count


def test_without_the_variable_all_gpus_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(devices, "gpus", lambda: ["NVIDIA H100"] * 8)
    assert visible_gpus() == 8


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cuda", "device cuda: PyTorch finds no cuda device here; name cpu, or see `harness doctor`"),
        ("cuda:3", "device cuda:3: PyTorch finds no cuda device here; name cpu, or see `harness doctor`"),
        ("cuda:x", "device cuda:x: is not a device; name cpu, cuda, or one GPU: cuda:0"),
        ("cuda:", "device cuda:: is not a device; name cpu, cuda, or one GPU: cuda:0"),
        ("cuda:-1", "device cuda:-1: is not a device; name cpu, cuda, or one GPU: cuda:0"),
        ("meta", "device meta: is not a device; name cpu, cuda, or one GPU: cuda:0"),
        ("nonsense", "device nonsense: is not a device; name cpu, cuda, or one GPU: cuda:0"),
    ],
)
def test_a_device_that_is_not_there_is_refused(name: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError) as refused:
        refuse_missing_devices(["cpu", name])
    assert str(refused.value) == line


def test_a_gpu_is_looked_for_among_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    refuse_missing_devices(["cuda", "cuda:0", "cuda:1"])
    with pytest.raises(UserError, match="device cuda:2: PyTorch finds 2 of these devices here; name cuda:0 to cuda:1"):
        refuse_missing_devices(["cuda:0", "cuda:2"])


def test_a_build_without_cuda_leaves_the_gpus_of_the_machine_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cuda.is_built", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    refuse_missing_devices(["cuda", "cuda:1"])
    with pytest.raises(UserError, match="device cuda:2"):
        refuse_missing_devices(["cuda:2"])


def test_without_being_told_a_gpu_is_taken_that_pytorch_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: ["NVIDIA H100"])
    for can_use, chosen in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda can_use=can_use: can_use)
        assert default_device() == chosen
    monkeypatch.setattr(devices, "gpus", list)
    assert default_device() == "cpu"


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--model", "oracle", "--dataset", "shapes", "--device", "cuda:77"],
        ["run", "--model", "oracle", "--dataset", "shapes", "--device", "cpu,cuda:77", "--workers", "2"],
        ["run", "--model", "clipvis", "--dataset", "nothing", "--device", "nonsense"],
        [
            "predict",
            "--model",
            "clipvis",
            "--video",
            "no.mp4",
            "--words",
            "cat",
            "--out",
            "seen",
            "--device",
            "cuda:77",
        ],
        ["bench", "--model", "clipvis", "--device", "cuda:77"],
        ["train", "--model", "clipvis", "--dataset", "shapes", "--out", "trained", "--device", "cuda:77"],
    ],
)
def test_commands_refuse_it_before_anything_else(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["harness", *command])
    assert main._run() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"harness: device \S+: [^\n]*\n", err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", [InProcess, partial(processes.process_pool, devices=("cuda:77",) * 2)])
def test_a_worker_refuses_it_too(engine: Any, tmp_path: Path) -> None:
    run = replace(faulty_run(tmp_path), device="cuda:77")
    with pytest.raises(UserError, match="device cuda:77: PyTorch finds"):
        execute(run, engine=engine)
    assert list(tmp_path.iterdir()) == []
