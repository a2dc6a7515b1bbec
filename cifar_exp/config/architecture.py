"""Models as lists of Keras layers, parsed and checked without importing Keras.

A list of layers is data, because the config of a run to be reproduced comes from a shared server. A layer is named by
its class in keras.layers. Its arguments are numbers, strings and lists; an initializer, regularizer or constraint is a
name from its Keras namespace, or {Name: {argument: value}}. Nothing can name a Python path, and layers that run
arbitrary code are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cifar_exp.config import keras_names, logits, shapes
from cifar_exp.config.shapes import Shape
from cifar_exp.errors import UserError, did_you_mean

RESIDUAL = "Residual"
_MIXES_IMAGES = {"ActivityRegularization", "BatchNormalization", "SpectralNormalization"}
_NAMESPACES = {
    "activation": "activations",
    "initializer": "initializers",
    "regularizer": "regularizers",
    "constraint": "constraints",
}


@dataclass(frozen=True)
class Layer:
    """Entry of a list of layers.

    Attributes:
        kind: class in keras.layers, name of a layer of an installed package, or `RESIDUAL`.
        arguments: of its constructor.
        layers: layers of a Residual.
        shortcut: layers that the input of a Residual passes before it is added; none if the shapes are equal.
    """

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    shortcut: tuple[Layer, ...] = ()


class LayerSize(NamedTuple):
    """Size of a layer.

    Attributes:
        where: which layer it is, for error messages.
        parameters: number of parameters.
        trainable: number of trainable parameters.
        values: number of values that it computes for one image.
    """

    where: str
    parameters: int
    trainable: int
    values: int


class LayerRow(NamedTuple):
    """Layer of a built model, as the diagram shows it.

    A Residual has rows for its layers, its shortcut and the Add of both.

    Attributes:
        name: kind of the layer.
        detail: its arguments.
        shape: its output shape without the batch axis.
        parameters: number of parameters.
        depth: number of Residuals that contain it.
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


def parse(entries: Any, where: str) -> tuple[Layer, ...]:
    """Parse a list of layers, such as `[{Conv2D: {filters: 32}}, Flatten]` in YAML.

    Args:
        entries: the list from a config.
        where: which list it is, for error messages.

    Raises:
        UserError: if the list or an entry has another form.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise UserError(f"{where}: layers: got {entries!r}, expected a list of layers")
    return tuple(_parse_entry(entry, f"{where}, layer {i}") for i, entry in enumerate(entries, 1))


def _parse_entry(entry: Any, where: str) -> Layer:
    if isinstance(entry, str):
        return Layer(entry)
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise UserError(f"{where}: got {entry!r}, expected a layer's name, or one name with its arguments")
    kind, arguments = next(iter(entry.items()))
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, Mapping):
        raise UserError(f"{where} ({kind}): got {arguments!r}, expected {{argument: value}}")
    if kind != RESIDUAL:
        return Layer(str(kind), dict(arguments))
    if not {"layers"} <= arguments.keys() <= {"layers", "shortcut"}:
        raise UserError(f"{where} ({kind}): got {', '.join(arguments)}, expected layers and, if need be, shortcut")
    shortcut = arguments.get("shortcut")
    return Layer(
        kind,
        layers=parse(arguments["layers"], f"{where} ({kind})"),
        shortcut=parse(shortcut, f"{where} ({kind} shortcut)") if shortcut else (),
    )


def to_entries(layers: Sequence[Layer]) -> list[Any]:
    """Convert layers to the entries of a config; the inverse of `parse`."""
    entries: list[Any] = []
    for layer in layers:
        arguments: dict[str, Any] = dict(layer.arguments)
        if layer.layers:
            arguments["layers"] = to_entries(layer.layers)
        if layer.shortcut:
            arguments["shortcut"] = to_entries(layer.shortcut)
        entries.append({layer.kind: arguments} if arguments else layer.kind)
    return entries


def check(layers: Sequence[Layer], where: str, input_shape: Shape, classes: int) -> None:
    """Check a list of layers, as far as that is possible without Keras: names, arguments, shapes of common layers.

    Args:
        layers: of the model.
        where: which list it is, for error messages.
        input_shape: (H, W, C) of one image.
        classes: number of classes.

    Raises:
        UserError: if Keras would refuse a layer, or the list does not end in logits. The message has the position of
            the layer.
    """
    shape = _follow(layers, where, input_shape, [])
    if shape is not None and shape != (classes,):
        raise UserError(f"{where}: ends in shape {shape}, expected ({classes},): one logit for each class")
    logits.check(layers, where)


def sizes(layers: Sequence[Layer], where: str, input_shape: Shape) -> tuple[list[LayerSize], bool]:
    """Compute the sizes of the layers of a checked list, including those in Residuals.

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


