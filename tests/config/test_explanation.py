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
    "++seed=3", "~model.layers", "~resume", "name=${model.name}-${optimizer.name}", "note=${.seed}",
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


def value_of(content: Any, path: KeyPath) -> Any:
    for part in path:
        content = content[part]
    return content


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


@pytest.mark.parametrize("number", range(6))
def test_values_are_the_composed_ones_and_origins_are_where_they_are_set(loader: Loader, number: int) -> None:
    chance = random.Random(number)
    experiment = choices("experiment")[number::6]
    overrides = [f"{group}={chance.choice(choices(group))}" for group in chance.sample(GROUPS, 2)]
    overrides += [f"experiment={chance.choice(experiment)}"]
    drawn = {tuple(value.lstrip("+~").partition("=")[0].split(".")[:2]): value for value in chance.sample(VALUES, 5)}
    overrides += drawn.values()  # one of each key
    expected = loader.resolve("config", overrides)
    text = explain_config(overrides)
    assert yaml.safe_load(text) == expected
    read = files(loader, overrides)
    seen: set[str | None] = set()
    for path, comment in comments(text).items():
        origin = comment.partition("; was ")[0]
        if place := re.search(r"(?:(\S+)=(\S+): )?(conf/\S+):(\d+)", origin):  # of a choice, or of a value
            _, choice, name, line = place.groups()
            part = choice or ("" if path[-1].isdecimal() else path[-1])
            assert part in Path(name).read_text().splitlines()[int(line) - 1], (overrides, path)
        if not all(part.isidentifier() for part in path) or isinstance(value_of(expected, path), dict | list):
            continue
        by = [o for o in overrides if path == tuple(o.lstrip("+~").split("=")[0].split("."))]
        file = last_file(read, path)
        if by:
            assert origin.split(": ")[1] == by[-1], (overrides, path)
        elif not origin.startswith("command line"):  # of a mapping
            seen.add(file)
            assert origin.startswith(f"{file}:" if file else ("default (schema)", "from the data")), (overrides, path)
    assert len(seen) > 3


WIDE = """name: wide
shared: &shared {activation: relu, padding: same}
width: 128
layers:
  - Conv2D:
      <<: *shared
      padding: valid
      filters: ${model.width}
  - Flatten
  - Dense: {units: "${data.classes}"}
  - Dense: {units: 3}
"""
MINE = """# @package _global_
defaults:
  - base
  - override /model: wide
optimizer:
  learning_rate: 0.5
"""
BASE = """# @package _global_
defaults: [override /optimizer: own]
optimizer: {learning_rate: 0.2, momentum: 0.9}
"""
OWN = """name: sgd
learning_rate: 0.1
"""
SWEEP = """# @package _global_
hydra: {mode: MULTIRUN, sweeper: {params: {seed: "5,6", model: bn}}}
"""


