"""The shape that a layer gives and the parameters that it has, by Keras's name and arguments, without Keras."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cifar_exp.config import keras_names
from cifar_exp.errors import UserError

Shape = tuple[int, ...]
Arguments = Mapping[str, Any]

_MOST = 2**31 - 1  # that every backend can count with
_WINDOWS = {"Conv2D", "SeparableConv2D", "DepthwiseConv2D", "MaxPooling2D", "AveragePooling2D"}
_SAME_SHAPE = {
    "Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dropout", "ELU", "GaussianDropout",
    "GaussianNoise", "GroupNormalization", "Identity", "LayerNormalization", "LeakyReLU", "PReLU", "RMSNormalization",
    "ReLU", "Rescaling", "Softmax", "SpatialDropout2D", "UnitNormalization",
}  # fmt: skip


def after(name: str, arguments: Arguments, here: str, shape: Shape) -> Shape | None:
    """The shape that a layer gives for one of this shape; None for a layer of a less usual kind.

    Args:
        name: of the layer in keras.layers.
        arguments: it is made with.
        here: where it stands, for a refusal.
        shape: that it is given, without the batch.

    Raises:
        UserError: for a size that is no whole number of at least 1, or a window that does not fit.
    """
    kind = keras_names.defined_as("layers", name)
    if kind in _WINDOWS:
        return _slide(kind, arguments, here, shape)
    if kind == "Flatten":
        return (math.prod(shape),)
    if kind == "Dense":
        return (*shape[:-1], _positive(arguments.get("units"), "units", here))
    if kind in ("GlobalAveragePooling2D", "GlobalMaxPooling2D") and not arguments.get("keepdims"):
        return shape[-1:]
    return shape if kind in _SAME_SHAPE else None


def parameters(name: str, arguments: Arguments, shape: Shape, given: Shape) -> int:
    """How many parameters a layer has, those that are not trained included.

    Args:
        name: of the layer in keras.layers.
        arguments: it is made with.
        shape: that it is given, without the batch.
        given: the shape that `after` says it gives.
    """
    kind = keras_names.defined_as("layers", name)
    bias = given[-1] if arguments.get("use_bias", True) else 0
    if kind == "Dense":
        return shape[-1] * given[-1] + bias
    if kind in ("Conv2D", "SeparableConv2D", "DepthwiseConv2D"):
        window, deep = int(math.prod(both(arguments["kernel_size"]))), int(arguments.get("depth_multiplier", 1))
        if kind == "Conv2D":
            return window * shape[-1] // int(arguments.get("groups", 1)) * given[-1] + bias
        of_maps = window * shape[-1] * deep
        return of_maps + bias + (shape[-1] * deep * given[-1] if kind == "SeparableConv2D" else 0)
    if kind == "PReLU":
        shared = arguments.get("shared_axes") or ()
        axes = shared if isinstance(shared, list) else [shared] if shared else []
        return math.prod(size for axis, size in enumerate(shape, 1) if axis not in axes)
    if kind in ("BatchNormalization", "GroupNormalization", "LayerNormalization"):
        sets = sum(arguments.get(name, True) is not False for name in ("center", "scale"))
        return shape[-1] * (sets + 2 * (kind == "BatchNormalization"))
    return shape[-1] if kind == "RMSNormalization" else 0


def values(name: str, arguments: Arguments, shape: Shape, given: Shape) -> int:
    """How many values a layer makes of one image, those between its two convolutions included if it has two.

    Args:
        name: of the layer in keras.layers.
        arguments: it is made with.
        shape: that it is given, without the batch.
        given: the shape that `after` says it gives.
    """
    made = math.prod(given)
    if keras_names.defined_as("layers", name) == "SeparableConv2D":
        made += math.prod(given[:-1]) * shape[-1] * int(arguments.get("depth_multiplier", 1))
    return made


def both(value: Any) -> list[Any]:
    """One size for height and width, or one for each."""
    return list(value) if isinstance(value, list | tuple) else [value, value]


def _slide(kind: str, arguments: Arguments, here: str, shape: Shape) -> Shape | None:
    """The shape after a convolution or pooling window has slid over (height, width, channels)."""
    if len(shape) != 3:
        raise UserError(f"{here}: got shape {shape}, expected (height, width, channels)")
    pooling = kind.endswith("Pooling2D")
    if "data_format" in arguments:
        return None
    size = arguments.get("pool_size", 2) if pooling else arguments.get("kernel_size")
    window = _pair(size, "pool_size" if pooling else "kernel_size", here)
    spread = _pair(arguments.get("dilation_rate", 1), "dilation_rate", here)
    window = (window[0] - 1) * spread[0] + 1, (window[1] - 1) * spread[1] + 1
    for name in ("groups", "depth_multiplier"):
        _positive(arguments.get(name, 1), name, here)
    given = arguments.get("strides")
    strides = _pair((window if pooling else 1) if given is None else given, "strides", here)
    padding = str(arguments.get("padding", "valid")).lower()
    if padding not in ("valid", "same"):
        raise UserError(f"{here}: padding: got {padding!r}, expected valid or same")
    if padding == "valid" and (window[0] > shape[0] or window[1] > shape[1]):
        raise UserError(
            f"{here}: its {window[0]}x{window[1]} window is larger than its {shape[0]}x{shape[1]} input; use "
            f"padding: same, or pool less before it"
        )
    less = window if padding == "valid" else (1, 1)
    height, width = ((shape[i] - less[i]) // strides[i] + 1 for i in (0, 1))
    if pooling:
        return (height, width, shape[2])
    if kind == "DepthwiseConv2D":
        return (height, width, shape[2] * arguments.get("depth_multiplier", 1))
    return (height, width, _positive(arguments.get("filters"), "filters", here))


def _positive(value: Any, name: str, here: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{here}: {name}: got {value!r}, expected a whole number of at least 1")
    return value


def _pair(value: Any, name: str, here: str) -> tuple[int, int]:
    pair = both(value)
    if len(pair) != 2:
        raise UserError(f"{here}: {name}: got {value!r}, expected one whole number or two")
    if max(sizes := (_positive(pair[0], name, here), _positive(pair[1], name, here))) > _MOST:
        raise UserError(f"{here}: {name}: got {value!r}, expected at most {_MOST}")
    return sizes
