"""Tests of sending a journal to a real server: all events arrive exactly once, whatever fails on the way."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import proxy
import pytest
from mlflow import MlflowClient
from proxy import MODES, Proxy

from cifar_exp.config.layers import Layer
from cifar_exp.config.schema import ModelConfig
from cifar_exp.data.splits import Split
from cifar_exp.errors import UserError
from cifar_exp.tracking import heartbeat, journal, package, sync, takeover
from cifar_exp.tracking.delivery import ARTIFACTS, MODEL
from cifar_exp.tracking.replay import Replayer
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store
from cifar_exp.training import models

EPOCHS = 6
FILES = {f"figures/{number}.bin": bytes([number]) * 20_000 for number in range(4)}
IMAGES = Split(np.zeros((2, 32, 32, 3), np.uint8), np.zeros(2, np.uint8))


@pytest.fixture
def shaky(mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Server behind a proxy that simulates faults."""
    monkeypatch.setattr("cifar_exp.tracking.uploader._FIRST_PAUSE", 0.05)
    monkeypatch.setattr("cifar_exp.tracking.uploader._LONGEST_PAUSE", 1.0)
    with proxy.before(mlflow_server) as one:
        yield one


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    return models.classifier(
        models.build(ModelConfig("m", (Layer("Flatten"), Layer("Dense", {"units": 3})), {}), (32, 32, 3))[0]
    )


def begin(uri: str, folder: Path, **how: Any) -> Run:
    return Run.start(Store(uri, "replayed"), folder, "a run", {"cifar_exp.job": "1"}, {"seed": 0}, **how)


def log(run: Run, classifier: keras.Model, pause: float = 0) -> None:
    """Log everything that a run logs."""
    for epoch in range(1, EPOCHS + 1):
        run.log_metrics({"train/loss": 1 / epoch, "val/loss": math.nan if epoch == 3 else 2 / epoch}, step=epoch)
        time.sleep(pause)
    for name, content in FILES.items():
        run.write(name, content)
    run.upload("figures")
    run.log_datasets("digits", "scikit-learn load_digits", {"training": IMAGES, "test": IMAGES})
    package.save(classifier, keras.backend.backend(), ("a", "b", "c"), 1.5, run.folder / MODEL)
    run.log_model({"cifar_exp.fingerprint": "f"})
    run.set_tags({"cifar_exp.outcome": "completed"})


def is_all_there_once(server: str, run: Run, folder: Path) -> None:
    """Check, without the proxy, that the server has everything exactly once."""
    client = MlflowClient(server)
    (key,) = [event.content["key"] for event in journal.read(run.folder) if getattr(event, "kind", "") == "start"]
    experiment = client.get_experiment_by_name("replayed").experiment_id
    (found,) = client.search_runs([experiment], f"tags.`cifar_exp.journal` = '{key}'")
    assert found.info.run_id == run.id
    assert found.info.status == "FINISHED"
    times = {event.kind: event.time for event in journal.read(run.folder) if isinstance(event, journal.Event)}
    assert (found.info.start_time, found.info.end_time) == (times["start"], times["finish"])
    assert found.data.params == {"seed": "0"}
    assert (found.data.tags["cifar_exp.job"], found.data.tags["cifar_exp.outcome"]) == ("1", "completed")
    points = [(p.step, p.value) for p in client.get_metric_history(run.id, "train/loss")]
    assert points == [(epoch, 1 / epoch) for epoch in range(1, EPOCHS + 1)]
    assert len(client.get_metric_history(run.id, "val/loss")) == EPOCHS
    assert {entry.path for entry in client.list_artifacts(run.id, "figures")} == FILES.keys()
    back = Path(client.download_artifacts(run.id, "figures", str(folder)))
    assert {f"figures/{path.name}": path.read_bytes() for path in back.iterdir()} == FILES
    assert {item.dataset.name for item in found.inputs.dataset_inputs} == {"digits-training", "digits-test"}
    (output,) = found.outputs.model_outputs
    (model,) = client.search_logged_models([experiment], f"source_run_id = '{run.id}'")
    assert (model.model_id, str(model.status)) == (output.model_id, "READY")


