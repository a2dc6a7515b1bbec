"""Setup of a process: settings that must precede the import of Keras, and the state that every run starts from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import random
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from cifar_exp.config.training_schema import TrainingConfig
from cifar_exp.errors import UserError
from cifar_exp.importing import importing, is_installed

BACKENDS = ("tensorflow", "jax", "torch")


def prepare(training: TrainingConfig, seed: int) -> None:
    """Prepare this process for a run, independently of what ran in it before.

    This imports Keras, sets device, determinism and precision, and seeds all random states.

    Args:
        training: of the run.
        seed: of the run.

    Raises:
        UserError: if the device or the backend of the run is not available.
    """
    check_backend()
    _set_environment(training.device)
    if training.deterministic:
        _ask_gpu_libraries_for_determinism()
    # TensorFlow Lite imports JAX, if it is installed, to convert models of JAX.
    with silenced(2), importing("keras", without=["jax"] if backend_name() == "tensorflow" else []):
        import keras

        if backend_package() == "tensorflow":
            _prepare_tensorflow(training.deterministic, seed)
        elif backend_package() == "torch":
            _prepare_torch(training.deterministic)
        else:
            _prepare_jax()
    if training.device == "gpu":
        require_gpu()
    keras.utils.clear_session()
    seed_random_states(seed)
    keras.config.set_dtype_policy(training.precision)


def seed_random_states(seed: int) -> None:
    """Seed the random states of Python, from which Keras draws the seeds of layers, of NumPy and of PyTorch.

    Keras's `set_random_seed` also seeds TensorFlow, on every backend. On JAX and PyTorch that imports TensorFlow, which
    takes seconds. On TensorFlow it discards what has been optimized of every function, which then is done again.

    Args:
        seed: less than 2**32.
    """
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    if backend_package() == "torch":
        import torch

        torch.manual_seed(seed)


def backend_name() -> str:
    """Return the backend that Keras will use, without importing it: tensorflow, jax or torch."""
    return os.environ.get("KERAS_BACKEND") or BACKENDS[0]


def check_backend() -> None:
    """Check that Keras can run on the chosen backend, without importing them.

    Raises:
        UserError: if KERAS_BACKEND names no known backend, its package is not installed, or this process has imported
            Keras with another one.
    """
    name = backend_name()
    if name not in BACKENDS:
        raise UserError(f"KERAS_BACKEND={name} is not a backend of Keras; set it to one of {', '.join(BACKENDS)}")
    if not is_installed(name):
        extra = "cifar-exp" if name == "tensorflow" else f"'cifar-exp[{name}]'"
        raise UserError(f"KERAS_BACKEND={name}: {name} is not installed; pip install {extra}, or unset KERAS_BACKEND")
    if "keras" in sys.modules and (imported := backend_package()) != name:
        raise UserError(
            f"Keras runs on {imported} in this process, not on {name}: set KERAS_BACKEND={imported}, or restart the "
            f"process to use {name}"
        )


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_count() -> int:
    """Return the number of GPUs that this process may use, without importing Keras, which would reserve them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = sum(bool(re.fullmatch(r"nvidia\d+", path.name)) for path in Path("/dev").glob("nvidia*"))
    return found if visible is None else min(found, sum(number not in ("", "-1") for number in visible.split(",")))


def may_use_gpu(device: str) -> bool:
    """Whether a run with this `training.device` may compute on a GPU, without importing Keras."""
    return device == "gpu" or (device == "auto" and gpu_count() > 0)


def require_gpu() -> None:
    """Check that Keras can use a GPU.

    Raises:
        UserError: if it cannot.
    """
    _set_environment("gpu")
    with silenced(2):
        found = gpus()
    if not found:
        raise UserError(
            "training.device=gpu: Keras sees no GPU; install cifar-exp[gpu], or run with training.device=auto"
        )


