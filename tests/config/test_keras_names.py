"""Names and arguments that are read from Keras's source text are those of Keras."""

from __future__ import annotations

import inspect

import keras
import pytest

from cifar_exp.config import keras_names

BASE = set(inspect.signature(keras.layers.Layer.__init__).parameters) - {"self", "kwargs"}
OF_EVERY_LAYER = BASE | {"dtype", "trainable", "name", "activity_regularizer", "autocast"}
COMMON = [
    "Activation", "AveragePooling2D", "BatchNormalization", "Conv2D", "Dense", "DepthwiseConv2D", "Dropout", "ELU",
    "Flatten", "GaussianDropout", "GaussianNoise", "GlobalAveragePooling2D", "GlobalMaxPooling2D",
    "GroupNormalization", "LayerNormalization", "LeakyReLU", "MaxPooling2D", "PReLU", "ReLU", "Rescaling",
    "SeparableConv2D", "Softmax", "SpatialDropout2D", "UnitNormalization", "ZeroPadding2D",
]  # fmt: skip


@pytest.mark.parametrize("kind", COMMON)
def test_arguments_of_a_layer_are_those_of_its_keras_class(kind: str) -> None:
    parameters = inspect.signature(getattr(keras.layers, kind).__init__).parameters.values()
    named = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} - {"self"}
    takes_more = any(p.kind is p.VAR_KEYWORD for p in parameters)
    assert keras_names.arguments("layers", kind).keys() == named | (OF_EVERY_LAYER if takes_more else set())


def test_every_layer_class_of_keras_is_known_with_its_arguments() -> None:
    differing = {}
    for kind in (name for name in dir(keras.layers) if inspect.isclass(getattr(keras.layers, name))):
        parameters = inspect.signature(getattr(keras.layers, kind).__init__).parameters.values()
        named = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} - {"self"}
        found = keras_names.arguments("layers", kind).keys()
        if found - OF_EVERY_LAYER != named - OF_EVERY_LAYER:
            differing[kind] = (found, named)
    assert differing == {}


def test_arguments_with_a_bool_or_a_float_as_default_are_known_as_such() -> None:
    takes = keras_names.arguments("layers", "BatchNormalization")
    assert [takes[name] for name in ("axis", "momentum", "center", "trainable", "name")] == [
        None,
        float,
        bool,
        bool,
        None,
    ]
    assert keras_names.arguments("layers", "Conv2D")["use_bias"] is bool
    assert keras_names.arguments("regularizers", "L2")["l2"] is float


@pytest.mark.parametrize("namespace", ["activations", "initializers", "regularizers", "constraints"])
def test_names_and_arguments_of_a_namespace_are_those_of_keras(namespace: str) -> None:
    module = getattr(keras, namespace)
    public = {name for name in dir(module) if not name.startswith("_")} - {"get", "serialize", "deserialize"}
    known = keras_names.exports(namespace)
    assert set(known) == public
    for name in public:
        kind = getattr(module, name)
        if inspect.isclass(kind) and kind.__init__ is not object.__init__:
            assert keras_names.arguments(namespace, name).keys() == set(inspect.signature(kind).parameters), name