@pytest.mark.parametrize("mode", MODES)
def test_everything_arrives_after_a_period_of_one_fault(
    shaky: Proxy, mlflow_server: str, classifier: keras.Model, tmp_path: Path, mode: str
) -> None:
    shaky.mode = mode
    with begin(shaky.uri, tmp_path / "run") as run:
        log(run, classifier, 0.1)
        shaky.mode = "well"
    is_all_there_once(mlflow_server, run, tmp_path)


def test_everything_arrives_in_spite_of_random_faults(
    shaky: Proxy, mlflow_server: str, classifier: keras.Model, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    shaky.mode = lambda: chance.choice(MODES) if chance.random() < 0.4 else "well"
    with begin(shaky.uri, tmp_path / "run", drain_seconds=240) as run:
        log(run, classifier)
    is_all_there_once(mlflow_server, run, tmp_path)


def test_everything_arrives_after_the_server_was_away(
    shaky: Proxy, mlflow_server: str, classifier: keras.Model, tmp_path: Path
) -> None:
    with begin(shaky.uri, tmp_path / "run") as run:
        assert run.wait_until_started()
        shaky.away()
        began = time.monotonic()
        log(run, classifier)
        assert run.id is not None
        shaky.back()
    assert time.monotonic() - began < 60
    is_all_there_once(mlflow_server, run, tmp_path)


def test_sync_sends_later_what_the_server_did_not_get(
    shaky: Proxy,
    mlflow_server: str,
    classifier: keras.Model,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shaky.away()
    with begin(shaky.uri, tmp_path / "run", drain_seconds=0.5) as run:
        log(run, classifier)
    assert run.id is None
    (message,) = [record.getMessage() for record in caplog.records if "events wait" in record.getMessage()]
    assert f"15 events wait in {tmp_path / 'run'}; cifar-exp sync {tmp_path / 'run'} sends them" in message
    assert "Connection refused" in message

    (folder,) = sync.find([tmp_path])
    assert sync.state_of(folder).waiting == 15
    still = sync.send(folder)
    assert (still.waiting, still.sent, still.is_whole) == (15, 0, False)
    assert "Connection refused" in str(still.away)

    shaky.back()
    chance = random.Random(0)
    shaky.mode = lambda: chance.choice(["cut after", "cut half way", "500"])  # repeated requests have no further effect
    state = still
    for _ in range(200):
        state = sync.send(folder)
        if not state.waiting:
            break
        if chance.random() < 0.5:
            shaky.mode = "well" if callable(shaky.mode) else lambda: chance.choice(["cut after", "cut half way", "500"])
    assert state.is_whole
    run._replayer = Replayer(folder)
    is_all_there_once(mlflow_server, run, tmp_path)
    again = sync.send(folder)
    assert (again.waiting, again.sent, again.is_whole) == (0, 0, True)


def test_refused_events_are_reported_and_the_others_are_sent(mlflow_server: str, tmp_path: Path) -> None:
    with begin(mlflow_server, tmp_path / "run") as run:
        run.log_metrics({"not/a/../name\n": 1.0})
        run.log_metrics({"train/loss": 1.0}, step=1)
    state = sync.send(tmp_path / "run")
    (problem,) = state.problems
    assert problem.startswith("line 2: metrics: ") and "name" in problem
    assert (state.waiting, state.is_whole) == (0, False)
    assert MlflowClient(mlflow_server).get_run(run.id).data.metrics == {"train/loss": 1.0}


def test_a_refused_parameter_costs_neither_the_run_nor_another_parameter(mlflow_server: str, tmp_path: Path) -> None:
    params = {f"layer.{number}": number for number in range(120)} | {"a+b": 0}
    with Run.start(Store(mlflow_server, "replayed"), tmp_path, "a run", {}, params) as run:
        run.log_metrics({"train/loss": 1.0}, step=1)
    (problem,) = sync.send(tmp_path).problems
    assert problem.startswith("line 1: start: ") and "a+b" in problem
    found = MlflowClient(mlflow_server).get_run(run.id)
    assert found.data.params == {name: str(value) for name, value in params.items() if name != "a+b"}
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"train/loss": 1.0})


def test_a_run_that_the_store_refuses_is_not_waited_for(mlflow_server: str, tmp_path: Path) -> None:
    with Run.start(Store(mlflow_server, "replayed"), tmp_path, "a run", {}, {}, sweep="no'name") as run:
        assert not run.wait_until_started()
    assert sync.send(tmp_path).problems[0].startswith("line 1: start: ")


