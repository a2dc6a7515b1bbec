"""Keras models from lists of layers, and their saved weights."""

from __future__ import annotations

import io
import lzma
import math
import re
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import h5py
import keras

from cifar_exp import plugins
from cifar_exp.config.architecture import LayerRow, LayerSize, detail, namespace_of
from cifar_exp.config.layers import GATE, RESIDUAL, Layer, in_order
from cifar_exp.config.schema import ONE_VIEW, ModelConfig, PredictionConfig
from cifar_exp.config.shapes import Shape, output_shape
from cifar_exp.data.schema import ImageShape
from cifar_exp.errors import UserError, reason
from cifar_exp.training.views import weighted_views

_IN_VIEWS = "layers/functional/"  # prefix of the weights in the file of a classifier of several views
# What zipfile, its decompressors, HDF5 and Keras raise for a file that is incomplete, encrypted or made up.
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def build(config: ModelConfig, image_shape: ImageShape) -> tuple[keras.Model, list[LayerRow]]:
    """Build a model.

    Args:
        config: name and layers of the model.
        image_shape: (H, W, C) of one image.

    Returns:
        The model, which takes pixels (N, H, W, C) in 0..255 and returns logits (N, classes) float32, and its layers for
        the diagram.

    Raises:
        UserError: if Keras refuses a layer.
    """
    rows: list[LayerRow] = []
    inputs = keras.Input(image_shape, name="images")
    pixels = keras.layers.Rescaling(1 / 255, name="pixels")(inputs)
    logits = _apply(config.layers, pixels, f"model {config.name!r}", rows, 0)
    # Softmax and loss are not accurate enough in half precision.
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
    try:
        return keras.Model(inputs, logits, name="model"), rows
    except ValueError as error:  # the name of a layer is one that Keras has given to another
        raise UserError(f"model {config.name!r}: {reason(error)}") from error


def sizes(config: ModelConfig, image_shape: ImageShape) -> list[LayerSize]:
    """Return the size of each layer as Keras builds it, without allocating weights.

    This clears Keras's state. Call `runtime.prepare` again before building a model.

    Args:
        config: name and layers of the model.
        image_shape: (H, W, C) of one image.

    Raises:
        UserError: if Keras refuses a layer.
    """
    try:
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
    finally:  # else the next scope that ends allocates these weights
        keras.utils.clear_session(free_memory=False)


def classifier(model: keras.Model, prediction: PredictionConfig = ONE_VIEW) -> keras.Model:
    """Build the model that is logged and served: it returns class probabilities (N, classes) float32.

    Args:
        model: from `build`; its weights are shared with the result.
        prediction: the views of each image whose probabilities are averaged.
    """
    softmax = keras.layers.Softmax(dtype="float32", name="probabilities")
    if prediction == ONE_VIEW:
        return keras.Model(model.input, softmax(model.output), name="classifier")
    inputs = keras.Input(model.input_shape[1:], name="images")
    weighted = [weight * softmax(model(view)) for weight, view in weighted_views(inputs, prediction)]
    return keras.Model(inputs, reduce(add, weighted), name="classifier")


def load_weights(model: keras.Model, file: Path, where: str) -> None:
    """Load the weights of a .keras file into a model. Its config is not read, because it could name any code.

    Args:
        model: from `build`.
        file: saved from such a model or its classifier, with the same layers.
        where: where the weights come from, for error messages.

    Raises:
        UserError: if the file is incomplete or its weights do not fit. The message names the first such layer.
    """
    try:
        with zipfile.ZipFile(file) as saved:
            in_file = _shapes(saved.read("model.weights.h5"))
    except _UNREADABLE as error:
        raise UserError(f"{where} is not a complete .keras file: {_reason(error)}") from error
    if any(weight.startswith(_IN_VIEWS) for weight in in_file):
        model = classifier(model, PredictionConfig(flip=True))
    with tempfile.TemporaryDirectory() as folder:
        current = Path(folder) / "current.weights.h5"
        model.save_weights(current)
        in_model = _shapes(current.read_bytes())
    # The file of a trained model within another one also contains the state of its optimizer, which is not used.
    in_file = {name: shape for name, shape in in_file.items() if not name.startswith(f"{_IN_VIEWS}optimizer/")}
    for weight in sorted(in_model.keys() | in_file.keys()):
        if in_model.get(weight) != in_file.get(weight):
            layer, _, number = weight.removeprefix(_IN_VIEWS).removeprefix("layers/").partition("/vars/")
            got, wanted = (_describe(shapes.get(weight)) for shapes in (in_file, in_model))
            what = f"weight {number} of layer {layer!r}"
            raise UserError(f"{where} does not fit: {what} is {got} in the file and {wanted} in the model")
    try:
        model.load_weights(file)
    except _UNREADABLE as error:
        raise UserError(f"{where} has weights that cannot be loaded: {_reason(error)}") from error


