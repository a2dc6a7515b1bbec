"""Image shape and number of classes come from the data, in every way that a config is composed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from cifar_exp.config import checks
from cifar_exp.config.composition import CONF
from cifar_exp.config.schema import Config, flatten
from cifar_exp.errors import UserError

Compose = Callable[..., Config]


@pytest.mark.parametrize(
    ("overrides", "shape", "classes"),
    [
        (["data=cifar10"], (32, 32, 3), 10),
        (["data=cifar100"], (32, 32, 3), 100),
        (["data=cifar100", "data.labels=coarse"], (32, 32, 3), 20),
        (["data=mnist"], (28, 28, 1), 10),
    ],
)
def test_a_model_ends_in_as_many_logits_as_there_are_classes(
    compose: Compose, overrides: list[str], shape: tuple[int, ...], classes: int
) -> None:
    config = compose(*overrides)
    assert (config.data.image_shape, config.data.classes) == (shape, classes)
    assert config.model.layers[-1].arguments["units"] == classes
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert checks.from_composed(hydra_compose("config", overrides)) == config


def test_a_model_may_refer_to_the_sides_of_an_image(compose: Compose) -> None:
    layers = "[{Conv2D:{filters:'${data.classes}',kernel_size:'${data.image_shape[0]}'}},Flatten]"
    config = compose("data=fashion_mnist", f"model.layers={layers}")
    assert config.model.layers[0].arguments == {"filters": 10, "kernel_size": 28}


def test_the_two_are_no_parameters_because_they_follow_from_the_data(compose: Compose) -> None:
    assert not {"data.image_shape", "data.classes"} & flatten(compose()).keys()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data=mnist", "data.labels=fine"], "data.labels: data=mnist does not use it; of use for cifar100"),
        (["data=digits", "data.group=patient"], "data.group: data=digits does not use it; of use for csv, parquet"),
        (["data=digits", "data.dir=photos"], "data.dir: data=digits does not use it; of use for cifar10, cifar100, "),
        (["data=cifar10", "data.size=[64,64]"], "data.size: data=cifar10 does not use it; of use for csv, folder, "),
        (["data=cifar100", "data.labels=fin"], "data.labels: got 'fin', expected one of fine, coarse; did you mean"),
        (["data.fold=2"], "data.fold: got 2, which needs data.folds, the number of parts"),
        (["data=cifar100", "data.train_images=150"], "data.train_images: got 150, expected a multiple of 100"),
        (["data=mnist", "augmentation.crop=15"], "augmentation.crop: got 15, expected at most 14"),
        (["model.layers=[Flatten,{Dense:{units:7}}]"], "ends in shape (7,), expected (10,)"),
        (["data=mnist", "model.layers=[{MaxPooling2D:{pool_size:32}}]"], "layer 1 (MaxPooling2D): its 32x32 window is"),
        (["data=mnist", "model=speedrun", "training.whiten=true"], "expected an even number of at most"),
        (["data.name=cifar1000"], "data.name: got 'cifar1000', expected one of"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_data_is_refused(compose: Compose, overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        compose(*overrides)
    assert said in str(refused.value) and "\n" not in str(refused.value)
