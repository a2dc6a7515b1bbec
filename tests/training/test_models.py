"""Models: every file of conf/model is the network that it is named after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import pytest
from scipy.special import softmax

from cifar_exp.config.composition import CONF
from cifar_exp.config.layers import Layer, in_order, parse
from cifar_exp.config.schema import Config, ModelConfig
from cifar_exp.errors import UserError
from cifar_exp.training import models

IMAGE_SHAPE = (32, 32, 3)

Compose = Callable[..., Config]

# model -> all parameters, and those that are trained
PARAMETERS = {
    "baseline": (122_570, 122_570),
    "one_conv": (462_410, 462_410),
    "padded": (319_178, 319_178),
    "leaky": (146_122, 146_122),
    "pairs": (402_282, 402_282),
    "blocks": (550_570, 550_570),
    "deep": (1_638_698, 1_638_698),
    "dense": (1_707_274, 1_707_274),
    "simple": (4_210_090, 4_210_090),
    "large": (2_915_114, 2_915_114),
    "large_less_dropout": (2_915_114, 2_915_114),
    "vgg": (1_172_410, 1_172_410),
    "vgg_dropout": (1_172_410, 1_172_410),
    "cnn_5x5": (714_202, 714_202),
    "cnn_5x5_dropout": (714_202, 714_202),
    "cnn_5x5_bn": (715_930, 715_066),
    "bn": (685_354, 684_458),
    "bn_relu": (359_242, 358_794),
    "bn_deep": (895_498, 893_706),
    "bn_deep_l2": (895_498, 893_706),
    "spatial_dropout": (279_530, 279_530),
    "spatial_dropout_bn": (280_170, 279_850),
    "spatial_dropout_deep": (615_786, 615_786),
    "speedrun": (309_034, 308_138),
    "resnet9": (1_869_930, 1_867_498),
    "vgg_airbench": (1_975_082, 1_972_778),
    "wide_residual": (2_752_506, 2_748_890),
    "mobile": (308_074, 298_330),
    "squeeze_excite": (282_526, 280_958),
    "convnext": (908_890, 908_890),
    "vit": (811_018, 811_018),
}


def built(entries: list[Any]) -> keras.Model:
    return models.build(ModelConfig("m", parse(entries, "m"), {}), (32, 32, 3))[0]


def kinds(layers: Sequence[Layer]) -> Iterator[str]:
    """Those of the list, a residual block's by its layers and their sum, a gate's by its layers and the product."""
    for _, layer in in_order(layers, ""):
        if layer.kind in ("Residual", "Gate"):
            yield from (
                *kinds(layer.layers),
                *kinds(layer.shortcut),
                {"Residual": "Add", "Gate": "Multiply"}[layer.kind],
            )
        else:
            yield layer.kind


def test_every_model_of_conf_has_a_known_size() -> None:
    assert {path.stem for path in (CONF / "model").glob("*.yaml")} == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_model_has_exactly_the_parameters_of_its_counterpart_and_the_layers_of_its_file(
    compose: Compose, name: str
) -> None:
    config = compose(f"model={name}").model
    assert config.name == name
    model, rows = models.build(config, (32, 32, 3))
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert (model.count_params(), trainable) == PARAMETERS[name]
    assert sum(row.parameters for row in rows) == PARAMETERS[name][0]
    assert model.input_shape == (None, *IMAGE_SHAPE)
    assert model.output_shape == (None, 10)
    listed = list(kinds(config.layers))
    assert [row.name for row in rows] == listed
    # Keras sorts the layers of parallel branches by their distance from the end.
    assert Counter(type(layer).__name__ for layer in model.layers) == Counter(
        ["InputLayer", "Rescaling", *listed, "Activation"]
    )


def test_pixels_are_rescaled_to_one_and_logits_are_unbounded() -> None:
    model = built(["Flatten", {"Dense": {"units": 10, "kernel_initializer": "ones", "bias_initializer": "ones"}}])
    logits = model.predict(np.full((1, *IMAGE_SHAPE), 255, np.uint8), verbose=0)
    np.testing.assert_allclose(logits, np.full((1, 10), 3073.0), rtol=1e-6)


def test_a_max_norm_is_on_the_layers_that_name_it(compose: Compose) -> None:
    model, _ = models.build(compose("model=large").model, (32, 32, 3))
    constraints = [layer.kernel_constraint for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [getattr(constraint, "max_value", None) for constraint in constraints] == [3, 3, None]


def test_an_l2_penalty_is_on_every_kernel_but_the_last_at_the_strength_of_its_knob(compose: Compose) -> None:
    model, _ = models.build(compose("model=bn_deep_l2", "model.l2=0.5").model, (32, 32, 3))
    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Dense | keras.layers.Conv2D)]
    assert len(model.losses) == len(kernels) - 1 == 11
    for penalty, kernel in zip(model.losses, kernels, strict=False):
        np.testing.assert_allclose(float(penalty), 0.5 * np.sum(np.square(kernel.numpy())), rtol=1e-5)


def test_a_residual_adds_its_branch_to_its_input() -> None:
    branch = {"Dense": {"units": 3072, "kernel_initializer": "zeros", "bias_initializer": "ones"}}
    model = built(["Flatten", {"Residual": {"layers": [branch]}}])
    images = np.random.default_rng(0).integers(0, 256, (2, *IMAGE_SHAPE)).astype(np.uint8)
    expected = images.reshape(2, -1) / 255 + 1
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, rtol=1e-6)


def test_a_gate_multiplies_its_input_by_the_output_of_its_layers() -> None:
    halves = {"Dense": {"units": 3, "kernel_initializer": "zeros", "activation": "sigmoid"}}
    gate = {"Gate": {"layers": [{"GlobalAveragePooling2D": {"keepdims": True}}, halves]}}
    images = np.random.default_rng(0).integers(0, 256, (2, *IMAGE_SHAPE)).astype(np.uint8)
    np.testing.assert_allclose(
        built([gate, "Flatten"]).predict(images, verbose=0), images.reshape(2, -1) / 510, rtol=1e-6
    )


def test_a_repeat_is_its_layers_several_times_each_with_weights_of_its_own() -> None:
    model = built(["Flatten", {"Repeat": {"times": 3, "layers": [{"Dense": {"units": 3}}, "ReLU"]}}])
    assert [type(layer).__name__ for layer in model.layers[3:-1]] == 3 * ["Dense", "ReLU"]
    assert [weight.shape for weight in model.weights] == [(3072, 3), (3,), (3, 3), (3,), (3, 3), (3,)]


def test_attention_lets_each_position_see_all_others_of_its_input() -> None:
    attention = {"MultiHeadAttention": {"num_heads": 2, "key_dim": 4}}
    model = built([{"Reshape": {"target_shape": [64, 48]}}, attention])
    images = np.zeros((2, *IMAGE_SHAPE), np.uint8)
    images[1, -1, -1] = 255  # one pixel, in the last position
    one, other = model.predict(images, verbose=0)
    assert (one != other).any(axis=1).all()


def test_unknown_sizes_in_the_output_of_an_einsum_are_those_of_its_input() -> None:
    scale = {"EinsumDense": {"equation": "nhwc,c->nhwc", "output_shape": [None, None, 3], "kernel_initializer": "ones"}}
    model = built([scale, "Flatten"])
    assert model.output_shape == (None, 3072)
    unknown = {"EinsumDense": {"equation": "...hc,cd->...hd", "output_shape": [None, 8]}}
    with pytest.raises(
        UserError, match=r"^model 'm', layer 1 \(EinsumDense\): the sizes of its output \(32, None, 8\)"
    ):
        built([unknown])


def test_rows_of_a_residual_tell_how_deep_each_layer_lies() -> None:
    convolution = {"Conv2D": {"filters": 8, "kernel_size": 3, "padding": "same"}}
    shortcut = {"Conv2D": {"filters": 8, "kernel_size": 1}}
    entries: list[Any] = [{"Residual": {"layers": [convolution], "shortcut": [shortcut]}}, "Flatten"]
    _, rows = models.build(ModelConfig("m", parse(entries, "m"), {}), (32, 32, 3))
    assert [(row.name, row.depth, row.parameters, row.shortcut) for row in rows] == [
        ("Conv2D", 1, 224, 0),
        ("Conv2D", 1, 32, 0),
        ("Add", 0, 0, 1),
        ("Flatten", 0, 0, 0),
    ]
    assert rows[2].shape == "32 x 32 x 8"


@pytest.mark.parametrize(
    "entry",
    [
        {"Dropout": {"rate": 2}},
        {"Reshape": {"target_shape": [7]}},
        {"Conv2D": {"filters": 8, "kernel_size": 3, "groups": 2}},
        {"Conv2D": {"filters": 8, "kernel_size": 3, "activation": {"relu": None}}},
        {"Residual": {"layers": [{"ZeroPadding2D": {"padding": 1}}]}},
        {"Gate": {"layers": [{"UpSampling2D": {"size": [1, 2]}}]}},
        "Add",
        "Concatenate",
        "Bidirectional",
        "RNN",
    ],
    ids=str,
)
def test_what_only_keras_can_refuse_is_refused_by_position(entry: Any) -> None:
    with pytest.raises(UserError, match=r"^model 'm', layer 2 \((\w+)\): ") as refused:
        models.build(ModelConfig("m", parse(["ReLU", entry], "m"), {}), (32, 32, 3))
    assert "\n" not in str(refused.value)


def test_a_name_that_keras_has_given_to_another_layer_is_refused() -> None:
    layers = [{"Flatten": {"name": "pixels"}}, {"Dense": {"units": 10}}]
    with pytest.raises(UserError, match=r"^model 'm': The name \"pixels\" is used 2 times"):
        models.build(ModelConfig("m", parse(layers, "m"), {}), (32, 32, 3))


def test_a_classifier_gives_the_softmax_of_the_logits() -> None:
    model = built(["Flatten", {"Dense": {"units": 10}}])
    classifier = models.classifier(model)
    images = np.random.default_rng(0).integers(0, 256, (5, *IMAGE_SHAPE)).astype(np.uint8)
    probabilities = classifier.predict(images, verbose=0)
    np.testing.assert_allclose(probabilities, softmax(model.predict(images, verbose=0), axis=1), atol=1e-6)
    assert classifier.count_params() == model.count_params()
    model.layers[-2].kernel.assign(np.zeros((3072, 10)))
    np.testing.assert_allclose(classifier.predict(images, verbose=0), np.full((5, 10), 0.1), atol=1e-6)


def test_the_same_seed_gives_the_same_weights(compose: Compose) -> None:
    def weights(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        return models.build(compose().model, (32, 32, 3))[0].get_weights()[0]

    assert np.array_equal(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))


def test_the_summary_lists_every_layer_and_the_total(compose: Compose) -> None:
    text = models.summary(models.build(compose().model, (32, 32, 3))[0])
    assert "122,570" in text
    assert text.count("Conv2D") == 3
    assert text.endswith("\n")
