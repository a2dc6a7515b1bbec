"""Settings of the parallel launcher: cores, GPUs and memory per job, and the address of a cluster."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from cifar_exp.errors import UserError, reason
from cifar_exp.training import runtime

_CONNECTS_WITHIN = 5.0  # seconds


@dataclass(frozen=True)
class Settings:
    """Values of conf/hydra/launcher/parallel.yaml.

    Args:
        cpus_per_job: number of cores, above 0.
        gpus_per_job: a share of one GPU or a whole number; None: one if the cluster has GPUs.
        memory_per_job: GB; None: no limit.
        address: HOST:PORT or ray://HOST:PORT of a cluster; None: this machine.
    """

    cpus_per_job: float
    gpus_per_job: float | None
    memory_per_job: float | None
    address: str | None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Create settings and check them as far as this machine can.

        Raises:
            UserError: if a value is invalid, exceeds this machine, or nothing answers at the address.
        """
        settings = cls(**{field.name: values[field.name] for field in fields(cls)})
        for name in ("cpus_per_job", "gpus_per_job", "memory_per_job"):
            _check_amount(f"hydra.launcher.{name}", getattr(settings, name), name)
        if settings.address is None:
            for name, available in _this_machine().items():
                wanted = getattr(settings, f"{name}_per_job") or 0
                if wanted > available:
                    raise UserError(f"hydra.launcher.{name}_per_job: got {wanted:g}, this machine has {available:g}")
        else:
            _check_address(settings.address)
        return settings

    @property
    def threads(self) -> int:
        """Number of threads of each job."""
        return max(1, math.floor(self.cpus_per_job))

    def resources(self, gpus: float) -> dict[str, float]:
        """Resources of a job, by Ray's names.

        Args:
            gpus: number of GPUs in the cluster.
        """
        amounts = {"CPU": float(self.cpus_per_job)}
        if share := self.gpus_per_job if self.gpus_per_job is not None else min(gpus, 1):
            amounts["GPU"] = float(share)
        if self.memory_per_job:
            amounts["memory"] = self.memory_per_job * 1e9
        return amounts


def _this_machine() -> dict[str, float]:
    """Number of cores and GPUs and GB of memory of this machine."""
    import psutil

    return {"cpus": runtime.cores(), "gpus": runtime.gpu_count(), "memory": psutil.virtual_memory().total // 10**9}


def _check_amount(key: str, value: Any, name: str) -> None:
    if value is None and name != "cpus_per_job":
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{key}: got {value!r}, expected a number")
    if value < 0 or (value == 0 and name != "gpus_per_job"):
        raise UserError(f"{key}: got {value:g}, expected a number above 0")
    if value > 1 and name == "gpus_per_job" and value != int(value):
        raise UserError(f"{key}: got {value:g}, expected a share of one GPU or a whole number of them")


def _check_address(address: str) -> None:
    host, _, port = str(address).removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"hydra.launcher.address: got {address!r}, expected HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECTS_WITHIN).close()
    except (OSError, UnicodeError, OverflowError) as error:  # the latter: no name of a host, no number of a port
        raise UserError(f"hydra.launcher.address={address}: nobody answers there ({reason(error)})") from None
