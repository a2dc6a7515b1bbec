"""A model as a list of layers: parsed from a config, walked through and written back.

A list of layers is data, because the config of a run to be reproduced comes from a shared server. Most entries are
layers of Keras with their arguments. Three entries hold layers themselves: `Residual` adds, `Gate` multiplies, and
`Repeat` stands for its layers several times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cifar_exp.errors import UserError

RESIDUAL, GATE, REPEAT = "Residual", "Gate", "Repeat"
BLOCKS = frozenset({RESIDUAL, GATE, REPEAT})
_MOST_LAYERS = 10_000  # repeats within repeats would let a few lines take all memory
# What a block takes, and what of it is required.
_FORMS = {
    RESIDUAL: ({"layers", "shortcut"}, {"layers"}, "layers and, if need be, shortcut"),
    GATE: ({"layers"}, {"layers"}, "layers"),
    REPEAT: ({"times", "layers"}, {"times", "layers"}, "times and layers"),
}
_MIXES_IMAGES = {"ActivityRegularization", "BatchNormalization", "SpectralNormalization"}


@dataclass(frozen=True)
class Layer:
    """Entry of a list of layers.

    Attributes:
        kind: class in keras.layers, name of a layer of an installed package, or one of `BLOCKS`.
        arguments: of its constructor; of a Repeat: `times`.
        layers: layers of a Residual, Gate or Repeat.
        shortcut: layers that the input of a Residual passes before it is added; none if the shapes are equal.
    """

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    shortcut: tuple[Layer, ...] = ()


def parse(entries: Any, where: str) -> tuple[Layer, ...]:
    """Parse a list of layers, such as `[{Conv2D: {filters: 32}}, Flatten]` in YAML.

    Args:
        entries: the list from a config.
        where: which list it is, for error messages.

    Raises:
        UserError: if the list or an entry has another form, or if it stands for more than 10,000 layers.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise UserError(f"{where}: layers: got {entries!r}, expected a list of layers")
    layers = tuple(_parse_entry(entry, f"{where}, layer {i}") for i, entry in enumerate(entries, 1))
    if (count := _count(layers)) > _MOST_LAYERS:
        raise UserError(f"{where}: got {count:,} layers with their repeats, expected at most {_MOST_LAYERS:,}")
    return layers


def _parse_entry(entry: Any, where: str) -> Layer:
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise UserError(f"{where}: got {entry!r}, expected a layer's name, or one name with its arguments")
    kind, arguments = next(iter(entry.items()))
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, Mapping):
        raise UserError(f"{where} ({kind}): got {arguments!r}, expected {{argument: value}}")
    if odd := [name for name in arguments if not isinstance(name, str)]:  # of YAML, where `on` is true
        raise UserError(f"{where} ({kind}): no argument {odd[0]!r}")
    if kind not in BLOCKS:
        return Layer(str(kind), dict(arguments))
    taken, required, form = _FORMS[kind]
    if not required <= arguments.keys() <= taken:
        raise UserError(f"{where} ({kind}): got {', '.join(map(str, arguments)) or 'nothing'}, expected {form}")
    times = arguments.get("times", 1)
    if not isinstance(times, int) or isinstance(times, bool) or times < 0:
        raise UserError(f"{where} ({kind}): times: got {times!r}, expected a whole number of at least 0")
    shortcut = arguments.get("shortcut")
    return Layer(
        kind,
        {"times": times} if kind == REPEAT else {},
        layers=parse(arguments["layers"], f"{where} ({kind})"),
        shortcut=parse(shortcut, f"{where} ({kind} shortcut)") if shortcut else (),
    )


def _count(layers: Sequence[Layer]) -> int:
    """Count the entries of a list, those of a block too, and of a Repeat as often as they are repeated."""
    return sum(_times(layer) * _count(layer.layers) + _count(layer.shortcut) + 1 for layer in layers)


def _times(layer: Layer) -> int:
    return layer.arguments["times"] if layer.kind == REPEAT else 1


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


def in_order(layers: Sequence[Layer], where: str) -> Iterator[tuple[str, Layer]]:
    """Walk through layers in the order in which they are applied, those of a Repeat as often as they are repeated.

    Args:
        layers: of one list. Layers within a Residual or a Gate are not walked through.
        where: which list it is, for error messages.

    Yields:
        Where the layer is, for error messages, and the layer.
    """
    for position, layer in enumerate(layers, 1):
        name = f"{where}, layer {position} ({layer.kind}"
        if layer.kind == REPEAT:
            for time in range(1, _times(layer) + 1):
                yield from in_order(layer.layers, f"{name}, time {time})")
        else:
            yield f"{name})", layer


def kinds(layers: Sequence[Layer]) -> frozenset[str]:
    """Return the kinds of all layers, including those within others."""
    return frozenset().union(*(kinds((*layer.layers, *layer.shortcut)) | {layer.kind} for layer in layers))


def mixes_images(layers: Sequence[Layer]) -> bool:
    """Whether the training result of an image depends on other images of its batch, or on how the batch is split."""
    return any(
        layer.kind in _MIXES_IMAGES
        or layer.arguments.get("activity_regularizer") is not None
        or mixes_images((*layer.layers, *layer.shortcut))
        for layer in layers
    )