def kinds(layers: Sequence[Layer]) -> frozenset[str]:
    """Return the kinds of all layers, including those in Residuals."""
    return frozenset().union(*(kinds((*layer.layers, *layer.shortcut)) | {layer.kind} for layer in layers))


def mixes_images(layers: Sequence[Layer]) -> bool:
    """Whether the training result of an image depends on other images of its batch, or on how the batch is split."""
    return any(
        layer.kind in _MIXES_IMAGES
        or layer.arguments.get("activity_regularizer") is not None
        or mixes_images((*layer.layers, *layer.shortcut))
        for layer in layers
    )


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
    for position, layer in enumerate(layers, 1):
        name = f"{where}, layer {position} ({layer.kind})"
        if layer.kind == RESIDUAL:
            inner, outer = (_follow(branch, name, shape, sizes) for branch in (layer.layers, layer.shortcut))
            if inner is not None and outer is not None and inner != outer:
                raise UserError(f"{name}: adds shape {inner} to {outer}: give it a shortcut that makes them equal")
            shape = inner
        else:
            _check_arguments(layer, name)
            inputs = shape
            shape = shapes.output_shape(layer.kind, layer.arguments, name, inputs) if inputs is not None else None
            if inputs is not None and shape is not None:
                sizes.append(_size(layer, name, inputs, shape))
    return shape


def _size(layer: Layer, where: str, inputs: Shape, outputs: Shape) -> LayerSize:
    parameters = shapes.count_parameters(layer.kind, layer.arguments, inputs, outputs)
    untrained = 2 * inputs[-1] if keras_names.defined_as("layers", layer.kind) == "BatchNormalization" else 0
    trainable = parameters - untrained if layer.arguments.get("trainable", True) else 0
    return LayerSize(where, parameters, trainable, shapes.count_values(layer.kind, layer.arguments, inputs, outputs))


def _check_arguments(layer: Layer, where: str) -> None:
    if layer.kind not in (usable := keras_names.usable_layers()):
        is_known = layer.kind in keras_names.exports("layers")
        problem = "may not be used in a model" if is_known else "is not a Keras layer"
        raise UserError(f"{where}: {layer.kind!r} {problem}{did_you_mean(layer.kind, usable | {RESIDUAL})}")
    takes = keras_names.arguments("layers", layer.kind)
    for name, value in layer.arguments.items():
        if name not in takes:
            raise UserError(
                f"{where}: no argument {name!r}{did_you_mean(name, takes)} (it takes {', '.join(sorted(takes))})"
            )
        if (namespace := namespace_of(name)) and value is not None:
            _check_object(namespace, name, value, where)
        elif not _is_plain(value):
            raise UserError(f"{where}: {name}: got {value!r}, expected a number, a string or a list of them")


def _check_object(namespace: str, argument: str, value: Any, where: str) -> None:
    """Check an activation, initializer, regularizer or constraint: `relu`, or {MaxNorm: {max_value: 3}}."""
    name, arguments = value, None
    if isinstance(value, Mapping) and len(value) == 1:
        name, arguments = next(iter(value.items()))
    known = keras_names.exports(namespace)
    if not isinstance(name, str) or name not in known or not isinstance(arguments or {}, Mapping):
        hint = did_you_mean(str(name), known)
        raise UserError(f"{where}: {argument}: got {value!r}, expected a name from keras.{namespace}{hint}")
    for key, item in (arguments or {}).items():
        if key not in keras_names.arguments(namespace, name) or not _is_plain(item):
            raise UserError(f"{where}: {argument}: {name} takes no {key}={item!r}")


def _is_plain(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, str | int | float)
        or (isinstance(value, list) and all(_is_plain(item) for item in value))
    )
