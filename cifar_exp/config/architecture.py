"""A model as a list of Keras layers, read and checked without importing Keras.

A config may come back from a shared server when a run is reproduced, so a layer list is data: a layer is named
by its class in keras.layers, its arguments are numbers, strings and lists, and an initializer, regularizer or
constraint is a name or {Name: {argument: value}} of its Keras namespace. Nothing in it can name a Python path,
and layers that run code of their own are refused.
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
    """One entry of the list. A Residual holds lists of its own: `layers`, and `shortcut` where shapes differ."""

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    shortcut: tuple[Layer, ...] = ()


class LayerSize(NamedTuple):
    """What one layer of a checked list holds."""

    where: str
    parameters: int
    trainable: int
    """Of the parameters."""
    values: int
    """That it gives for one image."""


class LayerRow(NamedTuple):
    """One layer of a built model as a diagram shows it; `depth` counts the Residuals it lies in.

    A Residual's rows are its layers, its shortcut and the Add of both, which tells how many of the rows above it are
    its shortcut: 0 if it adds what the Residual was given.
    """

    name: str
    detail: str
    shape: str
    parameters: int
    depth: int
    shortcut: int = 0


def detail(layer: Layer) -> str:
    """The arguments in a few words: `32 filters 3x3, same, relu`."""
    rest, words = dict(layer.arguments), []
    if "filters" in rest:
        words.append(f"{rest.pop('filters')} filters {'x'.join(map(str, shapes.both(rest.pop('kernel_size', '?'))))}")
    if "pool_size" in rest:
        words.append("x".join(map(str, shapes.both(rest.pop("pool_size")))))
    for name, value in rest.items():
        if isinstance(value, dict):
            value = " ".join(str(word) for kind, of in value.items() for word in (kind, *(of or {}).values()))
        words.append(value if isinstance(value, str) else f"{name} {value}")
    return ", ".join(words)


def namespace_of(argument: str) -> str | None:
    """The Keras namespace that an argument's value is looked up in: kernel_initializer -> initializers."""
    return _NAMESPACES.get(argument.rpartition("_")[2])


def parse(entries: Any, where: str) -> tuple[Layer, ...]:
    """YAML's `[{Conv2D: {filters: 32}}, Flatten]` as layers.

    Raises:
        UserError: for an entry of another form.
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
    """The inverse of `parse`."""
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
    """Refuse what Keras would refuse to build, as far as names, arguments and the usual shapes tell.

    Raises:
        UserError: naming the layer by its position.
    """
    shape = _follow(layers, where, input_shape, [])
    if shape is not None and shape != (classes,):
        raise UserError(f"{where}: ends in shape {shape}, expected ({classes},): one logit for each class")
    logits.check(layers, where)


def sizes(layers: Sequence[Layer], where: str, input_shape: Shape) -> tuple[list[LayerSize], bool]:
    """What each layer of a checked list holds, those of Residuals included, and whether these are all layers.

    They are not where a layer of a less usual kind is among them.
    """
    found: list[LayerSize] = []
    is_whole = _follow(layers, where, input_shape, found) is not None
    return found, is_whole


def kinds(layers: Sequence[Layer]) -> frozenset[str]:
    """The names of all layers, those in Residuals included."""
    return frozenset().union(*(kinds((*layer.layers, *layer.shortcut)) | {layer.kind} for layer in layers))


def mixes_images(layers: Sequence[Layer]) -> bool:
    """Whether what training makes of an image depends on the others of its batch, or on how the batch is split."""
    return any(
        layer.kind in _MIXES_IMAGES
        or layer.arguments.get("activity_regularizer") is not None
        or mixes_images((*layer.layers, *layer.shortcut))
        for layer in layers
    )


def _follow(layers: Sequence[Layer], where: str, shape: Shape | None, found: list[LayerSize]) -> Shape | None:
    """The shape after these layers, which are added to `found`; None once a layer of a less usual kind has been passed.

    Raises:
        UserError: for a layer that Keras would refuse.
    """
    for position, layer in enumerate(layers, 1):
        here = f"{where}, layer {position} ({layer.kind})"
        if layer.kind == RESIDUAL:
            inner, outer = (_follow(part, here, shape, found) for part in (layer.layers, layer.shortcut))
            if inner is not None and outer is not None and inner != outer:
                raise UserError(f"{here}: adds shape {inner} to {outer}: give it a shortcut that makes them equal")
            shape = inner
        else:
            _check_arguments(layer, here)
            before = shape
            shape = shapes.after(layer.kind, layer.arguments, here, before) if before is not None else None
            if before is not None and shape is not None:
                found.append(_size(layer, here, before, shape))
    return shape


def _size(layer: Layer, here: str, shape: Shape, given: Shape) -> LayerSize:
    parameters = shapes.parameters(layer.kind, layer.arguments, shape, given)
    untrained = 2 * shape[-1] if keras_names.defined_as("layers", layer.kind) == "BatchNormalization" else 0
    trainable = parameters - untrained if layer.arguments.get("trainable", True) else 0
    return LayerSize(here, parameters, trainable, shapes.values(layer.kind, layer.arguments, shape, given))


def _check_arguments(layer: Layer, here: str) -> None:
    if layer.kind not in (usable := keras_names.usable_layers()):
        refused = "may not be used in a model" if layer.kind in keras_names.exports("layers") else "is no Keras layer"
        raise UserError(f"{here}: {layer.kind!r} {refused}{did_you_mean(layer.kind, usable | {RESIDUAL})}")
    takes = keras_names.arguments("layers", layer.kind)
    for name, value in layer.arguments.items():
        if name not in takes:
            raise UserError(
                f"{here}: no argument {name!r}{did_you_mean(name, takes)} (it takes {', '.join(sorted(takes))})"
            )
        if (namespace := namespace_of(name)) and value is not None:
            _check_object(namespace, name, value, here)
        elif not _is_plain(value):
            raise UserError(f"{here}: {name}: got {value!r}, expected a number, a string or a list of them")


def _check_object(namespace: str, argument: str, value: Any, here: str) -> None:
    """`relu`, or {MaxNorm: {max_value: 3}}."""
    name, arguments = value, None
    if isinstance(value, Mapping) and len(value) == 1:
        name, arguments = next(iter(value.items()))
    known = keras_names.exports(namespace)
    if not isinstance(name, str) or name not in known or not isinstance(arguments or {}, Mapping):
        hint = did_you_mean(str(name), known)
        raise UserError(f"{here}: {argument}: got {value!r}, expected a name from keras.{namespace}{hint}")
    for key, item in (arguments or {}).items():
        if key not in keras_names.arguments(namespace, name) or not _is_plain(item):
            raise UserError(f"{here}: {argument}: {name} takes no {key}={item!r}")


def _is_plain(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, str | int | float)
        or (isinstance(value, list) and all(_is_plain(item) for item in value))
    )
