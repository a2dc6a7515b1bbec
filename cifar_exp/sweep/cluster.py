"""Ray itself: started on this machine for one sweep, or a cluster that is joined, with code and images sent along."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cifar_exp
from cifar_exp import exits
from cifar_exp.config.composition import CONF
from cifar_exp.config.schema import TrackingConfig
from cifar_exp.data.catalog import OFFICIAL
from cifar_exp.data.official import data_folder
from cifar_exp.errors import UserError, reason
from cifar_exp.sweep import leftovers
from cifar_exp.sweep.resources import Settings
from cifar_exp.sweep.worker import Images, Place
from cifar_exp.tracking.store import Store
from cifar_exp.training import runtime

# What a job needs of the environment that the sweep was started in, where Ray's processes do not inherit it.
_SENT_ALONG = ("AWS_", "CIFAR_EXP_", "JAX_", "KERAS_", "MLFLOW_", "TF_", "XLA_")
_OBJECT_STORE = 100 * 2**20  # bytes; on one machine hardly anything passes through it
_LONGEST_FOLDER = 40  # characters; the name of a socket below it has 66 more, of 107 that there may be


@contextmanager
def connected(settings: Settings, jobs: Sequence[Any]) -> Iterator[Place]:
    """Ray, while it is needed.

    Args:
        settings: of the launcher.
        jobs: the composed config of each.

    Yields:
        What workers are made with.

    Raises:
        UserError: for a cluster that cannot be joined, or not with these jobs.
    """
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or it warns that it will hide GPUs otherwise one day
    }
    logging.getLogger("ray").setLevel(logging.ERROR)
    started = _alone() if settings.address is None else _joined(settings.address)
    folder, threads, memory = os.getcwd(), settings.threads, settings.memory_per_job
    environment = {"KERAS_BACKEND": runtime.backend_name()}  # a node may have another one set
    if settings.gpus_per_job == 0:
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    with started as ray:
        exits.take_signals()  # Ray has taken them
        ray._private.worker._worker_logs_enabled = False  # it shows the state of a dying node whatever it was told
        if settings.address is None:
            yield Place(folder, threads, memory, environment)
            return
        _check_stores(ray, [job.tracking for job in jobs])
        environment |= {key: value for key, value in os.environ.items() if key.startswith(_SENT_ALONG)}
        yield Place(folder, threads, memory, environment, _images(ray, [job.data for job in jobs]))


@contextmanager
def _alone() -> Iterator[Any]:
    """A cluster of this machine, which nobody else can reach, and which is gone afterwards."""
    own = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on the loopback interface alone
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),  # of other users of this machine; Ray would write one to ~/.ray
        "RAY_enable_metrics_collection": "0",
    }
    before = {name: os.environ.get(name) for name in own}
    os.environ |= own
    root = tempfile.gettempdir() if len(tempfile.gettempdir()) < _LONGEST_FOLDER - len("/cifar-12345678") else "/tmp"
    try:
        import ray

        with leftovers.temporary_folder("cifar-", root) as folder, _ended(ray):
            with exits.blocked():
                ray.init(
                    address="local",
                    num_cpus=runtime.cores(),
                    num_gpus=runtime.gpu_count(),
                    object_store_memory=_OBJECT_STORE,
                    include_dashboard=False,
                    configure_logging=False,
                    log_to_driver=False,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(folder),
                )
            yield ray
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _joined(address: str) -> Iterator[Any]:
    """The cluster at this address, with this very code for its processes."""
    import ray

    with leftovers.temporary_folder("cifar_exp-", tempfile.gettempdir()) as code, _ended(ray):
        target = code / "cifar_exp"
        unwanted = shutil.ignore_patterns("__pycache__", "conf")
        shutil.copytree(Path(cifar_exp.__file__).parent, target, ignore=unwanted)
        shutil.copytree(CONF, target / "conf")
        try:
            environment = {"working_dir": str(code)}
            ray.init(address=address, configure_logging=False, log_to_driver=False, runtime_env=environment)
        except Exception as error:  # of another version, a token that is missing, ...
            raise UserError(f"hydra.launcher.address={address}: {reason(error)}") from error
        yield ray


@contextmanager
def _ended(ray: Any) -> Iterator[None]:
    """Leave Ray afterwards, whatever else comes meanwhile."""
    try:
        yield
    finally:
        with exits.held():
            ray.shutdown()


def _check_stores(ray: Any, tracking: Sequence[TrackingConfig]) -> None:
    """A file of this machine is no store for the others."""
    here = socket.gethostname()
    others = sorted({node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]} - {here})
    for store in (Store.of(config) for config in tracking):
        if others and not store.is_server:
            raise UserError(f"tracking.uri={store.uri}: {others[0]} cannot log to a file of {here}; name a server")


def _images(ray: Any, data: Sequence[Any]) -> dict[tuple[str, str], Images]:
    """The files of every official data set and folder that these jobs name, in Ray's object store."""
    folders = {(of.name, of.dir or str(data_folder(None))): of for of in data if of.name in OFFICIAL}
    sent = {}
    for (name, folder), config in folders.items():
        release = OFFICIAL[name].release()
        found = release.find(config.dir, config.verify).folder
        files = {file: (found / file).read_bytes() for file in release.names(found)}
        digest = hashlib.sha256(b"".join(files.values())).hexdigest()
        sent[name, folder] = Images(digest[:16], ray.put(files))
    return sent
