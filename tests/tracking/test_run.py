"""Tests of logging a run, read back with MLflow's client."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_exp.config.layers import Layer
from cifar_exp.config.schema import Config, ModelConfig, flatten
from cifar_exp.data.splits import Split
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store

Compose = Callable[..., Config]


def start(store: Store, folder: Path, **how: Any) -> Run:
    return Run.start(store, folder, **({"name": "baseline-adam", "tags": {}, "params": {}} | how))


def remembered(run: Run) -> Any:
    assert run.wait_until_started()
    return run.store.client.get_run(run.id)


def artifacts(run: Run, folder: str) -> list[str]:
    return sorted(item.path for item in run.store.client.list_artifacts(run.id, folder))


def test_a_run_has_its_name_tags_and_params_from_its_start(store: Store, tmp_path: Path) -> None:
    run = start(store, tmp_path, tags={"cifar_exp.job": "3"}, params={"seed": 0, "note": None, "filters": [1, 2]})
    found = remembered(run)
    assert (found.info.run_name, found.info.status) == ("baseline-adam", "RUNNING")
    assert found.info.experiment_id == store.experiment_id
    assert found.data.tags["cifar_exp.job"] == "3"
    run.finish("FINISHED")
    assert remembered(run).data.params == {"seed": "0", "note": "None", "filters": "[1, 2]"}


def test_a_name_is_cut_to_what_the_database_of_a_server_holds(store: Store, tmp_path: Path) -> None:
    run = start(store, tmp_path, name="sweep of " + ", ".join(f"model.knob_{n}" for n in range(30)))
    assert len(remembered(run).info.run_name) == 250
    run.finish("FINISHED")


def test_more_params_than_fit_in_a_request_are_logged(store: Store, tmp_path: Path) -> None:
    params = {f"model.knob_{i}": i for i in range(250)}
    run = start(store, tmp_path, params=params)
    run.finish("FINISHED")
    assert remembered(run).data.params == {key: str(value) for key, value in params.items()}


def test_settings_of_a_config_are_logged_under_their_keys(store: Store, tmp_path: Path, compose: Compose) -> None:
    flat = flatten(compose())
    run = start(store, tmp_path, params=flat)
    run.finish("FINISHED")
    assert set(remembered(run).data.params) == set(flat)


def test_a_job_is_nested_under_its_parent(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = start(Store(store.uri, store.experiment), tmp_path / "child", sweep="s", drain_seconds=60)
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    assert not child.wait_until_started()  # it waits until its parent run exists
    parent = start(store, tmp_path / "parent", tags={"cifar_exp.sweep": "s", "cifar_exp.kind": "sweep"})
    child.finish("FINISHED")
    assert remembered(child).data.tags["mlflow.parentRunId"] == parent.id
    assert "mlflow.parentRunId" not in remembered(parent).data.tags
    parent.finish("FINISHED")


def test_metrics_are_logged_at_their_steps(store: Store, tmp_path: Path) -> None:
    with start(store, tmp_path) as run:
        for epoch in (1, 2, 3):
            run.log_metrics({"train/loss": 1 / epoch, "val/loss": 2 / epoch}, step=epoch)
        run.log_metrics({"test/accuracy": 0.5})
    history = store.client.get_metric_history(run.id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert len({point.timestamp for point in store.client.get_metric_history(run.id, "val/loss")}) >= 1
    assert remembered(run).data.metrics == {"train/loss": 1 / 3, "val/loss": 2 / 3, "test/accuracy": 0.5}


def test_nan_is_logged_as_nan(store: Store, tmp_path: Path) -> None:
    with start(store, tmp_path) as run:
        run.log_metrics({"train/loss": float("nan"), "val/loss": 1.0}, step=1)
    assert np.isnan(remembered(run).data.metrics["train/loss"])
    assert remembered(run).info.status == "FINISHED"


def test_a_tag_can_be_overwritten(store: Store, tmp_path: Path) -> None:
    with start(store, tmp_path, tags={"review.state": "unreviewed", "kept": "1"}) as run:
        run.set_tags({"review.state": "approved", "mlflow.note.content": "two\nlines"})
    tags = remembered(run).data.tags
    assert (tags["review.state"], tags["kept"], tags["mlflow.note.content"]) == ("approved", "1", "two\nlines")


def test_artifacts_keep_their_names(store: Store, tmp_path: Path) -> None:
    with start(store, tmp_path) as run:
        run.write("config/config.yaml", "ä: 1\n")
        run.write("figures/curves.png", b"\x89PNG")
        run.write("figures/more/deep.txt", "x")
        run.upload("config", "figures")
    assert artifacts(run, "config") == ["config/config.yaml"]
    assert artifacts(run, "figures") == ["figures/curves.png", "figures/more"]
    assert artifacts(run, "figures/more") == ["figures/more/deep.txt"]
    back = store.client.download_artifacts(run.id, "config/config.yaml", str(tmp_path))
    assert Path(back).read_text(encoding="utf-8") == "ä: 1\n"


def test_a_run_without_an_exception_is_finished(store: Store, tmp_path: Path) -> None:
    with start(store, tmp_path) as run:
        run.write("logs/run.log", "done")
    found = remembered(run)
    assert found.info.status == "FINISHED"
    assert found.info.end_time >= found.info.start_time
    assert artifacts(run, "logs") == ["logs/run.log"]


def test_a_run_with_an_exception_is_failed_with_its_traceback(store: Store, tmp_path: Path) -> None:
    run = start(store, tmp_path, tags={"cifar_exp.outcome": "running"})
    run.write("logs/run.log", "so far")
    with pytest.raises(ZeroDivisionError), run:
        _ = 1 / 0
    found = remembered(run)
    assert (found.info.status, found.data.tags["cifar_exp.outcome"]) == ("FAILED", "failed")
    assert artifacts(run, "logs") == ["logs/run.log", "logs/traceback.txt"]
    trace = Path(store.client.download_artifacts(run.id, "logs/traceback.txt", str(tmp_path))).read_text()
    assert "ZeroDivisionError: division by zero" in trace
    assert "_ = 1 / 0" in trace


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_is_killed(store: Store, tmp_path: Path, stop: type[BaseException]) -> None:
    with pytest.raises(stop), start(store, tmp_path, tags={"cifar_exp.outcome": "running"}) as run:
        raise stop
    found = remembered(run)
    assert (found.info.status, found.data.tags["cifar_exp.outcome"]) == ("KILLED", "interrupted")
    assert artifacts(run, "logs") == []


def test_the_exception_is_raised_even_if_its_log_cannot_be_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*groups: str) -> None:
        raise OSError("disk full")

    run = start(store, tmp_path)
    monkeypatch.setattr(run, "upload", broken)
    with pytest.raises(ZeroDivisionError), run:
        _ = 1 / 0
    assert remembered(run).info.status == "FAILED"


def test_datasets_are_logged_with_context_size_and_sha256(store: Store, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    splits = {
        context: Split(generator.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8), np.zeros(n, np.uint8))
        for context, n in (("training", 5), ("validation", 3), ("test", 2))
    }
    with start(store, tmp_path) as run:
        run.log_datasets("cifar10", "https://host/cifar.tar.gz", splits)
    inputs = remembered(run).inputs.dataset_inputs
    assert len(inputs) == 3
    for item in inputs:
        (context,) = [tag.value for tag in item.tags if tag.key == "mlflow.data.context"]
        profile = json.loads(item.dataset.profile)
        split = splits[context]
        assert profile["sha256"] == split.sha256
        assert split.sha256.startswith(item.dataset.digest)
        assert (profile["images"], profile["shape"]) == (len(split), [len(split), 32, 32, 3])
        assert item.dataset.name == f"cifar10-{context}"
        assert json.loads(item.dataset.source) == {"url": "https://host/cifar.tar.gz"}


def test_runs_with_the_same_images_share_a_dataset(store: Store, tmp_path: Path) -> None:
    split = Split(np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.uint8))
    runs = []
    for number in range(2):
        with start(store, tmp_path / str(number)) as run:
            run.log_datasets("digits", "scikit-learn load_digits", {"test": split})
        runs.append(run)
    digests = {item.dataset.digest for run in runs for item in remembered(run).inputs.dataset_inputs}
    assert digests == {split.sha256[:32]}


def test_a_logged_model_belongs_to_its_run_and_can_be_loaded(store: Store, tmp_path: Path) -> None:
    import keras
    import mlflow

    from cifar_exp.tracking import package
    from cifar_exp.training import models

    layers = (Layer("Flatten"), Layer("Dense", {"units": 3}))
    classifier = models.classifier(models.build(ModelConfig("m", layers, {}), (32, 32, 3))[0])
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    with start(store, tmp_path) as run:
        package.save(classifier, keras.backend.backend(), ("a", "b", "c"), 1.5, tmp_path / "model")
        run.log_model({"cifar_exp.fingerprint": "f"})
    (output,) = remembered(run).outputs.model_outputs
    logged = store.client.get_logged_model(output.model_id)
    assert (logged.name, logged.source_run_id, str(logged.status)) == ("model", run.id, "READY")
    assert logged.params["cifar_exp.fingerprint"] == "f"
    loaded = mlflow.pyfunc.load_model(logged.artifact_location)
    assert loaded.metadata.run_id == run.id
    assert loaded.metadata.metadata["classes"] == ["a", "b", "c"]
    np.testing.assert_allclose(loaded.predict(images), classifier.predict(images, verbose=0), atol=1e-6)
