"""Sampling processor, memory, disk, network and GPU use while a run is going on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

SAMPLING_SECONDS = 10.0
"""Time between two samples; ``MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL`` overrides it."""

PREFIX = "system/"


Sample = dict[str, float]


class SystemMetrics:
    """Every ``interval`` seconds, from a background thread, and once at the end: calls ``publish(take_sample)``.

    ``publish`` decides under which limits a sample is taken, because the collectors log what they cannot read.
    MLflow's own monitor thread is not used: it talks to the server outside our time limits and logs each failure.
    Its collectors are, so the names and units are those that the MLflow pages show (``system/...``).
    """

    def __init__(self, publish: Callable[[Callable[[], Sample]], None], interval: float | None = None) -> None:
        from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL

        self._publish = publish
        self._interval = interval or MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or SAMPLING_SECONDS
        self._monitors = _monitors()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="system-metrics", daemon=True)

    def start(self) -> None:
        """Begin sampling."""
        self._collect()  # the first processor reading only marks where the next one counts from
        self._thread.start()

    def stop(self) -> None:
        """Publish the last sample and end the thread."""
        self._stop.set()
        self._thread.join()
        self._publish(self._collect)

    def _sample(self) -> None:
        while not self._stop.wait(self._interval):
            self._publish(self._collect)

    def _collect(self) -> Sample:
        sample: Sample = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            sample.update({PREFIX + name: float(value) for name, value in monitor.aggregate_metrics().items()})
            monitor.clear_metrics()
        return sample


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with suppress(ImportError, RuntimeError):  # nvidia-ml-py is not installed, or there is no GPU
        monitors.append(GPUMonitor())
    return monitors
