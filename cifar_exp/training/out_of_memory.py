"""An allocation that failed, in whatever words Keras's backend has for it, as one error."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from cifar_exp.errors import OutOfMemory, UserError

# In the name or the text of an exception: of TensorFlow, of JAX, of PyTorch on a GPU, and on a CPU a RuntimeError.
_SIGNS = (
    "ResourceExhaustedError",
    "RESOURCE_EXHAUSTED",
    "OutOfMemoryError",
    "not enough memory",
    "can't allocate memory",
)


@contextmanager
def told() -> Iterator[None]:
    """Raise OutOfMemory in place of what NumPy, TensorFlow, JAX or PyTorch raise when an allocation fails."""
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory: {_line(error)}; set a smaller training.batch_size or use a smaller model"
        ) from error


def _line(error: Exception) -> str:
    """What could not be allocated, without the places in a graph that TensorFlow puts around it."""
    lines = [
        line.strip() for line in re.sub(r"\{\{.*?\}\}|\[Op:.*|\[\[.*", "", str(error)).splitlines() if line.strip()
    ]
    telling = (line for line in lines if re.search("alloc|memory|OOM", line))
    return next(telling, lines[0] if lines else type(error).__name__)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, UserError | OSError):
        return getattr(error, "errno", None) == errno.ENOMEM
    said = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(sign in said for sign in _SIGNS)
