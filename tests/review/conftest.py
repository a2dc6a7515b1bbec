"""Fixtures with logged runs: of published experiments (not trained), of the digits, and of a real sweep."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twelve import Twelve

from cifar_exp.config.schema import Config, flatten
from cifar_exp.data import cifar10
from cifar_exp.experiment import experiment
from cifar_exp.review import published, run_predictions
from cifar_exp.review.published import Entry
from cifar_exp.tracking import sync
from cifar_exp.tracking.progress import SENT
from cifar_exp.tracking.run_tags import JOURNAL
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

Log = Callable[..., str]
LogTrained = Callable[..., "Run"]
LogPredicted = Callable[..., "Run"]

LINEAR = ("data=digits", "model=dense", "model.layers=[Flatten,{Dense:{units:10}}]", "tracking.system_metrics=false")
TRAINED = {
    "weak": ("training.epochs=1", "data.train_images=100"),
    "strong": ("training.epochs=5",),
    "twin": ("training.epochs=5", "seed=1"),  # about as accurate as the strong one
    "averaged": ("training.epochs=1", "prediction.flip=true", "prediction.shift=1"),
    "peeking": ("training.epochs=1", "data.validation=test"),
    "collapsed": ("training.epochs=1", "optimizer.learning_rate=1e-9"),
}
OWNER = "ann"


@pytest.fixture(scope="session")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Twelve:
    return Twelve.train(tmp_path_factory.mktemp("twelve"))


@pytest.fixture(scope="session")
def entries() -> list[Entry]:
    return [entry for entry in published.entries() if entry.reference.source]


@pytest.fixture(scope="session")
def by_name(entries: list[Entry]) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries}


@pytest.fixture
def own_store(store: Store, request: pytest.FixtureRequest) -> Store:
    """A store with an experiment that only this test uses."""
    return Store(store.uri, request.node.nodeid)


@pytest.fixture
def log(own_store: Store, by_name: dict[str, Entry]) -> Log:
    """log("s0_wide", accuracy=0.7): log a run of this entry as if it had been trained, and return its id."""

    def log_run(
        name: str,
        accuracy: float = 0.7,
        val_accuracy: float | None = None,
        params: Mapping[str, Any] | None = None,
        without: tuple[str, ...] = (),
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        start_from: str | None = None,
        seconds: tuple[float, ...] = (2.0,),
        source: str = cifar10.ARCHIVE_URL,
        status: str = "FINISHED",
    ) -> str:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

        entry, client, now = by_name[name], own_store.client, time.time_ns() // 1_000_000
        values = flatten(entry.config) | (params or {})
        all_metrics = {
            "test/accuracy": accuracy,
            "test/loss": 1 - accuracy,
            "val/accuracy": val_accuracy or accuracy,
            "val/loss": 1 - (val_accuracy or accuracy),
            "model/parameters": entry.reference.parameters or 1,
        } | (metrics or {})
        all_tags = {"cifar_exp.outcome": "completed", "cifar_exp.device": "CPU: test"} | (tags or {})
        if start_from:
            all_tags["cifar_exp.start_from"] = start_from
        run = client.create_run(own_store.experiment_id, start_time=now)
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(key, value, now, 0) for key, value in all_metrics.items() if key not in without]
            + [Metric("train/epoch_seconds", value, now, epoch) for epoch, value in enumerate(seconds, 1)],
            params=[Param(key, str(value)) for key, value in values.items() if key not in without],
            tags=[RunTag(key, value) for key, value in all_tags.items()],
        )
        where = {"url": source} if source.startswith("https") else {"uri": source}
        kind = "http" if "url" in where else "local"
        digest = hashlib.sha256(source.encode()).hexdigest()[:32]  # the store keeps one data set per name and digest
        dataset = Dataset(f"{values['data.name']}-test", digest, kind, json.dumps(where))
        client.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "test")])])
        client.set_terminated(run.info.run_id, status)
        return str(run.info.run_id)

    return log_run


@pytest.fixture(scope="session")
def trained(compose: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Name of each real run of the digits -> its folder."""
    root = tmp_path_factory.mktemp("trained")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    for name, overrides in TRAINED.items():
        config = compose(*LINEAR, *overrides, f"name={name}")
        config = replace(config, tracking=replace(config.tracking, uri=uri))
        experiment.run(config, experiment.Job(), root / name)
    return {name: root / name for name in TRAINED}


@pytest.fixture
def log_trained(trained: Mapping[str, Path], own_store: Store, tmp_path: Path) -> LogTrained:
    """log_trained("strong"): log that run anew from its journal, as run by ann with clean code unless `tags` differ."""

    def log_run(name: str, store: Store = own_store, **tags: str) -> Run:
        folder = Path(shutil.copytree(trained[name], tmp_path / f"{name}-{time.time_ns()}"))
        (folder / SENT).unlink()
        state = sync.send(folder, store.uri, store.experiment)
        assert state.is_whole and state.run_id
        # Replace the journal's key; otherwise logging the journal again would find this run.
        owner = {} if store.is_server else {"mlflow.user": OWNER}
        all_tags = owner | {"cifar_exp.git_dirty": "false", JOURNAL: folder.name} | tags
        for key, value in all_tags.items():
            store.client.set_tag(state.run_id, key, value)
        return store.client.get_run(state.run_id)

    return log_run


@pytest.fixture
def log_predicted(own_store: Store, tmp_path: Path) -> LogPredicted:
    """log_predicted("a", test, validation): log a run with these predictions."""

    def log(name: str, test: pd.DataFrame, validation: pd.DataFrame | None = None, **params: str) -> Run:
        client = own_store.client
        run_id = client.create_run(own_store.experiment_id, run_name=name).info.run_id
        for path, frame in ((run_predictions.PREDICTIONS, test), (run_predictions.VALIDATION_PREDICTIONS, validation)):
            if frame is not None:
                file = tmp_path / Path(path).name
                frame.to_parquet(file, index=False)
                client.log_artifact(run_id, str(file), "evaluation")
        for key, value in params.items():
            client.log_param(run_id, key, value)
        client.log_metric(run_id, "val/best_accuracy", 0.5)
        client.set_terminated(run_id)
        return client.get_run(run_id)

    return log
