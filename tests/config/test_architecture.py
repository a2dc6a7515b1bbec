"""Layer lists: what is read off Keras's source agrees with Keras, and what cannot be built is refused in words."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import keras
import pytest

from cifar_exp.config.architecture import check, detail
from cifar_exp.config.layers import Layer, parse
from cifar_exp.config.schema import ModelConfig
from cifar_exp.errors import UserError
from cifar_exp.training import models

CLASSES = 10
IMAGE_SHAPE = (32, 32, 3)


def refusal(entries: Any, input_shape: tuple[int, ...] = IMAGE_SHAPE) -> str:
    """What is said of a list that must be refused, on one line."""
    with pytest.raises(UserError) as refused:
        check(parse(entries, "model 'm'"), "model 'm'", input_shape, CLASSES)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def refused_argument(kind: str, name: str) -> bool:
    """Whether the layer takes no argument of this name, whatever its value."""
    try:
        check(parse([{kind: {name: None}}], "m"), "m", (), CLASSES)
    except UserError as error:
        return f"no argument {name!r}" in str(error)
    return False


SHAPED: list[list[Any]] = [
    [{"Conv2D": {"filters": 8, "kernel_size": 3}}],
    [{"Conv2D": {"filters": 8, "kernel_size": 3, "padding": "same"}}],
    [{"Conv2D": {"filters": 8, "kernel_size": [5, 2], "strides": 2}}],
    [{"Conv2D": {"filters": 8, "kernel_size": 3, "strides": [2, 3], "padding": "same"}}],
    [{"Conv2D": {"filters": 8, "kernel_size": 32}}],
    [{"SeparableConv2D": {"filters": 7, "kernel_size": 3}}],
    [{"DepthwiseConv2D": {"kernel_size": 3, "depth_multiplier": 2}}],
    [{"DepthwiseConv2D": {"kernel_size": 4, "strides": 2, "padding": "same"}}],
    ["MaxPooling2D"],
    [{"AdaptiveAveragePooling2D": {"output_size": [4, 6]}}],
    [{"AdaptiveMaxPooling2D": {"output_size": 4}}],
    [{"MaxPooling2D": {"pool_size": 3}}],
    [{"MaxPooling2D": {"pool_size": 3, "strides": 2}}],
    [{"MaxPooling2D": {"pool_size": 3, "strides": 2, "padding": "same"}}],
    [{"AveragePooling2D": {"pool_size": [2, 5], "padding": "same"}}],
    [{"AveragePooling2D": {"pool_size": [4, 3], "strides": [1, 2]}}],
    [{"Conv2D": {"filters": 8, "kernel_size": 3}}, "Flatten"],
    [{"Conv2D": {"filters": 8, "kernel_size": 3}}, "GlobalAveragePooling2D"],
    [{"Conv2D": {"filters": 9, "kernel_size": 3}}, "GlobalMaxPooling2D"],
    [{"Dense": {"units": 6}}],
    ["Flatten", {"Dense": {"units": 6}}, {"Activation": {"activation": "gelu"}}, {"Dropout": {"rate": 0.5}}],
    ["BatchNormalization", "LayerNormalization", "PReLU", "ReLU", {"SpatialDropout2D": {"rate": 0.1}}],
    [{"Residual": {"layers": [{"Conv2D": {"filters": 3, "kernel_size": 3, "padding": "same"}}]}}],
    [
        {
            "Residual": {
                "layers": [{"Conv2D": {"filters": 8, "kernel_size": 3, "strides": 2, "padding": "same"}}, "ReLU"],
                "shortcut": [{"Conv2D": {"filters": 8, "kernel_size": 1, "strides": 2}}],
            }
        },
        "MaxPooling2D",
    ],
    [{"Gate": {"layers": [{"GlobalAveragePooling2D": {"keepdims": True}}, {"Dense": {"units": 3}}]}}],
    [{"Gate": {"layers": [{"Conv2D": {"filters": 1, "kernel_size": 7, "padding": "same"}}]}}],
    [{"Repeat": {"times": 2, "layers": [{"Conv2D": {"filters": 8, "kernel_size": 3}}, "MaxPooling2D"]}}],
    [{"Repeat": {"times": 0, "layers": ["MaxPooling2D"]}}, "Flatten"],
    [{"Reshape": {"target_shape": [-1, 6]}}, {"GlobalMaxPooling1D": {"keepdims": True}}],
    [{"Reshape": {"target_shape": [3072]}}],
    [{"Reshape": {"target_shape": [64, 48]}}, {"MultiHeadAttention": {"num_heads": 2, "key_dim": 5, "value_dim": 7}}],
    [{"EinsumDense": {"equation": "abcd,de->abe", "output_shape": [None, 9], "bias_axes": "be"}}],
]


@pytest.mark.parametrize("entries", SHAPED, ids=str)
def test_shape_is_inferred_as_keras_builds_it(entries: list[Any]) -> None:
    layers = parse(entries, "m")
    model, rows = models.build(ModelConfig("m", layers, {}), IMAGE_SHAPE)
    assert rows[-1].shape == " x ".join(map(str, model.output_shape[1:]))
    with pytest.raises(UserError, match=re.escape(f"ends in shape {model.output_shape[1:]}, expected (-1,)")):
        check(layers, "m", IMAGE_SHAPE, -1)


@pytest.mark.parametrize("kind", ["ZeroPadding2D", "Conv2DTranspose", "Permute"])
def test_shape_after_a_less_usual_layer_is_left_to_keras(kind: str) -> None:
    arguments = {"Conv2DTranspose": {"filters": 4, "kernel_size": 2}, "Permute": {"dims": [3, 1, 2]}}.get(kind, {})
    check(parse([{kind: arguments}], "m"), "m", IMAGE_SHAPE, CLASSES)


def test_what_is_wrong_in_a_repeat_is_named_with_the_time_at_which_it_is() -> None:
    said = refusal([{"Repeat": {"times": 6, "layers": ["MaxPooling2D"]}}])
    assert said.startswith("model 'm', layer 1 (Repeat, time 6), layer 1 (MaxPooling2D): its 2x2 window is larger than")


def test_unknown_layer_names_the_position_and_the_nearest_layer() -> None:
    said = refusal(["Flatten", {"Dens": {"units": 10}}])
    assert said == "model 'm', layer 2 (Dens): 'Dens' is not a Keras layer; did you mean 'Dense'?"


def test_unknown_layer_inside_a_residual_is_named_with_both_positions() -> None:
    assert "layer 1 (Residual), layer 2 (Cov2D)" in refusal([{"Residual": {"layers": ["ReLU", "Cov2D"]}}])


def test_unknown_argument_names_the_nearest_and_all_that_it_takes() -> None:
    said = refusal([{"Conv2D": {"filters": 8, "kernel_sise": 3}}])
    assert said.startswith("model 'm', layer 1 (Conv2D): no argument 'kernel_sise'; did you mean 'kernel_size'? (it ")
    assert "kernel_initializer" in said


@pytest.mark.parametrize("argument", ["build_config", "registered_name", "module", "class_name", "config", "kwargs"])
def test_arguments_that_name_code_are_no_arguments(argument: str) -> None:
    assert refused_argument("Dense", argument)
    assert not refused_argument("Dense", "units")


def test_wrong_activation_names_the_nearest() -> None:
    said = refusal([{"Conv2D": {"filters": 8, "kernel_size": 3, "activation": "rleu"}}])
    assert said.endswith("activation: got 'rleu', expected a name from keras.activations; did you mean 'relu'?")


@pytest.mark.parametrize(
    "value",
    [
        {"class_name": "HeNormal", "module": "os", "config": {}},
        {"class_name": "system", "module": "os"},
        {"class_name": "HeNormal"},
        {"class_name": {"module": "os"}},
        {"HeNormal": {"seed": {"class_name": "__lambda__"}}},
        {"HeNormal": {"sed": 1}},
        {"HeNormal": [1]},
        {"HeNormal": {}, "GlorotNormal": {}},
        ["HeNormal"],
        "os.system",
        "deserialize",
        "get",
        3,
    ],
    ids=str,
)
def test_an_initializer_is_a_name_of_keras_with_plain_arguments_and_nothing_else(value: Any) -> None:
    said = refusal(["Flatten", {"Dense": {"units": 10, "kernel_initializer": value}}])
    assert "kernel_initializer: " in said


@pytest.mark.parametrize("argument", ["units", "use_bias", "dtype", "name"])
@pytest.mark.parametrize("value", [{"class_name": "DTypePolicy", "module": "os", "config": {}}, [{"module": "os"}]])
def test_a_dictionary_is_no_value_of_a_plain_argument(argument: str, value: Any) -> None:
    assert "expected a number, a string or a list of them" in refusal([{"Dense": {argument: value}}])


def test_objects_are_accepted_by_name_with_and_without_arguments() -> None:
    dense = {
        "units": 10,
        "kernel_initializer": {"VarianceScaling": {"scale": 2.0, "mode": "fan_out"}},
        "bias_initializer": {"Zeros": None},
        "kernel_constraint": {"MaxNorm": {"max_value": 3}},
        "kernel_regularizer": "l2",
        "bias_regularizer": None,
    }
    layers = parse(["Flatten", {"Dense": dense}], "m")
    check(layers, "m", IMAGE_SHAPE, CLASSES)
    made = models.build(ModelConfig("m", layers, {}), IMAGE_SHAPE)[0].layers[3]
    assert made.kernel_initializer.get_config()["mode"] == "fan_out"
    assert made.kernel_constraint.max_value == 3
    assert isinstance(made.kernel_regularizer, keras.regularizers.L2)


@pytest.mark.parametrize(
    "kind",
    [
        "Lambda",
        "TFSMLayer",
        "TorchModuleWrapper",
        "JaxLayer",
        "FlaxLayer",
        "Layer",
        "StringLookup",
        "TextVectorization",
    ],
)
def test_layers_that_run_code_or_read_files_are_refused(kind: str) -> None:
    assert "may not be used in a model" in refusal([kind])
    assert "may not be used in a model" in refusal([{"Residual": {"layers": ["ReLU", kind]}}])


@pytest.mark.parametrize("kind", ["add", "concatenate", "Input"])
def test_functions_of_keras_layers_are_refused(kind: str) -> None:
    assert f"{kind!r} may not be used in a model" in refusal([kind, "Flatten", {"Dense": {"units": 10}}])


def test_a_window_larger_than_its_input_is_refused_with_both_sizes() -> None:
    said = refusal([{"MaxPooling2D": {"pool_size": 16}}, {"Conv2D": {"filters": 8, "kernel_size": [2, 3]}}])
    assert "layer 2 (Conv2D): its 2x3 window is larger than its 2x2 input" in said


def test_a_convolution_after_flatten_is_refused() -> None:
    said = refusal(["Flatten", {"Conv2D": {"filters": 8, "kernel_size": 3}}])
    assert "layer 2 (Conv2D): got shape (3072,), expected (height, width, channels)" in said


@pytest.mark.parametrize(
    ("entries", "shape"),
    [
        (["Flatten", {"Dense": {"units": 9}}], "(9,)"),
        ([{"Dense": {"units": 10}}], "(32, 32, 10)"),
        (["Flatten"], "(3072,)"),
    ],
)
def test_a_model_that_does_not_end_in_one_logit_a_class_is_refused(entries: list[Any], shape: str) -> None:
    assert f"model 'm': ends in shape {shape}, expected (10,)" in refusal(entries)


def test_a_residual_of_unequal_shapes_is_refused() -> None:
    said = refusal([{"Residual": {"layers": [{"Conv2D": {"filters": 8, "kernel_size": 3, "padding": "same"}}]}}])
    assert "layer 1 (Residual): adds shape (32, 32, 8) to (32, 32, 3): give it a shortcut" in said


@pytest.mark.parametrize(
    "layers", [["GlobalAveragePooling2D"], [{"Conv2D": {"filters": 3, "kernel_size": 3}}]], ids=str
)
def test_a_gate_whose_factors_do_not_fit_its_input_is_refused(layers: list[Any]) -> None:
    said = refusal([{"Gate": {"layers": layers}}])
    assert said.startswith("model 'm', layer 1 (Gate): multiplies shape (32, 32, 3) by (3")
    assert said.endswith("such as (1, 1, 3) for each channel")


def test_two_layers_of_the_same_name_are_refused() -> None:
    named = {"ReLU": {"name": "x"}}
    end = ["Flatten", {"Dense": {"units": 10}}]
    same = "layer 2 (ReLU): name: got 'x', which is the name of model 'm', layer 1 (ReLU)"
    assert same in refusal([named, named, *end])
    assert "name: got 'x'" in refusal([{"Repeat": {"times": 2, "layers": [named]}}, *end])
    assert "(Residual) shortcut, layer 1 (ReLU): name: got 'x'" in refusal(
        [{"Residual": {"layers": [named], "shortcut": [named]}}, *end]
    )


def test_detail_tells_the_arguments_in_a_few_words() -> None:
    assert detail(Layer("Conv2D", {"filters": 32, "kernel_size": 3, "padding": "same"})) == "32 filters 3x3, same"
    assert detail(Layer("MaxPooling2D", {"pool_size": [2, 3]})) == "2x3"
    assert detail(Layer("Dropout", {"rate": 0.2})) == "rate 0.2"
    constrained = {"units": 8, "kernel_constraint": {"MaxNorm": {"max_value": 3}}, "bias_initializer": {"Ones": None}}
    assert detail(Layer("Dense", constrained)) == "units 8, MaxNorm 3, Ones"


def test_checking_a_model_imports_no_keras() -> None:
    program = """
import sys
from cifar_exp.config.architecture import check
from cifar_exp.config.layers import parse
from cifar_exp.errors import UserError

def outcome(entries):
    try:
        return check(parse(entries, "m"), "m", (32, 32, 3), 10)
    except UserError as error:
        return "refused"

dense = {"Dense": {"units": 10, "kernel_constraint": {"MaxNorm": {"max_value": 3}}}}
assert outcome(["Flatten", dense]) is None
for entries in (["Dens"], [{"Dense": {"unit": 3}}], ["Lambda"], [dense], [{"Dense": {"activation": "x"}}]):
    assert outcome(entries) == "refused", entries
assert not {"keras", "tensorflow", "mlflow"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
