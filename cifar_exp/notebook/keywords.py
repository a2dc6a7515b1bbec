"""Settings of a run as keywords of a Python call, which an editor completes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from cifar_exp.errors import UserError, did_you_mean

_ROOT = ("seed", "name", "note", "resume")


class Keywords(TypedDict, total=False):
    """The settings of `training` without their prefix, and those of a run that belong to no group.

    docs/settings.md describes them. The others are given as overrides: `"model=bn"`, `"optimizer.learning_rate=0.01"`.
    """

    epochs: int
    batch_size: int
    start_from: str | None
    early_stopping: dict[str, Any]
    checkpoint: dict[str, Any]
    whiten: bool
    label_smoothing: float
    focal_gamma: float
    precision: str
    ghost_batches: int
    steps_per_execution: int
    deterministic: bool
    device: str
    seed: int
    name: str | None
    note: str | None
    resume: str


def to_overrides(keywords: Mapping[str, Any]) -> list[str]:
    """Write keywords as overrides: `epochs=5` as `training.epochs=5`, a text in quotes of Hydra's grammar.

    Raises:
        UserError: for an unknown keyword, or a value that no override can have.
    """
    from cifar_exp.config import overrides

    known = Keywords.__annotations__
    for name in keywords:
        if name not in known:
            hint = did_you_mean(name, known)
            raise UserError(f"{name}: no such keyword{hint} (other settings are overrides, such as 'model=bn')")
    return [overrides.write(name if name in _ROOT else f"training.{name}", value) for name, value in keywords.items()]
