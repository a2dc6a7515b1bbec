"""Random lists of layers: most of them right, some with an argument that Keras refuses, or takes and fails with."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Arguments = dict[str, Any]

ACTIVATIONS = ["relu", "gelu", "leaky_relu", "softmax", "log_softmax", "celu", "glu", "threshold", "sparsemax"]
POLICIES = ["float32", "mixed_bfloat16", "float16", "float64"]


def _convolution(r: Random, *without: str, **always: Any) -> Arguments:
    """Arguments of a convolution, without those that its kind does not take."""
    choices = {
        "strides": [2, [2, 1], 3],
        "padding": ["same", "SAME", "causal"],
        "dilation_rate": [2, [2, 2], 0],
        "groups": [2, 3],
        "data_format": ["channels_last", "channels_first"],
        "activation": ACTIVATIONS,
        "kernel_initializer": ["he_normal", "orthogonal", {"VarianceScaling": {"scale": 2, "mode": "fan_out"}}],
        "kernel_regularizer": ["l2", {"L1L2": {"l1": 0.001}}, "orthogonal_regularizer"],
        "kernel_constraint": ["max_norm", {"MaxNorm": {"max_value": 3}}, {"UnitNorm": {"axis": [0, 1, 2]}}],
    }
    some = {name: r.choice(values) for name, values in choices.items() if name not in without and r.random() < 0.2}
    return {"kernel_size": r.choice([1, 3, [3, 5], 2]), **some, **always}


_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
LAYERS: dict[str, Callable[[Random], Arguments]] = {
    "Conv2D": lambda r: _convolution(r, filters=r.choice([1, 4, 6])),
    "SeparableConv2D": lambda r: _convolution(r, "groups", *_KERNEL, filters=4),
    "DepthwiseConv2D": lambda r: _convolution(r, "groups", *_KERNEL),
    "Conv2DTranspose": lambda r: _convolution(r, "groups", filters=4),
    "MaxPooling2D": lambda r: {"pool_size": r.choice([2, [2, 1], 3]), "padding": r.choice(["same", "valid"])},
    "AdaptiveAveragePooling2D": lambda r: {"output_size": r.choice([1, 4, [2, 3]])},
    "GlobalAveragePooling2D": lambda r: {"keepdims": True},
    "BatchNormalization": lambda r: r.choice([{}, {"momentum": 0.9}, {"axis": 1}, {"axis": [1, 2]}, {"momentum": 5}]),
    "LayerNormalization": lambda r: r.choice([{}, {"axis": [1, 2, 3]}, {"axis": 1}]),
    "GroupNormalization": lambda r: {"groups": r.choice([1, 2, -1, 3])},
    "UnitNormalization": lambda r: {"axis": r.choice([1, -1])},
    "Dropout": lambda r: {"rate": r.choice([0, 0.5, 0.99]), "noise_shape": r.choice([None, [None, 1, 1, None]])},
    "GaussianNoise": lambda r: {"stddev": r.choice([0.1, 0])},
    "ActivityRegularization": lambda r: {"l2": 0.001},
    "PReLU": lambda r: r.choice([{}, {"shared_axes": [1, 2]}]),
    "Softmax": lambda r: r.choice([{}, {"axis": 1}]),
    "ZeroPadding2D": lambda r: {"padding": r.choice([1, [1, 2], [[0, 1], [2, 0]], -1])},
    "Cropping2D": lambda r: {"cropping": r.choice([1, [1, 2], 40])},
    "UpSampling2D": lambda r: {"size": [1, 2], "interpolation": r.choice(["nearest", "bilinear"])},
    "Permute": lambda r: {"dims": r.choice([[2, 1, 3], [3, 1, 2], [1, 2]])},
    "Reshape": lambda r: {"target_shape": r.choice([[-1], [32, 2], [4, 16, 1], [-1, 3]])},
    "Rescaling": lambda r: {"scale": r.choice([2, [1, 2, 3], "x"])},
    "Dense": lambda r: {"units": 8, "activation": r.choice(ACTIVATIONS), "lora_rank": r.choice([None, 2])},
    "EinsumDense": lambda r: {"equation": r.choice(["abcd,de->abce", "ab,bc->ac"]), "output_shape": [None, None, 5]},
    "MultiHeadAttention": lambda r: {"num_heads": 2, "key_dim": 4, "attention_axes": r.choice([None, 1, 2, 3])},
}  # fmt: skip


def draw(r: Random) -> list[Any]:
    """Return a list of up to six layers, for images of any shape and ten classes."""
    ending = r.choice([["Flatten"], ["GlobalAveragePooling2D"], ["Flatten", {"Dense": {"units": 6}}]])
    return [*(_layer(r) for _ in range(r.randint(1, 4))), *ending, {"Dense": {"units": 10}}]


def _layer(r: Random, depth: int = 0) -> Any:
    if depth < 2 and r.random() < 0.1:
        inner = [_layer(r, depth + 1) for _ in range(r.randint(1, 2))]
        return {r.choice(["Residual", "Gate"]): {"layers": inner}}
    kind = r.choice(sorted(LAYERS))
    arguments = LAYERS[kind](r)
    if r.random() < 0.1:
        arguments |= r.choice([{"trainable": False}, {"dtype": r.choice(POLICIES)}, {"name": r.choice(["a", "b c"])}])
    return {kind: arguments}
