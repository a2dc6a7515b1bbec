"""Runs of published experiments, logged without training; and twelve runs of a real sweep."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from twelve import Twelve

from cifar_exp import cifar10
from cifar_exp.config import flatten
from cifar_exp.review import published
from cifar_exp.review.published import Entry
from cifar_exp.tracking.store import Store

Log = Callable[..., str]


@pytest.fixture(scope="session")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Twelve:
    return Twelve.train(tmp_path_factory.mktemp("twelve"))


@pytest.fixture(scope="session")
def entries() -> list[Entry]:
    return published.entries()


@pytest.fixture(scope="session")
def by_name(entries: list[Entry]) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries}


@pytest.fixture
def own_store(store: Store, request: pytest.FixtureRequest) -> Store:
    """An experiment of the test's own."""
    return Store(store.uri, request.node.nodeid)


@pytest.fixture
def log(own_store: Store, by_name: dict[str, Entry]) -> Log:
    """log("s0_wide", accuracy=0.7) -> the id of a finished run, as a training of this entry would have logged it."""

    def logged(
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
        measured = {
            "test/accuracy": accuracy,
            "test/loss": 1 - accuracy,
            "val/accuracy": val_accuracy or accuracy,
            "val/loss": 1 - (val_accuracy or accuracy),
            "model/parameters": entry.reference.parameters or 1,
        } | (metrics or {})
        told = {"cifar_exp.outcome": "completed", "cifar_exp.device": "CPU: test"} | (tags or {})
        if start_from:
            told["cifar_exp.start_from"] = start_from
        run = client.create_run(own_store.experiment_id, start_time=now)
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(key, value, now, 0) for key, value in measured.items() if key not in without]
            + [Metric("train/epoch_seconds", value, now, epoch) for epoch, value in enumerate(seconds, 1)],
            params=[Param(key, str(value)) for key, value in values.items() if key not in without],
            tags=[RunTag(key, value) for key, value in told.items()],
        )
        where = {"url": source} if source.startswith("https") else {"uri": source}
        kind = "http" if "url" in where else "local"
        digest = hashlib.sha256(source.encode()).hexdigest()[:32]  # the store keeps one of each
        dataset = Dataset(f"{values['data.name']}-test", digest, kind, json.dumps(where))
        client.log_inputs(run.info.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "test")])])
        client.set_terminated(run.info.run_id, status)
        return str(run.info.run_id)

    return logged
