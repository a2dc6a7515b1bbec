"""Running the published experiments that have no finished run, each in a process of its own."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cifar_exp import console, program
from cifar_exp.config import composition
from cifar_exp.config.schema import Config, ModelConfig
from cifar_exp.data import datasets
from cifar_exp.errors import UserError
from cifar_exp.experiment import requirements
from cifar_exp.review.published import Entry, FinishedRun, decisive_settings, finished, match
from cifar_exp.tracking.store import Store

NOTHING_MISSING = "Every experiment has a finished run."

Matched = Mapping[str, Sequence[FinishedRun]]  # name of an entry -> its runs


@dataclass(frozen=True)
class Runner:
    """Runs published experiments.

    Attributes:
        entries: published experiments, with those that they start from.
        store: where the runs are logged and looked up.
        tracking: overrides that select the store, if it is not the default one.
        overrides: further overrides for all runs.
        config_dir: folder with further experiments.
    """

    entries: Sequence[Entry]
    store: Store
    tracking: Sequence[str] = ()
    overrides: Sequence[str] = ()
    config_dir: str | None = None

    def arguments(self, entry: Entry, matched: Matched) -> list[str]:
        """Arguments of `python -m cifar_exp` for an experiment.

        If it starts from another experiment, the id of a run of that experiment is passed, if there is one.
        """
        origins = matched.get(entry.config.training.start_from or "")
        start = [f"training.start_from={origins[0].id}"] if origins else []
        config_dir = ["--config-dir", self.config_dir] if self.config_dir else []
        return [*config_dir, *entry.overrides, *start, *self.overrides, *self.tracking]

    def command(self, entry: Entry, matched: Matched) -> str:
        """Shell command that runs an experiment."""
        return f"python -m cifar_exp {shlex.join(self.arguments(entry, matched))}"

    def run(self, wanted: Sequence[Entry], matched: Matched) -> int:
        """Run the experiments that have no run, and those that they start from, the cheapest first.

        A failed run does not stop the others.

        Args:
            wanted: experiments to run.
            matched: existing runs.

        Returns:
            Exit code: 0 if every experiment has a run now, otherwise 1.

        Raises:
            UserError: before anything runs, if the overrides change a decisive setting or data is missing.
            KeyboardInterrupt: on Ctrl-C, after the current run has ended.
        """
        missing = self._with_origins(wanted, matched)
        if not missing:
            console.say(NOTHING_MISSING)
            return 0
        environment = dict(os.environ)  # copied first: estimating the costs changes it
        ordered = sort_by_cost(missing, self._costs(missing))
        for number, entry in enumerate(ordered, 1):
            title, start = f"[{number}/{len(ordered)}] {entry.name}", entry.config.training.start_from
            now = self._matched() if start else {}
            if start and not now.get(start):
                console.say(f"\n{title}  skipped: there is no run of {start} to start from")
                continue
            console.say(f"\n{title}  {self.command(entry, now)}")
            code = program.run(self.arguments(entry, now), environment)
            if code:
                console.say(f"{title}  failed with exit code {code}")
        now = self._matched()
        still_missing = [entry.name for entry in ordered if not now[entry.name]]
        console.say(f"\n{len(ordered) - len(still_missing)} of {len(ordered)} have a run now.")
        if still_missing:
            console.say(f"Still without a run: {', '.join(still_missing)}. Run the same command to try again.")
        return 1 if still_missing else 0

    def _matched(self) -> dict[str, list[FinishedRun]]:
        return match(self.entries, finished(self.store))

    def _with_origins(self, wanted: Sequence[Entry], matched: Matched) -> list[Entry]:
        by_name = {entry.name: entry for entry in self.entries}
        missing, pending = set(), list(wanted)
        while pending:
            entry = pending.pop()
            if entry.name not in missing and not matched.get(entry.name):
                missing.add(entry.name)
                pending += [origin] if (origin := by_name.get(entry.config.training.start_from or "")) else []
        return [entry for entry in self.entries if entry.name in missing]

    def _costs(self, missing: Sequence[Entry]) -> dict[str, float]:
        """Multiply-adds of the forward passes of all epochs. Refuses experiments whose data is missing."""
        configs = {entry.name: self._config(entry) for entry in missing}
        names = [entry.name for entry in self.entries]
        images = {}
        for config in {config.data: config for config in configs.values()}.values():
            requirements.check(config, names)
            images[config.data] = len(datasets.load(config.data).training)
        per_image = multiply_adds({name: config.model for name, config in configs.items()}, configs[missing[0].name])
        return {name: per_image[name] * images[c.data] * c.training.epochs for name, c in configs.items()}

    def _config(self, entry: Entry) -> Config:
        """Config of an experiment with the overrides, none of which may change a decisive setting."""
        config = entry.config
        if self.overrides:
            (config,) = composition.plan([*entry.overrides, *self.overrides], False, self.config_dir).jobs
            before, after = _fixed_settings(entry.config), _fixed_settings(config)
            for key in sorted(before.keys() | after.keys()):
                if before.get(key) != after.get(key):
                    raise UserError(
                        f"{' '.join(self.overrides)}: changes {key} of {entry.name}, so the run would not count as "
                        "a run of it; use only overrides such as data.verify=size or seed=1, and select the store with "
                        "--uri and --experiment"
                    )
        tracking = replace(config.tracking, uri=self.store.uri, experiment=self.store.experiment)
        return replace(config, tracking=tracking)


def sort_by_cost(missing: Sequence[Entry], cost: Mapping[str, float]) -> list[Entry]:
    """Sort experiments by cost, but each after the experiment that it starts from.

    Args:
        missing: experiments to sort.
        cost: by name of the experiment, in any unit.

    Raises:
        UserError: if experiments start from each other.
    """
    remaining = {entry.name: entry for entry in missing}
    ordered = []
    while remaining:
        ready = [entry for entry in remaining.values() if entry.config.training.start_from not in remaining]
        if not ready:
            raise UserError(f"training.start_from: {', '.join(remaining)} start from each other")
        ordered.append(remaining.pop(min(ready, key=lambda entry: cost[entry.name]).name))
    return ordered


def multiply_adds(models_by_name: Mapping[str, ModelConfig], config: Config) -> dict[str, float]:
    """Estimate the multiply-adds of one image's forward pass through each model.

    Every weight of a layer is counted once for each spatial position of its output.

    Args:
        models_by_name: the models.
        config: used to prepare Keras; the models are built on the CPU.
    """
    from cifar_exp.training import runtime

    runtime.prepare(replace(config.training, device="cpu"), seed=0)  # leave the GPU to the runs
    from cifar_exp.training import models

    counts = {}
    for name, model in models_by_name.items():
        layers = models.build(model, config.data.image_shape)[0].layers
        counts[name] = float(sum(layer.count_params() * math.prod(layer.output.shape[1:-1]) for layer in layers))
    return counts


def _fixed_settings(config: Config) -> dict[str, str]:
    """Settings that overrides must not change: those that runs are matched by, the layers, and the store."""
    tracking = {"tracking.uri": str(config.tracking.uri), "tracking.experiment": config.tracking.experiment}
    layers = {"model.layers": repr(config.model.layers)}
    return decisive_settings(config) | layers | tracking | {"training.start_from": str(config.training.start_from)}
