"""Test of a run that logs to the HTTP server in MLFLOW_TRACKING_URI."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import program
import pytest
import run_checks


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a running MLflow server with an SQLite store."""
    folder = tmp_path / "server"
    folder.mkdir()
    port = _free_port()
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination": str(folder / "artifacts"),
    }
    command = [sys.executable, "-m", "mlflow", "server", *(part for option in options.items() for part in option)]
    address = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=program.environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its workers are ended with it
        )
        try:
            _await(f"{address}/health", process, folder / "server.log")
            yield address
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(program.TIMEOUT):
        assert process.poll() is None, log.read_text()
        try:
            direct.open(address, timeout=5).close()
            return
        except OSError:
            time.sleep(1)
    pytest.fail(log.read_text())


def test_run_goes_to_the_server_that_the_environment_names(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    here = tmp_path / "here"
    here.mkdir()
    done = program.run(here, "model=dense", "data=digits", "training.epochs=1", MLFLOW_TRACKING_URI=server)
    assert (done.returncode, done.stderr) == (0, "")
    assert [entry.name for entry in here.iterdir()] == ["outputs"]

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client = MlflowClient(server)
    (run,) = program.runs(client)
    assert (run.info.status, run.data.tags["cifar_exp.outcome"]) == ("FINISHED", "completed")
    assert (
        done.stdout.rstrip()
        .splitlines()[-1]
        .split()[-1]
        .startswith(f"{server}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}")
    )

    (made,) = here.glob("outputs/runs/*")
    assert program.artifacts(client, run.info.run_id) >= run_checks.ARTIFACTS
    for name in run_checks.ARTIFACTS:
        fetched = program.artifact(client, run.info.run_id, name, tmp_path / "downloaded")
        assert fetched.read_bytes() == (made / "artifacts" / name).read_bytes(), name
    model = program.artifact(client, run.info.run_id, "model/data/model.keras", tmp_path / "downloaded")
    assert model.read_bytes() == (made / "model" / "data" / "model.keras").read_bytes()
