"""A server that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import team

pytest.importorskip("flask_wtf", reason="needs mlflow[auth]")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[team.Team]:
    with team.start(tmp_path_factory.mktemp("team")) as started:
        yield started
