"""A real MLflow server on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

SERVER_STARTS_WITHIN = 120  # seconds


@contextmanager
def serve(folder: Path, *arguments: str, **variables: str) -> Iterator[str]:
    """Context manager that runs an MLflow server with its data in a folder; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'm.db'}",
        "--artifacts-destination",
        str(folder / "a"),
        *arguments,
    ]
    environment = (
        os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"} | variables
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *arguments], env=environment | variables, stdout=log, stderr=log, start_new_session=True
        )
    uri, until = f"http://127.0.0.1:{port}", time.monotonic() + SERVER_STARTS_WITHIN
    try:
        while True:
            try:
                if requests.get(f"{uri}/health", timeout=5).ok:
                    break
            except requests.RequestException:
                pass
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, 9)
        process.wait()
