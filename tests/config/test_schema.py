"""The schema: what each setting takes, and what is said of a value that it does not take."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import keras
import pytest

from cifar_exp.config import checks
from cifar_exp.config.optimizer_schema import OPTIMIZER_ARGUMENTS, OPTIONAL_ARGUMENTS
from cifar_exp.config.schema import Config, flatten
from cifar_exp.errors import UserError

Compose = Callable[..., Config]

# Of every Keras optimizer, but no choice here: what the training loop does with them has a setting of its own, or none.
NOT_OFFERED = {"use_ema", "ema_momentum", "ema_overwrite_frequency", "loss_scale_factor", "name"}
OF_MUON = {
    *("adam_beta_1", "adam_beta_2", "adam_weight_decay", "adam_lr_ratio", "epsilon", "rms_rate"),
    *("muon_a", "muon_b", "muon_c", "exclude_layers", "exclude_embeddings"),
}
# Of one optimizer, and left at Keras's default: nobody sweeps them.
LEFT_OUT = {
    "adafactor": {"epsilon_1", "epsilon_2"},
    "ftrl": {"l2_shrinkage_regularization_strength"},
    "schedule_free_adamw": {"warmup_steps"},  # schedules have a warm-up
    "muon": OF_MUON,
    "muon_conv": OF_MUON,
}
COMMON = OPTIONAL_ARGUMENTS - {"no_weight_decay", "ema"}  # a call of Keras's, and a name of ours for two arguments
KERAS_NAMES = {
    "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "nadam": "Nadam", "rmsprop": "RMSprop", "adagrad": "Adagrad",
    "adadelta": "Adadelta", "adamax": "Adamax", "adafactor": "Adafactor", "ftrl": "Ftrl", "lamb": "Lamb",
    "lion": "Lion", "muon": "Muon", "muon_conv": "Muon", "schedule_free_adamw": "ScheduleFreeAdamW",
}  # fmt: skip


def refusal(compose: Compose, *overrides: str) -> str:
    """What is said of a command line that must be refused, on one line."""
    with pytest.raises(UserError) as refused:
        compose(*overrides)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_every_optimizer_of_conf_is_known_with_its_arguments() -> None:
    assert set(OPTIMIZER_ARGUMENTS) == set(KERAS_NAMES)


@pytest.mark.parametrize("name", KERAS_NAMES)
def test_arguments_of_an_optimizer_are_those_of_its_keras_class(name: str) -> None:
    signature = inspect.signature(getattr(keras.optimizers, KERAS_NAMES[name]).__init__)
    offered = set(signature.parameters) - NOT_OFFERED - LEFT_OUT.get(name, set()) - {"self", "kwargs"}
    assert OPTIMIZER_ARGUMENTS[name] | COMMON == offered


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.epochs=0", "training.epochs: got 0, expected at least 1"),
        ("training.batch_size=0", "training.batch_size: got 0, expected at least 1"),
        ("training.batch_size=2147483648", "training.batch_size: got 2147483648, expected at most 2147483647"),
        ("training.steps_per_execution=0", "training.steps_per_execution: got 0, expected at least 1"),
        ("training.early_stopping.patience=0", "training.early_stopping.patience: got 0, expected at least 1"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate: got 0.0, expected above 0"),
        ("optimizer.learning_rate=-0.1", "optimizer.learning_rate: got -0.1, expected above 0"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate: got nan, expected a finite number"),
        ("optimizer.beta_1=1", "optimizer.beta_1: got 1.0, expected below 1"),
        ("optimizer.epsilon=0", "optimizer.epsilon: got 0.0, expected above 0"),
        ("optimizer.ema=1", "optimizer.ema: got 1.0, expected below 1"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay: got -1.0, expected at least 0"),
        ("data.validation_share=0", "data.validation_share: got 0.0, expected above 0"),
        ("data.validation_share=1", "data.validation_share: got 1.0, expected below 1"),
        ("data.train_images=9", "data.train_images: got 9, expected a multiple of 10"),
        ("data.train_images=105", "data.train_images: got 105, expected a multiple of 10"),
        ("augmentation.crop=17", "augmentation.crop: got 17, expected at most 16"),
        ("augmentation.zoom=1", "augmentation.zoom: got 1.0, expected below 1"),
        ("augmentation.rotation=181", "augmentation.rotation: got 181.0, expected at most 180"),
        ("augmentation.rand_augment=-1", "augmentation.rand_augment: got -1, expected at least 0"),
        ("augmentation.magnitude=31", "augmentation.magnitude: got 31.0, expected at most 30"),
        ("augmentation.shift=-0.1", "augmentation.shift: got -0.1, expected at least 0"),
        ("seed=-1", "seed: got -1, expected at least 0"),
        ("seed=2147483648", "seed: got 2147483648, expected below 2147483648"),
    ],
)
def test_a_number_out_of_its_range_is_refused_with_its_bound(compose: Compose, override: str, said: str) -> None:
    assert refusal(compose, override) == said


@pytest.mark.parametrize("value", ["inf", "1e400"])
def test_a_learning_rate_that_is_not_finite_is_refused(compose: Compose, value: str) -> None:
    assert "optimizer.learning_rate: got inf" in refusal(compose, f"optimizer.learning_rate={value}")


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("data.validation=strat", "stratified"),
        ("data.verify=md6", "md5"),
        ("training.precision=mixed_bfloat61", "mixed_bfloat16"),
        ("training.device=cpus", "cpu"),
        ("augmentation.fill=constnt", "constant"),
        ("training.early_stopping.monitor=val_loss", "val/loss"),
    ],
)
def test_a_wrong_choice_names_the_choices_and_the_nearest(compose: Compose, override: str, nearest: str) -> None:
    key, value = override.split("=")
    said = refusal(compose, override)
    assert said.startswith(f"{key}: got {value!r}, expected one of ")
    assert said.endswith(f"; did you mean {nearest!r}?")


def test_an_argument_of_another_optimizer_is_refused_with_what_this_one_takes(compose: Compose) -> None:
    said = refusal(compose, "optimizer=adagrad", "optimizer.momentum=0.9")
    takes = (
        "clipnorm, clipvalue, ema, epsilon, global_clipnorm, gradient_accumulation_steps, initial_accumulator_value, "
        "learning_rate, no_weight_decay, weight_decay"
    )
    assert (
        said
        == f"optimizer.momentum: adagrad has no such argument; it takes {takes} (optimizer.momentum=null takes it away)"
    )


def test_an_argument_of_another_schedule_is_refused(compose: Compose) -> None:
    said = refusal(compose, "optimizer.schedule.decay=0.1")
    refused = "optimizer.schedule.decay: constant has no such argument"
    assert said == f"{refused}; it takes warmup (optimizer.schedule.decay=null takes it away)"
    said = refusal(compose, "optimizer/schedule=cosine", "optimizer.schedule.decay=0.1")
    assert "cosine has no such argument; it takes final, warmup (" in said


def test_an_argument_that_the_optimizer_needs_cannot_be_nothing(compose: Compose) -> None:
    assert refusal(compose, "optimizer.epsilon=null") == "optimizer.epsilon: adam needs a value"
    said = refusal(compose, "optimizer/schedule=inverse_time", "optimizer.schedule.decay=null")
    assert said == "optimizer.schedule.decay: inverse_time needs a value"


def test_adamw_cannot_do_without_a_weight_decay(compose: Compose) -> None:
    assert "optimizer.weight_decay" in refusal(compose, "optimizer=adamw", "optimizer.weight_decay=null")
    assert compose("optimizer=adamw", "optimizer.weight_decay=0").optimizer.weight_decay == 0


def test_nesterov_without_momentum_is_refused(compose: Compose) -> None:
    assert "needs a momentum" in refusal(compose, "optimizer=sgd", "optimizer.nesterov=true")
    assert compose("optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0.9").optimizer.nesterov is True


def test_knobs_of_a_model_are_kept_and_reach_its_layers(compose: Compose) -> None:
    model = compose("model.filters=[8,16,24]", "model.activation=gelu").model
    assert model.knobs == {"filters": [8, 16, 24], "activation": "gelu", "pool_size": [2, 2], "dense_units": 64}
    assert [layer.arguments.get("filters") for layer in model.layers if layer.kind == "Conv2D"] == [8, 16, 24]
    assert model.layers[0].arguments["activation"] == "gelu"


def test_a_wrong_knob_is_refused_where_the_layer_uses_it(compose: Compose) -> None:
    said = refusal(compose, "model.activation=rleu")
    assert said.startswith("model 'baseline', layer 1 (Conv2D): activation: got 'rleu'")
    assert "layer 5 (Conv2D): filters: got -1" in refusal(compose, "model.filters=[32,64,-1]")


def test_a_text_that_a_database_does_not_take_is_refused(compose: Compose) -> None:
    with pytest.raises(UserError, match=r"^note: holds a NUL character"):
        checks.check(replace(compose(), note="a\0b"))


def test_a_composed_config_is_frozen(compose: Compose) -> None:
    with pytest.raises(FrozenInstanceError):
        compose().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("overrides", "varying", "name"),
    [
        ((), {}, "baseline-adam"),
        (("model=large", "optimizer=sgd"), {"model": "large", "optimizer": "sgd"}, "large-sgd"),
        (
            ("model=large", "optimizer=sgd", "training.batch_size=64"),
            {"model": "large", "optimizer": "sgd", "training.batch_size": "64"},
            "large-sgd-batch_size=64",
        ),
        (("seed=3",), {"seed": "3"}, "baseline-adam-seed=3"),
        (("name=mine",), {}, "mine"),
        (("name=mine", "seed=3"), {"seed": "3"}, "mine-seed=3"),
        (("name=mine", "optimizer=sgd"), {"optimizer": "sgd"}, "mine-optimizer=sgd"),
        ((), {"model.layers": "x" * 61}, f"baseline-adam-layers={'x' * 59}…"),
    ],
)
def test_run_name_tells_model_optimizer_and_what_varies(
    compose: Compose, overrides: tuple[str, ...], varying: dict[str, str], name: str
) -> None:
    assert compose(*overrides).run_name(varying) == name


def test_runs_of_different_optimizers_and_schedules_have_the_same_parameters(compose: Compose) -> None:
    adam = flatten(compose("optimizer=adam"))
    sgd = flatten(compose("optimizer=sgd", "optimizer/schedule=cosine"))
    assert list(adam) == list(sgd)
    assert adam["optimizer.momentum"] is None
    assert sgd["optimizer.momentum"] == 0.0
    assert sgd["optimizer.schedule.name"] == "cosine"


def test_parameters_are_the_flattened_settings_without_layers_sweep_and_reference(compose: Compose) -> None:
    flat = flatten(replace(compose("seed=7", "training.epochs=3"), note="n"))
    expected: dict[str, Any] = {
        "model.name": "baseline",
        "model.filters": [32, 64, 64],
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.001,
        "training.epochs": 3,
        "training.batch_size": 32,
        "training.early_stopping.patience": None,
        "data.validation": "stratified",
        "seed": 7,
        "note": "n",
    }
    assert expected.items() <= flat.items()
    assert not [key for key in flat if key.startswith(("sweep", "reference")) or key == "model.layers"]
    assert not any(isinstance(value, dict) for value in flat.values())


def test_a_mapping_is_one_parameter_whatever_its_names_are(compose: Compose) -> None:
    config = compose("data=digits")
    weights = {"Bishop's weed": 2.0}
    flat = flatten(replace(config, data=replace(config.data, class_weights=weights)))
    assert flat["data.class_weights"] == weights


@pytest.mark.parametrize("name", ["wide@factor", "", "d/../e", "k" * 201])
def test_a_knob_that_cannot_be_logged_is_refused(compose: Compose, name: str) -> None:
    config = compose("data=digits", "model=dense")
    content = asdict(config) | {"model": {"name": "m", "layers": ["Flatten", {"Dense": {"units": 10}}], name: 2}}
    with pytest.raises(UserError, match=rf"model 'm': got the setting {name!r}, expected a name of letters"):
        checks.from_content(content)


def test_refusing_a_value_imports_no_keras_and_no_mlflow() -> None:
    program = """
