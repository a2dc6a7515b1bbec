"""Tests of the team's server: its real containers, started with its own scripts, and used by the real program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import checks
import program
import pytest
import stack
from checks import Sweep
from stack import NewStack, Stack, User

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@contextmanager
def _stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewStack]:
    """Makes servers that are destroyed at the end."""
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
    """new_stack(SETTING="value") -> a server that is not started, for the tests of a module."""
    with _stacks(tmp_path_factory) as stacks:
        yield stacks


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server that is up; the tests share it and leave each other's runs alone."""
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
    """The first sweep on that server: four models of the digits, logged by ann over HTTP."""
    folder = tmp_path_factory.mktemp("sweep")
    done = program.run(
        folder,
        *("-m", "model=large,bn", "optimizer=sgd,adam", "data=digits", f"training.epochs={checks.EPOCHS}"),
        **server.environment(ann),
    )
    with server.client(ann) as client:
        yield Sweep.read(folder, done, checks.DIGITS, client)
