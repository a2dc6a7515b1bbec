"""The published experiments: each preset is its source's model and protocol, and trains."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from cifar_exp.config.composition import CONF, plan
from cifar_exp.config.schema import Config, ReferenceConfig, flatten, reported
from cifar_exp.data.splits import Split, Splits
from cifar_exp.errors import UserError
from cifar_exp.experiment import experiment
from cifar_exp.experiment.experiment import Job
from cifar_exp.sweep.job import varying
from cifar_exp.tracking import fingerprint
from cifar_exp.training import fit, models

CLASSES = 10
IMAGE_SHAPE = (32, 32, 3)

Compose = Callable[..., Config]
Step = Callable[[Config], tuple[int, int, float]]


class Published(NamedTuple):
    """What a source's code and output say of one experiment."""

    parameters: int
    trainable: int
    epochs: int
    batch_size: int
    validation: str  # the share is 0.2 wherever it is not the test images
    optimizer: str
    learning_rate: float
    decay: float | None = None
    momentum: float | None = None
    nesterov: bool = False
    augmentation: tuple[bool, float, float] = (False, 0.0, 0.0)  # flip, zoom, shift
    patience: int | None = None
    train_images: int | None = None


PUBLISHED = {
    "s0_baseline": Published(122_570, 122_570, 10, 32, "test", "adam", 0.001),
    "s0_one_conv": Published(462_410, 462_410, 10, 32, "test", "adam", 0.001),
    "s0_wide": Published(1_151_690, 1_151_690, 10, 32, "test", "adam", 0.001),
    "s0_narrow": Published(20_810, 20_810, 10, 32, "test", "adam", 0.001),
    "s0_big_pool": Published(61_130, 61_130, 10, 32, "test", "adam", 0.001),
    "s0_activation": Published(122_570, 122_570, 10, 32, "test", "adam", 0.001),
    "s0_dense_units": Published(122_570, 122_570, 10, 32, "test", "adam", 0.001),
    "s0_optimizer": Published(122_570, 122_570, 10, 32, "test", "adam", 0.001),
    "s0_custom": Published(146_122, 146_122, 10, 32, "test", "adam", 0.001),
    "s1_blocks": Published(550_570, 550_570, 35, 32, "test", "adam", 0.001),
    "s1_deep": Published(1_638_698, 1_638_698, 50, 32, "test", "adam", 0.001),
    "s1_early_stopping": Published(550_570, 550_570, 40, 32, "test", "adam", 0.001, patience=10),
    "s1_bn": Published(359_242, 358_794, 40, 32, "test", "adam", 0.001, patience=10),
    "s1_subset": Published(359_242, 358_794, 40, 32, "test", "adam", 0.001, patience=10, train_images=10_000),
    "s2_dense": Published(1_707_274, 1_707_274, 15, 32, "last", "sgd", 0.01, 1e-6, 0.9, nesterov=True),
    "s2_cnn": Published(714_202, 714_202, 5, 32, "last", "sgd", 0.01, 1e-6, 0.9, nesterov=True),
    "s2_dropout": Published(714_202, 714_202, 10, 32, "last", "sgd", 0.01, 1e-6, 0.9, nesterov=True),
    "s2_bn": Published(715_930, 715_066, 15, 32, "last", "sgd", 0.01, 1e-6, 0.9, nesterov=True),
    "s2_final": Published(1_856_650, 1_855_242, 25, 32, "last", "sgd", 0.04, 1e-6, 0.9, nesterov=True),
    "s3_simple": Published(4_210_090, 4_210_090, 25, 32, "test", "sgd", 0.01, 4e-4, 0.9),
    "s3_large_25": Published(2_915_114, 2_915_114, 25, 64, "test", "sgd", 0.01, 4e-4, 0.9),
    "s3_large_100": Published(2_915_114, 2_915_114, 100, 64, "test", "sgd", 0.01, 1e-4, 0.9),
    "s3_large_less_dropout": Published(2_915_114, 2_915_114, 25, 64, "test", "sgd", 0.01, 4e-4, 0.9),
    "s3_vgg": Published(1_172_410, 1_172_410, 100, 128, "test", "adam", 0.001),
    "s3_vgg_augmented": Published(1_172_410, 1_172_410, 200, 128, "test", "adam", 0.001, augmentation=(True, 0.2, 0.0)),
    "s3_vgg_dropout": Published(1_172_410, 1_172_410, 100, 128, "test", "adam", 0.001, augmentation=(True, 0.2, 0.0)),
    "s3_bn": Published(685_354, 684_458, 50, 64, "test", "sgd", 0.01, 2e-4, 0.9, augmentation=(True, 0.0, 0.1)),
    "s4_baseline": Published(122_570, 122_570, 10, 32, "stratified", "adam", 0.001),
    "s4_model_1": Published(171_914, 171_914, 10, 32, "stratified", "adam", 0.001),
    "s4_model_3": Published(319_178, 319_178, 10, 32, "stratified", "adam", 0.001),
    "s4_model_4": Published(402_282, 402_282, 10, 32, "stratified", "adam", 0.001),
    "s4_model_5": Published(279_530, 279_530, 10, 32, "stratified", "adam", 0.001),
    "s4_model_6": Published(615_786, 615_786, 15, 32, "stratified", "adam", 0.001),
    "s4_model_7": Published(280_170, 279_850, 10, 32, "stratified", "adam", 0.001),
    "s4_model_8_adagrad": Published(280_170, 279_850, 10, 32, "stratified", "adagrad", 0.001),
    "s4_model_8_adadelta": Published(280_170, 279_850, 10, 32, "stratified", "adadelta", 0.001),
    "s4_model_8_adamax": Published(280_170, 279_850, 10, 32, "stratified", "adamax", 0.001),
    "s4_model_10": Published(895_498, 893_706, 10, 32, "stratified", "adam", 0.001),
    "s4_model_10_15": Published(895_498, 893_706, 15, 32, "stratified", "adam", 0.001),
    "s4_model_11": Published(895_498, 893_706, 10, 32, "stratified", "adam", 0.001),
}
SWEEPS = {  # the keys that they vary, and accuracy, loss and parameters that the source reports of each setting
    "s0_activation": (
        "model.activation",
        {
            "gelu": (0.6976, 1.1008, 122_570),
            "tanh": (0.66, 1.0044, 122_570),
            "sigmoid": (0.57, 1.2079, 122_570),
            "relu6": (0.71, 0.8761, 122_570),
            "leaky_relu": (0.73, 0.8964, 122_570),
        },
    ),
    "s0_dense_units": (
        "model.dense_units",
        {
            "256": (0.714, 0.9264, 321_290),
            "128": (0.71, 0.9048, None),
            "32": (0.73, 0.8349, None),
            "16": (0.66, 0.9762, None),
        },
    ),
    "s0_optimizer": ("optimizer", {"sgd": (0.5873, 1.1548, 122_570), "adagrad": (0.4234, 1.618, 122_570)}),
}
BATCH = 4