import sys
from cifar_exp.config.composition import plan
from cifar_exp.errors import UserError

plan([], False)
lines = [
    ["training.epochs=0"], ["optimizer.momentum=0.9"], ["model=lrge"], ["model.activation=rleu"],
    ["training.epoch=3"], ["training.epochs=x"], ["model.layers=3"],
]
for line in lines:
    try:
        plan(line, False)
    except UserError:
        continue
    raise SystemExit(f"{line} was not refused")
loaded = {"keras", "tensorflow", "mlflow", "sklearn", "pandas", "matplotlib"} & set(sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("optimizer.clipnorm=1", "optimizer.clipvalue=1"), "optimizer.clipnorm: got a value, and optimizer.clipvalue"),
        (("optimizer.no_weight_decay=[bias]",), "optimizer.no_weight_decay needs optimizer.weight_decay"),
        (
            ("optimizer/schedule=step", "optimizer.schedule.milestones=[0.5,0.2]"),
            "expected rising shares between 0 and 1",
        ),
        (("optimizer/schedule=exponential", "optimizer.schedule.final=0"), "which no exponential reaches"),
        (("optimizer/schedule=plateau", "optimizer.schedule.warmup=0.1"), "plateau has none"),
        (("optimizer=schedule_free_adamw", "optimizer.ema=0.9"), "optimizer.ema: got 0.9 with schedule_free_adamw"),
        (("optimizer=schedule_free_adamw", "optimizer.beta_1=0"), "optimizer.beta_1: got 0.0, expected above 0"),
    ],
)
def test_settings_of_an_optimizer_that_contradict_each_other_are_refused(
    compose: Compose, overrides: tuple[str, ...], said: str
) -> None:
    assert said in refusal(compose, *overrides)
