"""Conversion of a composed config to checked dataclasses.

Hydra checks the types. This module checks the allowed values of each setting, which `schema` defines, and conditions
that involve several settings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, ValidationError

from cifar_exp.config import architecture, from_data, layers
from cifar_exp.config.optimizer_schema import (
    OPTIMIZER_ARGUMENTS,
    OPTIONAL_ARGUMENTS,
    SCHEDULE_ARGUMENTS,
    OptimizerConfig,
)
from cifar_exp.config.schema import Config, ModelConfig, ReportedConfig
from cifar_exp.errors import UserError, did_you_mean

_SWEEP_NAME = re.compile(r"\w[\w.-]*")
_LONGEST_FOLDER = 200  # bytes of the name of a sweep; a file system takes 255


def from_composed(composed: DictConfig) -> Config:
    """Convert a composed config to checked dataclasses.

    Raises:
        UserError: if a value is not allowed.
    """
    try:
        content: Any = OmegaConf.to_container(composed, resolve=True)
    except InterpolationResolutionError as error:
        raise from_data.refusal(error) or error from None
    return from_content(content)


def from_content(content: Mapping[str, Any]) -> Config:
    """Convert the resolved content of a config to checked dataclasses.

    Args:
        content: plain containers; they are not changed.

    Raises:
        UserError: if a value is not allowed.
    """
    values = dict(content)
    model = values.pop("model", None)
    if not isinstance(model, dict) or not isinstance(model.get("name"), str) or "layers" not in model:
        raise UserError("model: expected a mapping with a name and a list of layers")
    reported = {setting: _reported(setting, of) for setting, of in values["reference"]["reported"].items()}
    values["reference"] = {**values["reference"], "reported": reported}
    knobs = {key: value for key, value in model.items() if key not in ("name", "layers")}
    where = f"model {model['name']!r}"
    for knob in knobs:
        if not isinstance(knob, str) or not re.fullmatch(r"\w[\w .:-]{,199}", knob):  # what MLflow takes as a parameter
            raise UserError(f"{where}: got the setting {knob!r}, expected a name of letters, digits, '_' and '-'")
    parsed = layers.parse(model["layers"], where)
    config: Config = _build(Config, values, "")
    object.__setattr__(config, "model", ModelConfig(model["name"], parsed, knobs))
    check(config)
    return config


def _build(cls: type, values: Mapping[str, Any], path: str) -> Any:
    """Build a dataclass and its nested dataclasses from plain containers.

    Args:
        cls: the dataclass.
        values: of its fields, with the right types.
        path: dotted key of the dataclass in the config with a dot at its end, for error messages.

    Raises:
        UserError: if a key is not a field.
    """
    known = {f.name: f for f in fields(cls)}
    for key in values:
        if key not in known:
            nearest = did_you_mean(f"{path}{key}", [f"{path}{name}" for name in known])
            raise UserError(f"{path}{key}: no such setting{nearest}")
    made = {}
    for key, value in values.items():
        nested = known[key].default_factory
        if isinstance(nested, type) and is_dataclass(nested):
            value = _build(nested, value, f"{path}{key}.")
        made[key] = tuple(value) if key == "image_shape" else value
    return cls(**made)


def _reported(setting: str, values: Any) -> ReportedConfig:
    """Build and check what is reported of one value of a key, because Hydra cannot fill mappings of dataclasses."""
    where = f"reference.reported.{setting}"
    if not isinstance(values, dict):
        raise UserError(f"{where}: got {values!r}, expected {{accuracy: ..., loss: ...}}")
    made: ReportedConfig = _build(ReportedConfig, values, f"{where}.")
    try:
        OmegaConf.structured(made)
    except ValidationError as error:
        raise UserError(f"{where}.{error.full_key}: {str(error).splitlines()[0]}") from error
    return made


def check(config: Config) -> None:
    """Check a config whose values have the right types.

    Raises:
        UserError: if a run with it would fail. The message has the setting, its value and what is allowed.
    """
    for problem in _out_of_range(config, ""):
        raise UserError(problem)
    _check_optimizer(config.optimizer)
    shape, classes = config.data.image_shape, config.data.classes
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"data.image_shape: got {list(shape)}, expected [height, width, channels], each at least 1")
    if config.data.train_images and config.data.train_images % classes:
        raise UserError(f"data.train_images: got {config.data.train_images}, expected a multiple of {classes}")
    if config.augmentation.crop > (most := min(shape[:2]) // 2):
        raise UserError(f"augmentation.crop: got {config.augmentation.crop}, expected at most {most}")
    if config.augmentation.erase > (most := min(shape[:2])):
        raise UserError(f"augmentation.erase: got {config.augmentation.erase}, expected at most {most}")
    if config.prediction.shift > (most := min(shape[:2]) - 1):
        raise UserError(f"prediction.shift: got {config.prediction.shift}, expected at most {most}")
    mixes = next((name for name in ("mixup", "cutmix") if getattr(config.augmentation, name)), None)
    if mixes and config.training.batch_size == 1:
        raise UserError(
            f"augmentation.{mixes}: got {getattr(config.augmentation, mixes)} with training.batch_size=1, expected at "
            "least 2: an image is mixed with another one of its batch"
        )
    if config.reference.reported and config.reference.varies is None:
        raise UserError("reference.reported: needs reference.varies, the key that these are settings of")
    where, policy = f"model {config.model.name!r}", config.training.precision
    architecture.check(config.model.layers, where, shape, classes, policy)
    if config.training.ghost_batches > config.training.batch_size:
        raise UserError(
            f"training.ghost_batches: got {config.training.ghost_batches}, expected at most training.batch_size, "
            f"{config.training.batch_size}"
        )
    if config.training.whiten:
        _check_whitening(config)


def _check_optimizer(optimizer: OptimizerConfig) -> None:
    """Check the arguments of an optimizer and of its schedule."""
    schedule = optimizer.schedule
    _check_arguments("optimizer", optimizer, OPTIMIZER_ARGUMENTS, OPTIONAL_ARGUMENTS)
    _check_arguments("optimizer.schedule", schedule, SCHEDULE_ARGUMENTS, {"warmup"})
    if optimizer.nesterov and not optimizer.momentum:
        raise UserError("optimizer.nesterov=true needs a momentum: set optimizer.momentum=0.9, say")
    clipping = [name for name in ("clipnorm", "clipvalue", "global_clipnorm") if getattr(optimizer, name) is not None]
    if len(clipping) > 1:
        raise UserError(f"optimizer.{clipping[0]}: got a value, and optimizer.{clipping[1]} too; Keras takes only one")
    if optimizer.no_weight_decay and not optimizer.weight_decay:
        raise UserError("optimizer.no_weight_decay needs optimizer.weight_decay: there is nothing to leave out of")
    if optimizer.ema and optimizer.name == "schedule_free_adamw":
        raise UserError(
            f"optimizer.ema: got {optimizer.ema} with schedule_free_adamw, which averages its weights itself"
        )
    if optimizer.beta_1 == 0 and optimizer.name == "schedule_free_adamw":
        raise UserError("optimizer.beta_1: got 0.0, expected above 0: schedule_free_adamw divides by it")
    milestones = schedule.milestones or []
    if any(not 0 < one < 1 for one in milestones) or any(a >= b for a, b in pairwise(milestones)):
        raise UserError(f"optimizer.schedule.milestones: got {milestones}, expected rising shares between 0 and 1")
    if schedule.name == "exponential" and not schedule.final:
        raise UserError("optimizer.schedule.final: got 0, which no exponential reaches; expected above 0")
    if schedule.name == "plateau" and schedule.warmup:
        raise UserError("optimizer.schedule.warmup: plateau has none, because it does not depend on the step")


def _check_whitening(config: Config) -> None:
    if config.training.start_from:
        raise UserError("training.whiten: got true with training.start_from, whose weights it would replace")
    first = next(layer for layer in config.model.layers if layer.kind != "Rescaling")
    if first.kind != "Conv2D":
        raise UserError(f"training.whiten: model {config.model.name!r} begins with {first.kind}, expected Conv2D")
    for argument in ("groups", "dilation_rate"):
        if first.arguments.get(argument, 1) not in (1, [1, 1]):
            raise UserError(
                f"training.whiten: the first Conv2D of model {config.model.name!r} has {argument}, expected none: each "
                "filter is a component of a whole patch"
            )
    filters, size = first.arguments["filters"], first.arguments["kernel_size"]
    most = 2 * math.prod(size if isinstance(size, list) else [size, size]) * config.data.image_shape[2]
    if filters % 2 or filters > most:
        raise UserError(
            f"training.whiten: the first Conv2D of model {config.model.name!r} has {filters} filters, expected an even "
            f"number of at most {most}: components of a patch and their negatives"
        )


def check_sweep(name: str, retries: int) -> None:
    """Check the settings of a sweep.

    Raises:
        UserError: if the name cannot be the name of a folder, or the number of retries is negative.
    """
    if retries < 0:
        raise UserError(f"sweep.retries: got {retries}, expected at least 0")
    if not _SWEEP_NAME.fullmatch(name):
        raise UserError(f"sweep.name: got {name!r}, expected letters, digits, '-', '_' and '.' only")
    if len(name.encode()) > _LONGEST_FOLDER:
        raise UserError(f"sweep.name: got {len(name)} characters, more than the name of a folder can have")


def is_sweep_name(name: str) -> bool:
    """Whether a sweep may have this name. One from a store may be anything."""
    return bool(_SWEEP_NAME.fullmatch(name)) and len(name.encode()) <= _LONGEST_FOLDER


def _out_of_range(node: Any, path: str) -> Iterator[str]:
    """Describe each value of a dataclass that is missing or not allowed; `path` is the beginning of its keys."""
    for f in fields(node):
        value, key = getattr(node, f.name), f"{path}{f.name}"
        if _holds_nul(value):
            yield f"{key}: holds a NUL character, which PostgreSQL does not take"
        elif is_dataclass(value):
            yield from _out_of_range(value, f"{key}.")
        elif isinstance(value, Mapping):
            for name, item in value.items():
                if is_dataclass(item):
                    yield from _out_of_range(item, f"{key}.{name}.")
        elif value == MISSING or (isinstance(value, list | tuple) and MISSING in value):
            yield f"{key}: needs a value"
        elif isinstance(value, float) and not math.isfinite(value):
            yield f"{key}: got {value}, expected a finite number"
        elif value is not None:
            for limit, bound in f.metadata.items():
                if limit == "choices" and value not in bound:
                    yield f"{key}: got {value!r}, expected one of {', '.join(bound)}{did_you_mean(value, bound)}"
                elif limit == "characters, at most" and len(value) > bound:
                    yield f"{key}: got {len(value):,} characters, expected at most {bound:,}"
                elif (
                    (limit == "at least" and not value >= bound)
                    or (limit == "above" and not value > bound)
                    or (limit == "at most" and not value <= bound)
                    or (limit == "below" and not value < bound)
                ):
                    yield f"{key}: got {value}, expected {limit} {bound}"


def _holds_nul(value: Any) -> bool:
    if isinstance(value, Mapping):
        return _holds_nul([*value, *value.values()])
    return "\0" in value if isinstance(value, str) else isinstance(value, list) and any(map(_holds_nul, value))


def _check_arguments(path: str, node: Any, arguments: Mapping[str, frozenset[str]], common: Set[str]) -> None:
    """Check that an optimizer or a schedule has values for exactly its own arguments.

    Args:
        path: dotted key of its settings.
        node: its settings; `name` selects the arguments.
        arguments: required arguments by name.
        common: optional arguments that all of them have.
    """
    takes = arguments[node.name] | common
    for f in fields(node):
        if f.name not in ("name", "schedule") and f.name not in takes and getattr(node, f.name) is not None:
            takes_what = f"it takes {', '.join(sorted(takes))}" if takes else "it takes none"
            raise UserError(
                f"{path}.{f.name}: {node.name} has no such argument; {takes_what} ({path}.{f.name}=null takes it away)"
            )
    for name in sorted(arguments[node.name]):
        if getattr(node, name) is None:
            raise UserError(f"{path}.{name}: {node.name} needs a value")
