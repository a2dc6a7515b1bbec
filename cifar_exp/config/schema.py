"""Schema of the config: frozen dataclasses that mirror conf/.

The metadata of a field has its description and its allowed values; docs/settings.md lists both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cifar_exp.config import from_data
from cifar_exp.config.layers import Layer
from cifar_exp.config.optimizer_schema import OptimizerConfig
from cifar_exp.data.schema import DataConfig
from cifar_exp.setting import MISSING, setting


@dataclass(frozen=True)
class ModelConfig:
    """A model.

    Attributes:
        name: of the model.
        layers: parsed and checked.
        knobs: further settings of the model, which its layers refer to as ${model.<knob>}.
    """

    name: str
    layers: tuple[Layer, ...]
    knobs: Mapping[str, Any]


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes to each training image, drawn anew in every epoch."""

    name: str = setting(MISSING, "Name of the augmentation. Choose it with `augmentation=`.")
    horizontal_flip: bool = setting(False, "Mirror half of the images.")
    zoom: float = setting(0.0, "Scale each axis by a factor in [1 - zoom, 1 + zoom].", at_least=0, below=1)
    shift: float = setting(0.0, "Shift along each axis by up to this share of the image.", at_least=0, below=1)
    crop: int = setting(
        0, "Shift along each axis by up to this many whole pixels, at most half of the shorter side.", at_least=0
    )
    rotation: float = setting(
        0.0, "Rotate around the centre by an angle in [-rotation, rotation], in degrees.", at_least=0, at_most=180
    )
    rand_augment: int = setting(
        0, "Apply this many random operations to each image (RandAugment). `0`: off.", at_least=0, at_most=16
    )
    aug_mix: int = setting(
        0,
        "Mix each image with this many chains of one to three random operations (AugMix). `0`: off.",
        at_least=0,
        at_most=16,
    )
    magnitude: float = setting(
        9.0, "Strength of the operations of `rand_augment`; the largest of `aug_mix`.", at_least=0, at_most=30
    )
    brightness: float = setting(
        0.0, "Multiply the pixels by a factor in [1 - brightness, 1 + brightness].", at_least=0, at_most=1
    )
    contrast: float = setting(
        0.0,
        "Multiply the distances from the mean of the image by a factor in [1 - contrast, 1 + contrast].",
        at_least=0,
        at_most=1,
    )
    erase: int = setting(0, "Cover a square of so many pixels' side with the mean colour of the image.", at_least=0)
    mixup: float = setting(
        0.0, "Mix each image with another; its share is drawn from Beta(mixup, mixup). `0`: off.", at_least=0
    )
    cutmix: float = setting(
        0.0,
        "Replace a rectangle of each image by one of another; its share is drawn from Beta(cutmix, cutmix). `0`: off.",
        at_least=0,
    )
    fill: str = setting(
        "nearest",
        "Pixels outside the image. `nearest`: the edge. `constant`: black. `reflect`: the mirror image.",
        choices=("nearest", "constant", "reflect"),
    )


@dataclass(frozen=True)
class EarlyStoppingConfig:
    """Stopping when a metric no longer improves."""

    patience: int | None = setting(None, "Stop after this many epochs without improvement. `null`: never.", at_least=1)
    monitor: str = setting(
        "val/loss",
        "Metric to improve.",
        choices=tuple(f"{part}/{metric}" for part in ("val", "train") for metric in ("loss", "accuracy", "objective")),
    )
    restore_best: bool = setting(
        True, "With a patience, end with the weights of the epoch in which `monitor` was best."
    )


