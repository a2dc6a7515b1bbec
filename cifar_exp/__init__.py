"""Hydra composes an experiment, Keras trains it, MLflow remembers it.

In a notebook, or any other program:

    import cifar_exp

    run = cifar_exp.train("data=digits", "model=bn", epochs=5)
    runs = cifar_exp.sweep("model=large,bn", "optimizer=sgd,adam")
    runs = cifar_exp.find(sweep="first")
"""

from __future__ import annotations

import random
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import Diverged, OutOfMemory, Stopped, UserError

if TYPE_CHECKING:
    from cifar_exp.notebook import Run, Runs, find, sweep, train

__version__ = "0.1.0"
__all__ = ["Diverged", "OutOfMemory", "Run", "Runs", "Stopped", "UserError", "find", "sweep", "train"]


def __getattr__(name: str) -> Any:
    """What `__all__` lists is imported when it is first used: it needs pandas, Hydra and more."""
    if name in __all__:
        state = random.getstate()
        from cifar_exp import notebook

        random.setstate(state)  # rich draws random numbers when it is imported
        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Package(ModuleType):
    """Keeps `cifar_exp.sweep` the function: an import of the package of that name would put itself in its place.

    `import cifar_exp.sweep` and `from cifar_exp.sweep import ...` find the package all the same.
    """

    @property
    def sweep(self) -> Any:
        return __getattr__("sweep")

    @sweep.setter
    def sweep(self, package: ModuleType) -> None:
        pass

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
