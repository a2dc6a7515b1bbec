"""Output shape, parameters and values of a Keras layer, from its name and arguments, without importing Keras."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from cifar_exp.config import keras_names
from cifar_exp.errors import UserError, shorten

Shape = tuple[int, ...]
Arguments = Mapping[str, Any]

_MAX_SIZE = 2**31 - 1  # largest size that all backends support
_MAX_COUNTED = 10**18  # of up to here, parameters and bytes are counted, which tells more
_WINDOWS = {"Conv2D", "SeparableConv2D", "DepthwiseConv2D", "MaxPooling2D", "AveragePooling2D"}
_GLOBAL = {  # global pooling, and the axes that it pools
    **{"GlobalAveragePooling1D": 1, "GlobalMaxPooling1D": 1},
    **{"GlobalAveragePooling2D": 2, "GlobalMaxPooling2D": 2},
}
_SAME_SHAPE = {
    "Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dropout", "ELU", "GaussianDropout",
    "GaussianNoise", "GroupNormalization", "Identity", "LayerNormalization", "LeakyReLU", "PReLU", "RMSNormalization",
    "ReLU", "Rescaling", "Softmax", "SpatialDropout2D", "UnitNormalization",
}  # fmt: skip


def output_shape(name: str, arguments: Arguments, where: str, inputs: Shape) -> Shape | None:
    """Return the output shape of a layer.

    Args:
        name: of the layer in keras.layers.
        arguments: of its constructor.
        where: which layer it is, for error messages.
        inputs: shape of its input, without the batch axis.

    Returns:
        The shape without the batch axis; None for layers that this module does not know.

    Raises:
        UserError: if a size is not a whole number of at least 1, or a window is larger than its input.
    """
    kind = keras_names.defined_as("layers", name)
    if kind in _WINDOWS:
        return _window_output(kind, arguments, where, inputs)
    if kind == "Flatten":
        return (math.prod(inputs),)
    if kind == "Dense":
        return (*inputs[:-1], _check_size(arguments.get("units"), "units", where))
    if kind in _GLOBAL and "data_format" not in arguments:
        if len(inputs) != _GLOBAL[kind] + 1:
            raise UserError(f"{where}: got shape {inputs}, expected {_GLOBAL[kind] + 1} axes, the last of channels")
        return (*([1] * _GLOBAL[kind] if arguments.get("keepdims") else []), inputs[-1])
    if (adaptive := re.fullmatch(r"Adaptive(?:Average|Max)Pooling(\d)D", kind)) and "data_format" not in arguments:
        axes, sizes = int(adaptive[1]), arguments.get("output_size")
        sizes = sizes if isinstance(sizes, list) else [sizes] * axes
        if len(inputs) != axes + 1:
            raise UserError(f"{where}: got shape {inputs}, expected {axes + 1} axes, the last of channels")
        if 1 in inputs[:-1]:  # Keras fails in training, or the process dies
            raise UserError(f"{where}: got shape {inputs}, expected at least 2 along each axis to pool")
        if len(sizes) != axes:
            raise UserError(f"{where}: output_size: got {sizes}, expected one whole number or {axes}")
        return (*(_check_size(size, "output_size", where) for size in sizes), inputs[-1])
    if kind == "Reshape":
        return _reshaped(arguments.get("target_shape"), where, inputs)
    if kind == "EinsumDense":
        return einsum[1] if (einsum := _einsum_shapes(arguments, where, inputs)) else None
    if kind == "MultiHeadAttention":
        for size in ("num_heads", "key_dim"):
            _check_size(arguments.get(size), size, where)
        _check_size(arguments.get("value_dim") or 1, "value_dim", where)
        if len(inputs) < 2:
            raise UserError(f"{where}: got shape {inputs}, expected (positions, channels)")
        _attended(arguments, where, inputs)
        return None if arguments.get("output_shape") else inputs
    return inputs if kind in _SAME_SHAPE else None


def count_parameters(name: str, arguments: Arguments, inputs: Shape, outputs: Shape) -> int:
    """Return the number of parameters of a layer, including those that are not trained.

    Args:
        name: of the layer in keras.layers.
        arguments: of its constructor.
        inputs: shape of its input, without the batch axis.
        outputs: its output shape, from `output_shape`.
    """
    kind = keras_names.defined_as("layers", name)
    bias = outputs[-1] if arguments.get("use_bias", True) else 0
    if kind == "Dense":
        return inputs[-1] * outputs[-1] + bias
    if kind in ("Conv2D", "SeparableConv2D", "DepthwiseConv2D"):
        window, depth = int(math.prod(pair(arguments["kernel_size"]))), int(arguments.get("depth_multiplier", 1))
        if kind == "Conv2D":
            return window * inputs[-1] // int(arguments.get("groups", 1)) * outputs[-1] + bias
        depthwise = window * inputs[-1] * depth
        return depthwise + bias + (inputs[-1] * depth * outputs[-1] if kind == "SeparableConv2D" else 0)
    if kind == "EinsumDense":
        (kernel, _), axes = _einsum_shapes(arguments, "", inputs) or ((), ()), arguments.get("bias_axes") or ""
        sizes = dict(zip(str(arguments["equation"]).partition("->")[2][1:], outputs, strict=True))
        return math.prod(kernel) + (math.prod(sizes[axis] for axis in axes) if axes else 0)
    if kind == "MultiHeadAttention":
        projected = sum(_projections(arguments))
        value = _projections(arguments)[2]
        biases = projected + outputs[-1] if arguments.get("use_bias", True) else 0
        return inputs[-1] * projected + value * outputs[-1] + biases
    if kind == "PReLU":
        shared = {(axis - 1) % len(inputs) for axis in _listed(arguments.get("shared_axes") or [])}  # so Keras reads -1
        return math.prod(size for axis, size in enumerate(inputs) if axis not in shared)
    if kind in ("BatchNormalization", "GroupNormalization", "LayerNormalization"):
        trained = sum(arguments.get(name, True) is not False for name in ("center", "scale"))
        return _normalized(arguments, inputs) * (trained + 2 * (kind == "BatchNormalization"))
    return _normalized(arguments, inputs) if kind == "RMSNormalization" else 0


def count_statistics(name: str, arguments: Arguments, inputs: Shape) -> int:
    """Return the number of parameters of a layer that no gradient trains: means and variances of a BatchNormalization.

    Args:
        name: of the layer in keras.layers.
        arguments: of its constructor.
        inputs: shape of its input, without the batch axis.
    """
    is_batch = keras_names.defined_as("layers", name) == "BatchNormalization"
    return 2 * _normalized(arguments, inputs) if is_batch else 0


def _normalized(arguments: Arguments, inputs: Shape) -> int:
    """Return the number of scales of a normalization: the size of its axis, or of all its axes."""
    axes = _listed(arguments.get("axis", -1))
    known = all(isinstance(axis, int) and -len(inputs) <= axis <= len(inputs) for axis in axes)
    return math.prod((0, *inputs)[axis] for axis in axes) if known else inputs[-1]


def count_values(name: str, arguments: Arguments, inputs: Shape, outputs: Shape) -> int:
    """Return the number of values that a layer computes for one image.

    A SeparableConv2D consists of two convolutions, and a MultiHeadAttention of projections; the values between them are
    included. Attention scores are not, see `count_scores`.

    Args:
        name: of the layer in keras.layers.
        arguments: of its constructor.
        inputs: shape of its input, without the batch axis.
        outputs: its output shape, from `output_shape`.
    """
    values, kind = math.prod(outputs), keras_names.defined_as("layers", name)
    if kind == "SeparableConv2D":
        values += math.prod(outputs[:-1]) * inputs[-1] * int(arguments.get("depth_multiplier", 1))
    if kind == "MultiHeadAttention":
        projections = _projections(arguments)
        values += math.prod(outputs[:-1]) * (sum(projections) + projections[2])
    return values


def count_scores(name: str, arguments: Arguments, inputs: Shape) -> int:
    """Return the number of attention scores of a layer for one image: each position's for each other, in each head.

    Args:
        name: of the layer in keras.layers.
        arguments: of its constructor.
        inputs: shape of its input, without the batch axis.
    """
    if keras_names.defined_as("layers", name) != "MultiHeadAttention":
        return 0
    positions = math.prod(inputs[axis - 1] for axis in _attended(arguments, "", inputs))
    return int(arguments["num_heads"]) * positions * math.prod(inputs[:-1])


def _attended(arguments: Arguments, where: str, inputs: Shape) -> set[int]:
    """Return the axes over which a MultiHeadAttention attends; 0 is that of the batch."""
    given = arguments.get("attention_axes")
    if given in (None, []):
        return set(range(1, len(inputs)))
    axes = [axis + (len(inputs) + 1) * (axis < 0) for axis in _listed(given) if isinstance(axis, int)]
    if len(set(axes)) < len(_listed(given)) or not all(0 < axis < len(inputs) for axis in axes):
        expected = "1" if len(inputs) == 2 else f"different axes from 1 to {len(inputs) - 1}"
        raise UserError(f"{where}: attention_axes: got {given!r}, expected {expected}")
    return set(axes)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _projections(arguments: Arguments) -> list[int]:
    """Return the widths of the query, key, value and, if there is one, gate of a MultiHeadAttention."""
    heads, key = int(arguments["num_heads"]), int(arguments["key_dim"])
    value = int(arguments.get("value_dim") or key)
    return [heads * width for width in (key, key, value, *([value] if arguments.get("use_gate") else []))]


def _reshaped(target: Any, where: str, inputs: Shape) -> Shape:
    """Return the shape after a Reshape; a size of -1 is what is left."""
    count = math.prod(inputs)
    if isinstance(target, list) and target and all(type(size) is int and (size > 0 or size == -1) for size in target):
        known = math.prod(size for size in target if size > 0)
        if known == count if -1 not in target else target.count(-1) == 1 and count % known == 0:
            return tuple(count // known if size == -1 else size for size in target)
    expected = f"a list of sizes whose product is {count}; one may be -1"
    raise UserError(f"{where}: target_shape: got {target!r} for shape {inputs}, expected {expected}")


def _einsum_shapes(arguments: Arguments, where: str, inputs: Shape) -> tuple[Shape, Shape] | None:
    """Return the shapes of kernel and output of an EinsumDense; None for an equation that is left to Keras."""
    equation = re.fullmatch(r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)", str(arguments.get("equation")))
    given = _listed(arguments.get("output_shape"))
    if equation and len(equation[1]) != len(inputs) + 1:
        raise UserError(
            f"{where}: equation: got {equation[0]!r} for shape {inputs}, expected {len(inputs) + 1} axes before the "
            "comma, the first of images"
        )
    if not equation or len(equation[3]) != len(given) + 1:
        return None
    axes = arguments.get("bias_axes")
    if axes is not None and not (isinstance(axes, str) and set(axes) <= set(equation[3][1:])):
        raise UserError(f"{where}: bias_axes: got {axes!r}, expected axes of {equation[3][1:]!r}")
    sizes: dict[str, Any] = dict(zip(equation[1][1:], inputs, strict=True))
    for axis, size in zip(equation[3][1:], given, strict=True):
        if size is not None and _check_size(size, "output_shape", where) != sizes.setdefault(axis, size):
            raise UserError(f"{where}: output_shape: got {size} for axis {axis}, expected {sizes[axis]}, as its input")
    if not set(equation[2] + equation[3][1:]) <= sizes.keys():
        return None
    return tuple(sizes[axis] for axis in equation[2]), tuple(sizes[axis] for axis in equation[3][1:])


def pair(value: Any) -> list[Any]:
    """Return a size as [height, width]; a single number is the size of both."""
    return list(value) if isinstance(value, list | tuple) else [value, value]


def _window_output(kind: str, arguments: Arguments, where: str, inputs: Shape) -> Shape | None:
    """Return the output shape of a convolution or pooling layer for an input (height, width, channels)."""
    if len(inputs) != 3:
        raise UserError(f"{where}: got shape {inputs}, expected (height, width, channels)")
    pooling = kind.endswith("Pooling2D")
    if "data_format" in arguments:
        return None
    size = arguments.get("pool_size", 2) if pooling else arguments.get("kernel_size")
    window = _check_pair(size, "pool_size" if pooling else "kernel_size", where)
    dilation = _check_pair(arguments.get("dilation_rate", 1), "dilation_rate", where)
    window = (window[0] - 1) * dilation[0] + 1, (window[1] - 1) * dilation[1] + 1
    for name in ("groups", "depth_multiplier"):
        _check_size(arguments.get(name, 1), name, where)
    strides = arguments.get("strides")
    strides = _check_pair((window if pooling else 1) if strides is None else strides, "strides", where)
    padding = str(arguments.get("padding", "valid")).lower()
    if padding not in ("valid", "same"):
        raise UserError(f"{where}: padding: got {padding!r}, expected valid or same")
    if padding == "valid" and (window[0] > inputs[0] or window[1] > inputs[1]):
        raise UserError(
            f"{where}: its {window[0]}x{window[1]} window is larger than its {inputs[0]}x{inputs[1]} input; use "
            f"padding: same, or pool less before it"
        )
    covered = window if padding == "valid" else (1, 1)
    height, width = ((inputs[i] - covered[i]) // strides[i] + 1 for i in (0, 1))
    if pooling:
        return (height, width, inputs[2])
    if kind == "DepthwiseConv2D":
        return (height, width, inputs[2] * arguments.get("depth_multiplier", 1))
    return (height, width, _check_size(arguments.get("filters"), "filters", where))


def _check_size(value: Any, name: str, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{where}: {name}: got {value!r}, expected a whole number of at least 1")
    if value > _MAX_COUNTED:
        raise _too_large(value, name, where)
    return value


def _too_large(value: int, name: str, where: str) -> UserError:
    return UserError(f"{where}: {name}: got {shorten(str(value), 30)}, expected at most {_MAX_SIZE}")


def _check_pair(value: Any, name: str, where: str) -> tuple[int, int]:
    sizes = pair(value)
    if len(sizes) != 2:
        raise UserError(f"{where}: {name}: got {value!r}, expected one whole number or two")
    height, width = (_check_size(size, name, where) for size in sizes)
    if max(height, width) > _MAX_SIZE:
        raise _too_large(max(height, width), name, where)
    return height, width
