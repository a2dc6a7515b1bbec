"""The table of routes against the routes of the installed MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import team

from cifar_exp.server import routes, rules

# The image of the server lacks these packages, which training needs.
LIST = """
import json, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "jax", "torch", "hydra", "ray", "plotly", "h5py", "pooch"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from mlflow.server import app
before = {(method, rule.rule) for rule in app.url_map.iter_rules() for method in rule.methods}
from cifar_exp.server import app as ours, guard
api = ours.create_app()
flask = sorted((method, rule.rule, rule.endpoint) for rule in app.url_map.iter_rules() for method in rule.methods)
from mlflow.server.graphql.graphql_schema_extensions import schema
json.dump({"flask": flask, "native": guard.native_routes(api), "ours": sorted(guard.OUR_ENDPOINTS),
           "mutations": sorted(schema.graphql_schema.mutation_type.fields)}, sys.stdout)
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    folder: Path = tmp_path_factory.mktemp("routes")
    variables = team.settings(folder) | {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/m.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    done = subprocess.run(
        [sys.executable, "-c", LIST], env=os.environ | variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[list[str]]] = json.loads(done.stdout)
    return found


def mlflow_routes(running: dict[str, list[list[str]]]) -> set[tuple[str, str]]:
    flask = {(method, path) for method, path, endpoint in running["flask"] if endpoint not in running["ours"]}
    native = {(method, path) for method, path in running["native"]}
    return {(method, path) for method, path in flask | native if method not in ("HEAD", "OPTIONS")}


def test_every_route_of_the_installed_mlflow_is_decided_on(running: dict[str, list[list[str]]]) -> None:
    found = mlflow_routes(running)
    assert len(found) > 400  # the list is that of the server, not an empty one
    undecided = sorted(route for route in found if routes.decision(*route) is None)
    assert not undecided, "add each to cifar_exp/server/routes.txt, after looking at what it writes"


def test_the_table_names_no_route_that_is_gone(running: dict[str, list[list[str]]]) -> None:
    present = {
        (method, path.replace("/ajax-api/", "API/").replace("/api/", "API/")) for method, path in mlflow_routes(running)
    }
    assert not set(routes.table()) - present


def test_every_decision_is_known_and_every_rule_is_used() -> None:
    decisions = set(routes.table().values()) - {routes.READS, routes.FREE}
    assert decisions == set(rules.RULES)


def test_the_mutations_of_graphql_write_nothing(running: dict[str, list[list[str]]]) -> None:
    assert running["mutations"] == ["mlflowSearchDatasets", "mlflowSearchRuns", "testMutation"]


def test_what_writes_tags_aliases_or_deletes_runs_and_models_has_a_rule() -> None:
    for (method, path), decided in routes.table().items():
        watched = any(part in path for part in ("/runs/", "/registered-models/", "/model-versions/"))
        if method in routes.WRITING and watched and any(part in path for part in ("tag", "alias", "delete", "stage")):
            assert decided not in (routes.READS, routes.FREE), path
