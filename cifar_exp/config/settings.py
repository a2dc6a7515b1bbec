"""docs/settings.md, generated from the schema and conf/: python -m cifar_exp.config.settings > docs/settings.md."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cifar_exp.config import from_data
from cifar_exp.config.composition import CONF
from cifar_exp.config.schema import Config

# Groups with several choices, by the key of their settings.
GROUPS = {
    "model": "model",
    "optimizer": "optimizer",
    "optimizer.schedule": "optimizer/schedule",
    "data": "data",
    "augmentation": "augmentation",
}

INTRODUCTION = """# Settings

<!-- Generated: python -m cifar_exp.config.settings > docs/settings.md -->

Every setting of `python -m cifar_exp`. Change a value with `key=value`, choose a file of a group with `group=choice`,
and sweep over several values with `-m key=value1,value2`. `null` stands for no value. Defaults are those of
[conf/](../conf): the value of the default configuration, then the values that other choices of the group set.
`--explain-config` prints [where each value of a run comes from](training.md#where-a-value-comes-from).

Settings of the parallel launcher are in [sweeps](sweeps.md#parallel-jobs).
"""


def page() -> str:
    """Generate the page as Markdown: a section for each group, a table row for each setting."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        default = compose("config")
        choices = {
            key: {choice: compose("config", [f"{group}={choice}"]) for choice in _files(group)}
            for key, group in GROUPS.items()
            if key != "model"  # each model has its own settings
        }
    lines = [INTRODUCTION, *_section("General", "", Config, default, {})]
    lines += _model_section()
    for setting in fields(Config):
        if is_dataclass(setting.default_factory):
            lines += _sections(setting.name, setting.default_factory, default, choices)
    return "\n".join(lines) + "\n"


def _sections(key: str, schema: type, default: DictConfig, choices: Mapping[str, Any]) -> Iterator[str]:
    """Generate the section of a group, then those of its subgroups."""
    yield from _section(key, key, schema, default, choices.get(key, {}))
    for setting in fields(schema):
        if is_dataclass(setting.default_factory):
            yield from _sections(f"{key}.{setting.name}", setting.default_factory, default, choices)


def _section(
    title: str, key: str, schema: type, default: DictConfig, choices: Mapping[str, DictConfig]
) -> Iterator[str]:
    """Generate a section: heading, description, choices of the group, table of settings."""
    yield f"## {title}\n"
    if key:
        yield f"{schema.__doc__}\n"
    if choices:
        yield from _choices(GROUPS[key])
    yield "| setting | type | default | values | description |"
    yield "| --- | --- | --- | --- | --- |"
    types = get_type_hints(schema)
    for setting in fields(schema):
        path = f"{key}.{setting.name}" if key else setting.name
        if is_dataclass(setting.default_factory) or path == "model":  # these have their own sections
            continue
        cells = (
            f"`{path}`",
            _type(types[setting.name]),
            _default(path, default, choices if setting.name != "name" else {}),
            _values(setting),
            setting.metadata["doc"],
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def _model_section() -> Iterator[str]:
    yield "## model\n"
    yield (
        "A model has a `name`, a list of `layers`, and knobs of its own, which are settings as well:\n"
        "`model.activation=gelu` for the baseline. See [models](models.md).\n"
    )
    yield from _choices("model")


def _choices(group: str) -> Iterator[str]:
    """Generate the table of the choices of a group, each with the comment at the top of its file."""
    yield f"| `{group}=` | |"
    yield "| --- | --- |"
    for choice in _files(group):
        comment = re.match(r"(?:# .*\n)*", (CONF / group / f"{choice}.yaml").read_text())
        text = " ".join(line.removeprefix("# ") for line in comment.group().splitlines()) if comment else ""
        yield f"| `{choice}` | {text} |"
    yield ""


def _files(group: str) -> list[str]:
    return sorted(path.stem for path in Path(CONF, group).glob("*.yaml"))


def _type(hint: Any) -> str:
    """Format a type hint: `float or null`."""
    if hint is Any:
        return "str or mapping"
    names = [_type(part) for part in get_args(hint)]
    if getattr(hint, "__origin__", None) in (list, tuple):
        return f"list of {names[0]}"
    if getattr(hint, "__origin__", None) is dict:
        return "mapping"
    return " or ".join(names) if names else {"NoneType": "null"}.get(hint.__name__, hint.__name__)


def _default(path: str, default: DictConfig, choices: Mapping[str, DictConfig]) -> str:
    """Format the value in the default config, then other values with the choices that set them."""
    if path.removeprefix("data.") in from_data.INTERPOLATIONS:
        return "from the data"
    value = OmegaConf.select(default, path)
    others: dict[str, list[str]] = {}
    for choice, composed in choices.items():
        if (other := OmegaConf.select(composed, path)) != value:
            others.setdefault(_literal(other), []).append(choice)
    return "; ".join([_literal(value), *(f"{other} with {', '.join(names)}" for other, names in others.items())])


def _literal(value: Any) -> str:
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return f"`{plain if isinstance(plain, str) else json.dumps(plain)}`"


def _values(setting: Field[Any]) -> str:
    """Format the choices or the limits of a setting."""
    if choices := setting.metadata.get("choices"):
        return ", ".join(f"`{choice}`" for choice in choices)
    limits = {name: bound for name, bound in setting.metadata.items() if name not in ("doc", "choices")}
    return ", ".join(f"{name} {bound}" for name, bound in limits.items())


if __name__ == "__main__":
    sys.stdout.write(page())
