"""Which device each worker gets."""

from __future__ import annotations

import pytest

from harness.engines import devices
from harness.engines.devices import chosen_devices, visible_gpus
from harness.errors import UserError


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
    with pytest.raises(UserError, match="--device: names nothing"):
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
