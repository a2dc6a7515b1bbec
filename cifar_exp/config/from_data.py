"""What a config takes from its data set when it is composed: the shape of its images and the number of its classes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import UserError

# setting of DataConfig -> its default in a composed config, which `_describe` resolves
INTERPOLATIONS = {setting: f"${{from_data:{setting}}}" for setting in ("image_shape", "classes")}


def _describe(setting: str, *, _parent_: DictConfig) -> Any:
    """The value of a setting of `INTERPOLATIONS` for the data set that the other settings of its group select."""
    from cifar_exp.data import datasets  # imports numpy

    others: dict[str, Any] = {f.name: _parent_[f.name] for f in fields(DataConfig) if f.name not in INTERPOLATIONS}
    for name, value in others.items():
        if OmegaConf.is_config(value):
            others[name] = OmegaConf.to_container(value)
    description = datasets.describe(DataConfig(**others))
    if setting == "classes":
        return len(description.class_names)
    return OmegaConf.create(list(description.image_shape))  # a node, so that ${data.image_shape[0]} finds its element


OmegaConf.register_new_resolver("from_data", _describe, replace=True)


def refusal(error: BaseException) -> UserError | None:
    """The refusal of a data set that OmegaConf has wrapped in an error of its own, or `None`."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__  # OmegaConf names no cause
    return cause
