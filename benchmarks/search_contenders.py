"""Searches that benchmarks/search.py compares, each driven against the recorded landscape, one worker each.

    python benchmarks/search_contenders.py NAME TARGET FIRST_SEED SEEDS

Runs in the environment of the contender. Prints a line per seed: the epochs that were trained until a validation
accuracy of TARGET was seen, or `inf` after LIMIT epochs.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from landscape import EPOCHS, LEARNING_RATE, SPACE, Landscape, read

if TYPE_CHECKING:
    from cifar_exp.search.settings import Settings

LIMIT = 1_350  # epochs: 50 full trials
CHOICES = {key: tuple(values) for key, values in SPACE.items() if key != LEARNING_RATE}
LOW, HIGH = float(SPACE[LEARNING_RATE][0]), float(SPACE[LEARNING_RATE][-1])


class Over(Exception):
    """The target was seen, or the limit was reached."""


class Training:
    """Trainings of the landscape, with the epochs that they took."""

    def __init__(self, landscape: Landscape, target: float) -> None:
        """Count until this validation accuracy is seen."""
        self._landscape, self._target = landscape, target
        self.epochs: float = 0

    def train(self, setting: Mapping[str, Any], until: int, begun: int = 0) -> tuple[float, ...]:
        """Validation accuracies up to an epoch, of a training that had reached epoch `begun`.

        Raises:
            Over: at the epoch of the target or of the limit.
        """
        curve = self._landscape.curve(setting)
        for accuracy in curve[begun:until]:
            self.epochs += 1
            if accuracy >= self._target:
                raise Over
            if self.epochs >= LIMIT:
                self.epochs = math.inf
                raise Over
        return curve[:until]


def random_setting(generator: random.Random) -> dict[str, Any]:
    """A point of the space, as every contender's random sampler draws it."""
    rate = math.exp(generator.uniform(math.log(LOW), math.log(HIGH)))
    return {LEARNING_RATE: rate, **{key: generator.choice(values) for key, values in CHOICES.items()}}


def random_full(training: Training, seed: int) -> None:
    """Random search without pruning."""
    generator = random.Random(seed)
    while True:
        training.train(random_setting(generator), EPOCHS)


def our_settings(**changed: Any) -> Settings:
    """The defaults of hydra/sweeper=search, without a limit, with these changes."""
    from cifar_exp.search.settings import Settings

    defaults: dict[str, Any] = {
        **{"n_trials": LIMIT, "timeout": None, "patience": None, "metrics": ("val/accuracy",), "sampler": "tpe"},
        **{"directions": ("maximize",), "pruner": "successive_halving", "factor": 2, "first_rung": 1, "seed": 0},
        **{"confirm": None, "from_sweep": None},
    }
    return Settings(**(defaults | changed))


def ours(training: Training, seed: int, pruner: str = "successive_halving", factor: int = 2, **changed: Any) -> None:
    """The sampler, the pruner and the promotions of hydra/sweeper=search, by the functions that it calls."""
    from cifar_exp.config.dimension import CATEGORICAL, FLOAT, Dimension
    from cifar_exp.config.space import Space
    from cifar_exp.search import sampling
    from cifar_exp.search.pruning import Pruner
    from cifar_exp.search.trials import COMPLETE, PRUNED, Search, Trial, Trials

    settings = our_settings(pruner=pruner, factor=factor, seed=seed, **changed)
    rate = Dimension(LEARNING_RATE, FLOAT, low=LOW, high=HIGH, log=True)
    others = (Dimension(key, CATEGORICAL, tuple(map(str, values))) for key, values in CHOICES.items())
    space, judge = Space((rate, *others)), Pruner.of(settings, EPOCHS)
    distributions = sampling.distributions(space)
    search = Search(("val/accuracy",), ("maximize",), "tpe", pruner, seed, LIMIT, EPOCHS, judge.rungs(), distributions)
    rows: dict[int, Trial] = {}
    while True:
        paused = {number for number, row in rows.items() if row.state == PRUNED}
        number = judge.promotable(paused)
        if number is None:
            number = len(rows) + 1
            asked = sampling.ask(space, settings, Trials(search, tuple(rows.values())), number)
            assert asked is not None
            rows[number] = Trial(number, "running", asked[0])
        row, goes_on = rows[number], True
        history = list(row.history)
        while len(history) < EPOCHS and goes_on:
            history = list(training.train(row.params, len(history) + 1, len(history)))
            goes_on = not (judge.report(number, history) and len(history) < EPOCHS)
        state = COMPLETE if len(history) == EPOCHS else PRUNED
        values = (max(history),)
        rows[number] = Trial(number, state, row.params, values, tuple(history), len(history), started=1, ended=2)


