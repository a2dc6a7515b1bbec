"""Modules that need their assert statements even if Python drops them (PYTHONOPTIMIZE, python -O)."""

from __future__ import annotations

from types import ModuleType


def reload(module: ModuleType) -> None:
    """Execute a module again with its assert statements, if Python dropped them.

    Hydra's parser consumes tokens of functions and mappings in assert statements. Without them, `range(1,3)` and
    `{a: 1}` fail.
    """
    if __debug__ or module.__file__ is None or module.__spec__ is None:
        return
    loader = module.__spec__.loader
    source = getattr(loader, "get_source")(module.__name__)  # noqa: B009
    exec(compile(source, module.__file__, "exec", dont_inherit=True, optimize=0), module.__dict__)
