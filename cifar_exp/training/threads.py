"""Threads of a process, and the shards of a batch that it computes in parallel."""

from __future__ import annotations

import os
from collections.abc import Sequence

from cifar_exp.config import layers
from cifar_exp.config.schema import Config
from cifar_exp.errors import UserError
from cifar_exp.training import runtime

TENSORFLOW_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
# XLA, which JAX uses, starts NPROC threads on a CPU.
_THREADS = (*TENSORFLOW_THREADS, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
_MIN_SHARD = 16  # images; smaller shards use a core less efficiently


def use_threads(count: int) -> None:
    """Set the number of threads of all numeric libraries. It has no effect once Keras is imported."""
    for name in _THREADS:
        os.environ[name] = str(count)


def threads_are_set() -> bool:
    """Whether the user has set TensorFlow's number of threads.

    Raises:
        UserError: if it is not a number.
    """
    numbers = [_number(name) for name in TENSORFLOW_THREADS]  # all of them are checked
    return numbers.count(None) < len(numbers)


def _number(name: str) -> int | None:
    """The number of threads in a variable of the environment, if it is set."""
    value = os.environ.get(name)
    if value and not value.isdecimal():
        raise UserError(f"{name}={value}: expected a number of threads")
    return int(value) if value else None


def share_cores(jobs: Sequence[Config], count: int) -> None:
    """Let this process compute shards of a batch in parallel, one per core, if all of its jobs allow it: see `shards`.

    By default TensorFlow spreads each operation over the cores, which then wait for the slowest one. With batches of 32
    images of 32 x 32 pixels on two cores, that takes a fifth longer than half of the batch on each core.

    Args:
        jobs: all jobs that this process will run.
        count: number of cores.
    """
    if all(can_share_cores(job, count) for job in jobs):
        os.environ |= dict(zip(TENSORFLOW_THREADS, ("1", str(count)), strict=True))


def can_share_cores(job: Config, count: int) -> bool:
    """Whether a job can split its batches into one shard per core.

    The results must be the same up to rounding and random numbers.
    """
    training = job.training
    if runtime.backend_name() != "tensorflow":
        return False
    on_cpu = training.device == "cpu" or (training.device == "auto" and not runtime.gpu_count())
    if count == 1 or training.deterministic or not on_cpu or training.batch_size // count < _MIN_SHARD:
        return False
    return training.ghost_batches == count or not (training.ghost_batches > 1 or layers.mixes_images(job.model.layers))


def shards() -> int:
    """Return the number of shards of a batch that this process computes in parallel, one per core.

    It is 1 unless `share_cores` has changed the number of threads.
    """
    if runtime.backend_name() != "tensorflow":
        return 1
    within, between = (_number(name) or 0 for name in TENSORFLOW_THREADS)
    return max(between, 1) if within == 1 else 1
