"""Settings that a composed config takes from its data set: the shape of the images and the number of classes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import UserError

# setting of DataConfig -> interpolation that is its default in a composed config; `_describe` resolves it
INTERPOLATIONS = {setting: f"${{from_data:{setting}}}" for setting in ("image_shape", "classes")}


def _describe(setting: str, *, _parent_: DictConfig) -> Any:
    """Return the value of a setting for the data set that the other settings of the group select.

    Args:
        setting: a key of `INTERPOLATIONS`.
        _parent_: the group `data`; OmegaConf passes it.
    """
    from cifar_exp.data import datasets  # imports numpy

    others: dict[str, Any] = {f.name: _parent_[f.name] for f in fields(DataConfig) if f.name not in INTERPOLATIONS}
    for name, value in others.items():
        if OmegaConf.is_config(value):
            others[name] = OmegaConf.to_container(value)
    description = datasets.describe(DataConfig(**others))
    if setting == "classes":
        return len(description.class_names)
    return OmegaConf.create(list(description.image_shape))  # as a node, so that ${data.image_shape[0]} works


OmegaConf.register_new_resolver("from_data", _describe, replace=True)


def refusal(error: BaseException) -> UserError | None:
    """Return the `UserError` of a data set that OmegaConf has wrapped in an error of its own; None if there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__  # OmegaConf does not set the cause
    return cause
