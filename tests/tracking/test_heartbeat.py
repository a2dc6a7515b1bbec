"""Tests of heartbeats, dead runs, runs that two processes continue, and checkpoints in the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import proxy
import pytest
from proxy import Proxy

from cifar_exp.tracking import heartbeat, sync
from cifar_exp.tracking.heartbeat import DEAD_AFTER
from cifar_exp.tracking.replay import Replayer
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.run_tags import HEARTBEAT, PROCESS, REASON
from cifar_exp.tracking.store import Store
from cifar_exp.training.checkpoint import METRICS, Checkpoint, Checkpoints

LONG_AGO = datetime.now(UTC) - DEAD_AFTER - timedelta(seconds=60)


@pytest.fixture
def shaky(mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr("cifar_exp.tracking.uploader._LONGEST_PAUSE", 0.2)
    with proxy.before(mlflow_server) as one:
        yield one


@pytest.fixture
def direct(mlflow_server: str, request: pytest.FixtureRequest) -> Store:
    """Store without the proxy; each test has its own experiment."""
    return Store(mlflow_server, request.node.name)


@pytest.mark.parametrize(
    ("last", "dead"),
    [
        ("2026-01-01T00:00:00", True),
        ("2026-01-01T00:00:00Z", True),
        ("9999-12-31T23:59:59.999999", False),
        ("no time", False),
    ],
)
def test_any_text_may_stand_for_a_heartbeat(store: Store, last: str, dead: bool) -> None:
    run = store.client.create_run(store.experiment_id, tags={HEARTBEAT: last})
    assert heartbeat.is_dead(run) == dead


def begin(store: Store, folder: Path, **how: Any) -> Run:
    return Run.start(store, folder, "a run", {"cifar_exp.outcome": "running"}, {}, **how)


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def silence(store: Store, run_id: str | None) -> None:
    """Set the last heartbeat of a run to a time long ago."""
    store.client.set_tag(run_id, HEARTBEAT, f"{LONG_AGO:%Y-%m-%dT%H:%M:%SZ}")


def test_a_run_names_its_process_and_repeats_its_heartbeat(
    direct: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cifar_exp.tracking.uploader._BEAT", 0.2)
    with begin(direct, tmp_path) as run:
        assert run.wait_until_started()
        assert run.id

        def tags() -> dict[str, str]:
            return dict(direct.client.get_run(run.id).data.tags)

        assert tags()[PROCESS] == heartbeat.process_tags()[PROCESS]
        silence(direct, run.id)
        wait_for(lambda: not heartbeat.is_dead(direct.client.get_run(run.id)))


def test_only_runs_with_an_old_heartbeat_are_set_to_killed(direct: Store, tmp_path: Path) -> None:
    runs = {name: begin(direct, tmp_path / name) for name in ("gone", "lives")}
    older = direct.client.create_run(direct.experiment_id).info.run_id  # a run without heartbeats
    (tmp_path / "gone" / "checkpoints").mkdir()
    (tmp_path / "gone" / "checkpoints" / "epoch-00003.checkpoint").write_bytes(b"state")
    runs["gone"]._checkpoint_seconds = 0
    runs["gone"].offer_checkpoint(tmp_path / "gone" / "checkpoints" / "epoch-00003.checkpoint")
    assert all(run.wait_until_started() and run.wait(60) for run in runs.values())
    silence(direct, runs["gone"].id)
    (message,) = heartbeat.end_dead_runs(direct)
    assert runs["gone"].id and runs["gone"].id in message
    found = direct.client.get_run(runs["gone"].id)
    assert (found.info.status, found.data.tags["cifar_exp.outcome"]) == ("KILLED", "interrupted")
    assert found.info.end_time == int(LONG_AGO.replace(microsecond=0).timestamp() * 1000)
    assert found.data.tags[REASON].endswith("; the same command goes on from its checkpoint")
    for alive in (runs["lives"].id, older):
        assert direct.client.get_run(alive).info.status == "RUNNING"
    assert heartbeat.end_dead_runs(direct) == []
    for run in runs.values():
        run.finish("KILLED")


def test_ending_dead_runs_does_not_create_an_experiment(mlflow_server: str) -> None:
    nowhere = Store(mlflow_server, "not there")
    assert heartbeat.end_dead_runs(nowhere) == []
    assert nowhere.client.get_experiment_by_name("not there") is None


def test_a_run_that_was_set_to_killed_is_running_again_after_its_next_event(
    shaky: Proxy, direct: Store, tmp_path: Path
) -> None:
    run = begin(Store(shaky.uri, direct.experiment), tmp_path)
    wait_for(lambda: not run._replayer.waiting())
    shaky.away()
    run.log_metrics({"train/loss": 1.0}, 1)
    wait_for(lambda: run._uploader.away is not None)
    silence(direct, run.id)
    assert len(heartbeat.end_dead_runs(direct)) == 1
    shaky.back()
    wait_for(lambda: "train/loss" in direct.client.get_run(run.id).data.metrics)
    found = direct.client.get_run(run.id)
    assert found.info.status == "RUNNING" and REASON not in found.data.tags
    run.finish("FINISHED")
    assert direct.client.get_run(run.id).info.status == "FINISHED"


def test_events_of_a_run_that_was_taken_over_are_not_sent(shaky: Proxy, direct: Store, tmp_path: Path) -> None:
    run = begin(Store(shaky.uri, direct.experiment), tmp_path, drain_seconds=1)
    wait_for(lambda: not run._replayer.waiting())
    shaky.away()
    run.log_metrics({"train/loss": 1.0}, 1)
    wait_for(lambda: run._uploader.away is not None)
    direct.client.set_tag(run.id, PROCESS, "another")
    shaky.back()
    wait_for(lambda: run._uploader.away == f"process another continues run {run.id}")
    run.finish("FINISHED")
    found = direct.client.get_run(run.id)
    assert (found.info.status, found.data.metrics) == ("RUNNING", {})
    state = sync.send(tmp_path)
    assert (state.waiting, state.away) == (2, f"process another continues run {run.id}")


def checkpoints(store: Store, run: Run) -> list[str]:
    return [item.path for item in store.artifacts(store.client.get_run(run.id)).list_artifacts("checkpoints")]


def saved(run: Run, epoch: int) -> Path:
    path = run.folder / "checkpoints" / f"epoch-{epoch:05}.checkpoint"
    path.parent.mkdir(exist_ok=True)
    Checkpoint({name: [0.5] * epoch for name in METRICS}, {}).write(path)
    return path


def newest(store: Store, run: Run, folder: Path) -> int:
    """Epoch from which another machine would resume the run."""
    there = Checkpoints(folder / f"elsewhere-{time.time_ns()}")
    for path in checkpoints(store, run):
        there.add(Path(store.artifacts(store.client.get_run(run.id)).download_artifacts(path, str(folder))))
    return there.epochs()[-1]


def test_the_store_has_the_newest_checkpoint_until_the_run_has_finished(direct: Store, tmp_path: Path) -> None:
    with begin(direct, tmp_path, checkpoint_seconds=0) as run:
        for epoch in (1, 2, 3):
            run.offer_checkpoint(saved(run, epoch))
            assert run.wait(60)
            assert newest(direct, run, tmp_path) == epoch
        assert checkpoints(direct, run) == ["checkpoints/newest-0.checkpoint", "checkpoints/newest-1.checkpoint"]
        gone = saved(run, 4)
        run._uploader.stop()  # otherwise it would send checkpoints that the test removes
        run.offer_checkpoint(gone)
        gone.unlink()
        Replayer(tmp_path, direct).send()
        assert newest(direct, run, tmp_path) == 3
    Replayer(tmp_path, direct).send()
    assert checkpoints(direct, run) == []


def test_checkpoints_are_sent_at_intervals_and_on_an_interruption(direct: Store, tmp_path: Path) -> None:
    run = begin(direct, tmp_path, checkpoint_seconds=1000)
    for epoch in (1, 2, 3):
        run.offer_checkpoint(saved(run, epoch))
    assert run.wait(60) and checkpoints(direct, run) == []
    run.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert newest(direct, run, tmp_path) == 3


def test_no_checkpoint_is_sent_if_none_is_wanted(direct: Store, tmp_path: Path) -> None:
    run = begin(direct, tmp_path)
    run.offer_checkpoint(saved(run, 1))
    run.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert checkpoints(direct, run) == []
