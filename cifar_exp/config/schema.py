"""Schema of the config: frozen dataclasses that mirror conf/.

The metadata of a field has its description and its allowed values; docs/settings.md lists both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cifar_exp.config import from_data
from cifar_exp.config.layers import Layer
from cifar_exp.config.optimizer_schema import OptimizerConfig
from cifar_exp.config.training_schema import AugmentationConfig, TrainingConfig
from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import shorten
from cifar_exp.setting import MISSING, setting

LONGEST_NAME = 250  # characters of a name in MLflow's database
_LONGEST_VALUE = 60  # characters of a value in the name of a run


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
class PredictionConfig:
    """How the trained model classifies an image, in the evaluation and when it is served."""

    flip: bool = setting(False, "Average the probabilities of the image and of its mirror image.")
    shift: int = setting(
        0,
        "Average them also over the image moved by N pixels up and left, and down and right. These two together have "
        "half of the weight.",
        at_least=0,
    )


ONE_VIEW = PredictionConfig()  # the image as it is


@dataclass(frozen=True)
class TrackingConfig:
    """Where the run is logged."""

    uri: str | None = setting(None, "MLflow tracking URI. Default: `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db`.")
    experiment: str = setting(
        MISSING,
        "Name of the MLflow experiment. Default: `MLFLOW_EXPERIMENT_NAME`, else `cifar10`.",
        longest=LONGEST_NAME,
    )
    system_metrics: bool = setting(True, "Log the use of processor, memory, disk, network and GPU.")
    drain_seconds: float = setting(
        15.0, "Seconds that the end of a run waits for a server that accepts nothing.", at_least=0
    )


@dataclass(frozen=True)
class ReviewConfig:
    """Rules of `cifar-exp review` and `cifar-exp promote`. They do not change a run."""

    allow_own: bool = setting(False, "Allow people to approve their own runs.")
    model: str | None = setting(
        None, "Registered model that runs are promoted in. Default: the experiment's name.", longest=LONGEST_NAME
    )


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
    name: str | None = setting(
        None, "Name of the run. Default: `<model>-<optimizer>`, and what else a sweep varies.", longest=LONGEST_NAME
    )
    note: str | None = setting(None, "Text for the description of the run in MLflow.", longest=2000)

    def run_name(self, varying: Mapping[str, str]) -> str:
        """Return the name of the run: its `name`, else model and optimizer, then the other settings that vary.

        Args:
            varying: keys that differ between the jobs of its sweep -> their values for this run.

        Returns:
            For example `large-sgd-batch_size=64`. Long values are cut.
        """
        in_name = {"experiment", "name"} if self.name else {"model", "optimizer", "experiment", "name"}
        parts = [self.name or f"{self.model.name}-{self.optimizer.name}"]
        shown = {key.rpartition(".")[2]: value for key, value in varying.items() if key not in in_name}
        parts += [f"{key}={shorten(value, _LONGEST_VALUE)}" for key, value in shown.items()]
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
    left_out = {"model", "review", "notify", "sweep", "reference", "search"}
    left_out |= {f"data.{implied}" for implied in from_data.INTERPOLATIONS}
    flat: dict[str, Any] = {"model.name": config.model.name}
    flat |= {f"model.{knob}": value for knob, value in config.model.knobs.items()}

    def walk(node: Any, path: str) -> None:
        for f in fields(node):
            key, value = f"{path}{f.name}", getattr(node, f.name)
            if key in left_out:
                continue
            if is_dataclass(value):
                walk(value, f"{key}.")
            else:
                flat[key] = value  # a mapping as a whole: names of classes are not always names of parameters

    walk(config, "")
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
