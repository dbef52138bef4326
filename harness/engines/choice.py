"""Choice of the engine: this process, several processes on this machine, or a Ray cluster."""

from __future__ import annotations

import logging
from functools import partial

from harness.engines import processes
from harness.engines.devices import chosen_devices, default_device, refuse_missing_devices
from harness.engines.local import NO_LIMIT, InProcess
from harness.engines.model_spec import EngineMaker
from harness.errors import UserError, near

log = logging.getLogger(__name__)

ENGINES = ("local", "ray")


def choose_engine(
    name: str = "local",
    device: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    ray_address: str | None = None,
    video_timeout: float | None = None,
) -> tuple[str, EngineMaker]:
    """Return the devices of a run as text, and the function that creates its engine.

    ``device`` is ``cpu``, ``cuda`` (every GPU), ``cuda:1``, or several separated by commas; by default a GPU if there
    is one. ``workers`` is the number of processes, by default one per device. ``video_timeout`` is the limit of each
    video in seconds, see `harness.engines.video_timeout`; a single process cannot enforce it. Raises `UserError` for
    missing devices and for less than one worker.
    """
    if name not in ENGINES:
        raise UserError("engine", f'"{name}" is unknown', near(name, ENGINES))
    if workers is not None and workers < 1:
        raise UserError("workers", f"is {workers}", "give 1 or more")
    if name == "ray":
        from harness.engines import ray

        actors = partial(
            ray.ray_pool, device=device, workers=workers, gpus_per_worker=gpus_per_worker, address=ray_address,
            video_timeout=video_timeout,
        )  # fmt: skip
        return device or "ray", actors
    if gpus_per_worker is not None:
        raise UserError("gpus_per_worker", "needs engine ray", "leave it out: several workers share the GPUs of device")
    devices = chosen_devices(device or default_device(), workers)
    refuse_missing_devices(dict.fromkeys(devices))
    if len(devices) == 1:
        if video_timeout is not None:
            log.warning("--video-timeout has no effect: %s; use several --workers", NO_LIMIT)
        return devices[0], InProcess
    return ",".join(dict.fromkeys(devices)), partial(
        processes.process_pool, devices=devices, video_timeout=video_timeout
    )
