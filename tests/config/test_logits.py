"""A layer list that ends in anything but logits is refused, whatever its form."""

from __future__ import annotations

from typing import Any

import pytest

from cifar_exp.config import logits
from cifar_exp.config.architecture import check
from cifar_exp.config.layers import parse
from cifar_exp.errors import UserError

CLASSES = 10
IMAGE_SHAPE = (32, 32, 3)

DENSE = {"Dense": {"units": 10}}
MAPS = {"Conv2D": {"filters": 10, "kernel_size": 3}}
POOL = "GlobalAveragePooling2D"


def dense(activation: Any) -> dict[str, Any]:
    return {"Dense": {"units": 10, "activation": activation}}


def maps(activation: str, kind: str = "Conv2D") -> dict[str, Any]:
    return {kind: {"filters": 10, "kernel_size": 3, "activation": activation}}


def checked(entries: list[Any]) -> None:
    check(parse(entries, "model 'm'"), "model 'm'", IMAGE_SHAPE, CLASSES)


DROP = "drop the activation"


@pytest.mark.parametrize(
    ("entries", "layer", "mend"),
    [
        *((["Flatten", dense(name)], "layer 2 (Dense)", DROP) for name in ("softmax", "sigmoid", "relu", "tanh")),
        *((["Flatten", dense(name)], "layer 2 (Dense)", DROP) for name in ("log_softmax", "leaky_relu", "gelu")),
        (["Flatten", dense({"softmax": None})], "layer 2 (Dense)", DROP),
        (["Flatten", DENSE, "Softmax"], "layer 3 (Softmax)", "drop the Softmax layer"),
        (["Flatten", DENSE, "ReLU"], "layer 3 (ReLU)", "drop the ReLU layer"),
        (["Flatten", DENSE, "LeakyReLU"], "layer 3 (LeakyReLU)", "drop the LeakyReLU layer"),
        (["Flatten", DENSE, {"Activation": {"activation": "tanh"}}], "layer 3 (Activation)", "drop the Activation"),
        (["Flatten", DENSE, {"Dropout": {"rate": 0.5}}], "layer 3 (Dropout)", "drop the Dropout layer"),
        (["Flatten", DENSE, {"GaussianNoise": {"stddev": 1}}], "layer 3 (GaussianNoise)", "drop the GaussianNoise"),
        (["Flatten", DENSE, "BatchNormalization"], "layer 3 (BatchNormalization)", "drop the BatchNormalization"),
        (["Flatten", DENSE, "UnitNormalization"], "layer 3 (UnitNormalization)", "drop the UnitNormalization"),
        (["Flatten", dense("softmax"), "Identity", {"Rescaling": {"scale": 9}}], "layer 2 (Dense)", DROP),
        (["Flatten", dense("softmax"), {"Dropout": {"rate": 0.5}}], "layer 2 (Dense)", DROP),
        (["Flatten", dense("softmax"), "LeakyReLU"], "layer 2 (Dense)", DROP),
        ([DENSE, "Softmax", {"Reshape": {"target_shape": [1024, 10]}}, "GlobalMaxPooling1D"], "(Softmax)", "Softmax"),
        ([maps("relu"), POOL], "layer 1 (Conv2D)", DROP),
        ([maps("sigmoid", "SeparableConv2D"), POOL], "layer 1 (SeparableConv2D)", DROP),
        ([maps("relu", "Convolution2D"), "GlobalAvgPool2D"], "layer 1 (Convolution2D)", DROP),
        ([MAPS, "BatchNormalization", "ReLU", POOL], "layer 3 (ReLU)", "drop the ReLU layer"),
        ([MAPS, {"LeakyReLU": {"negative_slope": 0}}, POOL], "layer 2 (LeakyReLU)", "drop the LeakyReLU layer"),
        (["Flatten", dense("relu"), {"Residual": {"layers": [dense("relu")]}}], "(Residual), layer 1 (Dense)", DROP),
        (
            ["Flatten", {"Residual": {"layers": [dense("tanh")], "shortcut": [DENSE, "ReLU"]}}],
            "layer 2 (Residual), layer 1 (Dense)",
            DROP,
        ),
        (["Flatten", dense("relu"), {"Gate": {"layers": [dense("sigmoid")]}}], "layer 2 (Dense)", DROP),
        (["Flatten", DENSE, {"Repeat": {"times": 2, "layers": ["ReLU"]}}], "(Repeat, time 2), layer 1 (ReLU)", "ReLU"),
    ],
    ids=str,
)
def test_an_end_that_is_no_logits_names_the_layer_and_what_to_drop(entries: list[Any], layer: str, mend: str) -> None:
    with pytest.raises(UserError, match="must end in logits") as refused:
        checked(entries)
    said = str(refused.value)
    assert said.startswith("model 'm', layer ") and layer in said and mend in said and "\n" not in said


@pytest.mark.parametrize(
    "entries",
    [
        ["Flatten", DENSE],
        ["Flatten", dense("linear")],
        ["Flatten", dense(None), {"Rescaling": {"scale": 0.125}}],
        ["Flatten", dense("softmax"), DENSE, {"Activation": {"activation": "linear"}}],
        [MAPS, POOL],
        [maps("relu"), MAPS, POOL, {"Reshape": {"target_shape": [10]}}],
        [maps("leaky_relu"), POOL],
        [MAPS, {"ReLU": {"negative_slope": 0.1}}, POOL],
        [MAPS, {"SpatialDropout2D": {"rate": 0.1}}, "BatchNormalization", POOL],
        ["Flatten", DENSE, {"Residual": {"layers": [dense("relu")]}}],
        ["Flatten", DENSE, {"Gate": {"layers": [dense("sigmoid")]}}],
        ["Flatten", dense("relu"), {"Repeat": {"times": 2, "layers": [dense("relu"), DENSE]}}],
        ["Flatten", {"Residual": {"layers": [DENSE, {"Dropout": {"rate": 0.5}}], "shortcut": [DENSE]}}],
    ],
    ids=str,
)
def test_ends_that_are_logits_are_accepted(entries: list[Any]) -> None:
    checked(entries)


def test_what_a_layer_of_an_installed_package_computes_is_left_to_it() -> None:
    logits.check(parse(["Flatten", dense("relu"), {"CosineHead": {"units": 10}}], "m"), "m")
