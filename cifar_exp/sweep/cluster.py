"""Start Ray on this machine for one sweep, or join a cluster and send code and images to it."""

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

# Prefixes of environment variables that jobs on a cluster need; Ray's processes there do not inherit them.
_FORWARDED = ("AWS_", "CIFAR_EXP_", "JAX_", "KERAS_", "MLFLOW_", "TF_", "XLA_")
_OBJECT_STORE = 100 * 2**20  # bytes; a sweep on one machine stores almost nothing there
_LONGEST_FOLDER = 40  # characters; Ray adds up to 66 for a socket, and a socket path may have 107


@contextmanager
def connected(settings: Settings, jobs: Sequence[Any]) -> Iterator[Place]:
    """Context manager that starts Ray or joins a cluster, and shuts down or leaves it at the end.

    Args:
        settings: of the launcher.
        jobs: composed config of each job.

    Yields:
        Arguments for the workers.

    Raises:
        UserError: if the cluster cannot be joined or cannot run these jobs.
    """
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # otherwise Ray prints a warning about hidden GPUs
    }
    logging.getLogger("ray").setLevel(logging.ERROR)
    started = _alone() if settings.address is None else _joined(settings.address)
    folder, threads, memory = os.getcwd(), settings.threads, settings.memory_per_job
    environment = {"KERAS_BACKEND": runtime.backend_name()}  # a node may have set another one
    if settings.gpus_per_job == 0:
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    with started as ray:
        exits.take_signals()  # Ray has replaced the handlers
        ray._private.worker._worker_logs_enabled = False  # log_to_driver=False does not silence dying nodes
        if settings.address is None:
            yield Place(folder, threads, memory, environment)
            return
        _check_stores(ray, [job.tracking for job in jobs])
        environment |= {key: value for key, value in os.environ.items() if key.startswith(_FORWARDED)}
        yield Place(folder, threads, memory, environment, _images(ray, [job.data for job in jobs]))


@contextmanager
def _alone() -> Iterator[Any]:
    """Context manager that starts a private cluster on this machine and removes it at the end."""
    own = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on the loopback interface alone
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),  # keeps out other users; without it Ray writes a token to ~/.ray
        "RAY_enable_metrics_collection": "0",
        "RAY_worker_niceness": "0",  # added to that of this process. Ray adds 15: beside other work, jobs starve
    }
    before = {name: os.environ.get(name) for name in own}
    os.environ |= own
    root = tempfile.gettempdir() if len(tempfile.gettempdir()) < _LONGEST_FOLDER - len("/cifar-12345678") else "/tmp"
    try:
        import ray

        with leftovers.temporary_folder("cifar-", root) as folder, _ended(ray):
            with exits.block_group_signals():
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
    """Context manager that joins the cluster at an address and sends this package to its processes."""
    import ray

    with leftovers.temporary_folder("cifar_exp-", tempfile.gettempdir()) as code, _ended(ray):
        target = code / "cifar_exp"
        unwanted = shutil.ignore_patterns("__pycache__", "conf")
        shutil.copytree(Path(cifar_exp.__file__).parent, target, ignore=unwanted)
        shutil.copytree(CONF, target / "conf")
        try:
            environment = {"working_dir": str(code)}
            ray.init(address=address, configure_logging=False, log_to_driver=False, runtime_env=environment)
        except Exception as error:  # for example another version of Ray, or a missing token
            raise UserError(f"hydra.launcher.address={address}: {reason(error)}") from error
        yield ray


@contextmanager
def _ended(ray: Any) -> Iterator[None]:
    """Context manager that shuts Ray down at the end, undisturbed by signals."""
    try:
        yield
    finally:
        with exits.delay_signals():
            ray.shutdown()


def _check_stores(ray: Any, tracking: Sequence[TrackingConfig]) -> None:
    """Raise an error if jobs on other machines would have to log to a file on this machine."""
    here = socket.gethostname()
    others = sorted({node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]} - {here})
    for store in (Store.of(config) for config in tracking):
        if others and not store.is_server:
            raise UserError(f"tracking.uri={store.uri}: {others[0]} cannot log to a file of {here}; name a server")


def _images(ray: Any, data: Sequence[Any]) -> dict[tuple[str, str], Images]:
    """Put the files of all official data sets that the jobs use into Ray's object store: (name, folder) -> files."""
    folders = {(one.name, one.dir or str(data_folder(None))): one for one in data if one.name in OFFICIAL}
    sent = {}
    for (name, folder), config in folders.items():
        release = OFFICIAL[name].release()
        found = release.find(config.dir, config.verify).folder
        files = {file: (found / file).read_bytes() for file in release.names(found)}
        digest = hashlib.sha256(b"".join(files.values())).hexdigest()
        sent[name, folder] = Images(digest[:16], ray.put(files))
    return sent
