"""The schema: frozen dataclasses that mirror conf/. A field's metadata says which values it takes beyond its type."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from cifar_exp.config import architecture

IMAGE_SHAPE = (32, 32, 3)
CLASSES = 10

# What each optimizer takes beside learning_rate, weight_decay, clipnorm and schedule.
OPTIMIZER_ARGUMENTS: Mapping[str, frozenset[str]] = {
    "sgd": frozenset({"momentum", "nesterov"}),
    "adam": frozenset({"beta_1", "beta_2", "epsilon", "amsgrad"}),
    "adamw": frozenset({"weight_decay", "beta_1", "beta_2", "epsilon", "amsgrad"}),
    "nadam": frozenset({"beta_1", "beta_2", "epsilon"}),
    "rmsprop": frozenset({"rho", "momentum", "epsilon", "centered"}),
    "adagrad": frozenset({"initial_accumulator_value", "epsilon"}),
    "adadelta": frozenset({"rho", "epsilon"}),
    "adamax": frozenset({"beta_1", "beta_2", "epsilon"}),
}
SCHEDULE_ARGUMENTS: Mapping[str, frozenset[str]] = {
    "constant": frozenset(),
    "inverse_time": frozenset({"decay"}),
    "cosine": frozenset({"warmup", "final"}),
    "one_cycle": frozenset({"warmup", "final"}),
}


def _setting(
    default: Any,
    *,
    choices: Collection[str] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field with the values it takes."""
    limits = {"choices": choices, "at least": at_least, "above": above, "at most": at_most, "below": below}
    return field(default=default, metadata={k: v for k, v in limits.items() if v is not None})


