"""Samples the use of CPU, memory, disk, network and GPU during a run."""

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
    """Calls ``publish(take_sample)`` every ``interval`` seconds from a background thread, and once at the end.

    ``publish`` takes the sample itself, so that it can silence the collectors, which log errors. The collectors are
    MLflow's, so names and units are those of its pages (``system/...``). MLflow's own monitor thread is not used: it
    ignores our time limits and logs every failure.
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
        self._collect()  # the first CPU reading only sets the start for the next one
        self._thread.start()

    def abandon(self) -> None:
        """End the thread without a last sample, and without waiting for it."""
        self._stop.set()

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
