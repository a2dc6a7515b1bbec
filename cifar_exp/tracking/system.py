"""CPU, memory, disk, network and GPU while a run lives."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from cifar_exp.tracking.store import import_mlflow

log = logging.getLogger(__name__)

LogMetrics = Callable[[Mapping[str, float], int], None]

_INTERVAL = 10.0  # seconds, MLflow's own


class SystemMetrics:
    """Samples MLflow's monitors in the background, from its making to `finish`, under MLflow's names: system/...

    MLflow's own sampler asks the server between samples whether the run still lives, and sends them itself.
    """

    def __init__(self, log_metrics: LogMetrics, first_step: int = 0) -> None:
        self._log_metrics, self._first_step = log_metrics, first_step
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="system metrics", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Sample a last time, and no more."""
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
    """Of what this machine has."""
    import_mlflow()
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        monitors.append(GPUMonitor())
    except Exception as error:  # of NVIDIA's library, or that there is none
        log.debug("no GPU metrics: %s", error)
    return monitors
