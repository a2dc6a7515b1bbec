"""A list of layers -> keras.Model."""

from __future__ import annotations

import io
import math
import re
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import keras

from cifar_exp import plugins
from cifar_exp.config.architecture import RESIDUAL, Layer, LayerRow, LayerSize, detail, namespace_of
from cifar_exp.config.schema import ModelConfig
from cifar_exp.data.schema import ImageShape
from cifar_exp.errors import UserError

_IN_FLIPPED = "layers/functional/"  # where the weights are of a classifier that looks at mirror images too


def build(config: ModelConfig, image_shape: ImageShape) -> tuple[keras.Model, list[LayerRow]]:
    """The model, (N, H, W, C) pixels in 0..255 to (N, classes) float32 logits, and its layers as configured.

    Args:
        config: name and layers of the model.
        image_shape: (H, W, C) of one image.

    Raises:
        UserError: naming the layer that Keras refuses.
    """
    rows: list[LayerRow] = []
    inputs = keras.Input(image_shape, name="images")
    pixels = keras.layers.Rescaling(1 / 255, name="pixels")(inputs)
    logits = _apply(config.layers, pixels, f"model {config.name!r}", rows, 0)
    # Softmax and the loss lose too much in half precision.
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
    return keras.Model(inputs, logits, name="model"), rows


def sizes(config: ModelConfig, image_shape: ImageShape) -> list[LayerSize]:
    """What each layer of the model holds, as Keras would build it: no weight is made.

    It leaves Keras's names and random states changed: prepare the process anew before a model is built.

    Raises:
        UserError: naming the layer that Keras refuses.
    """
    with keras.StatelessScope(initialize_variables=False):
        model, _ = build(config, image_shape)
        return [
            LayerSize(
                f"model {config.name!r}, layer {type(layer).__name__}",
                layer.count_params(),
                sum(math.prod(weight.shape) for weight in layer.trainable_weights),
                math.prod(layer.output.shape[1:]),
            )
            for layer in model.layers
        ]


def classifier(model: keras.Model, flip: bool = False) -> keras.Model:
    """The same model, giving class probabilities (N, classes) float32: what is logged and served.

    Args:
        model: as `build` makes it.
        flip: give the mean of what it says of an image and of its mirror image.
    """
    softmax = keras.layers.Softmax(dtype="float32", name="probabilities")
    if not flip:
        return keras.Model(model.input, softmax(model.output), name="classifier")
    inputs = keras.Input(model.input_shape[1:], name="images")
    mirrored = keras.ops.flip(inputs, axis=2)
    return keras.Model(inputs, (softmax(model(inputs)) + softmax(model(mirrored))) / 2, name="classifier")


def load_weights(model: keras.Model, file: Path, where: str) -> None:
    """Give the model the weights of a .keras file: of those alone, since its config could name any code.

    Args:
        model: as `build` makes it.
        file: of that model or its classifier, saved with these layers.
        where: the weights come from, for a refusal.

    Raises:
        UserError: naming the first layer whose weights do not fit.
    """
    try:
        with zipfile.ZipFile(file) as saved:
            found = _shapes(saved.read("model.weights.h5"))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise UserError(f"{where} is no whole .keras file: {error}") from error
    if any(weight.startswith(_IN_FLIPPED) for weight in found):
        model = classifier(model, flip=True)
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "own.weights.h5"
        model.save_weights(own)
        expected = _shapes(own.read_bytes())
    # A trained model that stands within another brings its optimizer's state, which is not used.
    found = {name: shape for name, shape in found.items() if not name.startswith(f"{_IN_FLIPPED}optimizer/")}
    for weight in sorted(expected.keys() | found.keys()):
        if expected.get(weight) != found.get(weight):
            layer, _, number = weight.removeprefix(_IN_FLIPPED).removeprefix("layers/").partition("/vars/")
            has, takes = (_shape(shapes.get(weight)) for shapes in (found, expected))
            raise UserError(f"{where} does not fit: weight {number} of layer {layer!r} is {has} there and {takes} here")
    model.load_weights(file)


def _shapes(content: bytes) -> dict[str, tuple[int, ...]]:
    """Of the weights in a Keras HDF5 file, by their paths: layers/conv2d_1/vars/0."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            shapes[name] = tuple(node.shape)

    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(add)
    return shapes


def _shape(shape: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, shape)) or "a number" if shape is not None else "missing"


def _apply(layers: Sequence[Layer], tensor: Any, where: str, rows: list[LayerRow], depth: int) -> Any:
    for position, layer in enumerate(layers, 1):
        here = f"{where}, layer {position} ({layer.kind})"
        parameters = shortcut = 0
        if layer.kind == RESIDUAL:
            inner = _apply(layer.layers, tensor, here, rows, depth + 1)
            shortcut = -len(rows)
            outer = _apply(layer.shortcut, tensor, f"{here} shortcut", rows, depth + 1)
            shortcut += len(rows)
            tensor = keras.layers.Add()([inner, outer])
        else:
            try:
                made = _layer_class(layer.kind)(**_resolve(layer))
                tensor = made(tensor)
            except (TypeError, ValueError) as error:
                raise UserError(f"{here}: {_reason(error)}") from error
            parameters = made.count_params()
        shape = " x ".join(map(str, tensor.shape[1:]))
        name = "Add" if layer.kind == RESIDUAL else layer.kind
        rows.append(LayerRow(name, detail(layer), shape, parameters, depth, shortcut))
    return tensor


def _layer_class(kind: str) -> Any:
    """The class of a layer of Keras, or of an installed package."""
    return getattr(keras.layers, kind, None) or plugins.load(plugins.installed(plugins.LAYERS)[kind])


def _reason(error: Exception) -> str:
    """The line that says what is wrong: Keras puts one about its call before it, and colours it for a terminal."""
    lines = [line for line in re.sub("\x1b\\[[0-9;]*m", "", str(error)).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("Exception encountered when calling")]
    return (said or lines or [type(error).__name__])[0]


def _resolve(layer: Layer) -> dict[str, Any]:
    """The arguments, with {MaxNorm: {max_value: 3}} made into keras.constraints.MaxNorm(max_value=3)."""
    resolved = dict(layer.arguments)
    for name, value in resolved.items():
        if isinstance(value, dict):
            kind, arguments = next(iter(value.items()))
            resolved[name] = getattr(getattr(keras, str(namespace_of(name))), kind)(**(arguments or {}))
    return resolved


def summary(model: keras.Model) -> str:
    """Keras's own table of layers, shapes and parameters."""
    lines: list[str] = []
    model.summary(line_length=100, print_fn=lambda line, line_break=True: lines.append(line))
    return "\n".join(lines) + "\n"
