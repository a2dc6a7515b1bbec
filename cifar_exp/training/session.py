"""The state of a process that goes on after a run, as the kernel of a notebook does."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cifar_exp.training import runtime


@contextmanager
def kept() -> Iterator[None]:
    """Context manager that puts back, at its end, what `runtime.prepare` and a training change beside their model.

    These are the random states of Python, NumPy, TensorFlow and PyTorch, the dtype policy of Keras, and whether
    TensorFlow and PyTorch are deterministic. The state of Keras is cleared; without a seed of its own, Keras draws
    seeds from that of Python. A package that was not imported before is left as if it had just been imported.
    """
    import numpy as np

    keras, tensorflow, torch = (sys.modules.get(name) for name in ("keras", "tensorflow", "torch"))
    python_state, numpy_state = random.getstate(), np.random.get_state()
    policy = keras.config.dtype_policy() if keras else None
    tensorflow_state = _tensorflow_state(tensorflow) if tensorflow else (None, False)
    torch_state = (torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()) if torch else (None, False)
    try:
        yield
    finally:
        if keras := sys.modules.get("keras"):
            keras.utils.clear_session()
            keras.config.set_dtype_policy(policy or keras.config.floatx())
        if tensorflow := sys.modules.get("tensorflow"):
            seed, deterministic = tensorflow_state
            tensorflow.random.set_seed(seed)
            runtime.set_determinism(deterministic)
        if torch := sys.modules.get("torch"):
            state, deterministic = torch_state
            torch.use_deterministic_algorithms(deterministic)
            if state is None:
                torch.seed()
            else:
                torch.set_rng_state(state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _tensorflow_state(tensorflow: Any) -> tuple[int | None, bool]:
    """The global seed, None if it was not set, and whether operations are deterministic."""
    from tensorflow.python.framework import config  # tf.config has no call for it

    try:
        seed, _of_an_operation = tensorflow.compat.v1.random.get_seed(None)
    except RuntimeError:  # deterministic without a seed
        seed = None
    return seed, config.is_op_determinism_enabled()
