"""Real MLflow servers on this machine: of a tracking store, and of a logged model."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests

SERVER_STARTS_WITHIN = 120  # seconds


@contextmanager
def serve(folder: Path, *arguments: str, **variables: str) -> Iterator[str]:
    """Context manager that runs an MLflow server with its data in a folder; yields its address."""
    port = _free_port()
    command = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'm.db'}",
        "--artifacts-destination",
        str(folder / "a"),
        *arguments,
    ]
    own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with _running(command, os.environ | own | variables, folder / "log", f"http://127.0.0.1:{port}", "health") as uri:
        yield uri


@contextmanager
def scoring(model: str, tracking_uri: str, folder: Path) -> Iterator[str]:
    """Context manager that runs `mlflow models serve` in a folder; yields its address.

    Args:
        model: address of a logged model.
        tracking_uri: store that has it.
        folder: for its log.
    """
    port = _free_port()
    command = ["models", "serve", "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "-m", model]
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it starts uvicorn by its name
    environment = os.environ | {"MLFLOW_TRACKING_URI": tracking_uri, "PATH": programs}
    with _running(command, environment, folder / "scoring.log", f"http://127.0.0.1:{port}", "ping") as uri:
        yield uri


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _running(command: list[str], environment: Mapping[str, str], log: Path, uri: str, health: str) -> Iterator[str]:
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            cwd=log.parent,
            env=environment,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    until = time.monotonic() + SERVER_STARTS_WITHIN
    try:
        while True:
            try:
                if requests.get(f"{uri}/{health}", timeout=5).ok:
                    break
            except requests.RequestException:
                pass
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, 9)
        process.wait()
