"""The table of MLflow's routes: what the rules of review say about each."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

READS, FREE = "reads", "free"
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})

_API = re.compile(r"^/(?:ajax-)?api/")


@cache
def table() -> dict[tuple[str, str], str]:
    """Decision on each route: (method, path) -> `READS`, `FREE` or the name of a rule.

    Paths are written as in routes.txt.
    """
    decisions = {}
    for line in files("cifar_exp.server").joinpath("routes.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            method, path, decision = line.split()
            decisions[method, path] = decision
    return decisions


def decision(method: str, path: str) -> str | None:
    """Decision on a route; None if the table does not have it.

    Args:
        method: of HTTP.
        path: as the framework registers it, such as `/api/2.0/mlflow/logged-models/<model_id>`.
    """
    return table().get((method, _API.sub("API/", path)))
