"""The state of a process that goes on after a run, as the kernel of a notebook does."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def kept() -> Iterator[None]:
    """Context manager that puts back, at its end, what `runtime.prepare` and a training change beside their model.

    These are the random states of Python, NumPy, TensorFlow and PyTorch, the dtype policy of Keras, and whether PyTorch
    is deterministic. The state of Keras is cleared; without a seed of its own, Keras draws seeds from that of Python.
    A package that was not imported before is left as if it had just been imported. TensorFlow has no call that ends its
    determinism: after `training.deterministic=true` it stays.
    """
    import numpy as np

    keras, tensorflow, torch = (sys.modules.get(name) for name in ("keras", "tensorflow", "torch"))
    python_state, numpy_state = random.getstate(), np.random.get_state()
    policy = keras.config.dtype_policy() if keras else None
    tensorflow_seed = _tensorflow_seed(tensorflow) if tensorflow else None
    torch_state = (torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()) if torch else (None, False)
    try:
        yield
    finally:
        if keras := sys.modules.get("keras"):
            keras.utils.clear_session()
            keras.config.set_dtype_policy(policy or keras.config.floatx())
        if tensorflow := sys.modules.get("tensorflow"):
            tensorflow.random.set_seed(tensorflow_seed)
        if torch := sys.modules.get("torch"):
            state, deterministic = torch_state
            torch.use_deterministic_algorithms(deterministic)
            if state is None:
                torch.seed()
            else:
                torch.set_rng_state(state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _tensorflow_seed(tensorflow: Any) -> int | None:
    """The global seed; None if it was not set."""
    seed: int | None
    seed, _of_an_operation = tensorflow.compat.v1.random.get_seed(None)
    return seed
