"""Arguments of layers: what no layer can have is refused before anything trains, in words that name the argument."""

from __future__ import annotations

from typing import Any

import pytest

from cifar_exp.config.architecture import check
from cifar_exp.config.layers import parse
from cifar_exp.errors import UserError


def refusal(layer: Any, policy: str = "float32") -> str:
    """What is said of a list that begins with this layer, on one line."""
    with pytest.raises(UserError) as refused:
        check(parse([layer, "Flatten", {"Dense": {"units": 10}}], "model 'm'"), "model 'm'", (32, 32, 3), 10, policy)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (
            {"Reshape": {"target_shape": [-1, 7]}},
            "target_shape: got [-1, 7] for shape (32, 32, 3), expected a list",
        ),
        ({"Reshape": {"target_shape": 3072}}, "target_shape: got 3072 for shape (32, 32, 3), expected a list of sizes"),
        ({"Reshape": {"target_shape": [-1, -1]}}, "whose product is 3072; one may be -1"),
        ({"MultiHeadAttention": {"num_heads": 2}}, "key_dim: got None"),
        (
            {"MultiHeadAttention": {"num_heads": 2, "key_dim": 2, "attention_axes": [3]}},
            "attention_axes: got [3], expected",
        ),
        (
            {"MultiHeadAttention": {"num_heads": 2, "key_dim": 2, "attention_axes": "x"}},
            "attention_axes: got 'x', expected",
        ),
        ({"EinsumDense": {"equation": "nhwc,c->nhwc", "output_shape": [31, 32, 3]}}, "got 31 for axis h, expected 32"),
        (
            {"EinsumDense": {"equation": "nhwc,cd->nhwd", "output_shape": [32, 32, 9], "bias_axes": "e"}},
            "bias_axes: got 'e', expected axes of 'hwd'",
        ),
        (
            {"EinsumDense": {"equation": "nhwc,cd->nhwd", "output_shape": [32, 32, 9], "bias_axes": 5}},
            "got 5, expected",
        ),
        ({"Dense": {"units": 10**400}}, f"units: got 1{28 * '0'}…, expected at most 2147483647"),
        ("GlobalMaxPooling1D", "got shape (32, 32, 3), expected 2 axes, the last of channels"),
        ({"Dense": {"units": 0}}, "units: got 0, expected a whole number of at least 1"),
        ({"Dense": {"units": 2.5}}, "units: got 2.5"),
        ({"Dense": {"units": True}}, "units: got True"),
        ({"Dense": {}}, "units: got None"),
        ({"Conv2D": {"filters": 8}}, "kernel_size: got None"),
        ({"Conv2D": {"kernel_size": 3}}, "filters: got None"),
        ({"Conv2D": {"filters": 8, "kernel_size": [3, 3, 3]}}, "kernel_size: got [3, 3, 3], expected one whole number"),
        ({"Conv2D": {"filters": 8, "kernel_size": 3, "strides": 0}}, "strides: got 0"),
        ({"Conv2D": {"filters": 8, "kernel_size": 3, "strides": -1}}, "strides: got -1"),
        ({"Conv2D": {"filters": 8, "kernel_size": 3, "padding": "sme"}}, "padding: got 'sme', expected valid or same"),
        ({"MaxPooling2D": {"pool_size": "x"}}, "pool_size: got 'x'"),
        ({"MaxPooling2D": {"pool_size": 10**20, "padding": "same"}}, "pool_size: got 1" + 20 * "0" + ", expected at"),
        ({"Conv2D": {"filters": 8, "kernel_size": 3, "groups": 0}}, "groups: got 0"),
        ({"SeparableConv2D": {"filters": 8, "kernel_size": 3, "depth_multiplier": -1}}, "depth_multiplier: got -1"),
        ({"Conv2D": {"filters": -(10**8), "kernel_size": 3}}, "filters: got -100000000"),
        ({"Dense": {"units": 1e8}}, "units: got 100000000.0, expected a whole number"),
    ],
    ids=str,
)
def test_sizes_that_no_layer_can_have_are_refused(layer: Any, said: str) -> None:
    assert said in refusal(layer)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"Rescaling": {"scale": "x"}}, "layer 1 (Rescaling): scale: got 'x', expected a number"),
        ({"Dropout": {"rate": "half"}}, "rate: got 'half', expected a number"),
        ({"GaussianNoise": {"stddev": True}}, "stddev: got True, expected a number"),
        ({"LeakyReLU": {"negative_slope": "x"}}, "negative_slope: got 'x', expected a number"),
        ({"BatchNormalization": {"scale": 2}}, "scale: got 2, expected true or false"),
        ({"BatchNormalization": {"momentum": 5}}, "momentum: got 5, expected a number from 0 to 1"),
        ({"Conv2D": {"filters": 8, "kernel_size": 3, "use_bias": "maybe"}}, "use_bias: got 'maybe', expected true or"),
        ({"Flatten": {"trainable": "maybe"}}, "trainable: got 'maybe', expected true or false"),
        (
            {"ZeroPadding2D": {"padding": [[0, 1], [-1, 0]]}},
            "padding: got [[0, 1], [-1, 0]], expected whole numbers of",
        ),
        (
            {"Conv2D": {"filters": 8, "kernel_size": 3, "kernel_regularizer": {"L2": {"l2": "x"}}}},
            "kernel_regularizer: l2: got 'x', expected a number",
        ),
        (
            {"Conv2D": {"filters": 8, "kernel_size": 3, "kernel_regularizer": "orthogonal_regularizer"}},
            "kernel_regularizer: orthogonal_regularizer is for matrices: the kernel_regularizer of Dense",
        ),
        (
            {"Dense": {"units": 8, "bias_regularizer": {"OrthogonalRegularizer": {"factor": 0.1}}}},
            "bias_regularizer: OrthogonalRegularizer is for matrices",
        ),
        ({"Dense": {"units": 8, "dtype": "float16"}}, "dtype: got 'float16', expected float32, mixed_bfloat16, mixed_"),
        ({"Dense": {"units": 8, "dtype": "flaot32"}}, "dtype: got 'flaot32', expected float32"),
        (
            {"AdaptiveMaxPooling2D": {"output_size": [4, 1]}},
            "output_size: got [4, 1], expected at least 2 (for 1: GlobalMaxPooling2D, with keepdims: true)",
        ),
        (
            {"Convolution2DTranspose": {"filters": 8, "kernel_size": 1, "strides": [1, 2]}},
            "strides: got [1, 2] with a window of 1x1, which leaves gaps; take UpSampling2D",
        ),
        (
            {"AdaptiveMaxPooling1D": {"output_size": 4}},
            "got shape (32, 32, 3), expected 2 axes, the last of channels",
        ),
        ({"AdaptiveMaxPooling2D": {"output_size": [4]}}, "output_size: got [4], expected one whole number or 2"),
        ({"Activation": {"activation": "glu"}}, "activation: glu halves the channels"),
        ({"Dense": {"units": 8, "activation": "threshold"}}, "activation: threshold needs two arguments"),
        (
            {"EinsumDense": {"equation": "ab,bc->ac", "output_shape": 4}},
            "equation: got 'ab,bc->ac' for shape (32, 32, 3), expected 4 axes before the comma, the first of images",
        ),
    ],
    ids=str,
)
def test_arguments_that_keras_would_refuse_in_training_or_not_at_all_are_refused(layer: Any, said: str) -> None:
    assert said in refusal(layer)


