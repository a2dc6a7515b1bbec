"""What surely does not fit in memory is refused with its figures, and what fits is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import keras
import pytest

from cifar_exp.config import architecture, memory, shapes
from cifar_exp.config.composition import CONF
from cifar_exp.config.layers import parse
from cifar_exp.config.schema import Config, ModelConfig
from cifar_exp.errors import UserError
from cifar_exp.training import models

IMAGE_SHAPE = (32, 32, 3)

Compose = Callable[..., Config]

WIDE = "model.layers=[Flatten,{Dense:{units:100000000}},{Dense:{units:10}}]"


def refusal(compose: Compose, *overrides: str, on_gpu: bool = False, backend: str = "tensorflow") -> str:
    with pytest.raises(UserError) as refused:
        memory.check(compose(*overrides), on_gpu, backend)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_layer_too_large_is_named_with_parameters_and_bytes(compose: Compose) -> None:
    said = refusal(compose, WIDE)
    assert said.startswith("model 'baseline', layer 2 (Dense): too large to train")
    assert "308,300,000,010 parameters, 307,300,000,000 of them in this layer" in said
    assert "at least 8.632 TB (weights 1.233 TB, gradients 1.233 TB, optimizer adam 2.466 TB, checkpoint" in said
    assert f"at most the {memory.total() / 1e9:.4g} GB available" in said or memory.total() >= 1e12


@pytest.mark.parametrize(
    ("overrides", "times"),
    [
        (["optimizer=sgd", "training.checkpoint.every=null"], 2),
        (["optimizer=sgd", "optimizer.momentum=0.9", "training.checkpoint.every=null"], 3),
        (["optimizer=adam", "training.checkpoint.every=null"], 4),
        (["optimizer=adam", "optimizer.amsgrad=true", "training.checkpoint.every=null"], 5),
        (["optimizer=adam"], 7),
        (["optimizer=adam", "training.early_stopping.patience=2"], 8),
    ],
    ids=str,
)
def test_what_is_needed_follows_optimizer_checkpoints_and_early_stopping(
    compose: Compose, overrides: list[str], times: int
) -> None:
    assert f"needs at least {times * 4 * 308_300_000_010 / 1e12:.4g} TB (" in refusal(compose, WIDE, *overrides)


def test_on_a_gpu_only_the_copies_count(compose: Compose) -> None:
    assert "needs at least 3.7 TB (checkpoint 3.7 TB)" in refusal(compose, WIDE, on_gpu=True, backend="tensorflow")
    memory.check(compose(WIDE, "training.checkpoint.every=null"), on_gpu=True, backend="tensorflow")


def test_a_batch_too_large_names_the_layer_with_most_values(compose: Compose) -> None:
    layers = "model.layers=[{Conv2D:{filters:1000000,kernel_size:3}},GlobalAveragePooling2D,{Dense:{units:10}}]"
    said = refusal(compose, layers, "training.batch_size=1000")
    assert "layer 1 (Conv2D): too large to train in batches of 1,000 images" in said
    assert "3.6 TB of it in this layer" in said and "training.batch_size" in said


def test_values_between_the_convolutions_of_a_layer_count(compose: Compose) -> None:
    layers = "[{SeparableConv2D:{filters:10,kernel_size:3,depth_multiplier:300000}},GlobalAveragePooling2D]"
    said = refusal(compose, f"model.layers={layers}", "training.batch_size=40000", "optimizer=sgd")
    assert "layer 1 (SeparableConv2D): too large to train in batches of 40,000 images" in said


ATTENTION = "model.layers=[{MultiHeadAttention:{num_heads:512,key_dim:1}},GlobalAveragePooling2D,{Dense:{units:10}}]"


def test_attention_scores_count_where_they_are_kept(compose: Compose) -> None:
    said = refusal(compose, ATTENTION, "training.batch_size=10000")
    assert "layer 1 (MultiHeadAttention): too large to train in batches of 10,000 images" in said
    scores = 512 * (32 * 32) ** 2 * 10_000 * 4
    assert f"{scores / 1e12:.1f}" in said and "TB of it in this layer" in said
    memory.check(compose(ATTENTION, "training.batch_size=100"), on_gpu=False, backend="torch")


def test_attention_along_an_axis_has_fewer_scores() -> None:
    along_rows = {"num_heads": 3, "key_dim": 4, "attention_axes": [-2]}
    assert shapes.count_scores("MultiHeadAttention", along_rows, (6, 5, 7)) == 3 * 6 * 5 * 5
    assert shapes.count_scores("MultiHeadAttention", {"num_heads": 3, "key_dim": 4}, (6, 5, 7)) == 3 * 30 * 30


def test_a_batch_has_no_more_images_than_there_are(compose: Compose) -> None:
    memory.check(
        compose("model=dense", "data=digits", "training.batch_size=2000000000"), on_gpu=False, backend="tensorflow"
    )


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "model").glob("*.yaml")))
def test_parameters_are_counted_as_keras_counts_them(compose: Compose, name: str) -> None:
    config = compose(f"model={name}").model
    sizes, is_whole = architecture.sizes(config.layers, "m", IMAGE_SHAPE)
    built = models.sizes(config, IMAGE_SHAPE)
    assert is_whole
    assert sum(size.parameters for size in sizes) == sum(size.parameters for size in built)
    assert sum(size.trainable for size in sizes) == sum(size.trainable for size in built)
    between = "MultiHeadAttention"  # its projections are no output of a layer
    values = [size.values for size in sizes if between not in size.where]
    assert max(values) == max(size.values for size in built)


COUNTED: list[Any] = [
    {"Conv2D": {"filters": 6, "kernel_size": [3, 2], "groups": 3, "use_bias": False}},
    {"Conv2D": {"filters": 6, "kernel_size": 3, "dilation_rate": 2}},
    {"SeparableConv2D": {"filters": 7, "kernel_size": 3, "depth_multiplier": 2}},
    {"DepthwiseConv2D": {"kernel_size": 3, "depth_multiplier": 2}},
    {"BatchNormalization": {"scale": False}},
    {"Dense": {"units": 5, "trainable": False}},
    {"BatchNormalization": {"axis": 1}},
    {"PReLU": {"shared_axes": [1, 2]}},
    {"PReLU": {"shared_axes": [-1]}},
    {"LayerNormalization": {"axis": [1, -1]}},
    {"LayerNormalization": {"center": False}},
    {"GroupNormalization": {"groups": 3}},
    "RMSNormalization",
    "MaxPool2D",
    {"GlobalMaxPooling2D": {"keepdims": True}},
    {"EinsumDense": {"equation": "nhwc,cd->nhwd", "output_shape": [None, 32, 5], "bias_axes": "wd"}},
    {"MultiHeadAttention": {"num_heads": 2, "key_dim": 4, "value_dim": 3}},
    {"MultiHeadAttention": {"num_heads": 2, "key_dim": 4, "use_bias": False, "use_gate": True}},
]


@pytest.mark.parametrize("entry", COUNTED, ids=str)
def test_each_kind_of_layer_is_counted_as_keras_counts_it(entry: Any) -> None:
    layers = parse([entry], "m")
    ((_, parameters, trainable, values, _),), _ = architecture.sizes(layers, "m", IMAGE_SHAPE)
    built = models.sizes(ModelConfig("m", layers, {}), IMAGE_SHAPE)[2]
    assert (parameters, trainable) == (built.parameters, built.trainable)
    between = 30 * 30 * 2 * 3 if "SeparableConv2D" in entry else 0  # its two convolutions
    if "MultiHeadAttention" in entry:  # queries, keys, values, gates and what the last projection gets
        between = 32 * 32 * 2 * (4 + 4 + 4 + 4 + 4 if "use_gate" in entry["MultiHeadAttention"] else 4 + 4 + 3 + 3)
    assert values == built.values + between


def test_keras_counts_a_layer_that_the_config_does_not_follow_without_making_its_weights(compose: Compose) -> None:
    layers = (
        "model.layers=[{Conv2DTranspose:{filters:20000000000,kernel_size:3}},GlobalMaxPooling2D,{Dense:{units:10}}]"
    )
    config = compose("model=dense", layers)
    memory.check(config, on_gpu=False, backend="tensorflow")
    with pytest.raises(UserError, match=r"layer Conv2DTranspose: too large .* 560,000,000,000 of them in this layer"):
        memory.check(config, on_gpu=False, backend="tensorflow", sizes=models.sizes(config.model, IMAGE_SHAPE))
    with keras.StatelessScope():  # its end, as that of the next layer, makes what waits to be made
        pass


def test_a_limit_of_the_process_counts() -> None:
    program = (
        "import resource; from cifar_exp.config import memory; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)); "
        "print(memory.total())"
    )
    limited = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert limited.stdout.strip() == str(2**30), limited.stderr
