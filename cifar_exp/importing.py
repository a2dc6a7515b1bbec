"""Importing large packages in less time."""

from __future__ import annotations

import atexit
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing(package: str) -> Iterator[None]:
    """Import this package here; it matters the first time only.

    Next to nothing becomes garbage meanwhile, and what an import makes lives as long as the process. Python's collector
    would look at all of it again and again: then, later, and once more when the process ends. For TensorFlow and MLflow
    that is two fifths of the time of a process that imports them and ends.
    """
    if package in sys.modules or not gc.isenabled():
        yield
        return
    atexit.register(gc.freeze)  # what came after it, too
    gc.disable()
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            gc.freeze()  # beside a training it would keep that model's garbage too, GPU memory with it
        gc.enable()
