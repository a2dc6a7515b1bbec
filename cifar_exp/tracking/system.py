"""System metrics of a run: CPU, memory, disk, network and GPU."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from cifar_exp.tracking.store import import_mlflow

log = logging.getLogger(__name__)

LogMetrics = Callable[[Mapping[str, float], int], None]

_INTERVAL = 10.0  # seconds, as in MLflow


class SystemMetrics:
    """Samples MLflow's monitors in a background thread until `finish` is called.

    MLflow's own sampler is not used because it sends requests to the server for each sample.

    Args:
        log_metrics: called with the metrics of each sample, under MLflow's names (`system/...`), and the step.
        first_step: step of the first sample.
    """

    def __init__(self, log_metrics: LogMetrics, first_step: int = 0) -> None:
        self._log_metrics, self._first_step = log_metrics, first_step
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="system metrics", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Take a last sample and stop."""
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        monitors, step, ended = _monitors(), self._first_step, False
        while not ended:
            ended = self._ended.wait(_INTERVAL)
            sampled: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                sampled |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            self._log_metrics({f"system/{name}": value for name, value in sampled.items()}, step)
            step += 1


def _monitors() -> list[Any]:
    """Create the monitors for the hardware of this machine."""
    import_mlflow()
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        monitors.append(GPUMonitor())
    except Exception as error:  # NVIDIA's library is missing or fails
        log.debug("no GPU metrics: %s", error)
    return monitors
