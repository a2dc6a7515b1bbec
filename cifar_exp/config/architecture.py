"""Models as lists of Keras layers, checked without importing Keras.

A layer is named by its class in keras.layers. Its arguments are numbers, strings and lists; an initializer, regularizer
or constraint is a name from its Keras namespace, or {Name: {argument: value}}. Nothing can name a Python path, and
layers that run arbitrary code are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cifar_exp.config import keras_names, logits, shapes
from cifar_exp.config.layers import BLOCKS, GATE, RESIDUAL, Layer, in_order
from cifar_exp.config.shapes import Shape
from cifar_exp.errors import UserError, did_you_mean

_NAMESPACES = {
    "activation": "activations",
    "initializer": "initializers",
    "regularizer": "regularizers",
    "constraint": "constraints",
}
_NO_ACTIVATIONS = {  # functions of keras.activations with which a layer fails in training
    "glu": "halves the channels, which Keras does not expect of an activation",
    "threshold": "needs two arguments, which an activation cannot have",
}
_POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
_NUMBERS = {"rate", "scale", "stddev"}  # arguments without a default


class LayerSize(NamedTuple):
    """Size of a layer.

    Attributes:
        where: which layer it is, for error messages.
        parameters: number of parameters.
        trainable: number of trainable parameters.
        values: number of values that it computes for one image.
        scores: number of attention scores that it computes for one image.
    """

    where: str
    parameters: int
    trainable: int
    values: int
    scores: int = 0


class LayerRow(NamedTuple):
    """Layer of a built model, as the diagram shows it.

    A Residual has rows for its layers, its shortcut and the Add of both; a Gate for its layers and the Multiply.

    Attributes:
        name: kind of the layer.
        detail: its arguments.
        shape: its output shape without the batch axis.
        parameters: number of parameters.
        depth: number of Residuals and Gates that contain it.
        shortcut: for an Add, the number of rows before it that are its shortcut; 0 if it adds the Residual's input.
    """

    name: str
    detail: str
    shape: str
    parameters: int
    depth: int
    shortcut: int = 0


def detail(layer: Layer) -> str:
    """Format the arguments of a layer: `32 filters 3x3, same, relu`."""
    rest, words = dict(layer.arguments), []
    if "filters" in rest:
        words.append(f"{rest.pop('filters')} filters {'x'.join(map(str, shapes.pair(rest.pop('kernel_size', '?'))))}")
    if "pool_size" in rest:
        words.append("x".join(map(str, shapes.pair(rest.pop("pool_size")))))
    for name, value in rest.items():
        if isinstance(value, dict):
            value = " ".join(str(word) for kind, given in value.items() for word in (kind, *(given or {}).values()))
        words.append(value if isinstance(value, str) else f"{name} {value}")
    return ", ".join(words)


def namespace_of(argument: str) -> str | None:
    """Return the Keras namespace for the value of an argument: `initializers` for `kernel_initializer`."""
    return _NAMESPACES.get(argument.rpartition("_")[2])


def check(layers: Sequence[Layer], where: str, input_shape: Shape, classes: int, policy: str = "float32") -> None:
    """Check a list of layers, as far as that is possible without Keras: names, arguments, shapes of common layers.

    Args:
        layers: of the model.
        where: which list it is, for error messages.
        input_shape: (H, W, C) of one image.
        classes: number of classes.
        policy: dtype policy of layers without one of their own.

    Raises:
        UserError: if Keras would refuse a layer, or the list does not end in logits. The message has the position of
            the layer.
    """
    shape = _follow(layers, where, input_shape, [])
    if shape is not None and shape != (classes,):
        raise UserError(f"{where}: ends in shape {shape}, expected ({classes},): one logit for each class")
    logits.check(layers, where)
    _check_names(layers, where, {})
    _check_penalties(layers, where, policy)


def sizes(layers: Sequence[Layer], where: str, input_shape: Shape) -> tuple[list[LayerSize], bool]:
    """Compute the sizes of the layers of a checked list, including those within others.

    Args:
        layers: of the model.
        where: which list it is, for error messages.
        input_shape: (H, W, C) of one image.

    Returns:
        The sizes, and whether they are complete. They end at a layer whose output shape is unknown without Keras.
    """
    known_sizes: list[LayerSize] = []
    is_complete = _follow(layers, where, input_shape, known_sizes) is not None
    return known_sizes, is_complete


def _follow(layers: Sequence[Layer], where: str, shape: Shape | None, sizes: list[LayerSize]) -> Shape | None:
    """Check layers and compute the shape after them.

    Args:
        layers: to check, in order.
        where: which list it is, for error messages.
        shape: input of the first layer, without the batch axis; None if it is unknown.
        sizes: the size of each layer of known shape is appended.

    Returns:
        The output shape of the last layer, or None if it is unknown without Keras.

    Raises:
        UserError: if Keras would refuse a layer.
    """
    for name, layer in in_order(layers, where):
        if layer.kind == RESIDUAL:
            inner, outer = (_follow(branch, name, shape, sizes) for branch in (layer.layers, layer.shortcut))
            if inner is not None and outer is not None and inner != outer:
                raise UserError(f"{name}: adds shape {inner} to {outer}: give it a shortcut that makes them equal")
            shape = inner
        elif layer.kind == GATE:
            factors = _follow(layer.layers, name, shape, sizes)
            if shape is not None and factors is not None and not _scales(factors, shape):
                raise UserError(
                    f"{name}: multiplies shape {shape} by {factors}, expected equal shapes, or size 1 where one factor "
                    f"is for a whole axis, such as {(*[1] * (len(shape) - 1), shape[-1])} for each channel"
                )
        else:
            _check_arguments(layer, name)
            inputs = shape
            shape = shapes.output_shape(layer.kind, layer.arguments, name, inputs) if inputs is not None else None
            if inputs is not None and shape is not None:
                sizes.append(_size(layer, name, inputs, shape))
    return shape


def _scales(factors: Shape, shape: Shape) -> bool:
    """Whether a product of values of this shape and these factors has this shape."""
    return len(factors) == len(shape) and all(factor in (1, size) for factor, size in zip(factors, shape, strict=True))


def _size(layer: Layer, where: str, inputs: Shape, outputs: Shape) -> LayerSize:
    parameters = shapes.count_parameters(layer.kind, layer.arguments, inputs, outputs)
    untrained = shapes.count_statistics(layer.kind, layer.arguments, inputs)
    trainable = parameters - untrained if layer.arguments.get("trainable", True) else 0
    values = shapes.count_values(layer.kind, layer.arguments, inputs, outputs)
    scores = shapes.count_scores(layer.kind, layer.arguments, inputs)
    return LayerSize(where, parameters, trainable, values, scores)


def _check_arguments(layer: Layer, where: str) -> None:
    if layer.kind not in (usable := keras_names.usable_layers()):
        is_known = layer.kind in keras_names.exports("layers")
        problem = "may not be used in a model" if is_known else "is not a Keras layer"
        raise UserError(f"{where}: {layer.kind!r} {problem}{did_you_mean(layer.kind, usable | BLOCKS)}")
    takes = keras_names.arguments("layers", layer.kind)
    for name, value in layer.arguments.items():
        if name not in takes:
            raise UserError(
                f"{where}: no argument {name!r}{did_you_mean(name, takes)} (it takes {', '.join(sorted(takes))})"
            )
        if (namespace := namespace_of(name)) and value is not None:
            _check_object(namespace, name, value, where)
            _check_rank(layer.kind, name, value, where)
        else:
            _check_plain(layer.kind, name, value, takes[name], f"{where}: {name}")
    if keras_names.defined_as("layers", layer.kind) == "Conv2DTranspose":
        window, strides = (shapes.pair(layer.arguments.get(name, 1)) for name in ("kernel_size", "strides"))
        if window == [1, 1] != strides:  # with oneDNN, TensorFlow writes beyond its memory
            raise UserError(
                f"{where}: strides: got {strides} with a window of 1x1, which leaves gaps; take UpSampling2D"
            )


def _check_object(namespace: str, argument: str, value: Any, where: str) -> None:
    """Check an activation, initializer, regularizer or constraint: `relu`, or {MaxNorm: {max_value: 3}}."""
    name, arguments = value, None
    if isinstance(value, Mapping) and len(value) == 1:
        name, arguments = next(iter(value.items()))
    known = keras_names.exports(namespace)
    if not isinstance(name, str) or name not in known or not isinstance(arguments or {}, Mapping):
        hint = did_you_mean(str(name), known)
        raise UserError(f"{where}: {argument}: got {value!r}, expected a name from keras.{namespace}{hint}")
    if namespace == "activations" and name in _NO_ACTIVATIONS:
        raise UserError(f"{where}: {argument}: {name} {_NO_ACTIVATIONS[name]}")
    takes = keras_names.arguments(namespace, name)
    for key, item in (arguments or {}).items():
        if key not in takes or not _is_plain(item):
            raise UserError(f"{where}: {argument}: {name} takes no {key}={item!r}")
        _check_plain(name, key, item, takes[key], f"{where}: {argument}: {key}")


def _check_rank(kind: str, argument: str, value: Any, where: str) -> None:
    """Refuse the regularizer that Keras has for matrices alone, which it finds out in training."""
    name = next(iter(value)) if isinstance(value, Mapping) else value
    is_of_matrices = keras_names.defined_as("regularizers", name) == "OrthogonalRegularizer"
    if is_of_matrices and (kind, argument) != ("Dense", "kernel_regularizer"):
        raise UserError(f"{where}: {argument}: {name} is for matrices: the kernel_regularizer of Dense")


def _check_plain(kind: str, argument: str, value: Any, of_type: type | None, where: str) -> None:
    """Check a number, a string or a list of them. Keras does not look at some of them before it trains."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not _is_plain(value):
        raise UserError(f"{where}: got {value!r}, expected a number, a string or a list of them")
    if of_type is bool and not isinstance(value, bool | None):
        raise UserError(f"{where}: got {value!r}, expected true or false")
    if (of_type is float or (argument in _NUMBERS and of_type is None)) and isinstance(value, str | bool):
        raise UserError(f"{where}: got {value!r}, expected a number")
    if argument == "momentum" and is_number and not 0 <= value <= 1:
        raise UserError(f"{where}: got {value!r}, expected a number from 0 to 1")
    if argument == "dtype" and value not in (None, *_POLICIES):
        raise UserError(f"{where}: got {value!r}, expected {', '.join(_POLICIES)}: weights are trained in float32")
    if kind.startswith("Adaptive") and argument == "output_size" and 1 in shapes.pair(value):
        raise UserError(f"{where}: got {value!r}, expected at least 2 (for 1: Global{kind[8:]}, with keepdims: true)")
    if kind.startswith("ZeroPadding") and argument == "padding" and re.search(r"-\d", str(value)):
        raise UserError(f"{where}: got {value!r}, expected whole numbers of at least 0")


