"""Check whether a training can fit in the memory of the machine, without importing Keras."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path

from cifar_exp.config import architecture
from cifar_exp.config.architecture import LayerSize
from cifar_exp.config.optimizer_schema import OptimizerConfig
from cifar_exp.config.schema import Config
from cifar_exp.data import datasets
from cifar_exp.errors import UserError

_FLOAT = 4  # bytes; Keras keeps variables in float32, also with mixed precision
# Values that an optimizer keeps per trainable parameter, with any settings; at least this many for adafactor and Muon.
_SLOTS = {
    **{"sgd": 0, "adam": 2, "adamw": 2, "nadam": 2, "rmsprop": 1, "adagrad": 1, "adadelta": 2, "adamax": 2},
    **{"adafactor": 0, "ftrl": 2, "lamb": 2, "lion": 1, "muon": 1, "muon_conv": 1},
    "schedule_free_adamw": 2,
}
_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check(config: Config, on_gpu: bool, backend: str, sizes: Sequence[LayerSize] | None = None) -> None:
    """Refuse a training that cannot fit in the memory of this machine.

    The estimate is a lower bound, so that no training is refused that could run: every value is counted once, and
    layers of unknown shape are not counted.

    Args:
        config: of the run, checked.
        on_gpu: whether it computes on a GPU. Only copies of the state are then in the memory of the machine.
        backend: of Keras. PyTorch does not keep attention scores.
        sizes: sizes of all layers; default: computed from the config.

    Raises:
        UserError: if it cannot fit. The message has the number of parameters, the bytes needed and available, and the
            largest layer.
    """
    if sizes is None:
        where = f"model {config.model.name!r}"
        sizes, _ = architecture.sizes(config.model.layers, where, config.data.image_shape)
    if not sizes:
        return
    available = total()
    parameters, trainable = sum(size.parameters for size in sizes), sum(size.trainable for size in sizes)
    optimizer = trainable * _slots(config.optimizer)
    stopping = config.training.early_stopping
    needs = {
        "weights": 0 if on_gpu else parameters,
        "gradients": 0 if on_gpu else trainable,
        f"optimizer {config.optimizer.name}": 0 if on_gpu else optimizer,
        "best weights": parameters if stopping.patience is not None and stopping.restore_best else 0,
        "checkpoint": parameters + optimizer if config.training.checkpoint.every else 0,
    }
    needed = _FLOAT * sum(needs.values())
    if needed > available:
        largest = max(sizes, key=lambda size: size.parameters)
        parts = ", ".join(f"{part} {_bytes(_FLOAT * count)}" for part, count in needs.items() if count)
        raise UserError(
            f"{largest.where}: too large to train: the model has {parameters:,} parameters, {largest.parameters:,} of "
            f"them in this layer; needs at least {_bytes(needed)} ({parts}), expected at most the {_bytes(available)} "
            "available; use a smaller layer"
        )
    if on_gpu:
        return
    batch, value = _batch(config), _FLOAT if config.training.precision == "float32" else _FLOAT // 2
    values = [size.values + (size.scores if backend != "torch" else 0) for size in sizes]
    most, largest = max(zip(values, sizes, strict=True))
    kept = sum(count for count, size in zip(values, sizes, strict=True) if size.parameters)  # for the backward pass
    batch_bytes = value * batch * max(kept, most)
    if needed + batch_bytes > available:
        raise UserError(
            f"{largest.where}: too large to train in batches of {batch:,} images: their values need at least "
            f"{_bytes(batch_bytes)}, {_bytes(value * batch * most)} of it in this layer, and the model "
            f"{_bytes(needed)}; expected at most the {_bytes(available)} available; set a smaller "
            "training.batch_size or use smaller layers"
        )


def total() -> int:
    """Return the bytes of memory that this process may use: those of the machine, or less if a limit is set."""
    import psutil

    limits = [int(psutil.virtual_memory().total)]
    of_cgroup = [file.read_text().strip() for file in map(Path, _CGROUP_LIMITS) if file.exists()]
    limits += [int(limit) for limit in of_cgroup if limit.isdecimal()]  # `max`: no limit
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return min(limits if limit == resource.RLIM_INFINITY else [*limits, limit])


def _slots(optimizer: OptimizerConfig) -> int:
    """Return the number of values that an optimizer keeps per trainable parameter."""
    has_momentum = optimizer.name in ("sgd", "rmsprop") and bool(optimizer.momentum)
    settings = (
        has_momentum,
        optimizer.amsgrad,
        optimizer.centered,
        optimizer.gradient_accumulation_steps,
        optimizer.ema,
    )
    return _SLOTS[optimizer.name] + sum(map(bool, settings))


def _batch(config: Config) -> int:
    """Return the number of images in a batch, which may be all training images."""
    data = config.data
    images = data.train_images or datasets.describe(data).images
    if images is None:
        return config.training.batch_size
    if data.train_images is None and data.validation != "test":
        images = int(images * (1 - data.validation_share))
    return min(config.training.batch_size, images)


def _bytes(count: int) -> str:
    """Format a number of bytes: `1.2 GB`."""
    power = min((len(str(int(count))) - 1) // 3, len(_UNITS) - 1)
    size = count / 1000**power
    return f"{size:,.0f} {_UNITS[power]}" if size >= 1000 else f"{size:.4g} {_UNITS[power]}"
