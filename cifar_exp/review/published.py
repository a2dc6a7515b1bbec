"""The published experiments of conf/experiment, matched with the logged runs of them."""

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
from cifar_exp.review import query
from cifar_exp.tracking import run_tags
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import parse_json

if TYPE_CHECKING:
    from mlflow.entities import Run

# Settings in which a run may differ from its experiment, because they change neither the training nor the results.
# The origin of initial weights is compared by run id instead of by name.
_IGNORED_SETTINGS = {
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


@dataclass(frozen=True)
class Entry:
    """A published experiment, or one reported setting of a published sweep.

    Attributes:
        name: of its file in conf/experiment; with the setting if it is one of a sweep: s0_activation=gelu.
        overrides: Hydra overrides that compose it.
        config: composed from the overrides.
        reference: results that the source reports.
    """

    name: str
    overrides: tuple[str, ...]
    config: Config
    reference: ReferenceConfig

    @property
    def scored(self) -> str:
        """Split that the source reports results for: `"test"`, or `"val"` if it never used the test images."""
        return "val" if self.config.data.validation == "stratified" else "test"


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of the tracking store.

    Attributes:
        id: MLflow's run id.
        params: parameters as logged.
        metrics: value of each metric at its last step.
        tags: tags as logged.
        images: source of the CIFAR-10 images if they are not the official release; otherwise empty.
    """

    id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    images: str = ""

    @classmethod
    def from_run(cls, run: Run) -> FinishedRun:
        """Create from a run of MLflow's client."""
        images = _test_image_source(run) if run.data.params.get("data.name") == "cifar10" else cifar10.ARCHIVE_URL
        unofficial = "" if images == cifar10.ARCHIVE_URL else images
        return cls(run.info.run_id, run.data.params, run.data.metrics, run.data.tags, unofficial)


def entries(config_dir: str | None = None, pattern: str = "*") -> list[Entry]:
    """List the published experiments by name. A sweep yields one entry for each reported setting.

    Args:
        config_dir: folder with further experiments, in experiment/, in addition to conf/.
        pattern: of the names that are asked for, such as s2_*. All that match are listed, those that they start from,
            and others whose names begin alike.

    Raises:
        UserError: if a file cannot be composed.
    """
    files, start = names(config_dir), re.split(r"[*?\[=]", pattern)[0]  # to compose all of them takes seconds
    wanted = {name for name in files if name.startswith(start)}
    listed: dict[str, list[Entry]] = {}
    while new := [name for name in files if name in wanted and name not in listed]:
        for name, config in zip(new, _compose_each([], "experiment", new, config_dir), strict=True):
            listed[name] = _entries_of(name, config, config_dir)
            wanted |= {(entry.config.training.start_from or "").partition("=")[0] for entry in listed[name]}
    return [entry for name in files for entry in listed.get(name, [])]


def names(config_dir: str | None = None) -> list[str]:
    """List the files of the published experiments, without composing them."""
    folders = [composition.CONF, *([Path(config_dir)] if config_dir else [])]
    return sorted({path.stem for folder in folders for path in (folder / "experiment").glob("*.yaml")}, key=_natural)


def finished(store: Store) -> list[FinishedRun]:
    """List the finished runs of the store's experiment, the newest first.

    Raises:
        UserError: if the store cannot be read.
    """
    runs = query.search(store, "attributes.status = 'FINISHED'", ["attributes.start_time DESC"])
    return [FinishedRun.from_run(run) for run in runs]


def match(entries: Iterable[Entry], runs: Sequence[FinishedRun]) -> dict[str, list[FinishedRun]]:
    """Match runs with published experiments by their settings and their number of parameters.

    If an experiment starts from the weights of another one, its runs must have started from a run of that experiment.
    If an experiment has runs on the official images, its runs on other images are left out.

    Args:
        entries: all published experiments.
        runs: finished runs.

    Returns:
        Name of each entry -> its runs, in the given order.
    """
    by_name = {entry.name: entry for entry in entries}
    matched: dict[str, list[FinishedRun]] = {}

    def match_entry(entry: Entry) -> list[FinishedRun]:
        if entry.name not in matched:
            matched[entry.name] = []  # ends the recursion for experiments that start from each other
            start = entry.config.training.start_from
            origin = by_name.get(start) if start else None
            origins = {run.id for run in match_entry(origin)} if origin else {None} if start is None else set()
            matching = [run for run in runs if run.tags.get(run_tags.START_FROM) in origins and _is_run_of(run, entry)]
            matched[entry.name] = [run for run in matching if not run.images] or matching
        return matched[entry.name]

    for entry in by_name.values():
        match_entry(entry)
    return matched


def decisive_settings(config: Config) -> dict[str, str]:
    """Settings that must be equal in a run and its experiment, as logged parameters."""
    return {key: str(value) for key, value in flatten(config).items() if _is_decisive(key)}


def epoch_seconds(store: Store, run: FinishedRun) -> float | None:
    """Median duration of a run's epochs in seconds, or `None` if it was not logged."""
    history = store.client.get_metric_history(run.id, "train/epoch_seconds")
    return statistics.median(metric.value for metric in history) if history else None


def _is_run_of(run: FinishedRun, entry: Entry) -> bool:
    parameters = entry.reference.parameters
    # Settings that an older version did not log yet had the default value of the schema.
    logged = _DEFAULT_SETTINGS | {key: value for key, value in run.params.items() if _is_decisive(key)}
    return (
        logged == decisive_settings(entry.config)
        and f"{entry.scored}/accuracy" in run.metrics
        and (parameters is None or run.metrics.get("model/parameters") == parameters)
    )


def _is_decisive(key: str) -> bool:
    return key not in _IGNORED_SETTINGS and not key.startswith("tracking.")


_DEFAULT_SETTINGS = decisive_settings(Config(model=ModelConfig("", (), {})))


def _entries_of(name: str, config: Config, config_dir: str | None) -> list[Entry]:
    """The entries of one file."""
    chosen, reference = f"experiment={name}", config.reference
    if reference.varies is None:
        return [Entry(name, (chosen,), config, reference)]
    key = reference.varies.removesuffix(".name")  # the choice of a file: optimizer=sgd
    settings = list(reference.reported)
    jobs = _compose_each([chosen], key, settings, config_dir)
    return [
        Entry(f"{name}={setting}", (chosen, f"{key}={setting}"), job, reported(job))
        for setting, job in zip(settings, jobs, strict=True)
    ]


def _compose_each(overrides: list[str], key: str, values: Sequence[str], config_dir: str | None) -> tuple[Config, ...]:
    """Compose a config for each value of `key`, all in one call, because initializing Hydra takes long."""
    if not values:
        return ()
    return composition.plan([*overrides, f"{key}={','.join(values)}"], multirun=True, config_dir=config_dir).jobs


def _natural(name: str) -> list[str | int]:
    """Sort key that orders numbers by value: s4_model_3 comes before s4_model_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _test_image_source(run: Run) -> str:
    """Logged source of a run's test images."""
    for entry in run.inputs.dataset_inputs:
        if entry.dataset.name.endswith("-test"):
            try:
                source = parse_json(entry.dataset.source)
                return str(source.get("url") or source.get("uri") or source.get("tags", {}).get("mlflow.source.name"))
            except (ValueError, AttributeError):  # any user who may log can write anything there
                break
    return "not recorded"
