"""What each job of a parallel sweep takes of a machine, and of which."""

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
    """conf/hydra/launcher/parallel.yaml."""

    cpus_per_job: float
    gpus_per_job: float | None
    memory_per_job: float | None
    address: str | None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Checked, as far as this machine can tell.

        Raises:
            UserError: for a value that no job could run with.
        """
        settings = cls(**{field.name: values[field.name] for field in fields(cls)})
        for name in ("cpus_per_job", "gpus_per_job", "memory_per_job"):
            _check_amount(f"hydra.launcher.{name}", getattr(settings, name), name)
        if settings.address is None:
            for name, there in _this_machine().items():
                wanted = getattr(settings, f"{name}_per_job") or 0
                if wanted > there:
                    raise UserError(f"hydra.launcher.{name}_per_job: got {wanted:g}, this machine has {there:g}")
        else:
            _check_address(settings.address)
        return settings

    @property
    def threads(self) -> int:
        """Of each job."""
        return max(1, math.floor(self.cpus_per_job))

    def resources(self, gpus: float) -> dict[str, float]:
        """What a job takes of a node, under Ray's names, in a cluster with so many GPUs."""
        taken = {"CPU": float(self.cpus_per_job)}
        if share := self.gpus_per_job if self.gpus_per_job is not None else min(gpus, 1):
            taken["GPU"] = float(share)
        if self.memory_per_job:
            taken["memory"] = self.memory_per_job * 1e9
        return taken


def _this_machine() -> dict[str, float]:
    """Cores, GPUs, and GB of memory."""
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
        socket.create_connection((host, int(port)), timeout=_CONNECTS_WITHIN).close()
    except OSError as error:
        raise UserError(f"hydra.launcher.address={address}: nobody answers there ({reason(error)})") from None
