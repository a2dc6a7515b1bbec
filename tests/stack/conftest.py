"""Fixtures for tests of the team's server: real containers, started with its own scripts, and the real program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import checks
import program
import pytest
import stack
from checks import Sweep
from stack import NewStack, Stack, User

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@pytest.fixture(autouse=True)
def _engine() -> None:
    """Fail at once if the engine has died during the tests; each would wait for it for minutes."""
    if not stack.missing():
        stack.docker("version")


@contextmanager
def _stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewStack]:
    """Context manager for a function that prepares servers, which are destroyed at the end."""
    if reason := stack.missing():
        pytest.skip(f"needs a Docker engine with Compose: {reason}")
    made: list[Stack] = []

    def make(**settings: str) -> Stack:
        made.append(Stack.prepare(tmp_path_factory.mktemp("stack"), **settings))
        return made[-1]

    yield make
    for one in made:
        one.destroy()


@pytest.fixture(scope="module")
def new_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewStack]:
    """new_stack(SETTING="value") -> a server of this test module that is not started; one worker starts faster."""
    with _stacks(tmp_path_factory) as stacks:
        yield partial(stacks, MLFLOW_WORKERS="1")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running server that all tests share; each test must leave the runs of others alone."""
    with _stacks(tmp_path_factory) as stacks:
        one = stacks()
        one.up()
        yield one


@pytest.fixture(scope="session")
def ann(server: Stack) -> User:
    """A member of the team."""
    return server.add("ann")


@pytest.fixture(scope="session")
def sweep(server: Stack, ann: User, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    """A sweep of four models on the digits, logged to the shared server by ann over HTTP."""
    folder = tmp_path_factory.mktemp("sweep")
    done = program.run(folder, *checks.SWEEP, **server.environment(ann))
    with server.client(ann) as client:
        yield Sweep.read(folder, done, checks.DIGITS, client)
