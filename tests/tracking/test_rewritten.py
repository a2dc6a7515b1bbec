"""Tests of files that are written again after they were logged: the last version arrives and is not called damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import proxy
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from proxy import Proxy

from cifar_exp.tracking import local_run, sync
from cifar_exp.tracking.delivery import ARTIFACTS, MODEL
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store

LOG, FIGURE, TABLE, TRACEBACK = "logs/run.log", "figures/curves.png", "sweep/results.csv", "logs/traceback.txt"
MLMODEL = "flavors: {python_function: {loader_module: none}}\n"


@pytest.fixture
def shaky(mlflow_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setattr("cifar_exp.tracking.uploader._LONGEST_PAUSE", 1.0)
    with proxy.before(mlflow_server) as one:
        yield one


@pytest.fixture
def begin(shaky: Proxy, tmp_path: Path) -> Any:
    """Start or resume the run of a folder, without waiting for the server at its end."""

    def start() -> Run:
        store = Store(shaky.uri, "rewritten")
        if local_run.LocalRun.read(tmp_path):
            return Run.resume(store, tmp_path, {}, drain_seconds=0)
        return Run.start(store, tmp_path, "a run", {}, {}, drain_seconds=0)

    return start


def die(run: Run) -> None:
    """Leave the run in the state in which a killed process leaves it."""
    run._uploader.stop()
    run._journal._file.close()


def logged(server: str, run_id: str | None, name: str, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    return Path(MlflowClient(server).download_artifacts(str(run_id), name, str(folder))).read_text()


def test_files_that_a_resumed_run_rewrites_arrive_in_their_last_version(
    shaky: Proxy, mlflow_server: str, begin: Any, tmp_path: Path
) -> None:
    shaky.away()
    with suppress(KeyboardInterrupt), begin() as run:
        for name in (LOG, FIGURE, TABLE):
            run.write(name, "first")
        run.upload("figures", "sweep")
        raise KeyboardInterrupt
    with suppress(ValueError), begin() as run:
        run.write(LOG, "first and second")
        run.write(FIGURE, "second")  # this version is not logged
        raise ValueError("second")
    with suppress(OSError), begin() as run:
        run.write(TABLE, "third")
        run.upload("sweep")
        raise OSError("third")
    shaky.back()
    state = sync.send(tmp_path)
    assert (state.problems, state.waiting, state.is_whole) == ([], 0, True)
    assert sync.send(tmp_path).sent == 0
    read = {name: logged(mlflow_server, state.run_id, name, tmp_path / "back") for name in (LOG, FIGURE, TABLE)}
    assert read == {LOG: "first and second", FIGURE: "second", TABLE: "third"}
    assert "OSError: third" in logged(mlflow_server, state.run_id, TRACEBACK, tmp_path / "back")


def test_files_that_a_killed_process_rewrote_without_logging_are_logged_by_sync(
    mlflow_server: str, begin: Any, tmp_path: Path
) -> None:
    with suppress(KeyboardInterrupt), begin() as run:
        run.write(LOG, "first")
        raise KeyboardInterrupt
    run = begin()
    with (tmp_path / ARTIFACTS / LOG).open("a") as file:
        file.write(" and second")
    die(run)
    state = sync.send(tmp_path)
    assert (state.problems, state.is_whole) == ([], True)
    assert logged(mlflow_server, state.run_id, LOG, tmp_path / "back") == "first and second"
    assert MlflowClient(mlflow_server).get_run(state.run_id).info.status == "KILLED"
    assert sync.send(tmp_path).sent == 0


def test_a_file_that_grew_before_it_was_sent_is_not_damaged_if_it_is_logged_again(
    shaky: Proxy, mlflow_server: str, begin: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shaky.away()
    with begin() as run:
        run.write(LOG, "first")
        run.upload("logs")
        run.write(LOG, "first and second")
        shaky.back()
        assert run.wait(30)  # the first version is refused: the file has changed
        assert len(run._replayer.problems()) == 1
        run._drain_seconds = 30
    assert run._replayer.problems() == {}
    assert "was not taken" not in caplog.text
    assert logged(mlflow_server, run.id, LOG, tmp_path / "back") == "first and second"
    assert sync.send(tmp_path).is_whole


def test_a_model_that_is_saved_again_is_sent_in_its_last_version(
    shaky: Proxy, mlflow_server: str, begin: Any, tmp_path: Path
) -> None:
    shaky.away()
    model = tmp_path / MODEL
    model.mkdir()
    (model / "MLmodel").write_text(MLMODEL)
    for content in ("first", "second"):
        with suppress(KeyboardInterrupt), begin() as run:
            (model / "weights").write_text(content)
            run.log_model({})
            raise KeyboardInterrupt
    shaky.back()
    state = sync.send(tmp_path)
    assert (state.problems, state.is_whole) == ([], True)
    client = MlflowClient(mlflow_server)
    (output,) = client.get_run(state.run_id).outputs.model_outputs
    uri = f"{client.get_logged_model(output.model_id).artifact_location}/weights"
    assert Path(download_artifacts(uri, tracking_uri=mlflow_server)).read_text() == "second"


def test_damage_of_the_last_version_is_reported(shaky: Proxy, begin: Any, tmp_path: Path) -> None:
    shaky.away()
    with begin() as run:
        for content in ("first", "second"):
            run.write(FIGURE, content)
            run.upload("figures")
    (tmp_path / ARTIFACTS / FIGURE).write_text("other")
    shaky.back()
    state = sync.send(tmp_path)
    assert not state.is_whole
    (problem,) = state.problems
    assert problem.startswith("line 3: artifact: ") and "is not what was written" in problem
