"""One error for failed allocations of all backends."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from cifar_exp.errors import OutOfMemory, UserError

# Parts of the type or message of an exception: TensorFlow, JAX, PyTorch on a GPU, PyTorch on a CPU (a RuntimeError).
_PATTERNS = (
    "ResourceExhaustedError",
    "RESOURCE_EXHAUSTED",
    "OutOfMemoryError",
    "not enough memory",
    "can't allocate memory",
)


@contextmanager
def translate_errors() -> Iterator[None]:
    """Context manager that raises `OutOfMemory` if an allocation of NumPy, TensorFlow, JAX or PyTorch fails."""
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory: {_summary(error)}; set a smaller training.batch_size or use a smaller model"
        ) from error


def _summary(error: Exception) -> str:
    """Extract what could not be allocated, without the graph nodes that TensorFlow adds to the message."""
    lines = [
        line.strip() for line in re.sub(r"\{\{.*?\}\}|\[Op:.*|\[\[.*", "", str(error)).splitlines() if line.strip()
    ]
    matching = (line for line in lines if re.search("alloc|memory|OOM", line))
    return next(matching, lines[0] if lines else type(error).__name__)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, UserError | OSError):
        return getattr(error, "errno", None) == errno.ENOMEM
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(pattern in text for pattern in _PATTERNS)