def _check_names(layers: Sequence[Layer], where: str, taken: dict[str, str]) -> None:
    """Check that names can be used, and no two layers have the same.

    Args:
        layers: to check.
        where: which list it is, for error messages.
        taken: the names of layers that came before, each with its layer.
    """
    for position, layer in in_order(layers, where):
        _check_names(layer.layers, position, taken)
        _check_names(layer.shortcut, f"{position} shortcut", taken)
        name = layer.arguments.get("name")
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", str(name)):
            raise UserError(f"{position}: name: got {name!r}, expected letters, digits and any of _ . -")
        if name is not None and (first := taken.setdefault(name, position)) != position:
            raise UserError(f"{position}: name: got {name!r}, which is the name of {first}")


def _check_penalties(layers: Sequence[Layer], where: str, policy: str) -> None:
    """Refuse penalties on outputs in half precision, which cannot hold their sum, and which Keras does not add up."""
    for position, layer in in_order(layers, where):
        _check_penalties(layer.layers, position, policy)
        _check_penalties(layer.shortcut, f"{position} shortcut", policy)
        has_penalty = layer.kind == "ActivityRegularization" or layer.arguments.get("activity_regularizer") is not None
        if has_penalty and (found := layer.arguments.get("dtype") or policy) != "float32":
            raise UserError(f"{position}: a penalty on outputs in {found}, expected dtype: float32 for this layer")


def _is_plain(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, str | int | float)
        or (isinstance(value, list) and all(_is_plain(item) for item in value))
    )