@dataclass(frozen=True)
class ModelConfig:
    """A model: its layers by Keras name, and the knobs that its layers refer to as ${model.<knob>}."""

    name: str
    layers: tuple[architecture.Layer, ...]
    knobs: Mapping[str, Any]


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate moves with the step; None where the schedule has no such argument."""

    name: str = _setting(MISSING, choices=SCHEDULE_ARGUMENTS)
    decay: float | None = _setting(None, at_least=0)
    warmup: float | None = _setting(None, at_least=0, below=1)  # share of all steps
    final: float | None = _setting(None, at_least=0, at_most=1)  # share of learning_rate


@dataclass(frozen=True)
class OptimizerConfig:
    """Any of the optimizers; None where this one has no such argument, so that runs compare key by key."""

    name: str = _setting(MISSING, choices=OPTIMIZER_ARGUMENTS)
    learning_rate: float = _setting(MISSING, above=0)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    weight_decay: float | None = _setting(None, at_least=0)
    clipnorm: float | None = _setting(None, above=0)
    momentum: float | None = _setting(None, at_least=0, at_most=1)
    nesterov: bool | None = None
    beta_1: float | None = _setting(None, at_least=0, below=1)
    beta_2: float | None = _setting(None, at_least=0, below=1)
    rho: float | None = _setting(None, at_least=0, below=1)
    epsilon: float | None = _setting(None, above=0)
    amsgrad: bool | None = None
    centered: bool | None = None
    initial_accumulator_value: float | None = _setting(None, at_least=0)


@dataclass(frozen=True)
class DataConfig:
    """Which images train, validate and test."""

    name: str = _setting(MISSING, choices=("cifar10", "digits"))
    dir: str | None = None  # default: $CIFAR_EXP_DATA, else the user's cache folder
    verify: str = _setting("md5", choices=("md5", "size"))
    validation: str = _setting("stratified", choices=("stratified", "last", "test"))
    validation_share: float = _setting(0.1, above=0, below=1)  # of the training images
    split_seed: int = _setting(0, at_least=0)  # its own, so that runs of other seeds see the same split
    train_images: int | None = _setting(None, at_least=CLASSES)  # in all; the first of each class, in order


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes to each training image, drawn anew every time it is seen."""

    name: str = MISSING
    horizontal_flip: bool = False
    zoom: float = _setting(0.0, at_least=0, below=1)  # each axis by a factor in [1 - zoom, 1 + zoom]
    shift: float = _setting(0.0, at_least=0, below=1)  # share of the image, along each axis
    crop: int = _setting(0, at_least=0, at_most=IMAGE_SHAPE[0] // 2)  # whole pixels, along each axis
    fill: str = _setting("nearest", choices=("nearest", "constant", "reflect"))


@dataclass(frozen=True)
class EarlyStoppingConfig:
    """Stop when the monitored metric has not improved for `patience` epochs; None: never."""

    patience: int | None = _setting(None, at_least=1)
    monitor: str = _setting("val/loss", choices=("val/loss", "val/accuracy", "train/loss", "train/accuracy"))
    restore_best: bool = True


@dataclass(frozen=True)
class CheckpointConfig:
    """How often the state of the training is saved; None: never. It decides nothing of what is measured."""

    every: int | None = _setting(1, at_least=1)  # epochs
    log_seconds: float | None = _setting(300.0, at_least=0)  # between two that a server gets; None: it gets none


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is fitted."""

    epochs: int = _setting(MISSING, at_least=1)
    start_from: str | None = None  # the weights of a run (its id, fingerprint or experiment), or of a .keras file
    batch_size: int = _setting(MISSING, at_least=1, at_most=2**31 - 1)  # that every backend can count to
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    whiten: bool = False  # the first convolution whitens the training images, and is not trained
    label_smoothing: float = _setting(0.0, at_least=0, below=1)  # share of each label spread over all classes
    precision: str = _setting("float32", choices=("float32", "mixed_bfloat16", "mixed_float16"))
    ghost_batches: int = _setting(1, at_least=1)  # that each batch is split into: what BatchNormalization looks at
    steps_per_execution: int = _setting(32, at_least=1)  # batches between two returns to Python
    deterministic: bool = False
    device: str = _setting("auto", choices=("auto", "cpu", "gpu"))


@dataclass(frozen=True)
class PredictionConfig:
    """How the trained model classifies an image, in the evaluation and wherever it is served."""

    flip: bool = False  # by the mean of what it says of the image and of its mirror image


@dataclass(frozen=True)
class TrackingConfig:
    """Where the run is logged."""

    uri: str | None = None  # default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db
    experiment: str = MISSING
    system_metrics: bool = True
    drain_seconds: float = _setting(15.0, at_least=0)  # that a run's end waits for a store that takes nothing


@dataclass(frozen=True)
class ReviewConfig:
    """What a team does with finished runs; it decides nothing of a run."""

    allow_own: bool = False  # may people approve their own runs
    model: str | None = None  # the registered model that runs are promoted in; default: named as the experiment


@dataclass(frozen=True)
class SweepConfig:
    """The sweep that a run is a job of. The program fills in `varies` and `jobs`."""

    name: str | None = None  # default: unique, made from the time
    retries: int = _setting(0, at_least=0)  # of a job that failed, from its checkpoint; the same failure twice is final
    fail_fast: bool = False  # start no further job once one has failed
    varies: list[str] = field(default_factory=list)  # the keys that differ between its jobs
    jobs: int = _setting(1, at_least=1)


@dataclass(frozen=True)
class ReportedConfig:
    """What the source of a published experiment reports of a run. None where it says nothing."""

    accuracy: float | None = _setting(None, at_least=0, at_most=1)  # on the images that the source scored last
    loss: float | None = _setting(None, at_least=0)
    parameters: int | None = _setting(None, at_least=0)
    trainable: int | None = _setting(None, at_least=0)  # where they are fewer
    seconds: float | None = _setting(None, at_least=0)  # an epoch, on the source's machine
    remark: str | None = None  # why a run comes to something else


@dataclass(frozen=True)
class ReferenceConfig(ReportedConfig):
    """What a published experiment is compared with; it decides nothing. What is not `reported` holds for all."""

    source: str | None = None
    varies: str | None = None  # the key that the source varies, if it is a sweep
    reported: dict[str, Any] = field(default_factory=dict)  # setting of that key -> ReportedConfig, once checked


@dataclass(frozen=True)
class Config:
    """Everything that decides a run, and what it is compared with."""

    model: Any = MISSING  # a mapping while Hydra composes (a model may name any knobs), then a ModelConfig
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    review: ReviewConfig = field(default_factory=ReviewConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    seed: int = _setting(0, at_least=0, below=2**32)
    resume: str = _setting("auto", choices=("auto", "never"))
    name: str | None = None
    note: str | None = None

    def run_name(self, varying: Mapping[str, str]) -> str:
        """`large-sgd`, or its own name, then what else the sweep varies: `large-sgd-batch_size=64`."""
        said = {"experiment", "name"} if self.name else {"model", "optimizer", "experiment", "name"}
        parts = [self.name or f"{self.model.name}-{self.optimizer.name}"]
        parts += [f"{key.rpartition('.')[2]}={value}" for key, value in varying.items() if key not in said]
        return "-".join(parts)


def schema() -> DictConfig:
    """The dataclasses as the node that Hydra merges conf/ into, writable until it is composed."""

    def unlock(node: DictConfig) -> DictConfig:
        OmegaConf.set_readonly(node, None)  # frozen dataclasses arrive read-only
        for key in node:
            if not OmegaConf.is_missing(node, key) and OmegaConf.is_dict(child := node._get_node(key)):
                unlock(child)  # type: ignore[arg-type]
        return node

    return unlock(OmegaConf.structured(Config))


def flatten(config: Config) -> dict[str, Any]:
    """What is logged as parameters: dotted key -> value, the same keys for every run of a model.

    A model's layers are left out: they are in config/config.yaml, and a parameter holds 6,000 characters.
    """
    content = asdict(config)
    model = content.pop("model")
    del content["review"], content["sweep"], content["reference"]
    flat: dict[str, Any] = {"model.name": model["name"]}
    flat |= {f"model.{knob}": value for knob, value in model["knobs"].items()}

    def walk(node: Mapping[str, Any], path: str) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                walk(value, f"{path}{key}.")
            else:
                flat[f"{path}{key}"] = value

    walk(content, "")
    return flat


def reported(config: Config) -> ReferenceConfig:
    """The reference of this very run: in a published sweep, with what the source reports of the run's setting."""
    reference = config.reference
    if reference.varies is None:
        return reference
    setting = reference.reported.get(str(flatten(config).get(reference.varies)), ReportedConfig())
    return replace(reference, **{name: value for name, value in asdict(setting).items() if value is not None})
