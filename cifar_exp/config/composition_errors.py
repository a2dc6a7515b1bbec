"""Errors of Hydra and OmegaConf in one line each."""

from __future__ import annotations

import re
from typing import Any

from hydra import compose
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from cifar_exp.config import from_data, overrides, yaml_files
from cifar_exp.errors import did_you_mean


def explain(error: BaseException) -> str:
    """Describe a composition error of Hydra or OmegaConf in one line, with the most similar valid name."""
    if refused := from_data.refusal(error):
        return str(refused)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if choice.startswith("submitit_"):  # a default of conf/hydra/launcher/slurm.yaml
            return f"{group} {choice!r} needs hydra-submitit-launcher: pip install 'cifar-exp[slurm]'"
        options = [str(option) for option in error.options or []]
        return f"{group} {choice!r} not found{did_you_mean(choice, options)} (conf/{group} holds: {', '.join(options)})"
    if isinstance(error, OverrideParseException):
        return overrides.explain(error)
    if found_in_file := yaml_files.problem(error):
        return found_in_file
    if in_file := re.match(r"In '([^']+)': \w+ raised while composing config:\n(.*)", str(error)):
        named = re.search(r"^\s*full_key: (\S+)$", str(error), re.M)
        setting = f"{named.group(1)}: " if named else ""
        return overrides.explain_value(f"conf/{in_file.group(1)}.yaml: {setting}{in_file.group(2)}")
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigKeyError | AttributeError) or "Could not override" in str(error):
        found = re.search(r"Could not override '([^']+)'", str(error))
        key = found.group(1) if found else str(getattr(cause, "full_key", cause))
        return f"{key}: no such setting{did_you_mean(key, _known_keys())}"
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return overrides.explain_value(f"{cause.full_key}: {str(cause).splitlines()[0]}")
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _known_keys() -> set[str]:
    """Return all settings and groups of the default config."""

    def walk(node: Any, path: str) -> set[str]:
        found = set()
        for key in node:
            found.add(f"{path}{key}")
            if OmegaConf.is_dict(child := node._get_node(key)) and not child._is_none():
                found |= walk(child, f"{path}{key}.")
        return found

    return walk(compose("config"), "") | {"experiment", "optimizer/schedule"}