def header(name: str) -> list[str]:
    """The comment that a preset begins with, line by line."""
    lines = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    return [line.removeprefix("# ") for line in lines if line.startswith("#")]


def command(name: str) -> list[str]:
    """The arguments of the command in its header."""
    (line,) = (line for line in header(name) if line.startswith("python -m "))
    return shlex.split(line.removeprefix("python -m cifar_exp "))


def few_images() -> Splits:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (BATCH, *IMAGE_SHAPE), np.uint8)
    split = Split(images, generator.integers(0, CLASSES, BATCH, np.uint8))
    return Splits(split, split, split, tuple(map(str, range(CLASSES))), "random")


OURS = {"speedrun", "best"}  # presets that reproduce no source


def test_every_published_experiment_has_a_preset(compose: Compose) -> None:
    assert {path.stem for path in (CONF / "experiment").glob("*.yaml")} == PUBLISHED.keys() | OURS
    assert all(compose(f"experiment={name}").model.layers for name in OURS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_is_the_protocol_of_its_source(compose: Compose, name: str) -> None:
    config, published = compose(f"experiment={name}"), PUBLISHED[name]
    optimizer, augmentation = config.optimizer, config.augmentation
    protocol = Published(
        parameters=published.parameters,
        trainable=published.trainable,
        epochs=config.training.epochs,
        batch_size=config.training.batch_size,
        validation=config.data.validation,
        optimizer=optimizer.name,
        learning_rate=optimizer.learning_rate,
        decay=optimizer.schedule.decay,
        momentum=optimizer.momentum,
        nesterov=bool(optimizer.nesterov),
        augmentation=(augmentation.horizontal_flip, augmentation.zoom, augmentation.shift),
        patience=config.training.early_stopping.patience,
        train_images=config.data.train_images,
    )
    assert protocol == published
    assert optimizer.schedule.name == ("inverse_time" if published.decay else "constant")
    assert (augmentation.crop, augmentation.fill) == (0, "nearest")
    assert config.data.validation == "test" or config.data.validation_share == 0.2
    assert (config.training.early_stopping.monitor, config.training.early_stopping.restore_best) == ("val/loss", True)
    assert (config.name, config.data.name, config.training.precision) == (name, "cifar10", "float32")


@pytest.fixture(scope="module")
def eagerly() -> Iterator[None]:
    """TensorFlow compiles nothing: each training here has one step."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def step(eagerly: None) -> Step:
    """step(config) -> parameters and trained ones of its model, and the learning rate after a training step.

    Presets that differ in the number of epochs or in the split of the images only share their step.
    """
    steps: dict[str, tuple[int, int, float]] = {}

    def of(config: Config) -> tuple[int, int, float]:
        decisive = repr((config.model.layers, config.optimizer, config.augmentation))
        if decisive not in steps:
            steps[decisive] = train_a_step(config)
        return steps[decisive]

    return of


def train_a_step(config: Config) -> tuple[int, int, float]:
    keras.utils.set_random_seed(0)
    model, _ = models.build(config.model, config.data.image_shape)
    before = [weight.numpy().copy() for weight in model.trainable_weights]
    short = replace(config, training=replace(config.training, epochs=1, batch_size=BATCH))
    history = fit.fit(model, few_images(), short, lambda epoch, metrics: None)
    assert np.isfinite([history["train/loss"], history["val/loss"]]).all()
    assert any(not np.array_equal(old, new.numpy()) for old, new in zip(before, model.trainable_weights, strict=True))
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    keras.utils.clear_session()
    return model.count_params(), trainable, history["train/learning_rate"][0]


@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_its_source_s_parameters_and_trains_a_step(compose: Compose, step: Step, name: str) -> None:
    published = PUBLISHED[name]
    parameters, trainable, learning_rate = step(compose(f"experiment={name}"))
    assert (parameters, trainable) == (published.parameters, published.trainable)
    assert learning_rate == pytest.approx(published.learning_rate / (1 + (published.decay or 0)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_source_reports_is_in_the_block_and_in_the_header(compose: Compose, name: str) -> None:
    reference, published, text = compose(f"experiment={name}").reference, PUBLISHED[name], "\n".join(header(name))
    assert reference.source == f"notebook {name[1]}"
    fewer = published.trainable if published.trainable < published.parameters else None
    # The width of a dense layer changes the number of parameters, so that the sweep over it has none for all.
    expected = None if name == "s0_dense_units" else published.parameters
    assert (reference.parameters, reference.trainable) == (expected, fewer)
    block = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text())["reference"]
    for figure in ("accuracy", "loss", "seconds"):
        assert figure not in block or f" {block[figure]}" in text
    assert ("accuracy" in block) == (" accuracy of " in text)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in SWEEPS])
def test_the_command_in_a_header_is_a_run_of_its_name(name: str) -> None:
    (job,) = plan(command(name), multirun=False).jobs
    assert job.run_name({}) == name


@pytest.mark.parametrize("name", SWEEPS)
def test_the_command_in_the_header_of_a_sweep_is_a_job_for_every_reported_setting(name: str) -> None:
    key, reports = SWEEPS[name]
    multirun, *overrides = command(name)
    planned = plan(overrides, multirun == "-m")
    assert planned.varies == (key,)
    of_each = zip(planned.jobs, planned.overrides, strict=True)
    names = [config.run_name(varying(overrides, planned.varies)) for config, overrides in of_each]
    assert names == [f"{name}-{key.removeprefix('model.')}={setting}" for setting in reports]
    for job, expected in zip(planned.jobs, reports.values(), strict=True):
        found = reported(job)
        assert (found.accuracy, found.loss, found.parameters) == expected
        assert found.source == "notebook 0"


@pytest.mark.parametrize(("name", "parameters"), [("s0_activation", 122_570), ("s0_dense_units", None)])
def test_of_a_setting_that_its_source_does_not_report_there_is_what_holds_for_all(
    compose: Compose, name: str, parameters: int | None
) -> None:
    found = reported(compose(f"experiment={name}"))
    assert (found.accuracy, found.loss, found.parameters, found.source) == (None, None, parameters, "notebook 0")


def test_what_a_source_reports_is_in_the_tags_and_decides_nothing(compose: Compose) -> None:
    config, splits = compose("experiment=s3_bn"), few_images()
    assert {k: v for k, v in experiment._tags(config, Job(), splits).items() if k.startswith("reference.")} == {
        "reference.accuracy": "0.8315",
        "reference.loss": "0.4913",
        "reference.parameters": "685354",
        "reference.seconds": "190.0",
        "reference.source": "notebook 3",
    }
    gelu = compose("experiment=s0_activation", "model.activation=gelu")
    tags = experiment._tags(gelu, Job(), splits)
    assert (tags["reference.accuracy"], tags["reference.loss"]) == ("0.6976", "1.1008")
    for other in ((), ("model=large",)):  # settings that its source does not report, and a model without the setting
        assert "reference.accuracy" not in experiment._tags(compose("experiment=s0_activation", *other), Job(), splits)
    without = replace(config, reference=ReferenceConfig())
    assert not [tag for tag in experiment._tags(without, Job(), splits) if tag.startswith("reference.")]
    assert fingerprint.fingerprint(config, splits) == fingerprint.fingerprint(without, splits)
    assert flatten(config) == flatten(without)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["reference.accuracy=83.1"], "reference.accuracy: got 83.1, expected at most 1"),
        (["reference.reported.gelu.accuracy=69"], "reference.reported.gelu.accuracy: got 69, expected at most 1"),
        (["reference.reported.gelu.loss=low"], "reference.reported.gelu.loss: Value 'low' of type 'str' could not be "),
        (["+reference.reported.gelu.acuracy=1"], "reference.reported.gelu.acuracy: no such setting; did you mean "),
        (["+reference.reported.relu=0.5"], "reference.reported.relu: got 0.5, expected {accuracy: ..., loss: ...}"),
        (["reference.varies=null"], "reference.reported: needs reference.varies, the key that these are settings of"),
    ],
)
def test_a_reported_number_that_cannot_be_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        plan(["experiment=s0_activation", *overrides], multirun=False)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)