@contextmanager
def silenced(*numbers: int) -> Iterator[None]:
    """Discard what is written to stdout (1) or stderr (2), also by libraries in C++.

    While it loads, TensorFlow writes about oneDNN and CUDA to stderr, whatever its log level is.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    originals = [(os.dup(number), number) for number in numbers]
    null = os.open(os.devnull, os.O_WRONLY)
    for number in numbers:
        os.dup2(null, number)
    try:
        yield
    finally:
        sys.stdout.flush()
        for original, number in originals:
            os.dup2(original, number)
            os.close(original)
        os.close(null)


def _set_environment(device: str) -> None:
    """Set environment variables that the user has not set. They have no effect once Keras is imported."""
    os.environ["KERAS_BACKEND"] = backend_name()  # otherwise Keras reads it from ~/.keras/keras.json
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow logs a missing CUDA as an error
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # twice as fast; off by default without AVX-512
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX: allocate GPU memory as needed
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ.setdefault("JAX_PLATFORMS", "cpu")


def _prepare_tensorflow(deterministic: bool, seed: int) -> None:
    import tensorflow as tf  # Keras has no API for these

    tf.random.set_seed(seed)
    tf.get_logger().setLevel("ERROR")
    for gpu in tf.config.list_physical_devices("GPU"):
        if not tf.config.experimental.get_memory_growth(gpu):
            tf.config.experimental.set_memory_growth(gpu, True)
    set_determinism(deterministic or os.environ.get("TF_DETERMINISTIC_OPS") in ("1", "true"))


def set_determinism(deterministic: bool) -> None:
    """Let the operations of TensorFlow be deterministic, or no longer."""
    from tensorflow.python.framework import config  # tf.config has no call that ends it

    (config.enable_op_determinism if deterministic else config.disable_op_determinism)()


def _ask_gpu_libraries_for_determinism() -> None:
    """Make GPU libraries deterministic. It has no effect once they are in use."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # PyTorch refuses to be deterministic without it
    flag = "--xla_gpu_deterministic_ops=true"
    if backend_name() == "jax" and flag not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


def _prepare_torch(deterministic: bool) -> None:
    import torch  # Keras has no API for these

    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = False


def _prepare_jax() -> None:
    """Let later processes load what this one compiles, unless the user has chosen a folder for it, or none.

    JAX warns about a file that it cannot write or read, and continues without it. Such warnings are not shown: another
    process may be writing the file, or a full disk has cut it off, and only time is lost.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is not None:
        return
    folder = platformdirs.user_cache_path("cifar_exp") / "jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.W_OK):
        return
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # By default only what takes a second, which one step of a small model does not on a fast machine.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES" not in os.environ:
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # XLA's own files may fail a compilation


def gpus() -> list[str]:
    """Return the names of the GPUs that Keras can use."""
    if backend_package() == "tensorflow":
        import tensorflow as tf

        return [
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in tf.config.list_physical_devices("GPU")
        ]
    if backend_package() == "torch":
        import torch

        return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    import jax

    return [device.device_kind for device in jax.devices() if device.platform == "gpu"]


def unused_gpu(device: str) -> str | None:
    """Say why a run leaves a GPU of this machine unused; None if there is none, or it is used or not wanted.

    Args:
        device: `training.device` of the run.
    """
    if device != "auto" or not gpu_count() or gpus():
        return None
    packages = {"tensorflow": "cifar-exp[gpu]", "jax": "jax[cuda13]", "torch": "a build of torch with CUDA"}
    name = backend_package()
    return f"there is a GPU, but {name} does not see it, so the run uses the CPU: install {packages[name]}"


def driver() -> str | None:
    """Version of the NVIDIA driver; None if there is none."""
    version = Path("/sys/module/nvidia/version")
    return version.read_text().strip() if version.exists() else None


def is_tensorflow_on_cpu() -> bool:
    """Whether Keras runs on TensorFlow on a CPU, where no compiler fuses its operations."""
    return backend_package() == "tensorflow" and not gpus()


def device() -> str:
    """Describe the device of a run: `GPU: NVIDIA H100` or `CPU: AMD EPYC, 2 cores`."""
    _set_environment("auto")
    if found := gpus():
        return f"GPU: {', '.join(found)}"
    return f"CPU: {_processor()}, {cores()} cores"


def backend_package() -> str:
    """Return the backend that Keras uses: tensorflow, jax or torch."""
    import keras

    return str(keras.backend.backend())


def backend() -> str:
    """Return name and version of the backend: `tensorflow 2.21.0`."""
    name = backend_package()
    return f"{name} {importlib.metadata.version(name)}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
