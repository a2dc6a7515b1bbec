"""The published experiments of conf/experiment, and which logged runs are runs of them."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp.config import composition
from cifar_exp.config.schema import Config, ModelConfig, ReferenceConfig, flatten, reported
from cifar_exp.data import cifar10
from cifar_exp.errors import UserError, reason
from cifar_exp.tracking import deleted
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import parse_json

if TYPE_CHECKING:
    from mlflow.entities import Run

# Settings in which a run may differ from its experiment: they decide neither what is trained nor what is measured.
# Where weights came from is compared by the run that they are of, not by what it was called.
_FREE = {
    "seed",
    "name",
    "note",
    "resume",
    "data.dir",
    "data.verify",
    "training.checkpoint.every",
    "training.device",
    "training.steps_per_execution",
    "training.start_from",
}
_PAGE = 1000  # runs in an answer


@dataclass(frozen=True)
class Entry:
    """A published experiment, or one reported setting of a published sweep."""

    name: str  # of its file, for a setting with that: s0_activation=gelu
    overrides: tuple[str, ...]  # that compose it
    config: Config
    reference: ReferenceConfig

    @property
    def scored(self) -> str:
        """What its source scored last: the test images, or, where those never, the validation images."""
        return "val" if self.config.data.validation == "stratified" else "test"


@dataclass(frozen=True)
class LoggedRun:
    """A finished run, as the store has it."""

    id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]  # at their last step
    tags: Mapping[str, str]
    images: str = ""  # where they came from, if that was not the official release

    @classmethod
    def of(cls, run: Run) -> LoggedRun:
        """What counts here of MLflow's."""
        images = _source(run) if run.data.params.get("data.name") == "cifar10" else cifar10.ARCHIVE_URL
        unofficial = "" if images == cifar10.ARCHIVE_URL else images
        return cls(run.info.run_id, run.data.params, run.data.metrics, run.data.tags, unofficial)


def entries(config_dir: str | None = None) -> list[Entry]:
    """All of conf/experiment, by name, and of a folder beside conf; a sweep as its reported settings.

    Raises:
        UserError: for a file that does not compose.
    """
    folders = [composition.CONF, *([Path(config_dir)] if config_dir else [])]
    names = sorted({path.stem for folder in folders for path in (folder / "experiment").glob("*.yaml")}, key=_natural)
    found = []
    for name, config in zip(names, _composed([], "experiment", names, config_dir), strict=True):
        chosen, reference = f"experiment={name}", config.reference
        if reference.varies is None:
            found.append(Entry(name, (chosen,), config, reference))
            continue
        key = reference.varies.removesuffix(".name")  # a choice of another file: optimizer=sgd
        settings = list(reference.reported)
        for setting, job in zip(settings, _composed([chosen], key, settings, config_dir), strict=True):
            found.append(Entry(f"{name}={setting}", (chosen, f"{key}={setting}"), job, reported(job)))
    return found


def finished(store: Store) -> list[LoggedRun]:
    """The finished runs of the store's experiment, the last one first; nothing is made where there is none.

    Raises:
        UserError: if the store cannot be read.
    """
    if not store.exists():
        return []
    store.check()
    client = store.client
    from mlflow.exceptions import MlflowException

    found: list[LoggedRun] = []
    token: str | None = ""
    try:
        experiment = client.get_experiment_by_name(store.experiment)
        if experiment and experiment.lifecycle_stage == deleted.STAGE:
            raise UserError(deleted.experiment(store.uri, store.experiment, experiment.experiment_id))
        while experiment and token is not None:
            page = client.search_runs(
                [experiment.experiment_id],
                "attributes.status = 'FINISHED'",
                order_by=["attributes.start_time DESC"],
                max_results=_PAGE,
                page_token=token or None,
            )
            found += map(LoggedRun.of, page)
            token = page.token or None
    except MlflowException as error:
        raise UserError(f"tracking store {store.uri}: {reason(error)}") from error
    return found


def match(entries: Iterable[Entry], runs: Sequence[LoggedRun]) -> dict[str, list[LoggedRun]]:
    """An entry's name -> the runs that are of it: all their settings are its own, and so is their size.

    A run of an experiment that goes on from another must have gone on from a run that is of that other one. Of runs
    on the official images and on others, only the former count.
    """
    by_name = {entry.name: entry for entry in entries}
    found: dict[str, list[LoggedRun]] = {}

    def runs_of(entry: Entry) -> list[LoggedRun]:
        if entry.name not in found:
            found[entry.name] = []  # what an experiment finds that goes on from itself
            start = entry.config.training.start_from
            before = by_name.get(start) if start else None
            origins = {run.id for run in runs_of(before)} if before else {None} if start is None else set()
            matching = [run for run in runs if run.tags.get("cifar_exp.start_from") in origins and _is_of(run, entry)]
            found[entry.name] = [run for run in matching if not run.images] or matching
        return found[entry.name]

    for entry in by_name.values():
        runs_of(entry)
    return found


def settings(config: Config) -> dict[str, str]:
    """What must be equal in a run and its experiment, as a store has it."""
    return {key: str(value) for key, value in flatten(config).items() if _decides(key)}


def epoch_seconds(store: Store, run: LoggedRun) -> float | None:
    """The median over the run's epochs."""
    history = store.client.get_metric_history(run.id, "train/epoch_seconds")
    return statistics.median(metric.value for metric in history) if history else None


def _is_of(run: LoggedRun, entry: Entry) -> bool:
    parameters = entry.reference.parameters
    # What an older version did not log yet, it did as the schema's default says.
    logged = _SCHEMA | {key: value for key, value in run.params.items() if _decides(key)}
    return (
        logged == settings(entry.config)
        and f"{entry.scored}/accuracy" in run.metrics
        and (parameters is None or run.metrics.get("model/parameters") == parameters)
    )


def _decides(key: str) -> bool:
    return key not in _FREE and not key.startswith("tracking.")


_SCHEMA = settings(Config(model=ModelConfig("", (), {})))


def _composed(overrides: list[str], key: str, values: Sequence[str], config_dir: str | None) -> tuple[Config, ...]:
    """The config of each value, in one go: setting Hydra up takes as long as composing."""
    if not values:
        return ()
    return composition.plan([*overrides, f"{key}={','.join(values)}"], multirun=True, config_dir=config_dir).jobs


def _natural(name: str) -> list[str | int]:
    """For sorting: s4_model_3 comes before s4_model_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _source(run: Run) -> str:
    """Of its test images, as it was recorded."""
    for used in run.inputs.dataset_inputs:
        if used.dataset.name.endswith("-test"):
            try:
                said = parse_json(used.dataset.source)
                return str(said.get("url") or said.get("uri") or said.get("tags", {}).get("mlflow.source.name"))
            except (ValueError, AttributeError):  # whoever may log may write anything there
                break
    return "not recorded"
