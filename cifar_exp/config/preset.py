"""A run's overrides -> an experiment of a folder of configs: data alone, composed and compared before it is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override

from cifar_exp.config import composition, overrides
from cifar_exp.config.composition import CONF
from cifar_exp.config.schema import Config
from cifar_exp.data.schema import FILES
from cifar_exp.errors import UserError

_OF_A_MACHINE = ("data.dir", "name", "note", "notify.", "resume", "review.", "sweep.", "tracking.", "hydra")
_NOT_COMPARED = ("name", "note", "notify", "reference", "resume", "review", "search", "sweep", "tracking")


def write(given: Sequence[str], name: str, folder: Path, about: str) -> Path:
    """Write experiment/NAME.yaml, which composes to the settings of these overrides.

    Args:
        given: overrides of a run; whoever logs it can write anything there.
        name: of the experiment.
        folder: of configs; it is created if it is missing. The overrides may use its choices.
        about: a comment of one line.

    Returns:
        The file.

    Raises:
        UserError: if the name is taken, or the overrides cannot be written as an experiment.
    """
    if not re.fullmatch(r"\w[\w-]*", name, re.ASCII) or overrides.parse([f"experiment={name}"])[0].value() != name:
        raise UserError(f"the name of a preset: got {name!r}, expected letters, digits, '-' and '_' only, no number")
    path = folder / "experiment" / f"{name}.yaml"
    if taken := next((file for file in (path, CONF / "experiment" / path.name) if file.exists()), None):
        raise UserError(f"{taken} exists: choose another name")
    choices = str(folder) if folder.is_dir() else None
    own = [override for override in given if not override.lstrip("+~").startswith(_OF_A_MACHINE)]
    images = own_images(given)
    for override in overrides.parse([*own, *images]):
        if overrides.refers(override.value()):  # as it is parsed: escapes of Hydra hide it in the text
            raise UserError(f"{override.input_line}: refers to another value, maybe a secret")
    (wanted,) = composition.plan([*own, *images], multirun=False, config_dir=choices).jobs
    content = _content(overrides.parse(own), wanted, name, [CONF, *([Path(choices)] if choices else [])])
    path.parent.mkdir(parents=True, exist_ok=True)
    option = "" if folder.resolve() == CONF.resolve() else f"--config-dir {folder} "
    head = f"# @package _global_\n# python -m cifar_exp {option}experiment={name}\n# {' '.join(about.split())}\n"
    path.write_text(head + content, encoding="utf-8")
    try:
        (written,) = composition.plan([f"experiment={name}", *images], multirun=False, config_dir=str(folder)).jobs
        if differing := _differing(wanted, written):
            raise UserError(f"these settings cannot be written as an experiment: {differing} would differ")
    except BaseException:
        path.unlink()
        raise
    return path


def own_images(given: Sequence[str]) -> list[str]:
    """The override that names the folder of a user's own images. An experiment has none, but cannot run without."""
    is_needed = any(override == f"data={name}" for override in given for name in FILES)
    return [override for override in given if is_needed and override.startswith("data.dir=")]


def _content(given: Sequence[Override], config: Config, name: str, folders: Sequence[Path]) -> str:
    defaults: list[Any] = []
    values: dict[str, Any] = {"name": name}
    for override in given:
        if override.is_delete():
            raise UserError(f"{override.input_line}: an experiment cannot take a setting away")
        key, value = override.key_or_group, override.value()
        if isinstance(value, str) and any((folder / key).is_dir() for folder in folders):
            defaults.append(value if key == "experiment" else {f"override /{key}": value})
        else:
            _set(values, key.split("."), value, config)
    defaults.sort(key=lambda entry: not isinstance(entry, str))  # an experiment comes before what changes it
    content = ({"defaults": defaults} if defaults else {}) | values
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _set(values: dict[str, Any], path: list[str], value: Any, config: Config) -> None:
    """Set a value; one item of a list is set with the whole list, since YAML files replace lists."""
    if index := next((position for position, part in enumerate(path) if part.isdecimal()), None):
        path = path[:index]
        value = _of_config(config, path)
    for part in path[:-1]:
        values = values.setdefault(part, {})
    values[path[-1]] = value


def _of_config(config: Config, path: Sequence[str]) -> Any:
    node: Any = {**asdict(config), "model": {"name": config.model.name, **config.model.knobs}}
    for part in path:
        if not isinstance(node, Mapping) or part not in node:
            raise UserError(f"{'.'.join(path)}: a part of it was set; only whole lists can be written")
        node = node[part]
    return list(node) if isinstance(node, tuple) else node


def _differing(wanted: Config, written: Config) -> str:
    """Keys of the settings that differ and decide a run."""
    first, second = asdict(wanted), asdict(written)
    return ", ".join(key for key in first if key not in _NOT_COMPARED and first[key] != second[key])
