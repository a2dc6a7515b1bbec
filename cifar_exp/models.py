"""A list of layers -> keras.Model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras

from cifar_exp.architecture import RESIDUAL, Layer, LayerRow, detail, namespace_of
from cifar_exp.config import IMAGE_SHAPE, ModelConfig
from cifar_exp.errors import UserError


def build(config: ModelConfig) -> tuple[keras.Model, list[LayerRow]]:
    """The model, (N, 32, 32, 3) pixels in 0..255 to (N, 10) float32 logits, and its layers as configured.

    Raises:
        UserError: naming the layer that Keras refuses.
    """
    rows: list[LayerRow] = []
    inputs = keras.Input(IMAGE_SHAPE, name="images")
    pixels = keras.layers.Rescaling(1 / 255, name="rescaling")(inputs)
    logits = _apply(config.layers, pixels, f"model {config.name!r}", rows, 0)
    # Softmax and the loss lose too much in half precision.
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
    return keras.Model(inputs, logits, name="model"), rows


def classifier(model: keras.Model) -> keras.Model:
    """The same model, giving class probabilities (N, 10) float32: what is logged and served."""
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(model.output)
    return keras.Model(model.input, probabilities, name="classifier")


def _apply(layers: Sequence[Layer], tensor: Any, where: str, rows: list[LayerRow], depth: int) -> Any:
    for position, layer in enumerate(layers, 1):
        here = f"{where}, layer {position} ({layer.kind})"
        parameters = 0
        if layer.kind == RESIDUAL:
            inner = _apply(layer.layers, tensor, here, rows, depth + 1)
            outer = _apply(layer.shortcut, tensor, f"{here} shortcut", rows, depth + 1)
            tensor = keras.layers.Add()([inner, outer])
        else:
            try:
                made = getattr(keras.layers, layer.kind)(**_resolve(layer))
                tensor = made(tensor)
            except (TypeError, ValueError) as error:
                raise UserError(f"{here}: {_reason(error)}") from error
            parameters = made.count_params()
        shape = " x ".join(map(str, tensor.shape[1:]))
        name = "Add" if layer.kind == RESIDUAL else layer.kind
        rows.append(LayerRow(name, detail(layer), shape, parameters, depth))
    return tensor


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