def optuna_tpe(training: Training, seed: int) -> None:
    """TPE without pruning, as hydra-optuna-sweeper runs it with n_jobs=1; with the Optuna of this environment."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    while True:
        trial = study.ask()
        setting: dict[str, Any] = {LEARNING_RATE: trial.suggest_float(LEARNING_RATE, LOW, HIGH, log=True)}
        setting |= {key: trial.suggest_categorical(key, values) for key, values in CHOICES.items()}
        study.tell(trial, max(training.train(setting, EPOCHS)))


def ray_asha(training: Training, seed: int, factor: float = 4) -> None:
    """Ray Tune's ASHA, with its default factor, and OptunaSearch; trials that it stops do not go on later."""
    from optuna.samplers import TPESampler
    from ray import tune
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.schedulers.async_hyperband import _Bracket
    from ray.tune.search.optuna import OptunaSearch

    space = {LEARNING_RATE: tune.loguniform(LOW, HIGH), **{key: tune.choice(of) for key, of in CHOICES.items()}}
    searcher = OptunaSearch(space=space, metric="accuracy", mode="max", sampler=TPESampler(seed=seed))
    bracket = _Bracket(1, EPOCHS, factor, 0)

    class Started:
        """What the bracket needs of a trial."""

        def __init__(self, trial_id: str) -> None:
            self.trial_id = trial_id

    number = 0
    while True:
        number += 1
        trial = Started(str(number))
        setting = searcher.suggest(trial.trial_id)
        accuracy = 0.0
        for epoch in range(1, EPOCHS + 1):
            accuracy = training.train(setting, epoch, epoch - 1)[-1]
            result = {"training_iteration": epoch, "accuracy": accuracy}
            searcher.on_trial_result(trial.trial_id, result)
            if bracket.on_result(trial, epoch, accuracy) == TrialScheduler.STOP:
                break
        searcher.on_trial_complete(trial.trial_id, result)


def keras_tuner_hyperband(training: Training, seed: int, factor: int = 3) -> None:
    """KerasTuner's Hyperband, with its default factor; trials go on from their checkpoints, as its tuner has it."""
    import keras_tuner

    parameters = keras_tuner.HyperParameters()
    parameters.Float(LEARNING_RATE, LOW, HIGH, sampling="log")
    for key, values in CHOICES.items():
        parameters.Choice(key, list(values))
    oracle = keras_tuner.oracles.HyperbandOracle(
        objective=keras_tuner.Objective("val_accuracy", "max"),
        max_epochs=EPOCHS,
        factor=factor,
        hyperband_iterations=1_000,
        seed=seed,
        hyperparameters=parameters,
    )
    with tempfile.TemporaryDirectory() as folder:
        oracle._set_project_dir(folder, "p")
        oracle._display.verbose = 0
        while True:
            trial = oracle.create_trial("one")
            values = trial.hyperparameters.values
            until, begun = int(values["tuner/epochs"]), int(values["tuner/initial_epoch"])
            curve = training.train(values, until, begun)
            oracle.update_trial(trial.trial_id, {"val_accuracy": max(curve[begun:])}, step=0)
            trial.status = "COMPLETED"
            oracle.end_trial(trial)


CONTENDERS: Mapping[str, Callable[[Training, int], None]] = {
    "random": random_full,
    "ours": ours,
    "ours-factor-3": lambda training, seed: ours(training, seed, factor=3),
    "ours-factor-4": lambda training, seed: ours(training, seed, factor=4),
    "ours-hyperband": lambda training, seed: ours(training, seed, pruner="hyperband"),
    "ours-rung-3": lambda training, seed: ours(training, seed, first_rung=3),
    "ours-random": lambda training, seed: ours(training, seed, sampler="random"),
    "optuna-tpe": optuna_tpe,
    "ray-asha": ray_asha,
    "ray-asha-3": lambda training, seed: ray_asha(training, seed, factor=3),
    "keras-tuner-hyperband": keras_tuner_hyperband,
}


def main() -> None:
    """Run one contender with several seeds."""
    warnings.simplefilter("ignore")
    name, target, first, count = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    landscape = read()
    for seed in range(first, first + count):
        training = Training(landscape, target)
        try:
            CONTENDERS[name](training, seed)
        except Over:
            print(training.epochs, flush=True)


if __name__ == "__main__":
    main()