def _shapes(content: bytes) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights in a Keras HDF5 file, by path, such as `layers/conv2d_1/vars/0`."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            shapes[name] = tuple(node.shape)

    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(add)
    return shapes


def _describe(shape: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, shape)) or "a number" if shape is not None else "missing"


def _apply(layers: Sequence[Layer], tensor: Any, where: str, rows: list[LayerRow], depth: int) -> Any:
    """Build layers and apply them to a tensor.

    Args:
        layers: to build, in order.
        tensor: input of the first layer.
        where: which list of layers this is, for error messages.
        rows: a row for each layer is appended.
        depth: number of Residuals and Gates that contain the layers.

    Returns:
        The output of the last layer.
    """
    for name, layer in in_order(layers, where):
        parameters = shortcut = 0
        shown_kind = layer.kind
        if layer.kind == RESIDUAL:
            inner = _apply(layer.layers, tensor, name, rows, depth + 1)
            shortcut = -len(rows)
            outer = _apply(layer.shortcut, tensor, f"{name} shortcut", rows, depth + 1)
            shortcut += len(rows)
            shown_kind, tensor = "Add", _merged(keras.layers.Add(), inner, outer, name)
        elif layer.kind == GATE:
            factors = _apply(layer.layers, tensor, name, rows, depth + 1)
            shown_kind, tensor = "Multiply", _merged(keras.layers.Multiply(), tensor, factors, name)
        else:
            try:
                keras_layer = _layer_class(layer.kind)(**_resolve(layer, name, tensor.shape[1:]))
                # Attention takes a query and a value: the same tensor, for self-attention.
                inputs = (tensor, tensor) if isinstance(keras_layer, keras.layers.MultiHeadAttention) else (tensor,)
                tensor = keras_layer(*inputs)
            except (TypeError, ValueError) as error:
                raise UserError(f"{name}: {_reason(error)}") from error
            if None in tensor.shape[1:]:
                raise UserError(f"{name}: the sizes of its output {tensor.shape[1:]} are unknown, expected numbers")
            parameters = keras_layer.count_params()
        shape = " x ".join(map(str, tensor.shape[1:]))
        rows.append(LayerRow(shown_kind, detail(layer), shape, parameters, depth, shortcut))
    return tensor


def _merged(layer: keras.layers.Layer, one: Any, other: Any, where: str) -> Any:
    """Merge the outputs of two branches, one of which may have a layer whose output shape only Keras knows."""
    try:
        return layer([one, other])
    except ValueError as error:
        raise UserError(f"{where}: {_reason(error)}") from error


def _layer_class(kind: str) -> Any:
    """Return the class of a layer, from Keras or an installed package."""
    return getattr(keras.layers, kind, None) or plugins.load(plugins.installed(plugins.LAYERS)[kind])


def _reason(error: Exception) -> str:
    """Return the line of an error of Keras that tells the reason, without terminal colours and the lines before it."""
    lines = [line for line in re.sub("\x1b\\[[0-9;]*m", "", str(error)).splitlines() if line.strip()]
    reasons = [line for line in lines if not line.startswith(("Exception encountered when calling", "A total of"))]
    return (reasons or lines or [type(error).__name__])[0]


def _resolve(layer: Layer, where: str, inputs: Shape) -> dict[str, Any]:
    """Return the arguments of a layer for an input of a shape without the batch axis.

    {MaxNorm: {max_value: 3}} becomes keras.constraints.MaxNorm(max_value=3). None in the output shape of an EinsumDense
    becomes the size of the input's axis, because Keras would not know it.
    """
    resolved = dict(layer.arguments)
    for name, value in resolved.items():
        if isinstance(value, dict):
            kind, arguments = next(iter(value.items()))
            resolved[name] = getattr(getattr(keras, str(namespace_of(name))), kind)(**(arguments or {}))
    if layer.kind == "EinsumDense" and (outputs := output_shape(layer.kind, resolved, where, inputs)):
        resolved["output_shape"] = outputs
    return resolved


def summary(model: keras.Model) -> str:
    """Return Keras's table of layers, shapes and parameters."""
    lines: list[str] = []
    model.summary(line_length=100, print_fn=lambda line, line_break=True: lines.append(line))
    return "\n".join(lines) + "\n"
