"""The origins that --explain-config prints are those of the composed values, over conf/ and overrides of every kind."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from cifar_exp.config import yaml_lines
from cifar_exp.config.composition import CONF
from cifar_exp.config.explanation import explain_config
from cifar_exp.config.loader import Loader
from cifar_exp.config.template import KeyPath
from cifar_exp.errors import UserError

GROUPS = ("model", "optimizer", "optimizer/schedule", "data", "augmentation")
VALUES = (
    "seed=7", "name=x", 'note="#1, a=b"', "training.early_stopping.patience=4", "optimizer.learning_rate=0.5",
    "optimizer.learning_rate=${training.epochs}", "model.layers.0=Flatten",
    "model.layers=[Flatten,{Dense:{units:10}}]", "+model.extra=1", "+model.extra=${seed}", "++model.extra.deeper=[1,2]",
    "++seed=3", "~model.layers", "~resume", "~seed", "name=${model.name}-${optimizer.name}", "note=${.seed}",
    "+reference.reported={a: {accuracy: 0.5}}", "data.classes=4", "training.checkpoint={every: 2}", "++seed=1",
)  # fmt: skip


def choices(group: str) -> list[str]:
    without_files = {"folder", "csv", "parquet"}
    return sorted({path.stem for path in (CONF / group).glob("*.yaml")} - without_files)


@pytest.fixture(scope="module")
def loader() -> Loader:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = GlobalHydra.instance().config_loader()
        assert isinstance(found, Loader)
        return found


@pytest.fixture(autouse=True)
def beside_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONF.parent)


def comments(text: str) -> dict[KeyPath, str]:
    """The comment of each line of the YAML, by the path of what stands there."""
    printed = text.splitlines()
    return {
        path: printed[line.number - 1].partition("  # ")[2].strip() for path, line in yaml_lines.lines(text).items()
    }


def has(content: Any, path: KeyPath) -> bool:
    for part in path:
        if not isinstance(content, dict) or part not in (content := {str(key): it for key, it in content.items()}):
            return False
        content = content[part]
    return True


Files = list[tuple[str, KeyPath, Any]]


def files(loader: Loader, overrides: list[str]) -> Files:
    """The files of Hydra's defaults list, the last first, each with its package and its content."""
    found: Files = []
    for default in reversed(loader.compute_defaults_list("config", overrides, RunMode.RUN).defaults):
        if (file := CONF / f"{default.config_path}.yaml").exists():
            package = tuple(filter(None, (default.package or "").split(".")))
            found.append((f"conf/{default.config_path}.yaml", package, yaml.safe_load(file.read_text())))
    return found


def last_file(read: Files, path: KeyPath) -> str | None:
    """The last file that has a key."""
    inside = (name for name, at, content in read if path[: len(at)] == at and has(content, path[len(at) :]))
    return next(inside, None)


@pytest.mark.parametrize("number", range(12))
def test_values_are_the_composed_ones_and_origins_are_where_they_are_set(loader: Loader, number: int) -> None:
    chance = random.Random(number)
    experiment = choices("experiment")[number::12]
    overrides = [f"{group}={chance.choice(choices(group))}" for group in chance.sample(GROUPS, 2)]
    overrides += [f"experiment={chance.choice(experiment)}"]
    # one of each key, such as model.layers
    overrides += {tuple(re.split(r"[=.]", value.lstrip("+~"))[:2]): value for value in chance.sample(VALUES, 5)}.values()
    expected = loader.resolve("config", overrides)
    text = explain_config(overrides)
    assert yaml.safe_load(text) == expected
    read, seen = files(loader, overrides), set()
    for path, comment in comments(text).items():
        origin = comment.partition("; was ")[0]
        if origin.startswith("conf/"):
            name, line = origin.split(": ")[0].split(":")
            part = path[-1] if not path[-1].isdecimal() else ""
            assert part in Path(name).read_text().splitlines()[int(line) - 1], (overrides, path)
        value = expected
        for key in path:
            value = value[int(key)] if isinstance(value, list) else value[key] if value else None
        if isinstance(value, dict | list) or any(part.isdecimal() for part in path):
            continue
        by = [o for o in overrides if path == tuple(o.lstrip("+~").split("=")[0].split("."))]
        file = last_file(read, path)
        if by:
            assert origin.split(": ")[1] == by[-1], (overrides, path)
        elif not origin.startswith("command line"):  # of a mapping
            seen.add(file)
            assert origin.startswith(f"{file}:" if file else ("default (schema)", "from the data")), (overrides, path)
    assert len(seen) > 3
