"""Schema of the optimizer and its learning rate schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cifar_exp.setting import MISSING, setting

# Arguments of each optimizer in addition to those of all.
OPTIMIZER_ARGUMENTS: Mapping[str, frozenset[str]] = {
    "sgd": frozenset({"momentum", "nesterov"}),
    "adam": frozenset({"beta_1", "beta_2", "epsilon", "amsgrad"}),
    "adamw": frozenset({"weight_decay", "beta_1", "beta_2", "epsilon", "amsgrad"}),
    "nadam": frozenset({"beta_1", "beta_2", "epsilon"}),
    "rmsprop": frozenset({"rho", "momentum", "epsilon", "centered"}),
    "adagrad": frozenset({"initial_accumulator_value", "epsilon"}),
    "adadelta": frozenset({"rho", "epsilon"}),
    "adamax": frozenset({"beta_1", "beta_2", "epsilon"}),
    "adafactor": frozenset({"beta_2_decay", "clip_threshold", "relative_step"}),
    "ftrl": frozenset(
        {
            *("learning_rate_power", "initial_accumulator_value", "beta"),
            *("l1_regularization_strength", "l2_regularization_strength"),
        }
    ),
    "lamb": frozenset({"beta_1", "beta_2", "epsilon"}),
    "lion": frozenset({"beta_1", "beta_2"}),
    "muon": frozenset({"weight_decay", "momentum", "nesterov", "ns_steps"}),
    "muon_conv": frozenset({"weight_decay", "momentum", "nesterov", "ns_steps"}),
    "schedule_free_adamw": frozenset({"beta_1", "beta_2", "epsilon"}),
}
OPTIONAL_ARGUMENTS = frozenset(  # of every optimizer
    {
        *("learning_rate", "weight_decay", "no_weight_decay", "gradient_accumulation_steps", "ema"),
        *("clipnorm", "clipvalue", "global_clipnorm"),
    }
)
SCHEDULE_ARGUMENTS: Mapping[str, frozenset[str]] = {
    "constant": frozenset(),
    "step": frozenset({"milestones", "factor"}),
    "exponential": frozenset({"final"}),
    "polynomial": frozenset({"final", "power"}),
    "cosine_restarts": frozenset({"final", "cycles"}),
    "plateau": frozenset({"factor", "patience"}),
    "inverse_time": frozenset({"decay"}),
    "cosine": frozenset({"warmup", "final"}),
    "one_cycle": frozenset({"warmup", "final"}),
}


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate changes over the steps of a training. `null`: the schedule has no such argument."""

    name: str = setting(
        MISSING, "Name of the schedule. Choose it with `optimizer/schedule=`.", choices=SCHEDULE_ARGUMENTS
    )
    decay: float | None = setting(None, "Decay per step.", at_least=0)
    warmup: float | None = setting(
        None, "Share of all steps in which the rate rises to `optimizer.learning_rate`.", at_least=0, below=1
    )
    final: float | None = setting(
        None, "Learning rate of the last step, as a share of `optimizer.learning_rate`.", at_least=0, at_most=1
    )
    power: float | None = setting(None, "Power of the polynomial; 1 is a straight line.", above=0)
    cycles: int | None = setting(None, "Number of cosines.", at_least=1)
    milestones: list[float] | None = field(
        default=None, metadata={"doc": "Shares of the steps after which the rate is multiplied by `factor`, rising."}
    )
    factor: float | None = setting(None, "What the rate is multiplied by each time.", above=0, below=1)
    patience: int | None = setting(
        None, "Epochs without a lower `val/loss` before the rate is multiplied by `factor`.", at_least=1
    )


@dataclass(frozen=True)
class OptimizerConfig:
    """The Keras optimizer and its arguments. `null`: the optimizer has no such argument, or it is not used."""

    name: str = setting(MISSING, "Name of the optimizer. Choose it with `optimizer=`.", choices=OPTIMIZER_ARGUMENTS)
    learning_rate: float = setting(MISSING, "Learning rate; with a schedule, its highest value.", above=0)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    weight_decay: float | None = setting(None, "Decoupled weight decay, for any optimizer.", at_least=0)
    no_weight_decay: list[str] | None = field(
        default=None,
        metadata={"doc": "Weights without decay: parts of their names, such as `[bias, gamma, beta]`."},
    )
    clipnorm: float | None = setting(None, "Gradient of each weight is clipped to this norm.", above=0)
    clipvalue: float | None = setting(None, "Each value of a gradient is clipped to this size.", above=0)
    global_clipnorm: float | None = setting(None, "All gradients together are clipped to this norm.", above=0)
    gradient_accumulation_steps: int | None = setting(
        None, "Batches whose gradients are averaged before the weights change.", at_least=2
    )
    ema: float | None = setting(
        None,
        "Decay per batch of a moving average of the weights, which is validated, kept and logged in their place.",
        above=0,
        below=1,
    )
    momentum: float | None = setting(None, "Momentum.", at_least=0, at_most=1)
    nesterov: bool | None = setting(None, "Use Nesterov momentum; needs a momentum above 0.")
    beta_1: float | None = setting(None, "Decay rate of the first moment estimates.", at_least=0, below=1)
    beta_2: float | None = setting(None, "Decay rate of the second moment estimates.", at_least=0, below=1)
    rho: float | None = setting(None, "Decay rate of the average of squared gradients.", at_least=0, below=1)
    epsilon: float | None = setting(None, "Small constant for numerical stability.", above=0)
    amsgrad: bool | None = setting(None, "Use the AMSGrad variant.")
    centered: bool | None = setting(None, "Normalize gradients by their estimated variance.")
    initial_accumulator_value: float | None = setting(None, "Start value of the accumulators.", at_least=0)
    beta: float | None = setting(None, "Added to the square root of the accumulators.", at_least=0)
    learning_rate_power: float | None = setting(None, "Power of the accumulators that divides the rate.", at_most=0)
    l1_regularization_strength: float | None = setting(None, "L1 penalty within each update.", at_least=0)
    l2_regularization_strength: float | None = setting(None, "L2 penalty within each update.", at_least=0)
    beta_2_decay: float | None = setting(None, "Power of the step by which the second moment decays.", at_most=0)
    clip_threshold: float | None = setting(None, "Size to which an update is clipped.", above=0)
    relative_step: bool | None = setting(None, "Bound the learning rate by one over the square root of the step.")
    ns_steps: int | None = setting(None, "Newton-Schulz iterations of each update.", at_least=1)