@pytest.fixture
def my_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A --config-dir, named from the folder that it is in."""
    contents = {"model/wide": WIDE, "experiment/mine": MINE, "experiment/base": BASE, "optimizer/own": OWN}
    for name, content in (contents | {"experiment/swept": SWEEP}).items():
        file = tmp_path / "my_conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    monkeypatch.chdir(tmp_path)
    return "my_conf"


def explained(*overrides: str, part: str, multirun: bool = False, config_dir: str | None = None) -> list[str]:
    """The lines below the name of conf/, which is not here, with single spaces before comments."""
    lines = explain_config(overrides, multirun, config_dir, part).splitlines()
    return [re.sub(r" +# ", " # ", line) for line in lines if line != f"# conf/ is {CONF}"]


def test_a_model_of_the_user_with_overrides_inside_its_list(my_conf: str) -> None:
    overrides = ("experiment=mine", "model.layers.3.Dense.units=4", "+model.extra=[1,{a: 2}]", "~model.shared")
    assert explained(*overrides, "data=digits", "~seed", part="model", config_dir=my_conf) == [
        "# experiment=mine: command line",
        "model: # model=wide: my_conf/experiment/mine.yaml:4; was baseline in conf/config.yaml:4",
        "  name: wide # my_conf/model/wide.yaml:1",
        "  width: 128 # my_conf/model/wide.yaml:3",
        "  layers: # my_conf/model/wide.yaml:4",
        "    - Conv2D:",
        "        activation: relu # my_conf/model/wide.yaml:2",
        "        padding: valid # my_conf/model/wide.yaml:7",
        "        filters: 128 # my_conf/model/wide.yaml:8: ${model.width}",
        "    - Flatten # my_conf/model/wide.yaml:9",
        "    - Dense: {units: 10} # my_conf/model/wide.yaml:10: units ${data.classes}",
        "    - Dense:",
        "        units: 4 # command line: model.layers.3.Dense.units=4; was 3 in my_conf/model/wide.yaml:11",
        "  extra: [1, {a: 2}] # command line: +model.extra=[1,{a: 2}]",
        "# removed: model.shared, command line: ~model.shared; was {activation: relu, padding: same} in "
        "my_conf/model/wide.yaml:2",
    ]


def test_what_a_value_replaced_is_named_from_the_latest_to_the_schema(my_conf: str) -> None:
    shown = explained(
        "experiment=mine", "optimizer.learning_rate=1", part="optimizer.learning_rate", config_dir=my_conf
    )
    assert shown == [
        "# experiment=mine: command line",
        "optimizer: # optimizer=own: my_conf/experiment/base.yaml:2; was adam in conf/config.yaml:5",
        "  learning_rate: 1.0 # command line: optimizer.learning_rate=1; was 0.5 in my_conf/experiment/mine.yaml:6, "
        "0.2 in my_conf/experiment/base.yaml:3, 0.1 in my_conf/optimizer/own.yaml:2",
    ]


def test_the_docs_show_what_is_printed() -> None:
    page = (CONF.parent / "docs" / "training.md").read_text()
    shown = re.search(r"^\$ python -m cifar_exp (.*) --explain-config -p (\w+)\n(.*?)^\.\.\.$", page, re.M | re.S)
    assert shown is not None
    overrides, part, text = shown.groups()
    assert explain_config(overrides.split(), package=part).startswith(text)


@pytest.mark.parametrize("part", ["model.layers[1]", "model.layers.1", "model.layers[1].MaxPooling2D.pool_size"])
def test_an_item_of_a_list_is_a_part(part: str) -> None:
    assert explained(part=part)[-2:] == [
        "  layers: # conf/model/baseline.yaml:7",
        "    - MaxPooling2D: {pool_size: 2} # conf/model/baseline.yaml:9: pool_size ${model.pool_size[0]}",
    ]


def test_values_of_the_data_and_what_replaces_them() -> None:
    (_, classes) = explained("data=digits", "data.classes=5", part="data.classes")
    assert classes == "  classes: 5 # command line: data.classes=5; was that of the data by default"
    (_, shape) = explained("data=digits", part="data.image_shape")
    assert shape == "  image_shape: [32, 32, 3] # from the data"


def test_what_cannot_be_resolved_is_shown_with_the_reason() -> None:
    (_, shape) = explained("data=folder", part="data.image_shape")
    reason = "data.dir: data=folder needs the folder of the images: data.dir=PATH"
    assert shape == f"  image_shape: '${{from_data:image_shape}}' # from the data, which cannot be read: {reason}"
    override = "note=${oc.env:NO_SUCH_VARIABLE}"
    (note,) = explained(override, part="note")
    expression = override.removeprefix("note=")
    assert note.startswith(f"note: '{expression}' # command line: {override}: {expression} (cannot be resolved: ")
    assert "Environment variable 'NO_SUCH_VARIABLE' not found" in note


def test_a_value_that_a_run_would_refuse_is_explained() -> None:
    assert explained("training.epochs=-1", part="training.epochs")[1] == (
        "  epochs: -1 # command line: training.epochs=-1; was 10 in conf/training/default.yaml:1"
    )


def test_of_a_sweep_the_first_job_is_explained(my_conf: str) -> None:
    assert explained("seed=3,4", "model=bn,large", part="seed", multirun=True) == [
        "# job 1 of 4: seed=3 model=bn",
        "seed: 3 # command line: seed=3; was 0 in conf/config.yaml:16",
    ]
    assert explained("experiment=swept", part="seed", config_dir=my_conf) == [
        "# job 1 of 2: seed=5 model=bn experiment=swept",
        "# experiment=swept: command line",
        "seed: 5 # my_conf/experiment/swept.yaml:2: seed=5; was 0 in conf/config.yaml:16",
    ]
    model = explained("experiment=swept", part="model.name", config_dir=my_conf)
    assert model[2] == "model: # model=bn: my_conf/experiment/swept.yaml:2; was baseline in conf/config.yaml:4"
    search = explained("hydra/sweeper=search", "seed=1,2", part="sweep.varies", multirun=True)
    assert search[0] == "# one trial of the search, seed=1"
    assert search[-1] == "  varies: [seed] # sweep: sweep.varies=['seed']; was [] by default"


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("optimzer", "-p optimzer: no such part; did you mean 'optimizer'? (the config has: model, optimizer, data, "),
        (
            "optimizer.zzz",
            "-p optimizer.zzz: no such part (optimizer has: name, learning_rate, schedule, weight_decay, ",
        ),
        ("model.layers[8]", "-p model.layers[8]: no such part (model.layers has: 0, 1, 2, 3, 4, 5, 6, 7)"),
        ("seed.0", "-p seed.0: no such part (seed is a setting)"),
        ("[", "-p [: no such part (the config has: model, optimizer, data, "),
    ],
)
def test_an_unknown_part_is_refused_with_what_there_is(part: str, says: str) -> None:
    with pytest.raises(UserError) as refused:
        explain_config([], package=part)
    assert str(refused.value).startswith(says) and "\n" not in str(refused.value)