@dataclass(frozen=True)
class CheckpointConfig:
    """How often the state of the training is saved. It does not change any result."""

    every: int | None = setting(1, "Save the state every so many epochs. `null`: never.", at_least=1)
    log_seconds: float | None = setting(
        300.0,
        "Seconds between two checkpoints that are sent to the tracking server. `null`: none is sent.",
        at_least=0,
    )


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is fitted."""

    epochs: int = setting(MISSING, "Number of epochs.", at_least=1)
    start_from: str | None = setting(
        None,
        "Initial weights: the id or fingerprint of a run, the name of an experiment (its latest finished run), or a "
        "`.keras` file. `null`: random weights.",
    )
    # the limit is the largest size that all backends support
    batch_size: int = setting(MISSING, "Images per batch.", at_least=1, at_most=2**31 - 1)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    whiten: bool = setting(
        False, "Set the filters of the first convolution to whiten the training images, and do not train them."
    )
    label_smoothing: float = setting(
        0.0, "Share of each training label that is spread over all classes.", at_least=0, below=1
    )
    focal_gamma: float = setting(
        0.0,
        "Exponent of the focal loss: how much less an image counts whose label has a high probability. `0`: off.",
        at_least=0,
    )
    precision: str = setting(
        "float32",
        "Keras dtype policy: arithmetic in half precision with the mixed policies, weights in float32 with all.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )
    ghost_batches: int = setting(1, "Parts of each batch that batch normalization normalizes separately.", at_least=1)
    steps_per_execution: int = setting(32, "Batches between two returns to Python.", at_least=1)
    deterministic: bool = setting(False, "Make runs with the same seed equal to the last bit on the same machine.")
    device: str = setting(
        "auto",
        "`auto`: a GPU if there is one. `cpu`: no GPU. `gpu`: refuse to run without a GPU.",
        choices=("auto", "cpu", "gpu"),
    )


@dataclass(frozen=True)
class PredictionConfig:
    """How the trained model classifies an image, in the evaluation and when it is served."""

    flip: bool = setting(False, "Average the probabilities of the image and of its mirror image.")


@dataclass(frozen=True)
class TrackingConfig:
    """Where the run is logged."""

    uri: str | None = setting(None, "MLflow tracking URI. Default: `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db`.")
    experiment: str = setting(MISSING, "Name of the MLflow experiment.")
    system_metrics: bool = setting(True, "Log the use of processor, memory, disk, network and GPU.")
    drain_seconds: float = setting(
        15.0, "Seconds that the end of a run waits for a server that accepts nothing.", at_least=0
    )


@dataclass(frozen=True)
class ReviewConfig:
    """Rules of `cifar-exp review` and `cifar-exp promote`. They do not change a run."""

    allow_own: bool = setting(False, "Allow people to approve their own runs.")
    model: str | None = setting(None, "Registered model that runs are promoted in. Default: the experiment's name.")


@dataclass(frozen=True)
class NotifyConfig:
    """Messages to the addresses in the environment variable `CIFAR_EXP_NOTIFY`. They do not change a run."""

    sweep_finished: bool = setting(True, "Send a message when a sweep or a search has ended.")
    failed: bool = setting(True, "Send a message when a run fails; of a sweep, about the first job that does.")
    collapsed: bool = setting(True, "Send a message when a run collapses; of a sweep, about the first job that does.")


@dataclass(frozen=True)
class TrialConfig:
    """The part that a run has in a search. Set by the program."""

    number: int | None = setting(None, "Number of the trial.", at_least=1)
    metric: str | None = setting(None, "Metric of epochs by which trials are compared.")
    released: int = setting(0, "Epoch up to which the trial is not pruned: it was, and goes on from there.", at_least=0)
    confirms: int | None = setting(None, "Number of the trial that the run confirms with another seed.", at_least=1)


@dataclass(frozen=True)
class SweepConfig:
    """The sweep that a run is a job of."""

    name: str | None = setting(
        None,
        "Name of the sweep, and of its folder. A name that exists resumes that sweep. Default: made from the time.",
    )
    retries: int = setting(
        0, "Retries of a failed job, from its checkpoint. A failure that repeats is final.", at_least=0
    )
    fail_fast: bool = setting(False, "Start no further job once one has failed.")
    varies: list[str] = field(
        default_factory=list, metadata={"doc": "Keys that differ between the jobs. Set by the program."}
    )
    jobs: int = setting(1, "Number of jobs. Set by the program.", at_least=1)
    trial: TrialConfig = field(default_factory=TrialConfig)


@dataclass(frozen=True)
class ReportedConfig:
    """What the source of a published experiment reports of a run. `null` where it reports nothing."""

    accuracy: float | None = setting(
        None, "Reported accuracy, on the images that the source evaluated last.", at_least=0, at_most=1
    )
    loss: float | None = setting(None, "Reported loss.", at_least=0)
    parameters: int | None = setting(None, "Reported number of parameters.", at_least=0)
    trainable: int | None = setting(None, "Reported number of trainable parameters, if it is smaller.", at_least=0)
    seconds: float | None = setting(None, "Seconds per epoch, on the machine of the source.", at_least=0)
    remark: str | None = setting(None, "Why our result differs.")


@dataclass(frozen=True)
class ReferenceConfig(ReportedConfig):
    """What a published experiment is compared with. It does not change a run."""

    source: str | None = setting(None, "Where the experiment was published. Without it, it is not listed.")
    varies: str | None = setting(None, "Key that the source varies, if the experiment is a sweep.")
    # value of that key -> ReportedConfig after the check
    reported: dict[str, Any] = field(
        default_factory=dict, metadata={"doc": "What is reported of each setting of that key."}
    )


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    # a mapping while Hydra composes, because models have different knobs; a ModelConfig after the check
    model: Any = field(default=MISSING, metadata={"doc": "Name, layers and knobs of the model."})
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    review: ReviewConfig = field(default_factory=ReviewConfig)
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    search: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "doc": "What `hydra/sweeper=search` chooses: key -> values, or `{values: ..., when: {key: choice}}`."
        },
    )
    # the limit is that of the states of Keras's random layers on PyTorch: 32 bits with a sign
    seed: int = setting(
        0, "Seed of initial weights, dropout, order of the images and augmentation.", at_least=0, below=2**31
    )
    resume: str = setting(
        "auto",
        "`auto`: resume interrupted runs, and skip the finished jobs of a sweep. `never`: start again.",
        choices=("auto", "never"),
    )
    name: str | None = setting(None, "Name of the run. Default: `<model>-<optimizer>`, and what else a sweep varies.")
    note: str | None = setting(None, "Text for the description of the run in MLflow.")

    def run_name(self, varying: Mapping[str, str]) -> str:
        """Return the name of the run: its `name`, else model and optimizer, then the other settings that vary.

        Args:
            varying: keys that differ between the jobs of its sweep -> their values for this run.

        Returns:
            For example `large-sgd-batch_size=64`.
        """
        in_name = {"experiment", "name"} if self.name else {"model", "optimizer", "experiment", "name"}
        parts = [self.name or f"{self.model.name}-{self.optimizer.name}"]
        parts += [f"{key.rpartition('.')[2]}={value}" for key, value in varying.items() if key not in in_name]
        return "-".join(parts)


def schema() -> DictConfig:
    """Return the schema as an OmegaConf node, into which Hydra merges conf/."""

    def unlock(node: DictConfig) -> DictConfig:
        OmegaConf.set_readonly(node, None)  # OmegaConf makes frozen dataclasses read-only
        for key in node:
            if not OmegaConf.is_missing(node, key) and OmegaConf.is_dict(child := node._get_node(key)):
                unlock(child)  # type: ignore[arg-type]
        return node

    root = unlock(OmegaConf.structured(Config))
    root.data.update(from_data.INTERPOLATIONS)
    return root


def flatten(config: Config) -> dict[str, Any]:
    """Flatten a config to the parameters that are logged: dotted key -> value.

    All runs of a model have the same keys. The layers are left out, because a parameter has at most 6,000 characters;
    they are in config/config.yaml. Image shape and number of classes are left out too, because they follow from the
    data.
    """
    content = asdict(config)
    model = content.pop("model")
    for group in ("review", "notify", "sweep", "reference", "search"):
        del content[group]
    for implied in from_data.INTERPOLATIONS:
        del content["data"][implied]
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
    """Return what the source of a published experiment reports of this run.

    If the experiment is a sweep, this includes what is reported of the run's value of the key that the sweep varies.
    """
    reference = config.reference
    if reference.varies is None:
        return reference
    setting = reference.reported.get(str(flatten(config).get(reference.varies)), ReportedConfig())
    return replace(reference, **{name: value for name, value in asdict(setting).items() if value is not None})
