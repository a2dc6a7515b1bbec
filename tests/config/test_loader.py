"""Composing from templates gives what Hydra's own composition gives, over all of conf/ and overrides of every kind."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from cifar_exp.config.composition import CONF
from cifar_exp.config.loader import Loader

GROUPS = ("model", "optimizer", "optimizer/schedule", "data", "augmentation", "training", "tracking", "experiment")
CHOICES = [  # of large groups, some
    f"{group}={choice}"
    for group in GROUPS
    for choice in sorted(path.stem for path in (CONF / group).glob("*.yaml"))[
        :: {"experiment": 6, "model": 3, "optimizer": 2}.get(group, 1)
    ]
]
VALUES = (
    "seed=7", "name=x", "note=null", 'note="#1, a=b"', "resume=never", "training.epochs=3", "training.epochs=x",
    "training.early_stopping.patience=4", "optimizer.learning_rate=0.5", "optimizer.learning_rate=${training.epochs}",
    "optimizer.momentum=0.9", "optimizer.schedule.name=cosine", "optimizer={learning_rate: 0.1, clipnorm: 1}",
    "model.name=other", "model.layers=[Flatten,{Dense:{units:10}}]", "model.layers.0=Flatten", "+model.extra=1",
    "+model.extra=${seed}", "++model.extra.deeper=[1,2]", "++seed=3", "+seed=3", "~model.layers", "~note", "~seed=0",
    "~seed=1", "~optimizer.momentum", "note=${oc.env:PLANNED,nothing}", "note=${oc.env:PLANNED}",
    "name=${model.name}", "name=${optimizer.name}-${model.name}", "note=${.seed}",
    "note=${oc.select:training.epochs}", "note=${name}", "data.train_images=${oc.decode:${oc.env:IMAGES}}",
    "note=${nothing.there}", "training.epoch=3", "+unknown=1", "model.filters=[1,2,3]", "model.filters[0]=5",
    "model.dense_units=64", "model.activation=tanh", "model.filters.1=7",
    "augmentation.zoom=0.1", "review.model=m", "tracking.uri=${tracking.experiment}",
    "reference.reported={a: {accuracy: 0.5}}", "training=null", "model.units=???", "data@more=digits",
    "~augmentation", "~experiment", "experiment=null", "data=[digits]", "optimizer/schedule=cosine",
    "hydra.job.name=own", "hydra.job.chdir=true", "hydra.sweep.dir=there/${name}", "hydra.launcher=null",
    "hydra/launcher=parallel", "hydra.job.env_copy=[PLANNED]", "+hydra.job.env_set.A=${note}", "seed=3.0", "seed=1e3",
)  # fmt: skip


@pytest.fixture(scope="module")
def loaders() -> Iterator[tuple[Loader, ConfigLoaderImpl]]:
    """The loader that composes from templates, and Hydra's."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        own = GlobalHydra.instance().config_loader()
        assert isinstance(own, Loader)
        yield own, ConfigLoaderImpl(own.config_search_path)


def load(loader: ConfigLoaderImpl, overrides: Sequence[str]) -> DictConfig:
    return loader.load_configuration("config", list(overrides), RunMode.RUN, from_shell=False)


def resolved(composed: DictConfig) -> Any:
    with open_dict(composed):
        del composed["hydra"]
    return OmegaConf.to_container(composed, resolve=True)


def outcome(compose: Callable[[], Any]) -> tuple[str, Any]:
    """What it gives, or how it fails, with its types."""
    try:
        return "given", repr(compose())
    except Exception as error:
        return type(error).__name__, str(error)


def assert_equal(loaders: tuple[Loader, ConfigLoaderImpl], overrides: Sequence[str]) -> bool:
    """Whether it composes."""
    own, hydra = loaders
    composed: list[DictConfig] = []
    expected = outcome(lambda: composed.append(load(hydra, overrides)) or OmegaConf.to_container(composed[0]))
    assert outcome(lambda: OmegaConf.to_container(load(own, overrides))) == expected, overrides
    content = outcome(lambda: resolved(composed[0])) if composed else expected
    for _ in range(2 if composed else 1):  # the first must leave nothing behind
        assert outcome(lambda: own.resolve("config", overrides)) == content, overrides
    return content[0] == "given"


def test_choices_with_random_overrides_compose_as_hydra_does(
    loaders: tuple[Loader, ConfigLoaderImpl], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANNED", "from the environment")
    monkeypatch.setenv("IMAGES", "500")
    chance = random.Random(0)
    unused = list(VALUES)
    chance.shuffle(unused)
    composed = 0
    for choice in CHOICES:
        overrides = [choice, *chance.sample(VALUES, chance.randrange(3))]
        overrides += [unused.pop() for _ in range(min(len(unused), 1 + (len(overrides) == 1)))]
        chance.shuffle(overrides)
        composed += assert_equal(loaders, overrides)
    assert not unused
    assert len(CHOICES) / 3 < composed < len(CHOICES)  # some are refused, and by both alike


@pytest.mark.parametrize("override", VALUES)
def test_each_override_leaves_the_next_composition_as_it_was(
    loaders: tuple[Loader, ConfigLoaderImpl], override: str
) -> None:
    own, _ = loaders
    before = repr(own.resolve("config", ["seed=5"]))
    outcome(lambda: own.resolve("config", ["seed=5", override]))
    assert repr(own.resolve("config", ["seed=5"])) == before


def test_jobs_that_choose_the_same_groups_share_one_composition(
    loaders: tuple[Loader, ConfigLoaderImpl], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, _ = loaders
    monkeypatch.setattr("cifar_exp.config.loader._shared", {})
    composed = []
    whole = ConfigLoaderImpl._load_configuration_impl
    monkeypatch.setattr(
        ConfigLoaderImpl,
        "_load_configuration_impl",
        lambda self, *args, **named: composed.append(1) or whole(self, *args, **named),
    )
    loader = Loader(own.config_search_path)
    for model in ("bn", "large"):
        for seed in range(5):
            content = loader.resolve("config", [f"model={model}", f"seed={seed}", f"optimizer.learning_rate=0.{seed}1"])
            assert (content["model"]["name"], content["seed"]) == (model, seed)
            full = load(loader, [f"model={model}", f"seed={seed}"])
            assert (full.seed, full.hydra.overrides.task) == (seed, [f"model={model}", f"seed={seed}"])
    assert len(composed) == 2


def test_a_launcher_may_send_it_to_another_process(loaders: tuple[Loader, ConfigLoaderImpl]) -> None:
    own, _ = loaders
    expected = OmegaConf.to_container(load(own, ["model=bn", "seed=4"]))
    sent = pickle.loads(pickle.dumps(own))
    assert OmegaConf.to_container(load(sent, ["model=bn", "seed=4"])) == expected
