"""Errors of Hydra and OmegaConf in one line each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from cifar_exp.config import from_data, overrides, yaml_files
from cifar_exp.errors import did_you_mean

# What OmegaConf says when it refuses a value -> the same in words of the checks.
_REFUSALS = {
    r"Value '(?P<got>.*)' of type '(?P<type>\w+)' could not be converted to Integer": "{got}, expected a whole number",
    r"Value '(?P<got>.*)' of type '(?P<type>\w+)' could not be converted to Float": "{got}, expected a number",
    r"Value '(?P<got>.*)' is not a valid bool \(type (?P<type>\w+)\)": "{got}, expected true or false",
    r"Cannot convert '(?P<type>\w+)' to string: '(?P<got>.*)'": "{got}, expected text",
    r"(?P<got>)(?P<type>)field '.*' is not Optional": "null, expected a value",
    r"(?P<got>)Cannot assign (?P<type>\w+) to Dict\[.*\]": "one value, expected a mapping",
    r"(?P<got>)(?P<type>)Invalid value assigned: \w+ is not a ListConfig, .*": (
        "one value, expected a list: {key}=[VALUE,VALUE]"
    ),
    r"Invalid type assigned: (?P<type>\w+) is not a subclass of \w+\. value: (?P<got>.*)": "{got}, expected {settings}",
}

# Empty by default; any key can be added.
_WITHOUT_KEYS = re.compile(r"(search|reference\.reported|hydra\.job\.env_set|hydra\.sweeper\.params)(\..*)?")
_OF_SEARCH = "; how a search works is set by hydra.sweeper, such as hydra.sweeper.n_trials=20"


def explain(error: BaseException) -> str:
    """Describe a composition error of Hydra or OmegaConf in one line, with the most similar valid name.

    It composes configs to find that name, so it needs `composition.composing`.
    """
    if refused := from_data.refusal(error):
        return str(refused)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, choice = _group_and_choice(str(error.missing_cfg_file))
        if choice.startswith("submitit_"):  # a default of conf/hydra/launcher/slurm.yaml
            return f"{group} {choice!r} needs hydra-submitit-launcher: pip install 'cifar-exp[slurm]'"
        options = error.options or _options(group)  # of an element of model=[a,b] Hydra lists none
        hint = did_you_mean(choice, options)
        if group == "data" and ("/" in choice or Path(choice).is_dir()):
            hint = f"; your own images are data=folder data.dir={choice}"
        return f"{group} {choice!r} not found{hint} (conf/{group} holds: {', '.join(options)})"
    if isinstance(error, OverrideParseException):
        return overrides.explain(error)
    if found_in_file := yaml_files.problem(error):
        return found_in_file
    if in_file := re.match(r"In '([^']+)': \w+ raised while composing config:\n((?s:.*))", str(error)):
        named = re.search(r"^\s*full_key: (\S+)$", str(error), re.M)
        return f"conf/{in_file.group(1)}.yaml: {_explain_value(named.group(1) if named else '', in_file.group(2))}"
    if type(error) is KeyError:  # of os.environ
        return f"hydra.job.env_copy: there is no environment variable {error.args[0]}"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigKeyError | AttributeError) or "Could not override" in str(error):
        found = re.search(r"Could not override '([^']+)'", str(error))
        key = found.group(1) if found else str(getattr(cause, "full_key", cause))
        return _unknown(key)
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return _explain_value(cause.full_key, str(cause))
    if added := re.match(r"Could not append to config\. An item is already at '(\S+)'", str(error)):
        return f"+{added.group(1)}: it has a value already; to change it, leave out the +"
    if removed := re.match(r"Could not delete from config\. '(\S+)' does not exist\.", str(error)):
        return f"~{_unknown(removed.group(1))}"
    if other := re.match(r"Could not delete from config\. The value of '(\S+)' is (.*) and not (.*)\.", str(error)):
        return "~{0}={2}: its value is {1}; to remove it whatever it is, write ~{0}".format(*other.groups())
    # Of the same mistake; Hydra does not say where it is.
    if chosen := re.match(r"Multiple values for (\S+)\. |(\S+) appears more than once in the final", str(error)):
        group = chosen.group(1) or chosen.group(2)
        return (
            f"{group}: there is a choice already; to change it, leave out the + on a command line, or write "
            f"'override /{group}: NAME' in the defaults of a file"
        )
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _group_and_choice(file: str) -> tuple[str, str]:
    """Split the path of a missing file: the group is the longest part that is one, for `model=bn/x`."""
    parts = file.split("/")
    for cut in range(len(parts) - 1, 1, -1):
        group = "/".join(parts[:cut])
        if {"", ".", ".."}.isdisjoint(parts[:cut]) and _options(group):
            return group, "/".join(parts[cut:])
    return parts[0], "/".join(parts[1:])


def _options(group: str) -> list[str]:
    """The choices of a group; none if there is no such group."""
    options: list[str] = GlobalHydra.instance().config_loader().get_group_options(group)
    return options


def _unknown(key: str) -> str:
    """Say that there is no such setting, and where it is or what was meant."""
    if free := _WITHOUT_KEYS.fullmatch(key):
        missing = "no such setting; to add it" if free.group(2) else "it is empty; to add to it"
        return f"{key}: {missing}, write +{key}{_OF_SEARCH if free.group(1) == 'search' else ''}"
    if not key.startswith("hydra."):
        known = _known_keys()
        if key in known:  # of the default choice
            section = key.rpartition(".")[0]
            return f"{key}: no such setting of the chosen {section}" if section else f"{key}: it has no value"
        return f"{key}: no such setting{did_you_mean(key, known)}"
    group = "/".join(key.split(".")[:2])  # such as hydra/sweeper
    having = " or ".join(f"{group}={option}" for option in _options(group) if _has(f"{group}={option}", key))
    return f"{key}: no such setting" + (f" without {having}" if having else "")


def _has(choice: str, key: str) -> bool:
    """Whether there is a setting with a choice of a group."""
    missing = object()
    try:
        composed = compose("config", [choice], return_hydra_config=True)
    except Exception:  # a choice of a package that is not installed
        return False
    return OmegaConf.select(composed, key, default=missing) is not missing


def _explain_value(key: str, said: str) -> str:
    """Say in words of the checks why OmegaConf refuses a value.

    Args:
        key: of the setting, or nothing if it is not known.
        said: by OmegaConf, in several lines.
    """
    message = said.splitlines()[0]
    if message == "Cannot merge DictConfig with ListConfig":  # whichever of the two it has
        of_list = re.search(r"object_type=(list|tuple)|reference_type=\S*(List|Tuple)", said)
        message = f"got {'a mapping, expected a list' if of_list else 'a list, expected a mapping'}"
    if used := re.search(r"Error trying to access (\S+): node `(\S+)` is not a container", message):
        element, node = used.groups()
        return f"{node}: got one value, expected a list or a mapping: {key} uses {element}"
    if re.fullmatch(r"Key '.*' not in '\w+'", message):
        return _unknown(key)
    if "does not support deletion" in message:
        return f"{key}: a setting of this kind cannot be removed"
    message = message.removeprefix("KeyError raised while resolving interpolation: ").strip('"')
    for pattern, words in _REFUSALS.items():
        if refused := re.fullmatch(pattern, message):
            got = refused["got"]
            shown = {"str": repr(got), "bool": got.lower()}.get(refused["type"], got)
            settings = settings_of(key, got) if "{settings}" in words else ""
            message = f"got {words.format(got=shown, key=key, settings=settings)}"
            if got.startswith(tuple(f"{name}(" for name in overrides.RANGES)):
                message += (
                    "; a setting in a file holds one value: write several on the command line, key=1,2 with -m, or in "
                    "hydra.sweeper.params"
                )
            break
    return f"{key}: {message}" if key else message


def settings_of(section: str, got: str) -> str:
    """What may be written instead of `section=got`."""
    settings = sorted(known for known in _known_keys() if known.rpartition(".")[0] == section)
    some = f"one of its settings: {', '.join(f'{setting}=...' for setting in settings)}" if settings else "a mapping"
    group = section.replace(".", "/")
    return f"{some}; the choice of this name is {group}={got}" if got in _options(group) else some


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
