"""Faster imports of large packages, and whether one is installed."""

from __future__ import annotations

import atexit
import gc
import importlib.util
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def is_installed(package: str) -> bool:
    """Whether a package can be imported, found without importing it.

    A folder of its name without an `__init__.py` does not count, though Python would import it: one in the current
    folder, or what an uninstallation has left behind.
    """
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


@contextmanager
def importing(package: str, without: Sequence[str] = ()) -> Iterator[None]:
    """Context manager that speeds up the first import of a package by pausing Python's garbage collector.

    Imports create many objects that live as long as the process and almost no garbage. The collector would scan all of
    them repeatedly: during the import, later on, and once more at exit. For a process that only imports TensorFlow and
    MLflow, these scans take two fifths of its time. Objects created by the import are therefore also excluded from
    later collections (`gc.freeze`).

    Args:
        package: name in `sys.modules`. Nothing is changed if it is already imported or the collector is off.
        without: packages that the import can do without. Meanwhile they count as not installed.
    """
    if package in sys.modules or not gc.isenabled():
        yield
        return
    atexit.register(gc.freeze)  # also exclude later objects from the collection at exit
    gc.disable()
    hidden = {*without} - {*sys.modules}
    sys.modules |= dict.fromkeys(hidden)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        if threading.current_thread() is threading.main_thread():
            gc.freeze()  # in another thread it would also keep the garbage of a training, with its GPU memory
        gc.enable()