@pytest.mark.parametrize("name", ["b c", "a/b", "_a", "é", ""])
def test_a_name_that_tensorflow_would_refuse_in_training_is_refused(name: str) -> None:
    layers = parse(["Flatten", {"Dense": {"units": 10, "name": name}}], "model 'm'")
    with pytest.raises(
        UserError, match=r"^model 'm', layer 2 \(Dense\): name: got .* expected letters, digits and any of"
    ):
        check(layers, "model 'm'", (32, 32, 3), 10)


@pytest.mark.parametrize("layer", [{"ActivityRegularization": {"l2": 0.1}}, {"ReLU": {"activity_regularizer": "l2"}}])
def test_penalties_on_outputs_in_half_precision_are_refused(layer: dict[str, dict[str, Any]]) -> None:
    ((kind, arguments),) = layer.items()
    half, single = ({kind: arguments | {"dtype": dtype}} for dtype in ("mixed_float16", "float32"))
    said = "model 'm', layer 1 ({}): a penalty on outputs in {}, expected dtype: float32 for this layer"
    assert refusal(layer, "mixed_bfloat16") == said.format(kind, "mixed_bfloat16")
    assert refusal(half) == said.format(kind, "mixed_float16")
    inner = refusal({"Residual": {"layers": [half]}})
    assert inner.startswith(f"model 'm', layer 1 (Residual), layer 1 ({kind}): a penalty")
    for accepted, policy in ((single, "mixed_bfloat16"), (layer, "float32")):
        layers = parse([accepted, "Flatten", {"Dense": {"units": 10}}], "m")
        check(layers, "m", (32, 32, 3), 10, policy)


@pytest.mark.parametrize("axes", [[[1]], [1.0], [1, 1], 0, [1, "x"], {}])
def test_axes_of_attention_that_an_image_has_not_are_refused(axes: Any) -> None:
    assert "attention_axes: got" in refusal(
        {"MultiHeadAttention": {"num_heads": 1, "key_dim": 1, "attention_axes": axes}}
    )


def test_pooling_an_axis_of_size_1_to_a_size_is_refused() -> None:
    layers = [{"GlobalAveragePooling2D": {"keepdims": True}}, {"AdaptiveMaxPooling2D": {"output_size": 2}}]
    with pytest.raises(
        UserError, match=r"layer 2 \(AdaptiveMaxPooling2D\): got shape \(1, 1, 3\), expected at least 2"
    ):
        check(parse(layers, "m"), "m", (32, 32, 3), 10)
