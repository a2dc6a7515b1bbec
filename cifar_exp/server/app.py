"""The app of the team's server, on top of MLflow's server with logins: the factory that `mlflow server` calls."""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cifar_exp import notify

log = logging.getLogger(__name__)


def create_app() -> Any:
    """Build the app, once in each worker process.

    Returns:
        The FastAPI app of MLflow, or its Flask app with another server than uvicorn.
    """
    from flask import Flask
    from mlflow.server import app as flask_app
    from mlflow.server import auth

    from cifar_exp.server import api, database, guard, pages, people, throttle

    assert isinstance(flask_app, Flask)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with _one_at_a_time(auth.auth_config.database_uri):
        app = auth.create_app(flask_app)
        people.make_roles(auth.store)
        database.prepare()
    if mistake := notify.mistake():
        log.warning(mistake)
    api.add_routes(flask_app)
    pages.add_routes(flask_app)
    guard.protect_flask(flask_app)
    if app is not flask_app:
        app.add_middleware(guard.NativeGuard, api=app)
        throttle.mark_logins(flask_app)
        app.add_middleware(throttle.Throttle)
    gc.collect()
    gc.freeze()  # a list of runs makes many objects, and Python's collector would scan all imported modules each time
    return app


@contextmanager
def _one_at_a_time(database: str) -> Iterator[None]:
    """Let one worker after the other create tables and the administrator in an empty database."""
    import fcntl

    digest = hashlib.sha256(database.encode()).hexdigest()[:16]
    with Path(tempfile.gettempdir(), f"cifar_exp-{digest}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
