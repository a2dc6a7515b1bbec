"""Running the published experiments that have no run yet, each as a program of its own."""

from __future__ import annotations

import math
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cifar_exp import console
from cifar_exp.config import composition
from cifar_exp.config.schema import Config, ModelConfig
from cifar_exp.data import datasets
from cifar_exp.errors import UserError
from cifar_exp.experiment import experiment
from cifar_exp.review.published import Entry, LoggedRun, finished, match, settings
from cifar_exp.tracking.store import Store

NOTHING = "Every one has a finished run."

Matched = Mapping[str, Sequence[LoggedRun]]


@dataclass(frozen=True)
class Runner:
    """How published experiments are run: in which store, with what beside their own settings."""

    entries: Sequence[Entry]  # all that there are
    store: Store
    tracking: Sequence[str] = ()  # overrides that name the store, where it is not the default one
    overrides: Sequence[str] = ()  # further ones
    config_dir: str | None = None

    def arguments(self, entry: Entry, matched: Matched) -> list[str]:
        """Of python -m cifar_exp; what goes on from another experiment is given the very run, if there is one."""
        origin = matched.get(entry.config.training.start_from or "")
        start = [f"training.start_from={origin[0].id}"] if origin else []
        beside = ["--config-dir", self.config_dir] if self.config_dir else []
        return [*beside, *entry.overrides, *start, *self.overrides, *self.tracking]

    def command(self, entry: Entry, matched: Matched) -> str:
        """The same, to be typed."""
        return f"python -m cifar_exp {shlex.join(self.arguments(entry, matched))}"

    def run(self, wanted: Sequence[Entry], matched: Matched) -> int:
        """Run those of the wanted that have no run, and what they go on from: the cheapest first.

        Returns:
            The exit code: 0 if all have a run now, else 1.

        Raises:
            UserError: before anything runs, for overrides that would make a run not count, or for what is not there.
            KeyboardInterrupt: once the run that was going has ended itself.
        """
        missing = self._with_origins(wanted, matched)
        if not missing:
            console.say(NOTHING)
            return 0
        environment = dict(os.environ)  # of the programs; weighing the models changes that of this one
        ordered = in_order(missing, self._costs(missing))
        for number, entry in enumerate(ordered, 1):
            title, start = f"[{number}/{len(ordered)}] {entry.name}", entry.config.training.start_from
            now = self._matched() if start else {}
            if start and not now.get(start):
                console.say(f"\n{title}  not run: there is no run of {start}, which it goes on from")
                continue
            console.say(f"\n{title}  {self.command(entry, now)}")
            code = _run([sys.executable, "-m", "cifar_exp", *self.arguments(entry, now)], environment)
            if code:
                console.say(f"{title}  failed with exit code {code}")
        now = self._matched()
        left = [entry.name for entry in ordered if not now[entry.name]]
        console.say(f"\n{len(ordered) - len(left)} of {len(ordered)} have a run now.")
        if left:
            console.say(f"Without one: {', '.join(left)}. The same command tries them again.")
        return 1 if left else 0

    def _matched(self) -> dict[str, list[LoggedRun]]:
        return match(self.entries, finished(self.store))

    def _with_origins(self, wanted: Sequence[Entry], matched: Matched) -> list[Entry]:
        by_name = {entry.name: entry for entry in self.entries}
        missing, left = set(), list(wanted)
        while left:
            entry = left.pop()
            if entry.name not in missing and not matched.get(entry.name):
                missing.add(entry.name)
                left += [origin] if (origin := by_name.get(entry.config.training.start_from or "")) else []
        return [entry for entry in self.entries if entry.name in missing]

    def _costs(self, missing: Sequence[Entry]) -> dict[str, float]:
        """Multiply-adds of the forward passes of all epochs; what is missing is refused on the way."""
        configs = {entry.name: self._config(entry) for entry in missing}
        names = [entry.name for entry in self.entries]
        images = {}
        for used in {config.data: config for config in configs.values()}.values():
            experiment.check_surroundings(used, names)
            images[used.data] = len(datasets.load(used.data).training)
        weights = multiply_adds({name: config.model for name, config in configs.items()}, configs[missing[0].name])
        return {name: weights[name] * images[c.data] * c.training.epochs for name, c in configs.items()}

    def _config(self, entry: Entry) -> Config:
        """As the overrides leave it: in all that counts, as it was."""
        config = entry.config
        if self.overrides:
            (config,) = composition.plan([*entry.overrides, *self.overrides], False, self.config_dir).jobs
            before, after = _decisive(entry.config), _decisive(config)
            for key in sorted(before.keys() | after.keys()):
                if before.get(key) != after.get(key):
                    raise UserError(
                        f"{' '.join(self.overrides)}: changes {key} of {entry.name}, so that the run would not count "
                        "as one of it; give --run what leaves it as it is, such as data.verify=size or seed=1, and "
                        "the store by --uri and --experiment"
                    )
        tracking = replace(config.tracking, uri=self.store.uri, experiment=self.store.experiment)
        return replace(config, tracking=tracking)


def in_order(missing: Sequence[Entry], cost: Mapping[str, float]) -> list[Entry]:
    """The cheapest first, and each after what it goes on from.

    Raises:
        UserError: for experiments that go on from each other.
    """
    left = {entry.name: entry for entry in missing}
    ordered = []
    while left:
        ready = [entry for entry in left.values() if entry.config.training.start_from not in left]
        if not ready:
            raise UserError(f"training.start_from: {', '.join(left)} go on from each other")
        ordered.append(left.pop(min(ready, key=lambda entry: cost[entry.name]).name))
    return ordered


def multiply_adds(named: Mapping[str, ModelConfig], config: Config) -> dict[str, float]:
    """Of one image through each model: every weight of a layer is used once at each place of its output."""
    from cifar_exp.training import runtime

    runtime.prepare(replace(config.training, device="cpu"), seed=0)  # the GPU is for those that train
    from cifar_exp.training import models

    weights = {}
    for name, model in named.items():
        layers = models.build(model)[0].layers
        weights[name] = float(sum(layer.count_params() * math.prod(layer.output.shape[1:-1]) for layer in layers))
    return weights


def override(key: str, value: str) -> str:
    """key=value, quoted for Hydra where it has to be."""
    if not re.fullmatch(r"[\w./:@+-]+", value):
        value = "'" + value.replace("'", "\\'") + "'"
    return f"{key}={value}"


def _decisive(config: Config) -> dict[str, str]:
    """What an override must leave as it is: what a run is matched by, what it cannot be, and where it is looked for."""
    tracking = {"tracking.uri": str(config.tracking.uri), "tracking.experiment": config.tracking.experiment}
    layers = {"model.layers": repr(config.model.layers)}
    return settings(config) | layers | tracking | {"training.start_from": str(config.training.start_from)}


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The program's exit code. It stands in a process group of its own, so that Ctrl-C reaches it once: from here."""
    program = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, process_group=0)
    stopped: KeyboardInterrupt | None = None
    while True:
        try:
            code = program.wait()
            break
        except KeyboardInterrupt as stop:
            stopped = stop
            program.send_signal(signal.SIGTERM)  # SIGINT may be ignored, as where a script started this with &
    if stopped:
        raise stopped
    return code