def test_an_event_of_a_later_version_is_reported_and_the_others_are_sent(mlflow_server: str, tmp_path: Path) -> None:
    with begin(mlflow_server, tmp_path) as run:
        run._write("hologram", {})
    state = sync.send(tmp_path)
    assert state.problems == ["line 2: hologram: this version of cifar_exp does not know such events"]
    assert MlflowClient(mlflow_server).get_run(run.id).info.status == "FINISHED"


def test_only_damaged_events_are_lost_and_they_are_reported(
    shaky: Proxy, mlflow_server: str, classifier: keras.Model, tmp_path: Path
) -> None:
    shaky.away()
    folder = tmp_path / "run"
    with begin(shaky.uri, folder, drain_seconds=0) as run:
        log(run, classifier)
    shaky.back()
    path = folder / journal.FILE
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"0.5", b"0.7")  # epoch 2
    lines.append(lines[-1][:20])  # cut off
    path.write_bytes(b"".join(lines))
    (folder / ARTIFACTS / "figures" / "1.bin").unlink()
    (folder / ARTIFACTS / "figures" / "2.bin").write_bytes(b"other")
    state = sync.send(folder)
    assert not state.is_whole and state.waiting == 0
    assert [problem.split(":")[0] for problem in state.problems] == [
        "line 3",
        "line 9",
        "line 10",
        f"line {len(lines)}",
    ]
    assert "checksum" in state.problems[0] and "1.bin is missing" in state.problems[1]
    assert "2.bin is not what was written" in state.problems[2] and "is not an event" in state.problems[3]
    client = MlflowClient(mlflow_server)
    assert [p.step for p in client.get_metric_history(state.run_id, "train/loss")] == [1, 3, 4, 5, 6]
    names = {entry.path for entry in client.list_artifacts(state.run_id, "figures")}
    assert names == {"figures/0.bin", "figures/3.bin"}
    assert client.get_run(state.run_id).info.status == "FINISHED"
    assert run.id is None


def test_a_run_whose_process_is_gone_is_set_to_killed(mlflow_server: str, tmp_path: Path) -> None:
    run = begin(mlflow_server, tmp_path)
    run.log_metrics({"train/loss": 1.0}, step=1)
    assert sync.send(tmp_path).live  # this process is writing the journal, so it is left alone
    assert run.wait(30)
    run._uploader.stop()
    run._journal.close()  # happens when a process ends
    state = sync.send(tmp_path)
    assert (state.sent, state.is_whole) == (2, True)
    found = MlflowClient(mlflow_server).get_run(run.id)
    assert (found.info.status, found.data.tags["cifar_exp.outcome"]) == ("KILLED", "interrupted")
    assert sync.send(tmp_path).sent == 0


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_journal_sent_from_its_first_line_undoes_nothing_that_another_machine_did(
    has_ended: bool, mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = begin(mlflow_server, tmp_path / "left")
    left.log_metrics({"train/loss": 1.0}, step=1)
    assert left.wait(30)
    left._uploader.stop()
    left._journal.close()
    sync.send(left.folder)
    client, store = MlflowClient(mlflow_server), Store(mlflow_server, "replayed")
    takeover.take_over(store, client.get_run(left.id), tmp_path / "other")
    monkeypatch.setattr(heartbeat, "_process", lambda _: "one of another machine")

    def send_again() -> None:
        before = client.get_run(left.id)
        (left.folder / "sent.json").unlink()
        assert sync.send(left.folder).away == f"process one of another machine continues run {left.id}"
        after = client.get_run(left.id)
        assert after.data.tags == before.data.tags
        assert (after.info.status, after.info.end_time) == (before.info.status, before.info.end_time)
        assert [p.step for p in client.get_metric_history(left.id, "train/loss")] == [1, 2]

    with Run.resume(store, tmp_path / "other", {}) as run:
        run.log_metrics({"train/loss": 0.5}, step=2)
        run.set_tags({"cifar_exp.outcome": "completed"})
        assert run.wait(30)
        if not has_ended:
            send_again()
    if has_ended:
        send_again()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        sync.find([tmp_path / "gone"])
