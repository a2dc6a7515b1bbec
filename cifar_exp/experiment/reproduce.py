"""Train a logged run again from its logged config, and compare the results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cifar_exp import plugins
from cifar_exp.config import checks, schema
from cifar_exp.config.overrides import parse, refers
from cifar_exp.config.schema import Config
from cifar_exp.data import datasets
from cifar_exp.errors import UserError
from cifar_exp.experiment import experiment, requirements
from cifar_exp.tracking import environment, fetch, run_tags
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import YAML_BYTES, parse_json, parse_yaml

CONFIG = "config/config.yaml"
_COMPARED = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss", "test/accuracy", "test/f1_macro")
_STANDARD_ERRORS = 3  # a smaller difference between two accuracies is explained by chance


@dataclass(frozen=True)
class Logged:
    """A run as it is in the store."""

    id: str
    name: str
    config: Config
    metrics: dict[str, float]
    """Metric name -> value at the last step."""
    fingerprint: str
    commit: str


@dataclass(frozen=True)
class Verdict:
    """Comparison of a reproduced run with the logged one."""

    matches: bool
    """Whether both have the same fingerprint and their results are equal, or differ by no more than chance explains."""
    lines: tuple[str, ...]
    """Table and explanation for the user."""


def read(store: Store, run_id: str, overrides: Sequence[str] = ()) -> Logged:
    """Read a run and its config from a store. The config is data and cannot name code to execute.

    Args:
        store: has the run.
        run_id: id of the run.
        overrides: changes to the config, for example `data.dir=...` for this machine.

    Raises:
        UserError: if the run does not exist, is an ensemble, or its config is invalid.
    """
    run = fetch.run(store, run_id)
    if run.data.tags.get(run_tags.KIND) == run_tags.ENSEMBLE_KIND:
        raise UserError(
            f"run {run.info.run_name} ({run_id}) is an ensemble of several networks: name one of its members"
        )
    content = fetch.text(store, run, CONFIG, YAML_BYTES)
    _check_packages(run.info.run_id, run.data.tags.get(run_tags.PACKAGES))
    return Logged(
        run.info.run_id,
        run.info.run_name,
        parse_config(content, f"run {run_id}, {CONFIG}", overrides),
        dict(run.data.metrics),
        run.data.tags.get(run_tags.FINGERPRINT, ""),
        run.data.tags.get(run_tags.GIT_COMMIT, "unknown"),
    )


def again(logged: Logged, store: Store, folder: Path) -> Verdict:
    """Train a logged run again and compare the results.

    Args:
        logged: the run.
        store: receives the new run.
        folder: for the files of the new run.
    """
    tracking = replace(logged.config.tracking, uri=store.uri, experiment=store.experiment)
    settings = replace(logged.config, tracking=tracking, resume="never")
    requirements.check(settings)
    job = experiment.Job((f"cifar-exp reproduce {logged.id}",), tags={run_tags.REPRODUCES: logged.id})
    result = experiment.run(settings, job, folder)
    last = {name: values[-1] for name, values in result.history.items()}
    return _compare(logged, last | result.metrics, result.fingerprint, settings)


def _check_packages(run_id: str, logged: str | None) -> None:
    """Refuse a run that used a package that is not installed here, naming the package."""
    try:
        wanted = parse_json(logged) if logged else {}
    except ValueError:
        wanted = {}
    named = [(what, of) for what, of in wanted.items() if isinstance(of, str)] if isinstance(wanted, dict) else []
    if missing := plugins.missing(named):
        raise UserError(f"run {run_id}: {missing}")


def parse_config(content: str, where: str, overrides: Sequence[str] = ()) -> Config:
    """Read the config that a run logged. It is data and cannot name code to execute.

    Args:
        content: of the file that the run logged.
        where: where it comes from, for error messages.
        overrides: changes to the config.

    Raises:
        UserError: if it is not a valid config.
    """
    try:
        values = parse_yaml(content)
        if not isinstance(values, dict) or not isinstance(values.get("data"), dict):
            raise UserError("it is not a config")
        if refers(values):
            raise UserError("a logged config is resolved, it refers to nothing")
        for group in ("notify", "review", "sweep", "tracking"):  # these belong to the machine that logged the run
            values.pop(group, None)
        values["data"]["dir"] = None
        merged = OmegaConf.merge(schema.schema(), {"tracking": {"experiment": ""}}, values, _changes(overrides))
        return checks.from_composed(merged)  # type: ignore[arg-type]
    except (ValueError, OmegaConfBaseException) as error:
        raise UserError(f"{where}: {str(error).splitlines()[0]}") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _changes(overrides: Sequence[str]) -> DictConfig:
    """Read changes to a config, in the grammar of all command lines."""
    changes = OmegaConf.create()
    for override in parse(overrides):
        if override.is_sweep_override() or refers(override.value()):
            raise UserError(f"{override.input_line!r} is not of the form key=value, with one value")
        OmegaConf.update(changes, override.get_key_element(), override.value())
    return changes


def _compare(logged: Logged, here: Mapping[str, float], fingerprint: str, settings: Config) -> Verdict:
    lines = [f"{'':16}{'logged':>12}{'here':>12}{'difference':>12}"]
    for name in _COMPARED:
        if name in logged.metrics and name in here:
            there, now = logged.metrics[name], here[name]
            lines.append(f"{name:16}{there:12.6f}{now:12.6f}{now - there:+12.6f}")
    compared = [name for name in _COMPARED if name in logged.metrics and name in here]
    same = bool(compared) and all(logged.metrics[name] == here[name] for name in compared)
    if fingerprint != logged.fingerprint:
        lines.append(
            f"Not the same run: its fingerprint is {logged.fingerprint}, here {fingerprint}. Settings were changed, or "
            "the images, the weights it went on from, the backend or the version of cifar_exp differ."
        )
    if same:
        return Verdict(fingerprint == logged.fingerprint, (*lines, "Equal to the last bit."))
    if settings.training.deterministic:
        commit = environment.commit()
        own = commit.sha[:12] if commit else "unknown"
        lines.append(f"Not equal, though deterministic: it was trained at commit {logged.commit[:12]}, here {own}.")
        return Verdict(False, tuple(lines))
    accuracies = [metrics.get("test/accuracy", math.nan) for metrics in (logged.metrics, here)]
    images = len(datasets.load(settings.data).test)
    mean = min(max(sum(accuracies) / 2, 0), 1)  # anything can be logged as an accuracy
    limit = _STANDARD_ERRORS * math.sqrt(2 * mean * (1 - mean) / images)
    within = abs(accuracies[1] - accuracies[0]) <= limit
    relation = "within" if within else "outside"
    lines.append(
        f"Not equal to the last bit, which only training.deterministic=true promises; the test accuracies are "
        f"{relation} {limit:.4f} of each other, {_STANDARD_ERRORS} standard errors of two tests on {images} images."
    )
    return Verdict(within and fingerprint == logged.fingerprint, tuple(lines))
