"""The engine and the devices of a run, from the arguments that a user gives."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from harness.engines import processes
from harness.engines.choice import choose_engine
from harness.engines.local import InProcess
from harness.errors import UserError


def test_one_device_is_this_process() -> None:
    assert choose_engine("local", "cpu") == ("cpu", InProcess)


def test_several_workers_are_processes() -> None:
    devices, make = choose_engine("local", "cpu", 2)
    assert isinstance(make, partial)
    assert (devices, make.func) == ("cpu", processes.process_pool)
    assert make.keywords == {"devices": ("cpu", "cpu"), "video_timeout": None}


def test_ray_gets_all_arguments() -> None:
    devices, make = choose_engine("ray", None, 3, 0.5, "auto")
    assert isinstance(make, partial)
    assert devices == "ray"
    assert make.keywords == {
        "device": None,
        "workers": 3,
        "gpus_per_worker": 0.5,
        "address": "auto",
        "video_timeout": None,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "rey"}, 'engine: "rey" is unknown; did you mean "ray"'),
        ({"name": "local", "workers": 0}, "workers: is 0; give 1 or more"),
        ({"name": "ray", "workers": -1}, "workers: is -1; give 1 or more"),
        ({"name": "local", "gpus_per_worker": 0.5}, "gpus_per_worker: needs engine ray"),
        ({"name": "local", "device": "tpu"}, "device tpu: is not a device; name cpu, cuda, or one GPU: cuda:0"),
    ],
)
def test_faults_name_the_argument(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        choose_engine(**{"device": "cpu", **arguments})
    assert str(caught.value).startswith(message)
